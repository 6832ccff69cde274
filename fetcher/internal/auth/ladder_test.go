package auth

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "draw docs/ladder.svg anew")

const drawing = "../../../docs/ladder.svg"

func TestTheDrawingOfTheLadderIsThatOfTheTable(t *testing.T) {
	t.Parallel()
	drawn := draw(Ladder)
	if *update {
		if err := os.WriteFile(drawing, drawn, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for tokens := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		if _, err := tokens.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(drawing)
	if err != nil || !bytes.Equal(there, drawn) {
		t.Errorf("%s (%v) is not what the table says: go test ./fetcher/internal/auth -run Drawing -update", drawing, err)
	}
}

// The drawing, in pixels: a rung is a box with its step in bold, and under it
// when it is taken, how, and who needs it.
const (
	width, left, lineHeight = 860, 70, 19
	mostRunes               = 108 // of a line
)

func draw(rungs []Rung) []byte {
	var b bytes.Buffer
	y := 56
	var body bytes.Buffer
	for i, r := range rungs {
		lines := append(wrap(strings.TrimSuffix(r.When+". "+sentence(r.How), ". ")), wrap("For "+r.For)...)
		height := (len(lines)+1)*lineHeight + 18
		fmt.Fprintf(&body, `<circle cx="36" cy="%d" r="15" fill="#2f6f9f"/><text x="36" y="%d" fill="#fff" font-weight="bold" text-anchor="middle">%d</text>`+"\n", y+24, y+29, i+1)
		fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#f4f8fb" stroke="#2f6f9f"/>`+"\n", left, y, width-left-20, height)
		fmt.Fprintf(&body, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", left+14, y+24, escaped(sentence(r.Step)))
		for n, line := range lines {
			fmt.Fprintf(&body, `<text x="%d" y="%d" fill="#445">%s</text>`+"\n", left+14, y+24+(n+1)*lineHeight, escaped(line))
		}
		y += height
		if i < len(rungs)-1 {
			fmt.Fprintf(&body, `<path d="M 36 %d V %d" stroke="#2f6f9f" stroke-width="2" marker-end="url(#end)"/>`+"\n", y-height+40, y+20)
			fmt.Fprintf(&body, `<text x="%d" y="%d" fill="#a33" font-size="12">401 or 403, or nothing left to try here</text>`+"\n", left+14, y+14)
		}
		y += 22
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, y, width, y)
	b.WriteString(`<defs><marker id="end" markerWidth="8" markerHeight="8" refX="4" refY="4" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#2f6f9f"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/><text x="20" y="32" font-size="17" font-weight="bold">How a request is let in: the first rung that has a step left</text>`+"\n", width, y)
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text))
	return b.String()
}

// wrap breaks a text into lines.
func wrap(text string) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(sentence(text)) {
		if len(line)+1+len(word) > mostRunes {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

func TestExplainSaysWhyAndWhatWasMadeOfTheChallenge(t *testing.T) {
	t.Parallel()
	const realm = "https://auth.example.com/token"
	asked := func(challenge string) Outcome {
		return Outcome{Step: Step{Action: SendPlain}, Status: 401, Challenges: ParseChallenges([]string{challenge})}
	}
	refused := func(o Outcome, facts Facts, past ...Outcome) Outcome {
		return Outcome{Step: Next(facts, append(past, o)), Verdict: Refused}
	}
	anonymous := Facts{Repository: "team/app"}
	tenant := Facts{Repository: "team/app", Password: true}
	whole := asked(`Bearer realm="` + realm + `",service="s",scope="repository:team/app:pull"`)
	for name, test := range map[string]struct {
		facts Facts
		past  []Outcome
		step  string
		notes []string
	}{
		"the first request is as it is":       {anonymous, nil, Ladder[0].Step, nil},
		"a whole challenge needs no note":     {anonymous, []Outcome{whole}, Ladder[1].Step, nil},
		"what is left out is said":            {anonymous, []Outcome{asked(`Bearer realm="` + realm + `"`)}, Ladder[1].Step, []string{"the challenge names no service, so none is sent", "the challenge names no scope, so that of the repository is composed"}},
		"more than pull is reduced":           {anonymous, []Outcome{asked(`Bearer realm="` + realm + `",service="s",scope="repository:team/app:pull,push"`)}, Ladder[1].Step, []string{`the challenge's scope "repository:team/app:pull,push" is reduced to pull`}},
		"another repository's scope is not":   {anonymous, []Outcome{asked(`Bearer realm="` + realm + `",service="s",scope="repository:user/image:pull"`)}, Ladder[1].Step, []string{`the challenge's scope "repository:user/image:pull" is not this repository's, so that is composed`}},
		"the other method is for a reason":    {tenant, []Outcome{whole, refused(whole, tenant)}, Ladder[1].Step, []string{"GET was refused"}},
		"a second token is for a reason":      {anonymous, []Outcome{whole, {Step: Next(anonymous, []Outcome{whole}), Verdict: Granted}, {Step: send(Next(anonymous, []Outcome{whole})), Status: 401, Challenges: ParseChallenges([]string{`Bearer realm="` + realm + `",service="s",scope="repository:team/app:pull",error="invalid_token"`})}}, Ladder[1].Step, []string{"the token before it was no longer valid when it arrived"}},
		"a token that was granted is sent":    {anonymous, []Outcome{whole, {Step: Next(anonymous, []Outcome{whole}), Verdict: Granted}}, granted.Step, nil},
		"nothing is left where nobody is let": {anonymous, []Outcome{whole, refused(whole, anonymous)}, exhausted.Step, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Explain(test.facts, test.past)
			if got.Rung.Step != test.step || got.Step != Next(test.facts, test.past) {
				t.Errorf("got %q, step %+v; want %q, step %+v", got.Rung.Step, got.Step, test.step, Next(test.facts, test.past))
			}
			if diff := cmp.Diff(test.notes, got.Notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}
