package auth

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	repo = "team/app"
	pull = "repository:team/app:pull"
)

// refused is an answer of 401 to a request.
func refused(action Action, offered ...Challenge) Outcome {
	return Outcome{Step: Step{Action: action}, Status: 401, Challenges: offered}
}

func exchange(realm, service, scope string) Step { return Step{Exchange, realm, service, scope} }

func outcome(step Step, granted bool) Outcome { return Outcome{Step: step, Granted: granted} }

// after says that the token which step brought was refused.
func after(step Step, offered ...Challenge) []Outcome {
	send := step
	send.Action = SendToken
	return []Outcome{outcome(step, true), {Step: send, Status: 401, Challenges: offered}}
}

func TestNext(t *testing.T) {
	t.Parallel()
	anonymous := Facts{Repository: repo}
	login := Facts{Repository: repo, Password: true}
	full := bearer("realm", "https://a.example/token", "service", "a.example", "scope", pull)
	asked := exchange("https://a.example/token", "a.example", pull)
	basic := challenge("basic", "realm", "r")

	for name, test := range map[string]struct {
		facts Facts
		past  []Outcome
		want  Step
	}{
		"a request goes out without credentials first":         {login, nil, Step{}},
		"a token that served before goes first":                {Facts{Kept: SendKept}, nil, Step{Action: SendKept}},
		"a password that served before goes first":             {Facts{Kept: SendBasic, Password: true}, nil, Step{Action: SendBasic}},
		"a registry token goes first":                          {Facts{Given: true, Kept: SendKept}, nil, Step{Action: SendGiven}},
		"a bearer challenge asks for a token":                  {anonymous, []Outcome{refused(SendPlain, full)}, asked},
		"a granted token is sent":                              {anonymous, []Outcome{refused(SendPlain, full), outcome(asked, true)}, Step{SendToken, asked.Realm, asked.Service, asked.Scope}},
		"nvcr.io: a challenge with a realm alone gets a scope": {anonymous, []Outcome{refused(SendPlain, bearer("realm", "https://nvcr.io/proxy_auth"))}, exchange("https://nvcr.io/proxy_auth", "", pull)},
		"the scope of another repository is not asked for":     {anonymous, []Outcome{refused(SendPlain, bearer("realm", "r", "scope", "repository:user/image:pull"))}, exchange("r", "", pull)},
		"an opaque scope is kept":                              {anonymous, []Outcome{refused(SendPlain, bearer("realm", "r", "scope", "aws"))}, exchange("r", "", "aws")},
		"pull,push is reduced to pull":                         {anonymous, []Outcome{refused(SendPlain, bearer("realm", "r", "scope", "repository:team/app:pull,push"))}, exchange("r", "", pull)},
		"basic is answered with the password":                  {login, []Outcome{refused(SendPlain, basic)}, Step{Action: SendBasic}},
		"basic without a password is the end":                  {anonymous, []Outcome{refused(SendPlain, basic)}, Step{Action: GiveUp}},
		"bearer goes before basic, whatever the order":         {login, []Outcome{refused(SendPlain, basic, full)}, asked},
		"basic follows where no token was granted":             {login, []Outcome{refused(SendPlain, basic, full), outcome(asked, false)}, Step{Action: SendBasic}},
		"a challenge without a realm is none":                  {anonymous, []Outcome{refused(SendPlain, bearer("scope", pull))}, Step{Action: ProbeRoot}},
		"a 401 without a challenge asks /v2/":                  {anonymous, []Outcome{refused(SendPlain)}, Step{Action: ProbeRoot}},
		"the scope that /v2/ names is not used": {
			anonymous, []Outcome{refused(SendPlain), refused(ProbeRoot, bearer("realm", "r", "service", "s", "scope", "aws"))}, exchange("r", "s", pull),
		},
		"a kept token refused with a challenge is renewed":           {anonymous, []Outcome{refused(SendKept, full)}, asked},
		"a kept token refused without one is followed by plain":      {anonymous, []Outcome{refused(SendKept)}, Step{}},
		"a registry token refused without a challenge likewise":      {Facts{Given: true}, []Outcome{refused(SendGiven)}, Step{}},
		"a token refused with the same challenge is the end":         {anonymous, append([]Outcome{refused(SendPlain, full)}, after(asked, full)...), Step{Action: GiveUp}},
		"a token refused with another realm is exchanged there":      {anonymous, append([]Outcome{refused(SendPlain, full)}, after(asked, bearer("realm", "b"))...), exchange("b", "", pull)},
		"a password refused is the end":                              {login, []Outcome{refused(SendPlain, basic), refused(SendBasic, basic)}, Step{Action: GiveUp}},
		"a password that served before and is refused is not resent": {Facts{Kept: SendBasic, Password: true}, []Outcome{refused(SendBasic, basic), refused(SendPlain, basic)}, Step{Action: GiveUp}},
		"a kept token whose new realm grants nothing is followed by plain": {
			anonymous, []Outcome{refused(SendKept, bearer("realm", "new")), outcome(exchange("new", "", pull), false)}, Step{},
		},
		"and the challenge of that plain request is answered": {
			anonymous, []Outcome{refused(SendKept, bearer("realm", "new")), outcome(exchange("new", "", pull), false), refused(SendPlain, full)}, asked,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.facts.Repository == "" {
				test.facts.Repository = repo
			}
			if diff := cmp.Diff(test.want, Next(test.facts, test.past)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A registry that answers 401 to everything, with random challenges, and a
// token server that grants at random, get a bounded number of requests, and
// never the same credential twice.
func TestNextComesToAnEndWhateverThePeersAnswer(t *testing.T) {
	t.Parallel()
	const most = 4 + 2*maxExchanges // plain, kept or given, basic, /v2/; and the tokens
	for seed := range uint64(20_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		facts := Facts{
			Repository: repo, Kept: []Action{SendPlain, SendKept, SendBasic}[random.IntN(3)],
			Password: random.IntN(2) == 0, Given: random.IntN(4) == 0,
		}
		var past []Outcome
		for {
			step := Next(facts, past)
			if step.Action == GiveUp {
				break
			}
			if tried(past, step) {
				t.Fatalf("seed %d: %v is done twice in %v", seed, step, past)
			}
			past = append(past, Outcome{Step: step, Status: 401, Granted: random.IntN(2) == 0, Challenges: challenges(random)})
			if len(past) > most {
				t.Fatalf("seed %d: no end after %d steps: %v", seed, most, past)
			}
		}
	}
}

func challenges(random *rand.Rand) []Challenge {
	all := make([]Challenge, random.IntN(4))
	for i := range all {
		all[i] = challenge([]string{"bearer", "basic", "negotiate"}[random.IntN(3)])
		for _, name := range []string{"realm", "service", "scope"} {
			if random.IntN(2) == 0 {
				all[i].Params[name] = []string{"a", "b", "repository:x:pull", "", "aws *"}[random.IntN(5)]
			}
		}
	}
	return all
}

func TestScope(t *testing.T) {
	t.Parallel()
	for challenged, want := range map[string]string{
		"":                                    pull,
		"  ":                                  pull,
		pull:                                  pull,
		"repository:team/app:pull,push":       pull,
		"repository:team/app:*":               "repository:team/app:*",
		"repository:team/app:metadata_read":   "repository:team/app:metadata_read",
		"repository:user/image:pull":          pull,
		"repository:team/app2:pull":           pull,
		"aws":                                 "aws",
		"*":                                   "*",
		"registry:catalog:* " + pull:          "registry:catalog:* " + pull,
		pull + " repository:shared/base:pull": pull,
	} {
		if got := Scope(challenged, repo); got != want {
			t.Errorf("Scope(%q) = %q, want %q", challenged, got, want)
		}
	}
}
