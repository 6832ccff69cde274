package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// ticks is how many of the kernel's clock ticks, as /proc shows them, there are
// in a second: USER_HZ, 100 on all of Go's platforms.
const ticks = 100

// vitals are what all programs tell of themselves. What /proc does not show
// is left out.
type vitals struct {
	goroutines, start, cpu, memory, files *family
}

func (v *vitals) families(m *meter) {
	v.goroutines = m.foreign(gaugeType, "go_goroutines", "Goroutines that there are now.")
	v.start = m.foreign(gaugeType, "process_start_time_seconds", "When the metrics began, in Unix time.")
	v.start.set(float64(time.Now().UnixMilli()) / 1000)
	v.cpu = m.foreign(counterType, "process_cpu_seconds_total", "Time of all processors, of user and system.")
	v.memory = m.foreign(gaugeType, "process_resident_memory_bytes", "Memory that is resident.")
	v.files = m.foreign(gaugeType, "process_open_fds", "Open file descriptors.")
}

func (v *vitals) read() {
	v.goroutines.set(float64(runtime.NumGoroutine()))
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		v.files.set(float64(len(open) - 1)) // without that of the directory
	}
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return
	}
	if cpu, pages, ok := parseStat(string(text)); ok {
		v.cpu.set(float64(cpu) / ticks)
		v.memory.set(float64(pages) * float64(os.Getpagesize()))
	}
}

// parseStat reads utime and stime, summed up, and rss from /proc/PID/stat
// (proc_pid_stat(5)). The name of the process, in parentheses, may hold anything.
func parseStat(text string) (cpu, pages uint64, ok bool) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return 0, 0, false
	}
	var values [3]uint64
	for i, field := range []int{11, 12, 21} {
		n, err := strconv.ParseUint(fields[field], 10, 64)
		if err != nil {
			return 0, 0, false
		}
		values[i] = n
	}
	return values[0] + values[1], values[2], true
}
