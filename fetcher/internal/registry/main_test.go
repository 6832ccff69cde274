package registry

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails where a connection that nobody uses is left open.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
