package fetcher_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
)

// nameServer answers questions for addresses (RFC 1035 section 4) in the time of a
// bubble: the first ones as it is told, the others with 127.0.0.1.
type nameServer struct {
	mu      sync.Mutex
	answers []byte // response codes, and noAnswer
}

const (
	serverFailure, noSuchName = 2, 3
	noAnswer                  = 255
)

func (s *nameServer) next() byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return 0
	}
	one := s.answers[0]
	if len(s.answers) > 1 || one != noAnswer { // silence at the end is for ever
		s.answers = s.answers[1:]
	}
	return one
}

// dial is a net.Resolver's: the pipe takes messages as TCP does, after their length.
func (s *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		var length [2]byte
		if _, err := io.ReadFull(far, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(far, question); err != nil {
			return
		}
		code := s.next()
		if code == noAnswer {
			_, _ = io.Copy(io.Discard, far) // until the client goes
			return
		}
		reply := answerTo(question, code)
		_, _ = far.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)) // in one piece
	}()
	return near, nil
}

// answerTo is the answer to one question: what is behind that is left out.
func answerTo(message []byte, code byte) []byte {
	end := 12
	for message[end] != 0 {
		end += int(message[end]) + 1
	}
	end += 5 // the root, type and class
	kind := binary.BigEndian.Uint16(message[end-4:])
	reply := append([]byte{}, message[:end]...)
	reply[2], reply[3] = 0x81, 0x80|code
	copy(reply[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if kind == 1 && code == 0 {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return reply
}

const nameServers = "FETCHER_TEST_NAME_SERVERS"

// TestANameThatIsNotFoundIsReportedInTime replaces the resolver of its process,
// which the fetcher's own transport uses; so it runs in a process of its own. How
// often a resolver asks is the system's to say (resolv.conf), so that failures
// are enough for any: eight questions are one or two attempts.
func TestANameThatIsNotFoundIsReportedInTime(t *testing.T) {
	if os.Getenv(nameServers) == "" {
		t.Parallel()
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		command.Env = []string{nameServers + "=here"} // no proxy
		if output, err := command.CombinedOutput(); err != nil || !strings.Contains(string(output), "PASS") {
			t.Fatalf("%v\n%s", err, output)
		}
		return
	}
	// The first question reads resolv.conf, into what must not be a bubble's.
	_, _ = (&net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, net.ErrClosed
	}}).LookupHost(t.Context(), "registry.example")
	many := func(code byte, n int) []byte { return []byte(strings.Repeat(string(rune(code)), n)) }
	for name, test := range map[string]struct {
		answers     []byte
		words       string // "": every byte is right
		least, most time.Duration
	}{
		"an answer":                               {nil, "", 0, 0},
		"no such name, which no wait would mend":  {many(noSuchName, 1000), "no such host; check the host", 0, 0},
		"a failure for ever":                      {many(serverFailure, 1000), "server misbehaving; check the host", time.Second, 8 * time.Second},
		"a failure that passes":                   {many(serverFailure, 4), "", 0, 8 * time.Second},
		"no answer for ever":                      {[]byte{noAnswer}, "i/o timeout; check the host", 5 * time.Second, 20 * time.Second},
		"no answer at first, to both questions":   {[]byte{noAnswer, noAnswer, 0}, "", time.Second, 10 * time.Second},
		"no answer at first, and then no success": {append([]byte{noAnswer, noAnswer}, many(serverFailure, 1000)...), "server misbehaving", time.Second, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTrial(t, byTag, fetchertest.Config{})
			_, port, _ := strings.Cut(s.registry.Host(), ":")
			synctest.Test(t, func(t *testing.T) {
				own := registry.NewTransport(nil)
				own.DisableKeepAlives = true // a connection that waits would hold up the bubble
				server := &nameServer{answers: test.answers}
				net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: server.dial}
				s.dir, s.TB = t.TempDir(), t
				s.fetcher = newFetcher(t, fetcher.Config{Transport: own})
				begin := time.Now()
				err := s.take("registry.example:" + port + "/team/app?latest#http")
				if took := time.Since(begin); took < test.least || took > test.most {
					t.Errorf("it took %v, want %v to %v", took, test.least, test.most)
				}
				if test.words == "" {
					if err != nil {
						t.Fatal(err)
					}
					holds(t, s.dir, s.files())
					return
				}
				refused(t, err, fetcher.RegistryUnreachable, test.words, "lookup registry.example")
				holds(t, s.dir, nil)
			})
		})
	}
}
