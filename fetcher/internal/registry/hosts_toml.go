package registry

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

const (
	maxHostsFile     = 1 << 20
	maxMirrors       = 100
	maxHostsWarnings = 20
	// maxHostsKeys bounds the keys by the characters that they need: the parser
	// compares each with all of its table.
	maxHostsKeys = 10_000
	// maxKeyPath is how many parts the way to a key has that means something:
	// host."https://mirror".header.name.
	maxKeyPath = 4
)

// hostEntry is a host as its table has it. The server's table is the root of
// the file; its URL is nil where no server is named.
type hostEntry struct {
	*Host
	line    int
	hubName bool // the URL is Docker Hub's name and not that of its server
	stated  bool // the table says more than the URL
	files   tlsFiles
}

// tlsFiles are what a table says of TLS: paths as they are written, and the
// lines that say so. A client without a key has it in the file of the certificate.
type tlsFiles struct {
	ca                 []string
	client             []clientFiles
	skipVerify         bool
	caLine, clientLine int
}

type clientFiles struct{ cert, key string }

func (f tlsFiles) none() bool { return f.ca == nil && f.client == nil && !f.skipVerify }

// at returns the entry with a URL, as the registry's own server.
func (e hostEntry) at(u *url.URL) hostEntry {
	h := *e.Host
	h.URL, h.Override, h.Mirror = u, false, false
	e.Host = &h
	return e
}

// seenFrom returns the host as it is for one registry: to its own, no mirror.
func (e hostEntry) seenFrom(own ownServer) *Host {
	if !e.Mirror || !own.has(e.URL) {
		return e.Host
	}
	h := *e.Host
	h.Mirror = false
	return &h
}

// place names the API that a host serves: two hosts at one place are one.
func (e hostEntry) place() string {
	api := e.URL.Path
	if !e.Override {
		api += "/v2"
	}
	return e.URL.Scheme + "://" + authority(e.URL) + api
}

// authority returns the host of a URL, and its port though it be the scheme's.
func authority(u *url.URL) string {
	host, port, _ := cutPort(u.Host)
	return host + ":" + cmp.Or(port, map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// hostsText is what a hosts.toml says.
type hostsText struct {
	mirrors  []hostEntry
	server   hostEntry
	warnings []string
}

// parseHosts reads the text of a hosts.toml. Its error is a *HostsError.
func parseHosts(file string, text []byte) (hostsText, error) {
	d := &hostsParser{file: file, lines: map[string]int{}}
	values, err := d.parse(text)
	if err != nil {
		return hostsText{}, err
	}
	root := section{hostsParser: d, values: values}
	t := hostsText{server: root.server(), mirrors: root.mirrors()}
	if d.err != nil {
		return hostsText{}, d.err
	}
	t.warnings = d.told()
	return t, nil
}

// hostsParser holds where each key of a file is, which values don't tell, and
// the first thing that is wrong.
type hostsParser struct {
	file     string
	lines    map[string]int // by the parts of the key, each with a NUL after it
	order    []string       // the keys below host
	warnings []warning
	err      error
}

type warning struct {
	line int
	text string
}

func (d *hostsParser) parse(text []byte) (map[string]any, error) {
	if bytes.Count(text, []byte("="))+bytes.Count(text, []byte("[")) > maxHostsKeys {
		return nil, &HostsError{d.file, 0, fmt.Sprintf("more than %d keys and tables; remove those that are not needed", maxHostsKeys)}
	}
	values := map[string]any{}
	err := toml.Unmarshal(text, &values)
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return nil, &HostsError{d.file, line, fmt.Sprintf("not TOML: %s; correct the line", named(strings.TrimPrefix(wrong.Error(), "toml: ")))}
	case err != nil:
		return nil, &HostsError{d.file, 0, "not TOML: " + named(err.Error())}
	}
	d.locate(text)
	return values, nil
}

// locate notes the line of each key.
func (d *hostsParser) locate(text []byte) {
	var p unstable.Parser
	p.Reset(text)
	at := &cursor{text: text, line: 1}
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = d.note(nil, e, at)
		case unstable.KeyValue:
			d.locateValue(table, e, at)
		}
	}
}

func (d *hostsParser) locateValue(table []string, pair *unstable.Node, at *cursor) {
	keys := d.note(table, pair, at)
	if pair.Value().Kind != unstable.InlineTable || len(keys) >= maxKeyPath {
		return
	}
	for in := pair.Value().Children(); in.Next(); {
		d.locateValue(keys, in.Node(), at)
	}
}

