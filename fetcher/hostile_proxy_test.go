package fetcher_test

import (
	"strings"
	"testing"

	"github.com/docker-fetcher/docker-fetcher/fetcher/fetchertest"
)

// net/http takes a variable that it can't read for none, and asks past the proxy.
func TestAProxyVariableThatCanNotBeReadIsReportedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	r := served(t, fetchertest.Config{})
	_, port, _ := strings.Cut(r.Host(), ":")
	for title, test := range map[string]struct{ env, fragment, name string }{
		"HTTP_PROXY":              {"HTTP_PROXY=http://u:hunter2%@127.0.0.1:1", "http", "HTTP_PROXY"},
		"http_proxy":              {"http_proxy=u:hunter2%zz@127.0.0.1:1", "http", "HTTP_PROXY"},
		"HTTPS_PROXY":             {"HTTPS_PROXY=http://u:hunter2 @127.0.0.1:99999999x", "https", "HTTPS_PROXY"},
		"a scheme of its own":     {"HTTP_PROXY=ftp://u:hunter2@127.0.0.1:1", "http", "HTTP_PROXY"},
		"one that is for another": {"HTTPS_PROXY=http://u:hunter2%@127.0.0.1:1", "http", ""},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			text := elsewhere(t, "0.0.0.0:"+port+"/team/app#"+test.fragment, "", test.env)
			if test.name == "" {
				if text != "" {
					t.Error(text)
				}
				return
			}
			if !strings.Contains(text, "the environment's "+test.name+" can't be read as the URL of a proxy; write it as http://USER:PASSWORD@HOST:PORT") {
				t.Errorf("got %q", text)
			}
			if strings.Contains(text, "hunter2") {
				t.Errorf("it shows the password: %s", text)
			}
		})
	}
}
