package plugin

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestCloseEndsAProcessThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := short(t)
	c, err := Open(t.Context(), Config{Path: built(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	process := pid(t, c)
	if err := syscall.Kill(process, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", process)); err == nil {
		t.Error("the process is still there")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := c.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
