package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAPanicOfACommandIsOneLineAndItsStackIsForWhoDebugs(t *testing.T) {
	t.Parallel()
	err := caught(func() error { panic("a secret slips out\nin two lines") })
	if code := exitCode(err); code != exitOther {
		t.Errorf("exit code %d", code)
	}
	var quiet, loud bytes.Buffer
	report(&quiet, false, err)
	explainPanic(&quiet, err, false)
	const want = "error: internal error: this is a defect of docker-fetcher; please report it, with what --log-level debug adds\n"
	if quiet.String() != want {
		t.Errorf("got %q, want %q", quiet.String(), want)
	}
	explainPanic(&loud, err, true)
	if got := loud.String(); !strings.HasPrefix(got, "panic: a secret slips out") || !strings.Contains(got, "goroutine ") {
		t.Errorf("who debugs gets %q", got)
	}
}

func TestAPanicInWorkThatMayBeLeftBehindIsAnError(t *testing.T) {
	t.Parallel()
	var found *defect
	if err := interruptible(context.Background(), func() error { panic("here") }); !errors.As(err, &found) {
		t.Errorf("got %v", err)
	}
}

func TestTheLevelOfALogIsThatOfTheCommandThatRan(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"fetch --log-level debug alpine DIR": true,
		"fetch --log-level info alpine DIR":  false,
		"fetch alpine DIR":                   false,
		"version":                            false,
		"no-such-command":                    false,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			root := newCommand(false)
			args := strings.Fields(line)
			if cmd, rest, err := root.Find(args); err == nil {
				_ = cmd.ParseFlags(rest)
			}
			if got := debugging(root, args); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
