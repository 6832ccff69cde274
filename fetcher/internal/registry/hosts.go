package registry

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Host is one server that may be asked for what a registry has: the registry
// itself, or a mirror of it. The same *Host is returned while its files stay as
// they are, so that connections are kept by it. Read-only.
type Host struct {
	// URL has a scheme, a host, and a port if it is not the scheme's. A path is
	// before /v2, or with Override in its place; it has no slash at its end.
	URL *url.URL
	// Override is override_path: the API is at URL.Path itself, not at /v2 below it.
	Override bool
	// Mirror: this is not the registry's own server, and is told by ?ns= whose
	// content is meant.
	Mirror bool
	// Resolve: it may be asked what a tag stands for. Pull: for manifests and
	// blobs by digest.
	Resolve, Pull bool
	Header        http.Header // of each request; nil: none
	// TLS has the system's roots and those of ca, client certificates and
	// skip_verify; nil: nothing special. Clone it to use it.
	TLS         *tls.Config
	DialTimeout time.Duration // 0: the default

	// What follows is from the host's table docker-fetcher, which containerd ignores.

	// Wait is how long the first byte of an answer may take; 0: the default.
	Wait time.Duration
	// Credentials: the registry's credential goes to this mirror too.
	Credentials bool
	// PrivateRedirects: it may redirect to internal addresses.
	PrivateRedirects bool
}

// Hosts are those of one registry, in the order in which they are asked.
type Hosts struct {
	// All has the mirrors in the order of the file, then the registry's server;
	// that comes earlier only if the file has a table for it. Who may neither
	// resolve nor pull is left out: with a File and none in All, the operator
	// closed the registry.
	All []*Host
	// File is what said so: a hosts.toml, or a directory in docker's form. "":
	// nothing is said of this registry, All is nil, and it is asked as ever.
	File string
	// Warnings name unknown keys by file and line. They are told to one caller
	// after each change of the file.
	Warnings []string
}

// HostsError is a hosts directory that does not hold.
type HostsError struct {
	File string
	Line int    // 0: the file as a whole
	Text string // what is wrong and what to do; shows no secret
}