// note takes down the line of a key below a table and of those on the way to
// it, and returns the way, cut where it leads to nothing known.
func (d *hostsParser) note(table []string, key *unstable.Node, at *cursor) []string {
	keys := slices.Clone(table)
	for it := key.Key(); it.Next() && len(keys) < maxKeyPath; {
		keys = append(keys, string(it.Node().Data))
		place := joined(keys)
		if _, known := d.lines[place]; known {
			continue
		}
		d.lines[place] = at.lineOf(int(it.Node().Raw.Offset))
		if len(keys) == 2 && keys[0] == "host" {
			d.order = append(d.order, keys[1])
		}
	}
	return keys
}

func joined(keys []string) string { return strings.Join(keys, "\x00") + "\x00" }

// cursor counts lines, going forward only.
type cursor struct {
	text   []byte
	offset int
	line   int
}

func (c *cursor) lineOf(offset int) int {
	for ; c.offset < offset; c.offset++ {
		if c.text[c.offset] == '\n' {
			c.line++
		}
	}
	return c.line
}

func (d *hostsParser) fail(line int, format string, args ...any) {
	if d.err == nil {
		d.err = &HostsError{d.file, line, fmt.Sprintf(format, args...)}
	}
}

func (d *hostsParser) warn(line int, format string, args ...any) {
	d.warnings = append(d.warnings, warning{line, fmt.Sprintf(format, args...)})
}

// told returns the warnings by line, and of many the first ones.
func (d *hostsParser) told() []string {
	slices.SortFunc(d.warnings, func(a, b warning) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	})
	var told []string
	for i, w := range d.warnings {
		if i == maxHostsWarnings {
			return append(told, fmt.Sprintf("%s: and %d more such warnings", d.file, len(d.warnings)-i))
		}
		told = append(told, fmt.Sprintf("%s:%d: %s", d.file, w.line, w.text))
	}
	return told
}

// section is a table of the file.
type section struct {
	*hostsParser
	keys   []string // the way to it
	values map[string]any
}

func (s section) line(key string) int { return s.lines[joined(append(slices.Clone(s.keys), key))] }

// hostKeys are those that a table of a host may have. Push is for others.
var hostKeys = []string{
	"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout", "docker-fetcher",
}

// server reads the root of the file.
func (s section) server() hostEntry {
	s.unknown(append([]string{"server", "host"}, hostKeys...)...)
	e := s.entry()
	for _, key := range hostKeys {
		if line := s.line(key); line > 0 && (!e.stated || line < e.line) {
			e.line, e.stated = line, true
		}
	}
	if server := s.text("server"); server != "" {
		e.line = s.line("server")
		s.setURL(&e, "server", server)
	}
	return e
}

// mirrors reads the tables of hosts.
func (s section) mirrors() []hostEntry {
	hosts, _ := s.table("host")
	if len(s.order) > maxMirrors {
		s.fail(s.line("host"), "more than %d hosts; remove those that are not needed", maxMirrors)
		return nil
	}
	var mirrors []hostEntry
	seen := map[string]int{}
	for _, written := range s.order {
		host, _ := hosts.table(written)
		host.unknown(hostKeys...)
		e := host.entry()
		e.line = hosts.line(written)
		if host.setURL(&e, "host", written); s.err != nil {
			return nil
		}
		if first := seen[e.place()]; first > 0 {
			s.fail(e.line, "the same host as in line %d; put both tables into one", first)
		}
		seen[e.place()] = e.line
		mirrors = append(mirrors, e)
	}
	return mirrors
}

// entry reads what a table says of a host besides its URL.
func (s section) entry() hostEntry {
	h := &Host{Override: s.flag("override_path"), DialTimeout: s.duration("dial_timeout"), Header: s.header()}
	h.Resolve, h.Pull = s.capabilities()
	if ours, ok := s.table("docker-fetcher"); ok {
		ours.unknown("wait", "credentials", "private_redirects")
		h.Wait = ours.duration("wait")
		h.Credentials = ours.flag("credentials")
		h.PrivateRedirects = ours.flag("private_redirects")
	}
	return hostEntry{Host: h, files: tlsFiles{
		ca: s.texts("ca"), client: s.clients(), skipVerify: s.flag("skip_verify"),
		caLine: s.line("ca"), clientLine: s.line("client"),
	}}
}

