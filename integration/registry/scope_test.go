package registry

import (
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/google/go-cmp/cmp"
)

func TestParseScope(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		scope string
		want  *token.ResourceActions
		err   string
	}{
		{"repository:demo/hello:pull", &token.ResourceActions{Type: "repository", Name: "demo/hello", Actions: []string{"pull"}}, ""},
		{"repository:a:push,pull", &token.ResourceActions{Type: "repository", Name: "a", Actions: []string{"push", "pull"}}, ""},
		{"repository:host:5000/a:pull", &token.ResourceActions{Type: "repository", Name: "host:5000/a", Actions: []string{"pull"}}, ""},
		{"registry:catalog:*", &token.ResourceActions{Type: "registry", Name: "catalog", Actions: []string{"*"}}, ""},
		{"", nil, `invalid scope "": it is not TYPE:NAME:ACTIONS`},
		{"repository", nil, `invalid scope "repository": it is not TYPE:NAME:ACTIONS`},
		{"repository:a", nil, `invalid scope "repository:a": it is not TYPE:NAME:ACTIONS`},
		{"repository::pull", nil, `invalid scope "repository::pull": it is not TYPE:NAME:ACTIONS`},
		{":a:pull", nil, `invalid scope ":a:pull": it is not TYPE:NAME:ACTIONS`},
		{"repository:a:", nil, `invalid scope "repository:a:": it is not TYPE:NAME:ACTIONS`},
		{"repository:a:pull,", nil, `invalid scope "repository:a:pull,": an action is empty`},
	} {
		t.Run(test.scope, func(t *testing.T) {
			t.Parallel()
			got, err := parseScope(test.scope)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if (err != nil || test.err != "") && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}

func FuzzParseScope(f *testing.F) {
	f.Add("repository:host:5000/a:push,pull")
	f.Add("repository:a")
	f.Fuzz(func(t *testing.T, scope string) {
		got, err := parseScope(scope)
		if err != nil {
			return
		}
		if again := got.Type + ":" + got.Name + ":" + strings.Join(got.Actions, ","); again != scope {
			t.Errorf("%q became %q", scope, again)
		}
	})
}
