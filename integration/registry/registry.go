// Package registry serves the CNCF distribution registry within this process,
// on a loopback port, for tests and for the demonstration. It asks for
// nothing, for a password (Basic) or for a token (Bearer), as configured, and
// records the requests it gets. Everything it keeps is in one temporary
// directory, which Close removes.
package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // the access controller of Basic
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the storage
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

// Auth is what a registry asks for.
type Auth string

// The kinds of authentication.
const (
	Anonymous Auth = "anonymous" // nothing
	Basic     Auth = "htpasswd"  // a user's password; any user may do anything
	Token     Auth = "token"     // a token from the token server that Start sets up too
)

// Grants are the actions allowed, by repository. The repository "*" stands for all.
type Grants map[string][]string

// allows tells whether g grants action on repository.
func (g Grants) allows(repository, action string) bool {
	return slices.Contains(g[repository], action) || slices.Contains(g["*"], action)
}

// User is somebody whom a registry knows.
type User struct {
	Name, Password string
	Grants         Grants // Token only
}

// DockerConfig returns the bytes of a docker config.json that has the
// credential of u for host.
func (u User) DockerConfig(host string) []byte {
	type entry struct {
		Auth []byte `json:"auth"`
	}
	config, err := json.Marshal(map[string]map[string]entry{
		"auths": {host: {Auth: []byte(u.Name + ":" + u.Password)}},
	})
	if err != nil {
		panic(err) // strings and bytes always encode
	}
	return config
}

// authorization returns the value of the Authorization header for u.
func (u User) authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Name+":"+u.Password))
}

// Config says what registry to start. The zero value is an anonymous one.
type Config struct {
	Auth   Auth // "": Anonymous
	Users  []User
	Public Grants // Token only: what is granted to everybody, without a credential
	// Algorithm signs the tokens: ES256 or RS256; "": ES256. Token only.
	Algorithm string
	// Rate bounds each answer to so many bytes a second, as a network does that
	// is no loopback. 0: it does not.
	Rate int
}

// Start starts a registry on a free loopback port. With tokens, the token
// server is part of it, at /token. The caller closes it.
func Start(config Config) (_ *Server, err error) {
	dir, err := os.MkdirTemp("", "registry-")
	if err != nil {
		return nil, err
	}
	listener, err := listen()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start the registry: %w", err), listener.Close(), os.RemoveAll(dir))
		}
	}()

	var access configuration.Auth
	tokens := http.NotFoundHandler()
	switch config.Auth {
	case "", Anonymous:
	case Basic:
		access, err = basicAccess(dir, config.Users)
	case Token:
		tokens, access, err = tokenAccess(dir, listener.Addr().String(), config)
	default:
		err = fmt.Errorf("unknown authentication %q", config.Auth)
	}
	if err != nil {
		return nil, err
	}
	app, err := newApp(filepath.Join(dir, "storage"), access)
	if err != nil {
		return nil, err
	}
	return serve(listener, at("/token", tokens, limit(config.Rate, app)), func() error {
		return errors.Join(app.Shutdown(), os.RemoveAll(dir))
	}), nil
}

// newApp returns the registry's handler. The registry reports a mistake in its
// configuration by a panic; here it is an error.
func newApp(storage string, access configuration.Auth) (app *handlers.App, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("configure the registry: %v", cause)
		}
	}()
	// The registry logs each request through the standard logger of logrus and takes no other.
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.PanicLevel)

	config := &configuration.Configuration{Auth: access}
	config.Storage = configuration.Storage{
		"filesystem":  configuration.Parameters{"rootdirectory": storage},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}
	config.Log.AccessLog.Disabled = true
	config.HTTP.Secret = "signs the state of uploads, which end with this process"
	return handlers.NewApp(context.Background(), config), nil
}

// basicAccess writes the users into an htpasswd file in dir.
func basicAccess(dir string, users []User) (configuration.Auth, error) {
	var lines strings.Builder
	for _, user := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(user.Password), bcrypt.MinCost)
		if err != nil {
			return nil, fmt.Errorf("hash the password of %s: %w", user.Name, err)
		}
		fmt.Fprintf(&lines, "%s:%s\n", user.Name, hash)
	}
	path := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		return nil, err
	}
	return configuration.Auth{"htpasswd": {"realm": "integration", "path": path}}, nil
}

// tokenAccess makes the token server of the registry at host and writes the
// key that verifies its tokens into dir.
func tokenAccess(dir, host string, config Config) (http.Handler, configuration.Auth, error) {
	tokens, err := newTokens(config)
	if err != nil {
		return nil, nil, err
	}
	keys, err := json.Marshal(tokens.keys)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "jwks.json")
	if err := os.WriteFile(path, keys, 0o600); err != nil {
		return nil, nil, err
	}
	return tokens, configuration.Auth{"token": {
		"realm":   "http://" + host + "/token",
		"issuer":  issuer,
		"service": Service,
		"jwks":    path,
	}}, nil
}
