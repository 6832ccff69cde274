package auth

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type vector struct {
	Headers []string
	Expect  struct {
		Challenges []Challenge
	}
	Note string
}

// vectors reads testdata/challenge_vectors.jsonl: headers of real registries
// and of their specifications, each with its source and its expected parse.
func vectors(t *testing.T) []vector {
	t.Helper()
	file, err := os.Open("testdata/challenge_vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []vector
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		t.Fatal("no vectors")
	}
	return all
}

func TestEveryVectorParsesAsExpected(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		got := ParseChallenges(v.Headers)
		if len(got)+len(v.Expect.Challenges) == 0 {
			continue
		}
		if diff := cmp.Diff(v.Expect.Challenges, got); diff != "" {
			t.Errorf("%s (%s) (-want +got):\n%s", strings.Join(v.Headers, "\n"), v.Note, diff)
		}
	}
}
