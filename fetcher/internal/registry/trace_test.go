package registry

import "testing"

func TestNoUserOfAURLIsTold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`Bearer realm="http://u:pw9@h/token#f",service="s"`:     `Bearer realm="http://[redacted]@h/token#f",service="s"`,
		`Bearer realm="//u:p@w@h", x="https://a@b"`:             `Bearer realm="//[redacted]@h", x="https://[redacted]@b"`,
		`Bearer realm="https://h/@path?q=//a@b"`:                `Bearer realm="https://h/@path?q=//[redacted]@b"`,
		`Bearer realm="https://auth.example/token",scope="a:b"`: `Bearer realm="https://auth.example/token",scope="a:b"`,
		"//": "//", "": "", "a//u@": "a//[redacted]@",
	} {
		if got := withoutUser(text); got != want {
			t.Errorf("withoutUser(%q) is %q, want %q", text, got, want)
		}
	}
	for realm, want := range map[string]string{
		"http://u:pw9@h/token?x=secret#f": "http://h/token", "/token": "/token", "https://h:5000": "https://h:5000", "http://[": "",
	} {
		if got := bare(realm); got != want {
			t.Errorf("bare(%q) is %q, want %q", realm, got, want)
		}
	}
}
