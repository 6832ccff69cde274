package registry

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	maxCertFile = 4 << 20
	// maxHostsBytes is for all files of one directory together.
	maxHostsBytes = 64 << 20
)

// hostsFiles reads the files of a directory, and notes what it read.
type hostsFiles struct {
	dir    string
	stamps []stamp
	sum    hash.Hash
	bytes  int
}

// readHosts reads a directory. Its error is a *HostsError.
func readHosts(dir string) (*hostsRead, error) {
	f := &hostsFiles{dir: dir, sum: sha256.New()}
	r, err := f.hosts()
	if err != nil {
		return nil, err
	}
	r.of, r.stamps, r.sum = map[ownServer][]*Host{}, f.stamps, [sha256.Size]byte(f.sum.Sum(nil))
	return r, nil
}

// hosts reads the directory in containerd's form, or else in docker's.
func (f *hostsFiles) hosts() (*hostsRead, error) {
	file := filepath.Join(f.dir, hostsFile)
	text, err := f.read(file, maxHostsFile)
	switch {
	case err != nil && !absent(file, err):
		return nil, &HostsError{File: file, Text: reason(err) + "; without the file nobody knows who may be asked"}
	case len(text) == 0: // as for containerd
		return f.certificates()
	}
	t, err := parseHosts(file, text)
	if err != nil {
		return nil, err
	}
	if t.server.URL == nil && t.server.Header != nil && filepath.Base(f.dir) == anyRegistry {
		return nil, &HostsError{file, t.server.line, "header fields here would go to any registry that a URI names; put them into the table of a host"}
	}
	for _, e := range slices.Concat(t.mirrors, []hostEntry{t.server}) {
		if e.TLS, err = f.tls(file, e.files); err != nil {
			return nil, err
		}
	}
	return &hostsRead{file: file, mirrors: t.mirrors, server: t.server, warnings: t.warnings}, nil
}

// tls returns the settings for a host of a hosts.toml; nil: nothing special.
func (f *hostsFiles) tls(file string, files tlsFiles) (*tls.Config, error) {
	if files.none() {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: files.skipVerify} //nolint:gosec // the operator says so
	for _, ca := range files.ca {
		if wrong := f.addCA(c, f.path(ca)); wrong != "" {
			return nil, &HostsError{file, files.caLine, fmt.Sprintf("ca %q: %s", f.path(ca), wrong)}
		}
	}
	for _, client := range files.client {
		cert, key := f.path(client.cert), f.path(cmp.Or(client.key, client.cert))
		if at, wrong := f.addClient(c, cert, key); wrong != "" {
			return nil, &HostsError{file, files.clientLine, fmt.Sprintf("client %q: %s", at, wrong)}
		}
	}
	return c, nil
}

// path returns where a file is that hosts.toml names.
func (f *hostsFiles) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.dir, name)
}

// certificates reads the directory in docker's form. Without certificates it
// says nothing.
func (f *hostsFiles) certificates() (*hostsRead, error) {
	names, err := f.names()
	if err != nil {
		return nil, &HostsError{File: f.dir, Text: reason(err) + "; make the directory readable, or remove it"}
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	file := ""
	for _, name := range names {
		switch filepath.Ext(name) {
		case ".crt", ".cert", ".key":
			file = f.dir
			if at, wrong := f.certificate(c, name, names); wrong != "" {
				return nil, &HostsError{File: at, Text: wrong}
			}
		}
	}
	own := &Host{Resolve: true, Pull: true, TLS: c}
	return &hostsRead{file: file, server: hostEntry{Host: own}}, nil
}

// certificate takes up one file of docker's form. Otherwise it says which file
// is wrong and what to do.
func (f *hostsFiles) certificate(c *tls.Config, name string, names []string) (at, wrong string) {
	at = filepath.Join(f.dir, name)
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	switch {
	case ext == ".crt":
		return at, f.addCA(c, at)
	case ext == ".cert" && slices.Contains(names, stem+".key"):
		return f.addClient(c, at, filepath.Join(f.dir, stem+".key"))
	case ext == ".cert":
		return at, fmt.Sprintf("a client certificate without its key; put %s.key beside it, or name a CA's certificate .crt", stem)
	case !slices.Contains(names, stem+".cert"):
		return at, fmt.Sprintf("a key without its client certificate; put %s.cert beside it", stem)
	}
	return at, ""
}

// addCA adds the certificates of a file to the system's roots. Otherwise it says
// what is wrong and what to do.
func (f *hostsFiles) addCA(c *tls.Config, path string) (wrong string) {
	pem, err := f.read(path, maxCertFile)
	if err != nil {
		return reason(err) + "; check the path"
	}
	if c.RootCAs == nil {
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool() // a system without roots: then those of the file are all
		}
	}
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return "no certificate is in it; it must be PEM, beginning with -----BEGIN CERTIFICATE-----"
	}
	return ""
}

// addClient adds a client certificate with its key, which may be in the same
// file. Otherwise it says which file is wrong and what to do.
func (f *hostsFiles) addClient(c *tls.Config, cert, key string) (at, wrong string) {
	certPEM, err := f.read(cert, maxCertFile)
	if err != nil {
		return cert, reason(err) + "; check the path"
	}
	keyPEM := certPEM
	if key != cert {
		if keyPEM, err = f.read(key, maxCertFile); err != nil {
			return key, reason(err) + "; check the path"
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return cert, fmt.Sprintf("with the key of %q: %v; both must be PEM, and made for each other", key, err)
	}
	c.Certificates = append(c.Certificates, pair)
	return "", ""
}

// names returns the names in the directory, sorted.
func (f *hostsFiles) names() ([]string, error) {
	at, err := os.Stat(f.dir)
	if err != nil {
		return nil, err
	}
	f.stamps = append(f.stamps, stamp{f.dir, at})
	entries, err := os.ReadDir(f.dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	fmt.Fprintf(f.sum, "%q", names)
	return names, err
}

var errNotPlain = errors.New("not a plain file")

// read returns the bytes of a plain file. O_NONBLOCK does not wait for who would
// write to a FIFO.
func (f *hostsFiles) read(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	at, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !at.Mode().IsRegular():
		return nil, errNotPlain
	}
	f.stamps = append(f.stamps, stamp{path, at})
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	f.bytes += len(data)
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("larger than %d bytes", limit)
	case f.bytes > maxHostsBytes:
		return nil, fmt.Errorf("with this the registry's files are larger than %d bytes", maxHostsBytes)
	}
	fmt.Fprintf(f.sum, "%q %d ", path, len(data))
	f.sum.Write(data)
	return data, nil
}
