package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
)

// lastWords keeps the last line that a plugin wrote to its stderr: where a
// launch fails it says why, and go-plugin's own error is a page of guesses.
type lastWords struct {
	mu   sync.Mutex
	line []byte
}

const maxLastWords = 4 << 10

// Write implements io.Writer.
func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(p) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			l.line = append(l.line[:0], line[:min(len(line), maxLastWords)]...)
		}
	}
	return len(p), nil
}

// reason is why a launch failed with err.
func (l *lastWords) reason(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var entry struct {
		Level   string `json:"@level"`
		Message string `json:"@message"`
		Error   string `json:"error"`
	}
	if json.Unmarshal(l.line, &entry) == nil && entry.Level == "error" {
		return errors.New(strings.TrimSuffix(entry.Message+": "+entry.Error, ": "))
	}
	first, _, more := strings.Cut(err.Error(), "\n")
	if more {
		return errors.New(strings.TrimRight(first, " :") + "; it is no docker-fetcher, or it ended too early")
	}
	return err
}
