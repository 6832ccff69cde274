package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
)

// vitals are what a process takes of its machine.
type vitals struct {
	files int   // descriptors
	rss   int64 // bytes
	peak  int64 // the most that rss was
}

var memory = regexp.MustCompile(`(?m)^(VmRSS|VmHWM):\s+(\d+) kB$`)

// look reads the vitals of a process from /proc.
func look(pid int) (vitals, error) {
	var v vitals
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return v, err
	}
	for _, match := range memory.FindAllStringSubmatch(string(status), -1) {
		kilobytes, err := strconv.ParseInt(match[2], 10, 64)
		if err != nil {
			return v, err
		}
		if match[1] == "VmRSS" {
			v.rss = kilobytes << 10
		} else {
			v.peak = kilobytes << 10
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	v.files = len(files)
	return v, err
}

var goroutine = regexp.MustCompile(`goroutine \d+ [^\[\n]*\[`)

// goroutines counts them in the dump that SIGQUIT makes a process write.
func goroutines(dump string) int { return len(goroutine.FindAllString(dump, -1)) }

// record keeps the end of what is written to it. Safe for concurrent use.
type record struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (r *record) Write(p []byte) (int, error) {
	const most = 8 << 20
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.text) > most {
		r.text = append([]byte(nil), r.text[most/2:]...)
	}
	r.text = append(r.text, p...)
	return len(p), nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}
