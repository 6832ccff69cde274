package auth

import (
	"fmt"
	"strings"
)

// Action is one rung of the ladder.
type Action int

// The actions. All but the last three send the request itself.
const (
	SendPlain Action = iota // without Authorization
	SendKept                // with the token that served this repository before
	SendGiven               // with the registry token of the docker config
	SendBasic               // with username and password (RFC 7617)
	SendToken               // with the token just granted
	Exchange                // ask a realm for a token
	ProbeRoot               // ask GET /v2/ for a challenge
	GiveUp                  // nothing is left to try
)

// Step is what to do next. The parameters belong to Exchange, and to the
// SendToken after it.
type Step struct {
	Action  Action
	Realm   string
	Service string // empty: unknown, and then not sent
	Scope   string // space separated where several
}

// String says in words what was tried.
func (s Step) String() string {
	switch s.Action {
	case SendPlain:
		return "no credentials"
	case SendKept:
		return "the token of an earlier request"
	case SendGiven:
		return "the registry token of the docker config"
	case SendBasic:
		return "username and password"
	case SendToken:
		return fmt.Sprintf("a token for %q", s.Scope)
	case Exchange:
		return fmt.Sprintf("asking for a token for %q", s.Scope)
	case ProbeRoot:
		return "asking /v2/ for a challenge"
	default:
		return "nothing"
	}
}

// Facts are what is known before the first request is sent.
type Facts struct {
	Repository string
	Kept       Action // SendKept or SendBasic where that served this repository before; else SendPlain
	Password   bool   // the credential has a username and password
	Given      bool   // the credential has a registry token
}

// Outcome is what came of a step.
type Outcome struct {
	Step       Step
	Status     int         // of the answer to a request; 0 after Exchange
	Granted    bool        // Exchange brought a token
	Challenges []Challenge // of a 401, of the endpoint or of /v2/
}

// maxExchanges bounds the token requests for one request. Two serve every
// registry known; a registry that names a new realm each time ends here.
const maxExchanges = 4

// Next decides what to do after past, which began with the first step for
// these facts. It is pure and total, and climbs: no step is done twice, so that
// one request comes to an end after at most maxExchanges tokens.
//
// The order: what served before; the request as it is; the endpoint's own
// challenge, Bearer before Basic (MESOS-10092: a missing service is left out, a
// missing scope composed); without Authorization, where what served before was
// refused and its challenge leads nowhere; the realm and service, never the
// scope, that GET /v2/ names, where the endpoint names none.
func Next(facts Facts, past []Outcome) Step {
	if len(past) == 0 {
		return first(facts)
	}
	last := past[len(past)-1]
	if last.Step.Action == Exchange && last.Granted {
		step := last.Step
		step.Action = SendToken
		return step
	}
	for _, step := range ladder(facts, past) {
		if !tried(past, step) {
			return step
		}
	}
	return Step{Action: GiveUp}
}

func first(facts Facts) Step {
	switch {
	case facts.Given:
		return Step{Action: SendGiven}
	case facts.Kept == SendKept, facts.Kept == SendBasic && facts.Password:
		return Step{Action: facts.Kept}
	}
	return Step{Action: SendPlain}
}

// ladder lists the steps that past leaves open, best first. /v2/ is asked only
// where the endpoint names no way in.
func ladder(facts Facts, past []Outcome) []Step {
	endpoint, root := offered(past)
	steps := answers(facts, endpoint, true)
	steps = append(steps, Step{Action: SendPlain})
	if endpoint == nil {
		steps = append(steps, Step{Action: ProbeRoot})
		steps = append(steps, answers(facts, root, false)...)
	}
	return steps
}

// offered returns the newest usable challenges of the endpoint, and those of /v2/.
func offered(past []Outcome) (endpoint, root []Challenge) {
	for _, o := range past {
		switch {
		case o.Step.Action == ProbeRoot:
			root = o.Challenges
		case o.Step.Action != Exchange && usable(o.Challenges):
			endpoint = o.Challenges
		}
	}
	return endpoint, root
}

func usable(offered []Challenge) bool {
	for _, c := range offered {
		if c.Scheme == "basic" || c.Scheme == "bearer" && c.Params["realm"] != "" {
			return true
		}
	}
	return false
}

// answers turns challenges into steps, Bearer first whatever their order: a
// client that takes Basic because it stands first can't pull anonymously.
func answers(facts Facts, offered []Challenge, trustScope bool) []Step {
	var steps []Step
	for _, c := range offered {
		if c.Scheme != "bearer" || c.Params["realm"] == "" {
			continue
		}
		scope := ""
		if trustScope {
			scope = c.Params["scope"]
		}
		steps = append(steps, Step{Exchange, c.Params["realm"], c.Params["service"], Scope(scope, facts.Repository)})
	}
	for _, c := range offered {
		if c.Scheme == "basic" && facts.Password {
			steps = append(steps, Step{Action: SendBasic})
		}
	}
	return steps
}

func tried(past []Outcome, step Step) bool {
	exchanges := 0
	for _, o := range past {
		if o.Step == step {
			return true
		}
		if o.Step.Action == Exchange {
			exchanges++
		}
	}
	return step.Action == Exchange && exchanges >= maxExchanges
}

// Scope returns the scope to ask for: the challenge's own where it means the
// repository or is opaque ("aws", "*"), reduced to pull; else composed. It is
// never a union of both: ghcr.io and Artifact Registry refuse scopes of
// repositories they don't know (containerd#9648).
func Scope(challenged, repository string) string {
	prefix := "repository:" + repository + ":"
	fields := strings.Fields(challenged)
	for i, field := range fields {
		actions, ours := strings.CutPrefix(field, prefix)
		if !ours && strings.HasPrefix(field, "repository:") {
			return prefix + "pull"
		}
		if ours && strings.Contains(","+actions+",", ",pull,") {
			fields[i] = prefix + "pull"
		}
	}
	if len(fields) == 0 {
		return prefix + "pull"
	}
	return strings.Join(fields, " ")
}

// Tried says in words what was sent before the last refusal.
func Tried(past []Outcome) string {
	var words []string
	for _, o := range past {
		if o.Step.Action != Exchange || !o.Granted {
			words = append(words, o.Step.String())
		}
	}
	return "tried " + strings.Join(words, ", then ")
}