// setURL gives a host its URL, as written behind the key of that name.
func (s section) setURL(e *hostEntry, key, written string) {
	u, wrong := hostURL(written, e.Override)
	if wrong != "" {
		s.fail(e.line, "%s %s %s", key, named(written), wrong)
		return
	}
	if u.Scheme == "https" && u.Path == "" && (u.Host == dockerHub || u.Host == "index."+dockerHub) {
		u.Host, e.hubName = dockerHubServer, true
	}
	e.URL, e.Mirror = u, true
	if e.Credentials && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		s.fail(e.line, "%s %s would get the registry's credential over plain http, for all in between to read; use https, or leave out credentials", key, named(written))
	}
	if u.Scheme == "http" && !e.files.none() {
		s.warn(e.line, "%s %s speaks plain http, for which ca, client and skip_verify mean nothing", key, named(written))
	}
}

func isLoopback(host string) bool {
	addr, known := literal(host)
	return known && addr.IsLoopback()
}

// capabilities reads what a host may do. A list without resolve and pull closes
// the host. containerd takes an empty list for all, and that of a root without
// server too; here it is the operator's word.
func (s section) capabilities() (resolve, pull bool) {
	if s.values["capabilities"] == nil {
		return true, true
	}
	list, ok := s.values["capabilities"].([]any)
	for _, item := range list {
		text, isText := item.(string)
		ok = ok && isText
		switch strings.ToLower(text) {
		case "resolve":
			resolve = true
		case "pull":
			pull = true
		case "push":
		default:
			if ok {
				s.fail(s.line("capabilities"), "%s is not a capability; there are pull, resolve and push", named(text))
			}
		}
	}
	if !ok {
		s.fail(s.line("capabilities"), `"capabilities" must be a list of strings such as ["pull", "resolve"]`)
	}
	return resolve, pull
}

// table returns the table of a key; without one it is empty.
func (s section) table(key string) (section, bool) {
	t := section{hostsParser: s.hostsParser, keys: append(slices.Clone(s.keys), key)}
	value, given := s.values[key]
	if !given {
		return t, false
	}
	var ok bool
	if t.values, ok = value.(map[string]any); !ok {
		s.fail(s.line(key), "%s is %s, but must be a table", named(key), kindOf(value))
	}
	return t, ok
}

// text returns the string of a key; "" where there is none, or an empty one.
func (s section) text(key string) string {
	value, given := s.values[key]
	text, ok := value.(string)
	if given && !ok {
		s.fail(s.line(key), "%s is %s, but must be a string", named(key), kindOf(value))
	}
	return text
}

func (s section) flag(key string) bool {
	value, given := s.values[key]
	flag, ok := value.(bool)
	if given && !ok {
		s.fail(s.line(key), "%s is %s, but must be true or false", named(key), kindOf(value))
	}
	return flag
}

// duration returns a time as Go writes it; 0 where there is none.
func (s section) duration(key string) time.Duration {
	text := s.text(key)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		s.fail(s.line(key), `%s %s is not a time above zero, such as "500ms", "30s" or "15m"`, named(key), named(text))
	}
	return d
}

// texts returns the string or strings of a key, none of them empty; nil where
// there is no such key.
func (s section) texts(key string) []string {
	list, ok := textsOf(s.values[key])
	if !ok {
		s.fail(s.line(key), "%s must be a string or a list of strings", named(key))
	}
	if slices.Contains(list, "") {
		s.fail(s.line(key), "%s has an empty string; write the path of a file, or leave it out", named(key))
	}
	return list
}

// textsOf returns a string or a list of strings as such a list.
func textsOf(value any) ([]string, bool) {
	switch value := value.(type) {
	case nil:
		return nil, true
	case string:
		return []string{value}, true
	case []any:
		var list []string
		for _, item := range value {
			text, ok := item.(string)
			if !ok {
				return nil, false
			}
			list = append(list, text)
		}
		return list, true
	}
	return nil, false
}

// clients reads client: a file, a list of files, or of pairs [certificate, key].
func (s section) clients() []clientFiles {
	value := s.values["client"]
	if text, ok := value.(string); ok {
		value = []any{text}
	}
	list, ok := value.([]any)
	ok = ok || value == nil
	var clients []clientFiles
	for _, item := range list {
		pair, isList := textsOf(item)
		ok = ok && isList && (len(pair) == 2 || len(pair) == 1 && isText(item)) && pair[0] != ""
		if ok {
			clients = append(clients, clientFiles{pair[0], strings.Join(pair[1:], "")})
		}
	}
	if !ok {
		s.fail(s.line("client"), `"client" must be a file, a list of files, or a list of pairs such as [["client.cert", "client.key"]]`)
	}
	return clients
}

