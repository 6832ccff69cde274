//go:build !linux

package content

import (
	"errors"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
)

// fileName is the digest; on Windows with '_' for ':', as the original does.
func fileName(d digest.Digest) string {
	if runtime.GOOS == "windows" {
		return strings.ReplaceAll(d.String(), ":", "_")
	}
	return d.String()
}

func (d *Dir) createTemp() (*os.File, string, error) { return d.createNamed() }

func (d *Dir) link(*os.File, string) error { return errors.ErrUnsupported }

func reserve(*os.File, span) error { return nil }
