package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// claims are what a token says of itself, by the distribution project's token
// specification. They are read without verifying, for hints and texts only; of
// an opaque token they are empty.
type claims struct {
	IssuedAt float64  `json:"iat"`
	Expires  float64  `json:"exp"`
	Access   *[]grant `json:"access"`
}

// grant is one element of the access claim.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func claimsOf(token string) claims {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return claims{}
	}
	return c
}

// lasts is the lifetime in seconds; 0 where it is not said.
func (c claims) lasts() float64 {
	if c.IssuedAt <= 0 || c.Expires <= c.IssuedAt {
		return 0
	}
	return c.Expires - c.IssuedAt
}

// scopes are what the token says it is good for, empty for nothing; nil where it
// does not say.
func (c claims) scopes() []string {
	if c.Access == nil {
		return nil
	}
	all := []string{}
	for _, g := range *c.Access {
		all = append(all, g.Type+":"+g.Name+":"+strings.Join(g.Actions, ","))
	}
	return all
}

// grantedNothing tells whether a token leaves out the pull that was asked for:
// token servers answer 200 all the same for a wrong password (Harbor) or a name
// that does not exist (Docker Hub). "" where the token tells nothing, or grants it.
func grantedNothing(token, scope, repository string) string {
	access := claimsOf(token).Access
	if access == nil || slices.ContainsFunc(*access, func(g grant) bool {
		return g.Type == "repository" && g.Name == repository && (slices.Contains(g.Actions, "pull") || slices.Contains(g.Actions, "*"))
	}) {
		return ""
	}
	text := fmt.Sprintf("the token server granted nothing for %q", scope)
	if !strings.Contains(repository, "/") {
		text += fmt.Sprintf("; did you mean library/%s?", repository)
	}
	return text
}
