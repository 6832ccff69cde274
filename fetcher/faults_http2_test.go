package fetcher_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker-fetcher/docker-fetcher/fetcher"
	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// The fetcher's own transport speaks HTTP/1.1 only; one that a program gives may
// speak HTTP/2, whose streams and connections fail in ways of their own.

// speaksHTTP2 is such a transport.
func speaksHTTP2(t *testing.T, config *tls.Config) *http.Transport {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func TestWhatBreaksInHTTP2IsContinuedOrAskedAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault            fetchertest.Fault
		documents, blobs string
	}{
		"a stream that is reset in place of an answer": {fetchertest.Fault{Drop: true, Times: 1}, "0 200", "0 200"},
		"a stream that is reset before the first byte": {fetchertest.Fault{CutAt: fetchertest.AtOnce, Times: 1}, "200 200", "200 200"},
		"a stream that is reset in the middle":         {fetchertest.Fault{CutAt: 100, Times: 1}, "200 200", "200 206"},
		"a stream that is reset twice":                 {fetchertest.Fault{CutAt: 100, Times: 2}, "200 200 200", "200 206 206"},
		"a stream that ends too soon":                  {fetchertest.Fault{CutAt: 100, Chunked: true, Times: 1}, "200 200", "200 206"},
		"a connection that is reset in the middle":     {fetchertest.Fault{CutAt: 100, Reset: true, Times: 1}, "200 200", ""},
		"a GOAWAY with an answer":                      {fetchertest.Fault{Header: http.Header{"Connection": {"close"}}, Times: 1}, "200", "200"},
		"a GOAWAY, and the stream is reset": {
			fetchertest.Fault{CutAt: 100, Header: http.Header{"Connection": {"close"}}, Times: 1}, "200 200", "200 206",
		},
		"a 503": {fetchertest.Fault{Status: 503, Times: 1}, "503 200", "503 200"},
	} {
		for _, p := range places {
			t.Run(name+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				s := newTrial(t, p, fetchertest.Config{TLS: true})
				s.ready(t, fetcher.Config{Transport: speaksHTTP2(t, &tls.Config{RootCAs: s.registry.CertPool()})})
				s.inject(test.fault)
				s.fetched()
				want := test.documents
				if p == blobPlace || p == contentHost {
					want = test.blobs
				}
				if want != "" { // what a reset overtakes, nobody knows
					s.wants(want)
				}
				for _, q := range s.registry.Requests() {
					if q.Proto != "HTTP/2.0" {
						t.Errorf("%s %s came by %s", q.Endpoint, q.Identifier, q.Proto)
					}
				}
			})
		}
	}
}

func TestAResetOfEachStreamOfHTTP2IsReportedAfterFiveAttempts(t *testing.T) {
	t.Parallel()
	s, now := newTrial(t, blobPlace, fetchertest.Config{TLS: true}), time.Now()
	virtual(t, s.link, func(t *testing.T) {
		transport := speaksHTTP2(t, &tls.Config{RootCAs: s.registry.CertPool(), Time: func() time.Time { return now }})
		transport.DialContext, transport.DisableKeepAlives = s.link.dial, true
		s.ready(t, fetcher.Config{Transport: transport})
		s.inject(fetchertest.Fault{CutAt: 10})
		s.failed(fetcher.RegistryUnreachable, "broke off after 50 bytes, in 5 attempts: stream error:")
		s.wants("200 206 206 206 206")
	})
}

// Frames of RFC 9113 section 6.
const (
	frameData, frameReset, frameGoAway = 0, 3, 7
	frameHead                          = 9
)

// frame is one of a reset or a farewell.
func frame(kind byte, stream uint32, payload ...uint32) []byte {
	b := []byte{0, 0, byte(4 * len(payload)), kind, 0}
	b = binary.BigEndian.AppendUint32(b, stream)
	for _, word := range payload {
		b = binary.BigEndian.AppendUint32(b, word)
	}
	return b
}

// between is a server that speaks HTTP/2 in a registry's name, by handing on its
// frames; once, behind the first frame of data that is large, it says something
// of its own, and then goes away if it was to.
type between struct {
	net.Listener
	registry string
	config   *tls.Config // to the registry
	say      func(stream uint32) []byte
	leave    bool
	once     sync.Once
	running  sync.WaitGroup
}

func newBetween(t *testing.T, r *fetchertest.Registry, certificate tls.Certificate, leave bool, say func(stream uint32) []byte) *between {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	b := &between{
		Listener: l, registry: r.Host(), say: say, leave: leave,
		config: &tls.Config{RootCAs: r.CertPool(), NextProtos: []string{"h2"}},
	}
	b.running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			b.running.Go(func() {
				stop := context.AfterFunc(t.Context(), func() { _ = near.Close() })
				defer stop()
				b.serve(near)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.running.Wait()
	})
	return b
}

