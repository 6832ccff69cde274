package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Rung is one of the ways to be let in, in words for people.
type Rung struct {
	Step string // what is done
	When string // what has to be the case
	How  string // what else there is to know of it; "": nothing
	For  string // who needs it
	// climb returns the step, if one is open; nil for what is no choice.
	climb func(ladder) (Step, bool)
}

// Ladder is the order in which Next tries: the first rung that has a step left.
var Ladder = []Rung{
	{
		Step: "send what served this repository before, else the request as it is",
		When: "always first",
		How:  "the registry's own answer says what it wants",
		For:  "a warm process: one request for each thing",
	},
	{
		Step:  "get a token from the token server that the challenge names",
		When:  "the answer to the request itself asks for one",
		How:   "the newest challenge first; service and scope are completed where it lacks them; a server that refuses one form is asked by the other: another scope, GET or POST",
		For:   "nvcr.io (MESOS-10092), ghcr.io, Docker Hub, ECR Public, OCIR; ACR, gcr.io, GitLab, Harbor, Artifactory",
		climb: ladder.endpoint,
	},
	{
		Step:  "send the request without Authorization",
		When:  "only an older token was sent so far",
		How:   "its refusal may name a dead end, or nothing",
		For:   "dhi.io, nvcr.io",
		climb: ladder.cold,
	},
	{
		Step:  "take realm and service, never the scope, of GET /v2/",
		When:  "the request was refused with a 401 that names no way in",
		For:   "registries that answer a bare 401",
		climb: ladder.root,
	},
	{
		Step:  "send username and password",
		When:  "Basic was offered",
		For:   "ECR, Nexus, Artifactory; Harbor after a token",
		climb: ladder.basic,
	},
	{
		Step:  "get a token without the credential",
		When:  "the credential was refused, and the content may be public",
		For:   "an expired login and a public image: ghcr.io, Docker Hub, ECR Public, Harbor",
		climb: ladder.anonymous,
	},
}

// What follows by itself.
var (
	granted   = Rung{Step: "send the request with the token", When: "the token server granted one"}
	exhausted = Rung{Step: "give up", When: "nothing is left to try"}
)

// Explanation is a decision of Next in words.
type Explanation struct {
	Step Step
	Rung Rung
	// Notes say what was made of the challenge, a sentence's part each.
	Notes []string
}

// Explain says what Next decides, and why. It is pure.
func Explain(facts Facts, past []Outcome) Explanation {
	step, rung := decide(facts, past)
	e := Explanation{Step: step, Rung: rung}
	if step.Action == Exchange && len(past) > 0 {
		e.Notes = ladder{facts, past}.notes(step)
	}
	return e
}

// notes say how a token request differs from what the challenge says, and from
// those before it.
func (l ladder) notes(step Step) []string {
	var notes []string
	if step.Service == "" {
		notes = append(notes, "the challenge names no service, so none is sent")
	}
	composed := "repository:" + l.facts.Repository + ":pull"
	switch named := strings.Join(strings.Fields(l.named(step.Realm).Params["scope"]), " "); {
	case named == step.Scope:
	case named == "":
		notes = append(notes, "the challenge names no scope, so that of the repository is composed")
	case step.Scope != composed || reduced(named, l.facts.Repository) == composed && strings.Contains(named, "repository:"+l.facts.Repository+":"):
		notes = append(notes, fmt.Sprintf("the challenge's scope %q is reduced to pull", named))
	default:
		notes = append(notes, fmt.Sprintf("the challenge's scope %q is not this repository's, so that is composed", named))
	}
	if step.Again {
		notes = append(notes, "the token before it was no longer valid when it arrived")
	}
	for _, o := range l.past {
		if o.Step.Action != Exchange || o.Step.Realm != step.Realm || o.Verdict != Refused {
			continue
		}
		switch {
		case o.Step.Anonymous != step.Anonymous: // the rung says so
		case o.Step.Scope != step.Scope:
			notes = append(notes, fmt.Sprintf("the scope %q was refused", o.Step.Scope))
		case o.Step.Post:
			notes = append(notes, "POST was refused")
		default:
			notes = append(notes, "GET was refused")
		}
	}
	return slices.Compact(notes)
}

// named is the newest challenge that names the realm, else the zero value.
func (l ladder) named(realm string) Challenge {
	for _, c := range append(bearers(l.challenges()), bearers(l.atRoot())...) {
		if c.Params["realm"] == realm {
			return c
		}
	}
	return Challenge{}
}
