package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
)

const (
	// helperTimeout bounds one run. A helper may ask a cloud for a token, but
	// nobody is there to type a passphrase.
	helperTimeout = 10 * time.Second
	// pipeDelay is how long a process that a helper left behind may hold the
	// pipe of the answer.
	pipeDelay = 100 * time.Millisecond
	// maxAnswer bounds what a helper may print. Real answers have a few KiB.
	maxAnswer = 64 << 10
)

// isHelperName reports whether a helper may be called so: [a-z0-9][a-z0-9._-]*.
// A path is no name: only what is on PATH, under the prefix of all helpers, is
// ever run.
func isHelperName(s string) bool {
	const first = "abcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && strings.Contains(first, s[:1]) && strings.Trim(s, first+"._-") == ""
}

// Helper is a program that keeps credentials, as a config names it for a
// registry (docker-credential-helpers, "Development").
type Helper struct {
	Name string // of docker-credential-NAME
	Key  string // the server URL to ask for, which the credential stands under
}

// HelperError says that a helper gave no usable answer. It never holds
// anything of what the helper printed: failing ones print secrets, too.
type HelperError struct {
	Helper  Helper
	Problem string // goes on after "docker-credential-NAME"
}

// Error implements error.
func (e *HelperError) Error() string {
	return fmt.Sprintf("docker config: the credential of %q is with %s, which %s",
		shown(e.Helper.Key), e.Helper.program(), e.Problem)
}

// Is makes errors.Is(err, ErrConfig) hold.
func (e *HelperError) Is(target error) bool { return target == ErrConfig }

func (h Helper) program() string { return "docker-credential-" + h.Name }

// Get runs the helper; ok is false where it knows no credential for the key.
// The error is an *EntryError for a name that no helper has, a *HelperError
// for one that fails or takes more than 10 seconds, or wraps the context's.
// Of a helper that fails or is ended nothing lives on but what has left its
// process group (on Windows: but what it started).
//
// The helper gets this process' environment as it is and the key on its stdin.
func (h Helper) Get(ctx context.Context) (m Match, ok bool, err error) {
	return h.get(ctx, helperTimeout)
}

func (h Helper) get(ctx context.Context, timeout time.Duration) (Match, bool, error) {
	if !isHelperName(h.Name) {
		return Match{}, false, &EntryError{Key: shown(h.Key), Problem: fmt.Sprintf(
			"%q is not the name of a credential helper: lower-case letters, digits, dots, dashes and underscores", shown(h.Name))}
	}
	bounded, stop := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("gave no answer within %v", timeout))
	defer stop()
	p := newProgram(bounded, h.program())
	answer, err := client.Get(p.action, h.Key) // this error quotes the answer
	switch {
	case err == nil:
		return h.match(answer)
	case credentials.IsErrCredentialsNotFound(err):
		return Match{}, false, nil
	case ctx.Err() != nil:
		return Match{}, false, h.gaveUp(ctx)
	}
	return Match{}, false, &HelperError{Helper: h, Problem: h.problem(p)}
}

// gaveUp is the error for a caller that waits no more.
func (h Helper) gaveUp(ctx context.Context) error {
	return fmt.Errorf("%s for %q: %w", h.program(), shown(h.Key), ctx.Err())
}

// match holds an answer to the rules of inline entries. The server URL in it
// is not compared: helpers write there what they like. An answer that holds
// nothing is how some say that they have none.
func (h Helper) match(answer *credentials.Credentials) (Match, bool, error) {
	c := Credential{Username: answer.Username, Password: answer.Secret}
	if c.Username == identityTokenUser {
		c = Credential{IdentityToken: answer.Secret}
	}
	if problem := check(c); problem != "" {
		return Match{}, false, &HelperError{Helper: h, Problem: "gave a broken credential: " + problem}
	}
	if c.IsZero() {
		return Match{}, false, nil
	}
	return Match{Credential: c, Key: h.Key, Helper: h.program()}, true, nil
}

// problem tells why a run came to nothing.
func (h Helper) problem(p *program) string {
	_, exited := errors.AsType[*exec.ExitError](p.err)
	switch {
	case p.err == nil:
		return "answered with something else than the JSON of a credential"
	case p.ended != nil:
		return p.ended.Error()
	case errors.Is(p.err, exec.ErrNotFound):
		return "is not on PATH"
	case errors.Is(p.err, exec.ErrDot):
		return "PATH finds by a relative path only, from which nothing is run"
	case exited:
		return fmt.Sprintf("failed (%v); to see why: echo %q | %s get", p.err, h.Key, h.program())
	}
	return fmt.Sprintf("could not be run: %v", p.err)
}

// program is one run of a helper, as the client package wants it.
type program struct {
	cmd    *exec.Cmd
	ctx    context.Context
	stop   context.CancelCauseFunc
	answer bytes.Buffer
	err    error // of the run
	ended  error // why it was ended before its time
}

// newProgram prepares a run that lasts until ctx at most. What it prints on
// stderr is dropped: it can't be told from a secret.
func newProgram(ctx context.Context, name string) *program {
	p := &program{}
	p.ctx, p.stop = context.WithCancelCause(ctx)
	p.cmd = exec.CommandContext(p.ctx, name)
	p.cmd.Stdout, p.cmd.WaitDelay = p, pipeDelay
	ownGroup(p.cmd)
	return p
}

// action implements client.ProgramFunc.
func (p *program) action(args ...string) client.Program {
	p.cmd.Args = append(p.cmd.Args, args...)
	return p
}

// Input implements client.Program.
func (p *program) Input(in io.Reader) { p.cmd.Stdin = in }

// Output implements client.Program.
func (p *program) Output() ([]byte, error) {
	defer p.stop(nil)
	p.err = p.cmd.Run()
	if p.err != nil {
		p.ended = context.Cause(p.ctx)
		killGroup(p.cmd) // what the helper has left behind, and who holds the pipe
	}
	if errors.Is(p.err, exec.ErrWaitDelay) { // the helper itself is well and has answered
		p.err = nil
	}
	if p.err == nil && !utf8.Valid(p.answer.Bytes()) { // the decoder would make another password of it
		return nil, errNotJSON
	}
	return p.answer.Bytes(), p.err
}

var errNotJSON = errors.New("the answer is not JSON")

// Write takes what the helper prints, and ends one that prints without end.
func (p *program) Write(b []byte) (int, error) {
	if p.answer.Len()+len(b) > maxAnswer {
		err := fmt.Errorf("answered with more than %d bytes", maxAnswer)
		p.stop(err)
		return 0, err
	}
	return p.answer.Write(b)
}
