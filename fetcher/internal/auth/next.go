package auth

import (
	"fmt"
	"slices"
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

// String names the action as traces do.
func (a Action) String() string {
	return [...]string{"plain", "kept", "given", "basic", "token", "exchange", "probe", "give up"}[a]
}

// Grant names what a token is asked for. A token that was granted serves every
// request that names the same.
type Grant struct {
	Realm     string
	Service   string // empty: unknown, and then not sent
	Scope     string // space separated where several
	Anonymous bool   // without the credential, though there is one
}

// Step is what to do next. The grant belongs to Exchange and SendToken.
type Step struct {
	Action Action
	Grant
	Post  bool // Exchange by POST (OAuth2), not by GET
	Again bool // it is about a second token, as the first one had expired when it arrived
}

// Facts are what is known before the first request is sent.
type Facts struct {
	Repository string
	// Kept is what served this repository before: SendKept, SendBasic, or
	// Exchange where Renewal gets a new token for one about to expire. SendPlain: nothing.
	Kept     Action
	Renewal  Step
	Password bool            // the credential has a username and password
	Identity bool            // … an identity token
	Given    bool            // … a registry token, not refused so far
	Posts    map[string]bool // realms at which POST worked
}

// credential reports whether there is one that a realm can be shown.
func (f Facts) credential() bool { return f.Password || f.Identity }

// Verdict is what a token server made of an exchange.
type Verdict int

// The verdicts.
const (
	Unanswered Verdict = iota // no answer, or one that says to wait
	Granted
	Refused  // it said no, or did not understand: another form may fare better
	BadRealm // nobody was asked: the realm is no token endpoint
)

// Outcome is what came of a step.
type Outcome struct {
	Step       Step
	Status     int         // of the answer to a request; 0 after Exchange
	Verdict    Verdict     // of an Exchange
	Challenges []Challenge // of the endpoint or of /v2/
}

// maxExchanges bounds the token requests for one request: two forms of the
// scope, by two methods, with and without the credential. A registry that names
// a new realm each time ends here too.
const maxExchanges = 8

// MaxRequests bounds all HTTP requests that Next asks for, retries and
// redirects aside: the exchanges, a send after each of them, and one each of
// kept or given, plain, Basic and /v2/.
const MaxRequests = 2*maxExchanges + 4

// Next decides what to do after past, which began with the first step for
// these facts. It is pure and total, and climbs the Ladder: no step is done twice,
// so that one request comes to an end within MaxRequests.
func Next(facts Facts, past []Outcome) Step {
	step, _ := decide(facts, past)
	return step
}

// decide is Next, and says on which rung the step stands.
func decide(facts Facts, past []Outcome) (Step, Rung) {
	if len(past) == 0 {
		return first(facts), Ladder[0]
	}
	last := past[len(past)-1]
	if last.Verdict == Granted {
		return Step{Action: SendToken, Grant: last.Step.Grant, Again: last.Step.Again}, granted
	}
	l := ladder{facts: facts, past: past}
	for _, rung := range Ladder[1:] {
		if step, ok := rung.climb(l); ok {
			return step, rung
		}
	}
	return Step{Action: GiveUp}, exhausted
}

func first(facts Facts) Step {
	switch {
	case facts.Given:
		return Step{Action: SendGiven}
	case facts.Kept == Exchange:
		return facts.Renewal
	case facts.Kept == SendKept, facts.Kept == SendBasic && facts.Password:
		return Step{Action: facts.Kept}
	}
	return Step{Action: SendPlain}
}

// ladder answers, rung by rung, which step is open.
type ladder struct {
	facts Facts
	past  []Outcome
}

// endpoint is rung 2.
func (l ladder) endpoint() (Step, bool) {
	for _, c := range bearers(l.challenges()) {
		if step, ok := l.exchange(c, scopes(c.Params["scope"], l.facts.Repository), false); ok {
			return step, true
		}
	}
	return Step{}, false
}

// cold is rung 3.
func (l ladder) cold() (Step, bool) {
	step := Step{Action: SendPlain}
	return step, !l.tried(step)
}

// root is rung 4.
func (l ladder) root() (Step, bool) {
	if l.leads() || !l.has(func(o Outcome) bool { return o.Status == 401 }) {
		return Step{}, false
	}
	probe := Step{Action: ProbeRoot}
	if !l.tried(probe) {
		return probe, true
	}
	for _, c := range bearers(l.atRoot()) {
		if step, ok := l.exchange(c, scopes("", l.facts.Repository), false); ok {
			return step, true
		}
	}
	return Step{}, false
}

// basic is rung 5.
func (l ladder) basic() (Step, bool) {
	step := Step{Action: SendBasic}
	offered := slices.ContainsFunc(l.challenges(), isBasic) || slices.ContainsFunc(l.atRoot(), isBasic)
	return step, l.facts.Password && offered && !l.tried(step)
}

// anonymous is rung 6.
func (l ladder) anonymous() (Step, bool) {
	if !l.facts.credential() || !CredentialRefused(l.past) {
		return Step{}, false
	}
	for _, c := range bearers(append(l.challenges(), l.atRoot()...)) {
		if step, ok := l.exchange(c, scopes(c.Params["scope"], l.facts.Repository)[:1], true); ok {
			return step, true
		}
	}
	return Step{}, false
}

// exchange returns the first form of a token request at c's realm that is open:
// the scopes in their order, each by both methods. A form is open once those
// before it came to nothing.
func (l ladder) exchange(c Challenge, scopes []string, anonymous bool) (Step, bool) {
	for _, scope := range scopes {
		grant := Grant{Realm: c.Params["realm"], Service: c.Params["service"], Scope: scope, Anonymous: anonymous}
		if i := slices.IndexFunc(l.past, func(o Outcome) bool { return o.Step.Grant == grant && o.Verdict == Granted }); i >= 0 {
			again := Step{Action: Exchange, Grant: grant, Post: l.past[i].Step.Post, Again: true}
			if l.expired(grant) && !l.tried(again) {
				return again, l.exchanges() < maxExchanges
			}
			continue // its token was refused
		}
		for _, post := range l.methods(grant) {
			step := Step{Action: Exchange, Grant: grant, Post: post}
			i := slices.IndexFunc(l.past, func(o Outcome) bool { return o.Step == step })
			if i < 0 {
				return step, l.exchanges() < maxExchanges
			}
			if l.past[i].Verdict != Refused {
				return Step{}, false // another form meets the same silence
			}
		}
	}
	return Step{}, false
}

// expired reports whether the new token for a grant was no good any more when it
// arrived (RFC 6750 section 3.1): it lasts shortly, and the way was long.
func (l ladder) expired(grant Grant) bool {
	return l.has(func(o Outcome) bool {
		return o.Step.Action == SendToken && o.Step.Grant == grant && slices.ContainsFunc(o.Challenges, func(c Challenge) bool {
			return c.Params["error"] == "invalid_token"
		})
	})
}

// methods says in which order to ask a realm: by POST first for an identity
// token, or where that worked before; without a credential by GET alone.
func (l ladder) methods(grant Grant) []bool {
	switch {
	case grant.Anonymous, !l.facts.credential():
		return []bool{false}
	case l.facts.Identity, l.facts.Posts[grant.Realm]:
		return []bool{true, false}
	}
	return []bool{false, true}
}

// bearers are those of the challenges that name a realm to ask.
func bearers(challenges []Challenge) []Challenge {
	var all []Challenge
	for _, c := range challenges {
		if c.Scheme == "bearer" && c.Params["realm"] != "" {
			all = append(all, c)
		}
	}
	return all
}

// challenges are all of the endpoint, newest answer first.
func (l ladder) challenges() []Challenge {
	var all []Challenge
	for _, o := range slices.Backward(l.past) {
		if o.Step.Action != ProbeRoot && o.Step.Action != Exchange {
			all = append(all, o.Challenges...)
		}
	}
	return all
}

// atRoot are the challenges of GET /v2/.
func (l ladder) atRoot() []Challenge {
	for _, o := range l.past {
		if o.Step.Action == ProbeRoot {
			return o.Challenges
		}
	}
	return nil
}

// leads reports whether the endpoint named a way in, be it one that is closed to us.
func (l ladder) leads() bool {
	named := l.challenges()
	return slices.ContainsFunc(named, isBasic) || slices.ContainsFunc(bearers(named), func(c Challenge) bool {
		return !l.has(func(o Outcome) bool { return o.Step.Realm == c.Params["realm"] && o.Verdict == BadRealm })
	})
}

func isBasic(c Challenge) bool { return c.Scheme == "basic" }

func (l ladder) has(match func(Outcome) bool) bool { return slices.ContainsFunc(l.past, match) }

func (l ladder) tried(step Step) bool {
	return l.has(func(o Outcome) bool { return o.Step == step })
}

func (l ladder) exchanges() int {
	n := 0
	for _, o := range l.past {
		if o.Step.Action == Exchange {
			n++
		}
	}
	return n
}

// Credentialed reports whether a step showed somebody a credential, or a token
// that one may have brought.
func (s Step) Credentialed(f Facts) bool {
	switch s.Action {
	case SendKept, SendGiven, SendBasic:
		return true
	case SendToken, Exchange:
		return f.credential() && !s.Anonymous
	}
	return false
}

// CredentialRefused reports whether a credential was shown and did not serve:
// the token server said no, or the registry to what came of it.
func CredentialRefused(past []Outcome) bool {
	return slices.ContainsFunc(past, func(o Outcome) bool {
		switch o.Step.Action {
		case SendGiven, SendBasic:
			return o.Status != 0
		case SendToken:
			return o.Status != 0 && !o.Step.Anonymous
		case Exchange:
			return o.Verdict == Refused && !o.Step.Anonymous
		}
		return false
	})
}

// scopes are the forms of the scope to ask for, best first. The first is the
// challenge's own where it means the repository or is opaque ("aws", "*"),
// reduced to pull; else the composed one. The other form follows, once, for
// where that is refused. They are never joined: ghcr.io and Artifact Registry
// refuse scopes of repositories they don't know (containerd#9648).
func scopes(challenged, repository string) []string {
	composed := "repository:" + repository + ":pull"
	challenged = strings.Join(strings.Fields(challenged), " ")
	best := reduced(challenged, repository)
	switch {
	case challenged == "" || challenged == composed:
		return []string{composed}
	case best == composed:
		return []string{composed, challenged}
	}
	return []string{best, composed}
}

// reduced is the challenge's scope with our repository's actions cut to pull,
// or the composed one where it names nothing but other repositories.
func reduced(challenged, repository string) string {
	prefix := "repository:" + repository + ":"
	fields := strings.Fields(challenged)
	foreign := 0
	for i, field := range fields {
		actions, ours := strings.CutPrefix(field, prefix)
		switch {
		case ours && strings.Contains(","+actions+",", ",pull,"):
			fields[i] = prefix + "pull"
		case !ours && strings.HasPrefix(field, "repository:"):
			foreign++
		}
	}
	if foreign == len(fields) {
		return prefix + "pull"
	}
	return strings.Join(fields, " ")
}

// Tried says in words what was tried.
func Tried(facts Facts, past []Outcome) string {
	var words []string
	scope := ""
	for _, o := range past {
		if o.Verdict == Granted {
			continue // the token that was granted is sent next
		}
		text := o.Step.words(facts)
		if o.Step.Scope != "" && o.Step.Scope != scope {
			scope = o.Step.Scope
			text += fmt.Sprintf(" for %q", scope)
		}
		words = append(words, text)
	}
	return "tried " + strings.Join(words, ", then ")
}

func (s Step) words(facts Facts) string {
	switch s.Action {
	case SendPlain:
		return "no credentials"
	case SendKept:
		return "the token of an earlier request"
	case SendGiven:
		return "the registry token of the docker config"
	case SendBasic:
		return "username and password"
	case ProbeRoot:
		return "a challenge of /v2/"
	}
	kind := "a token"
	if s.Anonymous {
		kind = "an anonymous token"
	}
	if s.Action == SendToken {
		return kind
	}
	with := "to get " + kind + " by " + map[bool]string{false: "GET", true: "POST"}[s.Post]
	if s.Credentialed(facts) {
		with += " with the credential"
	}
	return with
}
