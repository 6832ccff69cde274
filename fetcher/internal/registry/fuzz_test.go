package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// spellings are the ways to write an address that some resolver, proxy or
// library takes for it.
var spellings = map[string]func(netip.Addr) string{
	"as it is":   netip.Addr.String,
	"with a dot": func(a netip.Addr) string { return a.String() + "." },
	"mapped":     func(a netip.Addr) string { return "[::ffff:" + a.String() + "]" },
	"mapped, hex": func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("[::FFFF:%X%02X:%X%02X]", b[0], b[1], b[2], b[3])
	},
	"with a zone":  func(a netip.Addr) string { return "[::ffff:" + a.String() + "%25eth0]" },
	"compatible":   func(a netip.Addr) string { return "[::" + a.String() + "]" },
	"NAT64":        func(a netip.Addr) string { return "[64:ff9b::" + a.String() + "]" },
	"NAT64, zone":  func(a netip.Addr) string { return "[64:ff9b::" + a.String() + "%25lo]" },
	"NAT64, local": func(a netip.Addr) string { return "[64:ff9b:1::" + a.String() + "]" },
	"SIIT":         func(a netip.Addr) string { return "[::ffff:0:" + a.String() + "]" },
	"6to4": func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("[2002:%x%02x:%x%02x::1]", b[0], b[1], b[2], b[3])
	},
	"6to4, zone": func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("[2002:%x%02x:%x%02x::1%%25x]", b[0], b[1], b[2], b[3])
	},
	"one number":  func(a netip.Addr) string { return fmt.Sprint(number(a)) },
	"hexadecimal": func(a netip.Addr) string { return fmt.Sprintf("0X%x", number(a)) },
	"octal":       func(a netip.Addr) string { return fmt.Sprintf("0%o", number(a)) },
	"octal parts": func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("0%o.0%o.00%o.0%o", b[0], b[1], b[2], b[3])
	},
	"decimal parts, noughts before": func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("0%d.%d.%d.%d", b[0], b[1], b[2], b[3])
	},
	"hex parts": func(a netip.Addr) string {
		b := a.As4()
		return fmt.Sprintf("0x%x.0x%x.0x%x.0x%x.", b[0], b[1], b[2], b[3])
	},
	"two parts": func(a netip.Addr) string { return fmt.Sprintf("%d.%d", number(a)>>24, number(a)&0xffffff) },
	"three parts": func(a netip.Addr) string {
		return fmt.Sprintf("%d.0x%x.%d", number(a)>>24, number(a)>>16&0xff, number(a)&0xffff)
	},
	"wide digits": func(a netip.Addr) string { return strings.Map(wide, a.String()) },
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// wide digits are those of fullwidth forms, which IDNA maps to ASCII.
func wide(r rune) rune {
	if r >= '0' && r <= '9' {
		return r - '0' + '０'
	}
	return r
}

// Through a proxy nobody but the guard stands between a public registry and what
// is inside: the proxy dials whatever it is told.
func FuzzNoSpellingOfAnInternalAddressPasses(f *testing.F) {
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "172.31.255.255", "100.64.0.1", "0.0.0.0", "255.255.255.255", "8.8.8.8", "172.32.0.1",
		"192.0.0.192", "168.63.129.16", "240.0.0.1", "198.18.0.1", "87.0.0.1"} {
		f.Add(number(netip.MustParseAddr(address)))
	}
	proxy := &url.URL{Scheme: "http", Host: "proxy.example"}
	c := New(&http.Transport{Proxy: http.ProxyURL(proxy), DialContext: noDial}, "test")
	o := outgoing{client: c, registry: &url.URL{Scheme: "https", Host: "registry.example"}, pool: &c.transports}
	f.Fuzz(func(t *testing.T, n uint32) {
		addr := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		for name, spell := range spellings {
			target, err := url.Parse("https://" + spell(addr) + ":8080/latest/meta-data")
			if err != nil {
				t.Fatal(err)
			}
			req := (&http.Request{Method: http.MethodGet, URL: target, Header: http.Header{}}).WithContext(t.Context())
			_, err = o.away(req, o.pool)
			refused := !errors.Is(err, errNoDial)
			must := internal(addr) || name == "NAT64, local" || name == "wide digits" || internalOtherwise(name, target.Hostname())
			if must != refused {
				t.Errorf("%s, %s: %v", name, target.Host, err)
			}
		}
	})
}

// internalOtherwise reports whether a spelling with noughts before its numbers is one
// of an internal address to those who read them in the other base.
func internalOtherwise(name, host string) bool {
	if !slices.Contains([]string{"octal", "octal parts", "decimal parts, noughts before"}, name) {
		return false
	}
	return slices.ContainsFunc([]int{8, 10}, func(base int) bool {
		var n uint64
		parts := strings.Split(host, ".")
		for _, part := range parts {
			one, err := strconv.ParseUint(part, base, 32)
			if err != nil || one > 255 && len(parts) > 1 {
				return false
			}
			n = n<<8 | one
		}
		return internal(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(n)))))
	})
}