// Error is FILE:LINE: TEXT.
func (e *HostsError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// HostsDir is a directory as containerd has it (docs/hosts.md): for a registry
// HOST[:PORT] the first of its directories HOST_PORT_, HOST:PORT and _default
// that exists says who is asked. Docker Hub's is docker.io. In it is a
// hosts.toml, or there are *.crt, *.cert and *.key as docker has them. An empty
// directory says nothing, and keeps _default from a registry.
//
// What containerd would pass over, such as a file it can't read, is an error
// here, for behind it is a registry that the operator may have closed. Files
// are read again when they change. Safe for concurrent use.
type HostsDir struct {
	path string

	mu   sync.Mutex
	read map[string]*hostsRead // by directory
}

const (
	hostsFile = "hosts.toml"
	// anyRegistry is the directory for registries that have none.
	anyRegistry = "_default"

	dockerHub       = "docker.io"
	dockerHubServer = "registry-1.docker.io"

	maxRegistries = 1000
	// settled is how old a file must be for its time to tell of a change: the
	// clocks of file systems are coarse.
	settled = 2 * time.Second
)

// OpenHostsDir returns the hosts directory at path. Its error is a *HostsError.
func OpenHostsDir(path string) (*HostsDir, error) {
	path, err := filepath.Abs(path) // the working directory may change
	if err != nil {
		return nil, &HostsError{File: path, Text: reason(err)}
	}
	d := &HostsDir{path: path, read: map[string]*hostsRead{}}
	return d, d.exists()
}

func (d *HostsDir) exists() error {
	at, err := os.Stat(d.path)
	switch {
	case err != nil:
		return &HostsError{File: d.path, Text: reason(err) + "; check the path of the hosts directory"}
	case !at.IsDir():
		return &HostsError{File: d.path, Text: "not a directory; the hosts directory has a directory for each registry"}
	}
	return nil
}

// Of returns the hosts of a registry, HOST[:PORT], docker.io for Docker Hub. The
// scheme is what its URI says, http, https or "" for https; it counts where no
// server is named. A wrong file is a *HostsError, each time.
func (d *HostsDir) Of(registry, scheme string) (Hosts, error) {
	if strings.Trim(registry, ".") == "" || strings.ContainsAny(registry, `/\`) {
		return Hosts{}, &HostsError{File: d.path, Text: fmt.Sprintf("%q is not a registry", registry)}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.find(registry)
	if err != nil || dir == "" {
		return Hosts{}, err
	}
	r, err := d.load(dir)
	if err != nil || r.file == "" {
		return Hosts{}, err
	}
	all, err := r.hosts(ownServer{registry, cmp.Or(scheme, "https")})
	if err != nil {
		return Hosts{}, err
	}
	h := Hosts{All: slices.Clone(all), File: r.file, Warnings: r.warnings}
	r.warnings = nil
	return h, nil
}

// find returns the directory for a registry; "": there is none.
func (d *HostsDir) find(registry string) (string, error) {
	for _, name := range directories(registry) {
		dir := filepath.Join(d.path, name)
		at, err := os.Stat(dir)
		switch {
		case err == nil && at.IsDir():
			return dir, nil
		case err == nil:
			return "", &HostsError{File: dir, Text: "not a directory; put what it says into " + hostsFile + " in a directory of this name"}
		case !absent(dir, err):
			return "", &HostsError{File: dir, Text: reason(err) + "; make the directory readable, or remove it"}
		}
	}
	return "", d.exists()
}

// directories returns the names of a registry's directory, the first choice first.
func directories(registry string) []string {
	host, port, ok := cutPort(registry)
	if !ok {
		return []string{registry, anyRegistry}
	}
	plain := registry
	if runtime.GOOS == "windows" { // a name has no colon there
		plain = host + port
	}
	return []string{host + "_" + port + "_", plain, anyRegistry}
}

// cutPort splits HOST:PORT; an IPv6 address is in brackets.
func cutPort(authority string) (host, port string, ok bool) {
	i := strings.LastIndexByte(authority, ':')
	if i < strings.LastIndexByte(authority, ']') || i < 0 {
		return authority, "", false
	}
	return authority[:i], authority[i+1:], true
}

// absent reports whether err says that nothing is at path. A symbolic link that
// leads nowhere is something.
func absent(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// reason is an error of the file system without the path, which is told beside it.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}

// hostsRead is a directory as it was read.
type hostsRead struct {
	file     string // "": it says nothing
	mirrors  []hostEntry
	server   hostEntry
	warnings []string

	of map[ownServer][]*Host

	stamps []stamp
	at     time.Time
	sum    [sha256.Size]byte // of all that was read
}

// stamp tells whether a file is still the one that was read.
type stamp struct {
	path string
	at   fs.FileInfo
}

// load returns what is in a directory, read anew if it may have changed. What
// was read stays the same where all bytes are.
func (d *HostsDir) load(dir string) (*hostsRead, error) {
	known := d.read[dir]
	if known != nil && known.current() {
		return known, nil
	}
	now := time.Now()
	r, err := readHosts(dir)
	if err != nil {
		delete(d.read, dir)
		return nil, err
	}
	r.at = now
	if known != nil && known.sum == r.sum {
		known.stamps, known.at = r.stamps, now
		return known, nil
	}
	if len(d.read) >= maxRegistries {
		clear(d.read)
	}
	d.read[dir] = r
	return r, nil
}

// current reports whether no file has changed since it was read.
func (r *hostsRead) current() bool {
	for _, s := range r.stamps {
		now, err := os.Stat(s.path)
		if err != nil || !os.SameFile(now, s.at) || now.Size() != s.at.Size() || !now.ModTime().Equal(s.at.ModTime()) {
			return false
		}
		if r.at.Sub(now.ModTime()) < settled {
			return false
		}
	}
	return true
}

// ownServer is a registry's own, as its URI names it.
type ownServer struct{ registry, scheme string }

func (o ownServer) host() string {
	if o.registry == dockerHub {
		return dockerHubServer
	}
	return o.registry
}

// has reports whether a URL is at the registry's own server, by whatever scheme:
// then it is no mirror, as for containerd.
func (o ownServer) has(u *url.URL) bool {
	at := func(host string) bool { return authority(u) == authority(&url.URL{Scheme: u.Scheme, Host: host}) }
	return at(o.registry) || at(o.host())
}

// hosts returns who is asked for a registry, the same while the files are.
func (r *hostsRead) hosts(own ownServer) ([]*Host, error) {
	if all, known := r.of[own]; known {
		return all, nil
	}
	entries, err := r.entries(own)
	if err != nil {
		return nil, err
	}
	all := []*Host{}
	for _, e := range entries {
		if e.Resolve || e.Pull {
			all = append(all, e.seenFrom(own))
		}
	}
	if len(r.of) >= maxRegistries {
		clear(r.of)
	}
	r.of[own] = all
	return all, nil
}

// entries returns the mirrors and the server. Where a table is for the server
// already, that table is what counts; closed or not, it is asked once.
func (r *hostsRead) entries(own ownServer) ([]hostEntry, error) {
	server, implied := r.server, r.server.URL == nil || own.registry == dockerHub && r.server.hubName
	if server.URL == nil {
		server = server.at(&url.URL{Scheme: own.scheme, Host: own.host()})
	}
	for _, m := range r.mirrors {
		switch {
		case m.place() != server.place():
		case !implied:
			return nil, r.wrong(server.line, "server is also the host of line %d, and a host is described once; leave out server, or the table", m.line)
		case server.stated && filepath.Base(filepath.Dir(r.file)) != anyRegistry:
			return nil, r.wrong(m.line, "the table is for the registry itself, which line %d describes too; put all of it into one of them", server.line)
		default:
			return r.mirrors, nil
		}
	}
	return append(r.mirrors[:len(r.mirrors):len(r.mirrors)], server), nil
}

func (r *hostsRead) wrong(line int, format string, args ...any) error {
	return &HostsError{File: r.file, Line: line, Text: fmt.Sprintf(format, args...)}
}
