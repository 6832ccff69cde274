package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// terminalSize returns how many columns and rows a console has; false for what is
// none, or knows no escape sequences (before Windows 10).
func terminalSize(f *os.File) (width, height int, ok bool) {
	handle := windows.Handle(f.Fd())
	var mode uint32
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleMode(handle, &mode) != nil || windows.GetConsoleScreenBufferInfo(handle, &info) != nil {
		return 0, 0, false
	}
	if windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return 0, 0, false
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1, true
}