func (b *between) serve(near net.Conn) {
	defer near.Close()
	far, err := tls.Dial("tcp", b.registry, b.config)
	if err != nil {
		return
	}
	defer far.Close()
	b.running.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	head := make([]byte, frameHead)
	for {
		if _, err := io.ReadFull(far, head); err != nil {
			return
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		_, _ = near.Write(head)
		if _, err := io.CopyN(near, far, length); err != nil {
			return
		}
		if head[3] == frameData && length > 8000 {
			gone := false
			b.once.Do(func() {
				_, _ = near.Write(b.say(binary.BigEndian.Uint32(head[5:])))
				gone = b.leave
			})
			if gone {
				return
			}
		}
	}
}

// TestABlobGoesOnAfterAnyFarewellOfHTTP2 has the frames that fetchertest's server
// never sends of itself. The codes are those of RFC 9113 section 7.
func TestABlobGoesOnAfterAnyFarewellOfHTTP2(t *testing.T) {
	t.Parallel()
	const noError, internal, refused, calm = 0, 2, 7, 11
	trusted := newAuthority(t)
	for name, test := range map[string]struct {
		say   func(stream uint32) []byte
		leave bool
	}{
		"RST_STREAM as if nothing were wrong": {say: func(s uint32) []byte { return frame(frameReset, s, noError) }},
		"RST_STREAM, internal error":          {say: func(s uint32) []byte { return frame(frameReset, s, internal) }},
		"RST_STREAM, refused":                 {say: func(s uint32) []byte { return frame(frameReset, s, refused) }},
		"GOAWAY, and the stream ends well":    {say: func(s uint32) []byte { return frame(frameGoAway, 0, s, noError) }},
		"GOAWAY, and the connection is cut":   {say: func(s uint32) []byte { return frame(frameGoAway, 0, s, noError) }, leave: true},
		"GOAWAY, enhance your calm":           {say: func(s uint32) []byte { return frame(frameGoAway, 0, s, calm) }, leave: true},
		"GOAWAY that disowns the stream":      {say: func(uint32) []byte { return frame(frameGoAway, 0, 0, internal) }, leave: true},
		"no word, and the connection is cut":  {say: func(uint32) []byte { return nil }, leave: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTrial(t, blobPlace, fetchertest.Config{TLS: true})
			b := newBetween(t, s.registry, trusted.issue(t, nil), test.leave, test.say)
			s.ready(t, fetcher.Config{Transport: speaksHTTP2(t, &tls.Config{RootCAs: trusted.pool()})})
			if err := s.take(b.Addr().String() + "/team/app?latest#https"); err != nil {
				t.Fatal(err)
			}
			holds(t, s.dir, s.files())
			if asked := s.asked(); asked != "200 206" && (asked != "200" || test.leave) {
				t.Errorf("asked %s", asked)
			}
		})
	}
}

// TestAServerOfAnotherProtocolIsOneClearError has servers that speak what their
// client did not ask for.
func TestAServerOfAnotherProtocolIsOneClearError(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	settings := frame(4, 0)
	for name, test := range map[string]struct {
		offers []string // ALPN; nil: none
		answer []byte   // to whatever is said; nil: nothing
		http2  bool     // the client offers it
		reason fetcher.Reason
		words  string
	}{
		// For h2 alone, Go's server would give way.
		"another protocol only":               {[]string{"other"}, nil, false, fetcher.TLSFailed, "it speaks no HTTP/1.1"},
		"HTTP/2, though it was not agreed on": {nil, settings, false, fetcher.RegistryUnreachable, "malformed HTTP response"},
		"HTTP/1.1, though HTTP/2 was agreed on": {
			[]string{"h2"}, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), true, fetcher.RegistryUnreachable, "http2: ",
		},
		"no HTTP at all": {nil, []byte("220 mail.example ESMTP\r\n"), false, fetcher.RegistryUnreachable, "malformed HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}, NextProtos: test.offers})
			if err != nil {
				t.Fatal(err)
			}
			serveBytes(t, l, test.answer)
			s := newTrial(t, byTag, fetchertest.Config{})
			now := time.Now() // of the certificates
			virtual(t, s.link, func(t *testing.T) {
				transport := s.link.transport()
				transport.TLSClientConfig.RootCAs = trusted.pool()
				transport.TLSClientConfig.Time = func() time.Time { return now }
				if test.http2 {
					transport.Protocols, transport.TLSClientConfig.NextProtos = nil, nil
					transport.ForceAttemptHTTP2 = true
				}
				s.ready(t, fetcher.Config{Transport: transport})
				err := s.take(l.Addr().String() + "/team/app?latest#https")
				refused(t, err, test.reason, test.words, l.Addr().String())
				if strings.ContainsAny(err.Error(), "\n\x00") {
					t.Errorf("%q is not one line", err)
				}
				holds(t, s.dir, nil)
			})
		})
	}
}

// serveBytes answers what comes first with these bytes, and hangs up.
func serveBytes(t *testing.T, l net.Listener, answer []byte) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = conn.Write(answer)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
}