func isText(value any) bool { _, ok := value.(string); return ok }

// header reads the fields that each request to the host has. Their values may
// be secrets, and are in no message.
func (s section) header() http.Header {
	t, _ := s.table("header")
	var header http.Header
	for _, name := range t.names() {
		values, ok := textsOf(t.values[name])
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !ok:
			s.fail(t.line(name), "header %s must be a string or a list of strings", named(name))
		case !isToken(name):
			s.fail(t.line(name), "header %s has a character that the name of an HTTP field can't have (RFC 9110 section 5.1)", named(name))
		case ours[canonical]:
			s.fail(t.line(name), "header %s is the fetcher's own to set; remove it", named(name))
		case slices.ContainsFunc(values, unfit):
			s.fail(t.line(name), "header %s has a control character in its value; remove it", named(name))
		case header[canonical] != nil:
			s.fail(t.line(name), "header %s is given twice; upper and lower case are the same", named(name))
		case values != nil:
			if header == nil {
				header = http.Header{}
			}
			header[canonical] = values
		}
	}
	return header
}

// ours are the fields that decide what is asked for and what an answer means.
var ours = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Connection": true, "Content-Length": true, "Host": true, "If-Range": true,
	"Range": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// unfit reports whether s can't be the value of an HTTP field.
func unfit(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// names returns the keys of a table as they are in the file.
func (s section) names() []string {
	names := make([]string, 0, len(s.values))
	for name := range s.values {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(s.line(a), s.line(b)), cmp.Compare(a, b)) })
	return names
}

// unknown warns of the keys that are none of these.
func (s section) unknown(known ...string) {
	for name := range s.values {
		if !slices.Contains(known, name) {
			s.warn(s.line(name), "key %s is unknown, and ignored", named(name))
		}
	}
}

// kindOf names the type of a value.
func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

// named returns what the file has as a message may show it: in one line, not
// too long, and without a user and password.
func named(s string) string {
	if strings.Contains(s, "@") {
		return `"[hidden]"`
	}
	s, _, query := strings.Cut(s, "?")
	if query {
		s += "?..."
	}
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "..."
	}
	return strconv.Quote(s)
}

// hostURL reads the URL of a host. As for containerd it is https where there is
// no scheme, on loopback too, and a /v2 at its end is what the API has anyway.
// Otherwise wrong says what is wrong and what to do.
func hostURL(written string, override bool) (u *url.URL, wrong string) {
	if !strings.Contains(written, "://") {
		if strings.HasPrefix(written, "unix:") {
			return nil, "is a unix socket; let the mirror listen on 127.0.0.1"
		}
		written = "https://" + written
	}
	given, err := url.Parse(written)
	switch {
	case err != nil:
		return nil, "is not a URL; write it as https://host:port, an IPv6 address in brackets"
	case given.Scheme != "http" && given.Scheme != "https":
		return nil, "is neither http nor https; write it as https://host:port"
	case given.User != nil:
		return nil, "has a user or password; put the credential into the docker config"
	case strings.ContainsAny(written, "?#"):
		return nil, "has a query or fragment; leave that out"
	case given.RawPath != "":
		return nil, "has a percent-encoding in its path; leave that out"
	}
	if wrong := wrongHost(given.Host); wrong != "" {
		return nil, wrong
	}
	p := strings.TrimSuffix(path.Clean("/"+given.Path), "/")
	if !override {
		p = strings.TrimSuffix(p, "/v2")
	}
	return &url.URL{Scheme: given.Scheme, Host: strings.ToLower(given.Host), Path: p}, ""
}

// wrongHost returns what is wrong with HOST[:PORT]; "": nothing.
func wrongHost(authority string) string {
	host, port, hasPort := cutPort(authority)
	number, err := strconv.ParseUint(port, 10, 16)
	literal := strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]")
	switch {
	case host == "":
		return "has no host; write it as https://host:port"
	case hasPort && (err != nil || number == 0):
		return "has a port that is not a number from 1 to 65535"
	case strings.ContainsFunc(host, func(r rune) bool { return r > 0x7f }):
		return "has a host with characters outside of ASCII; write it in its xn-- form"
	case literal:
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
			return "has brackets around what is not an IPv6 address"
		}
	case strings.ContainsFunc(host, func(r rune) bool { return !strings.ContainsRune(hostCharacters, r) }):
		return "has a character that the name of a host can't have"
	}
	return ""
}

const hostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
