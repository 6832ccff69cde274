package auth

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	repo = "team/app"
	pull = "repository:team/app:pull"
)

// refused is an answer of 401 to a request.
func refused(action Action, offered ...Challenge) Outcome { return answered(401, action, offered...) }

func answered(status int, action Action, offered ...Challenge) Outcome {
	return Outcome{Step: Step{Action: action}, Status: status, Challenges: offered}
}

func get(realm, service, scope string) Step {
	return Step{Action: Exchange, Grant: Grant{Realm: realm, Service: service, Scope: scope}}
}

func post(s Step) Step { s.Post = true; return s }

func anonymously(s Step) Step { s.Anonymous, s.Post = true, false; return s }

func send(s Step) Step { return Step{Action: SendToken, Grant: s.Grant} }

func again(s Step) Step { s.Again = true; return s }

func exchanged(step Step, v Verdict) Outcome { return Outcome{Step: step, Verdict: v} }

// spent says that the token which step brought was refused.
func spent(status int, step Step, offered ...Challenge) []Outcome {
	return []Outcome{exchanged(step, Granted), {Step: send(step), Status: status, Challenges: offered}}
}

func TestNext(t *testing.T) {
	t.Parallel()
	anonymous := Facts{Repository: repo}
	login := Facts{Repository: repo, Password: true}
	identity := Facts{Repository: repo, Identity: true}
	full := bearer("realm", "https://a.example/token", "service", "a.example", "scope", pull)
	asked := get("https://a.example/token", "a.example", pull)
	basic := challenge("basic", "realm", "r")
	plain := refused(SendPlain, full)
	foreign := bearer("realm", "r", "scope", "repository:user/image:pull")
	stale := bearer("realm", "https://a.example/token", "service", "a.example", "scope", pull, "error", "invalid_token")

	for name, test := range map[string]struct {
		facts Facts
		past  []Outcome
		want  Step
	}{
		"a request goes out without credentials first":    {login, nil, Step{}},
		"a token that served before goes first":           {Facts{Kept: SendKept}, nil, Step{Action: SendKept}},
		"a token about to expire is renewed first":        {Facts{Kept: Exchange, Renewal: asked}, nil, asked},
		"a password that served before goes first":        {Facts{Kept: SendBasic, Password: true}, nil, Step{Action: SendBasic}},
		"a registry token goes first":                     {Facts{Given: true, Kept: SendKept}, nil, Step{Action: SendGiven}},
		"a bearer challenge asks for a token":             {anonymous, []Outcome{plain}, asked},
		"a granted token is sent":                         {anonymous, []Outcome{plain, exchanged(asked, Granted)}, send(asked)},
		"nvcr.io: a realm alone gets a scope":             {anonymous, []Outcome{refused(SendPlain, bearer("realm", "https://nvcr.io/proxy_auth"))}, get("https://nvcr.io/proxy_auth", "", pull)},
		"the scope of another repository comes second":    {anonymous, []Outcome{refused(SendPlain, foreign)}, get("r", "", pull)},
		"and is asked for where ours is refused":          {anonymous, []Outcome{refused(SendPlain, foreign), exchanged(get("r", "", pull), Refused)}, get("r", "", "repository:user/image:pull")},
		"or where its token is refused":                   {anonymous, append([]Outcome{refused(SendPlain, foreign)}, spent(401, get("r", "", pull), foreign)...), get("r", "", "repository:user/image:pull")},
		"an opaque scope is kept":                         {anonymous, []Outcome{refused(SendPlain, bearer("realm", "r", "scope", "aws"))}, get("r", "", "aws")},
		"the composed one follows where it is refused":    {anonymous, []Outcome{refused(SendPlain, bearer("realm", "r", "scope", "aws")), exchanged(get("r", "", "aws"), Refused)}, get("r", "", pull)},
		"pull,push is reduced to pull":                    {anonymous, []Outcome{refused(SendPlain, bearer("realm", "r", "scope", "repository:team/app:pull,push"))}, get("r", "", pull)},
		"POST follows a GET that was refused":             {login, []Outcome{plain, exchanged(asked, Refused)}, post(asked)},
		"GET follows a POST that was refused":             {identity, []Outcome{plain, exchanged(post(asked), Refused)}, asked},
		"an identity token goes by POST first":            {identity, []Outcome{plain}, post(asked)},
		"the method that worked at a realm goes first":    {Facts{Repository: repo, Password: true, Posts: map[string]bool{asked.Realm: true}}, []Outcome{plain}, post(asked)},
		"without a credential there is GET alone":         {anonymous, []Outcome{plain, exchanged(asked, Refused)}, Step{Action: GiveUp}},
		"a token server that is down is asked once":       {login, []Outcome{plain, exchanged(asked, Unanswered)}, Step{Action: GiveUp}},
		"a realm that is no URL leads to /v2/":            {anonymous, []Outcome{refused(SendPlain, bearer("realm", "file:///x")), exchanged(get("file:///x", "", pull), BadRealm)}, Step{Action: ProbeRoot}},
		"basic is answered with the password":             {login, []Outcome{refused(SendPlain, basic)}, Step{Action: SendBasic}},
		"basic without a password is the end":             {anonymous, []Outcome{refused(SendPlain, basic)}, Step{Action: GiveUp}},
		"bearer goes before basic, whatever the order":    {login, []Outcome{refused(SendPlain, basic, full)}, asked},
		"basic follows where no token was granted":        {login, []Outcome{refused(SendPlain, basic, full), exchanged(asked, Refused), exchanged(post(asked), Refused)}, Step{Action: SendBasic}},
		"Harbor: Basic offered after a token is answered": {login, append([]Outcome{plain}, spent(401, asked, basic)...), Step{Action: SendBasic}},
		"a challenge without a realm is none":             {anonymous, []Outcome{refused(SendPlain, bearer("scope", pull))}, Step{Action: ProbeRoot}},
		"a 401 without a challenge asks /v2/":             {anonymous, []Outcome{refused(SendPlain)}, Step{Action: ProbeRoot}},
		"a 403 without a challenge does not":              {anonymous, []Outcome{answered(403, SendPlain)}, Step{Action: GiveUp}},
		"a 403 with a challenge is answered":              {anonymous, []Outcome{answered(403, SendPlain, full)}, asked},
		"the scope that /v2/ names is not used": {
			anonymous, []Outcome{refused(SendPlain), refused(ProbeRoot, bearer("realm", "r", "service", "s", "scope", "aws"))}, get("r", "s", pull),
		},
		"Basic that /v2/ names is answered":                      {login, []Outcome{refused(SendPlain), refused(ProbeRoot, basic)}, Step{Action: SendBasic}},
		"a kept token refused with a challenge is renewed":       {anonymous, []Outcome{refused(SendKept, full)}, asked},
		"dhi.io: one refused without a challenge: plain":         {anonymous, []Outcome{refused(SendKept)}, Step{}},
		"nvcr.io: one whose new realm grants nothing: plain":     {anonymous, []Outcome{refused(SendKept, bearer("realm", "new")), exchanged(get("new", "", pull), Refused)}, Step{}},
		"and the challenge of that plain request is answered":    {anonymous, []Outcome{refused(SendKept, bearer("realm", "new")), exchanged(get("new", "", pull), Refused), plain}, asked},
		"ECR: a kept token refused by 403 is followed by plain":  {login, []Outcome{answered(403, SendKept)}, Step{}},
		"a registry token refused without a challenge: plain":    {Facts{Given: true}, []Outcome{refused(SendGiven)}, Step{}},
		"an anonymous token refused with the same is the end":    {anonymous, append([]Outcome{plain}, spent(401, asked, full)...), Step{Action: GiveUp}},
		"one that had expired when it arrived is replaced once":  {anonymous, append([]Outcome{plain}, spent(401, asked, stale)...), again(asked)},
		"and the second one is sent":                             {anonymous, append(append([]Outcome{plain}, spent(401, asked, stale)...), exchanged(again(asked), Granted)), again(send(asked))},
		"and no third one asked for":                             {anonymous, append(append([]Outcome{plain}, spent(401, asked, stale)...), exchanged(again(asked), Granted), Outcome{Step: again(send(asked)), Status: 401, Challenges: []Challenge{stale}}), Step{Action: GiveUp}},
		"a token refused with another realm is exchanged there":  {anonymous, append([]Outcome{plain}, spent(401, asked, bearer("realm", "b"))...), get("b", "", pull)},
		"ghcr: a credential refused everywhere leaves anonymity": {login, []Outcome{plain, exchanged(asked, Refused), exchanged(post(asked), Refused)}, anonymously(asked)},
		"Harbor: a token refused by 403 leaves anonymity":        {login, append([]Outcome{plain}, spent(403, asked)...), anonymously(asked)},
		"an anonymous token is sent":                             {login, []Outcome{plain, exchanged(asked, Refused), exchanged(post(asked), Refused), exchanged(anonymously(asked), Granted)}, send(anonymously(asked))},
		"and refused, is the end":                                {login, append([]Outcome{plain, exchanged(asked, Refused), exchanged(post(asked), Refused)}, spent(401, anonymously(asked), full)...), Step{Action: GiveUp}},
		"a password refused by Basic is the end after plain":     {login, []Outcome{refused(SendPlain, basic), refused(SendBasic, basic)}, Step{Action: GiveUp}},
		"a password that served before, refused, leaves plain":   {Facts{Kept: SendBasic, Password: true}, []Outcome{refused(SendBasic, basic)}, Step{}},
		"and after that nothing: it is not sent again":           {Facts{Kept: SendBasic, Password: true}, []Outcome{refused(SendBasic, basic), refused(SendPlain, basic)}, Step{Action: GiveUp}},
		"a renewal that was refused is followed by plain":        {Facts{Kept: Exchange, Renewal: asked}, []Outcome{exchanged(asked, Refused)}, Step{}},
		"a credential that is fine is not replaced by anonymity": {login, []Outcome{plain, exchanged(asked, Unanswered)}, Step{Action: GiveUp}},
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

// A registry that refuses everything, with random challenges, and a token
// server that answers at random, get a bounded number of requests, and never
// the same one twice.
func TestNextComesToAnEndWhateverThePeersAnswer(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		random := rand.New(rand.NewPCG(seed, 0))
		facts := Facts{
			Repository: repo, Kept: []Action{SendPlain, SendKept, SendBasic, Exchange}[random.IntN(4)], Renewal: get("a", "", pull),
			Password: random.IntN(2) == 0, Identity: random.IntN(4) == 0, Given: random.IntN(4) == 0,
			Posts: map[string]bool{"a": random.IntN(2) == 0},
		}
		var past []Outcome
		for {
			step := Next(facts, past)
			if step.Action == GiveUp {
				break
			}
			if slices.ContainsFunc(past, func(o Outcome) bool { return o.Step == step }) {
				t.Fatalf("seed %d: %v is done twice in %v", seed, step, past)
			}
			if step.Anonymous && !CredentialRefused(past) {
				t.Fatalf("seed %d: %v though no credential was refused in %v", seed, step, past)
			}
			past = append(past, answer(random, step))
			if len(past) > MaxRequests {
				t.Fatalf("seed %d: no end after %d requests: %v", seed, MaxRequests, past)
			}
		}
	}
}

// answer is what hostile peers make of a step.
func answer(random *rand.Rand, step Step) Outcome {
	if step.Action == Exchange {
		return Outcome{Step: step, Verdict: []Verdict{Granted, Granted, Refused, Refused, Unanswered, BadRealm}[random.IntN(6)]}
	}
	return Outcome{Step: step, Status: []int{401, 401, 403}[random.IntN(3)], Challenges: challenges(random)}
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
		if random.IntN(2) == 0 {
			all[i].Params["error"] = "invalid_token"
		}
	}
	return all
}

func TestScopesAreNeverAUnion(t *testing.T) {
	t.Parallel()
	for challenged, want := range map[string][]string{
		"":                                  {pull},
		"  ":                                {pull},
		pull:                                {pull},
		"repository:team/app:pull,push":     {pull, "repository:team/app:pull,push"},
		"repository:team/app:*":             {"repository:team/app:*", pull},
		"repository:team/app:metadata_read": {"repository:team/app:metadata_read", pull},
		"repository:user/image:pull":        {pull, "repository:user/image:pull"},
		"repository:team/app2:pull":         {pull, "repository:team/app2:pull"},
		"aws":                               {"aws", pull},
		"*":                                 {"*", pull},
		"registry:catalog:*  " + pull:       {"registry:catalog:* " + pull, pull},
		pull + " repository:shared/b:pull":  {pull + " repository:shared/b:pull", pull},
	} {
		if diff := cmp.Diff(want, scopes(challenged, repo)); diff != "" {
			t.Errorf("scopes(%q) (-want +got):\n%s", challenged, diff)
		}
	}
}