func TestAHostThatAnyReaderTakesForAnInternalAddressIsForbidden(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"0127.0.0.1": true, "010.0.0.1": true, "0x7f.0x.0x.1": true, "0X7F.0X.1": true, "0x": true, "0": true, "0x.": true,
		"0251.0376.0251.0376": true, "0169.0254.0169.0254": true, "192.0.0.192": true, "168.63.129.16": true, "240.0.0.1": true,
		"255.255.255.255": true, "198.18.0.1": true, "::ffff:0:7f00:1": true,
		"010.8.8.8": true, "012.8.8.8": true, "08.8.8.8": false, "8.8.8.8": false, "0x8.0x8.0x8.8": false, "0x.example": false, "x": false, "": false,
		"1.2.3.4.5": false, "256.1.1.1": false,
	} {
		if got := forbidden(host); got != want {
			t.Errorf("forbidden(%q) = %v", host, got)
		}
	}
}

func FuzzALocationIsJudgedTheSameTwice(f *testing.F) {
	for _, location := range []string{
		"https://cdn.example/blob?X-Amz-Signature=a%2Fb", "/v2/a/blobs/x", "//cdn.example/x", "?a", "", "http://cdn.example/x", "https://u:p@cdn.example/",
		"file:///etc/passwd", "https://registry.example:443/x", "https://REGISTRY.example/x", "https:///x", "https:opaque", "https://[::1%25lo]:1/", "https://a\x00b/", "//%zz/",
	} {
		f.Add(location, 307)
	}
	f.Fuzz(func(t *testing.T, location string, status int) {
		req, err := http.NewRequest(http.MethodGet, "https://registry.example/v2/a/blobs/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer canary")
		next, err := redirected(req, location, status)
		if again, err2 := redirected(req, location, status); text(err) != text(err2) || (next == nil) != (again == nil) || next != nil && next.URL.String() != again.URL.String() {
			t.Errorf("%q: first %v, then %v", location, err, err2)
		}
		if next == nil {
			return
		}
		switch u := next.URL; {
		case u.Scheme != "https", u.Host == "", u.User != nil:
			t.Errorf("%q leads to %s", location, u)
		case next.Header.Get("Authorization") != "" && !sameOrigin(u, req.URL):
			t.Errorf("%q: %s gets the token", location, u)
		}
		// What is sent is judged as what was read.
		reread, err := url.Parse(next.URL.String())
		if err != nil {
			t.Fatalf("%q became %q: %v", location, next.URL, err)
		}
		if sameOrigin(reread, req.URL) != sameOrigin(next.URL, req.URL) || reread.Hostname() != next.URL.Hostname() {
			t.Errorf("%q: %s is not %s", location, reread, next.URL)
		}
	})
}

// redirected is the request that an answer with this Location leads to; nil: none.
func redirected(req *http.Request, field string, status int) (*http.Request, error) {
	resp := &http.Response{StatusCode: status, Request: req, Body: http.NoBody, Header: http.Header{"Location": {field}}}
	target, err := location(resp)
	if err != nil || target == nil {
		return nil, err
	}
	return redirect(req, status, target)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzAStrongEntityTagIsOneThatMayBeSentBack(f *testing.F) {
	for _, tag := range []string{`"abc"`, `W/"abc"`, `"`, `""`, "\"a\r\nb\"", `"a"b"`, "abc", `"` + "é" + `"`} {
		f.Add(tag)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		got := strong(tag)
		if got != "" && (got != tag || strings.ContainsAny(got[1:len(got)-1], "\" \x00\r\n\t\x7f")) {
			t.Errorf("strong(%q) = %q", tag, got)
		}
	})
}

// A directory in docker's form: the same is read twice, or the same file is named
// as wrong, and a certificate that is left out opens nothing.
func FuzzADirectoryOfCertificatesIsReadTheSameTwiceOrRefusedByFile(f *testing.F) {
	certificate := "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
	f.Add([]byte(certificate), []byte(""), []byte(""))
	f.Add([]byte("no PEM"), []byte(certificate), []byte("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte(""), []byte("-----BEGIN CERTIFICATE-----\n"), []byte{0, 0xff})
	f.Fuzz(func(t *testing.T, ca, cert, key []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"ca.crt": ca, "client.cert": cert, "client.key": key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		one, err := readHosts(dir)
		two, again := readHosts(dir)
		if diff := cmp.Diff(err, again); diff != "" {
			t.Errorf("another result the second time:\n%s", diff)
		}
		var wrong *HostsError
		switch {
		case err == nil:
			if one.sum != two.sum || one.server.TLS.RootCAs == nil || len(one.server.TLS.Certificates) != 1 {
				t.Errorf("read as %+v", one.server.TLS)
			}
		case !errors.As(err, &wrong) || filepath.Dir(wrong.File) != dir || strings.ContainsAny(wrong.Text, "\n\x00"):
			t.Errorf("%v", err)
		}
	})
}

var errNoDial = errors.New("no dial")

func noDial(context.Context, string, string) (net.Conn, error) { return nil, errNoDial }
