package simulate

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the table into docs/fleet.md")

// originRate is what the origins of the measured fleets gave, in bytes a second.
const originRate = 20e6

// measured are fleets that ran on loopback, with the origin limited. Their pieces include one each for
// manifest and config, by agent, which are none in the simulation.
var measured = []struct {
	name                  string
	agents                int
	image                 Image
	seconds               float64
	fromOrigin, fromPeers float64
}{
	{"one agent, 3 layers of 64 MiB", 1, Image{3, 64<<20 + 2048}, 11.4, 53, 0},
	{"three agents, 3 layers of 64 MiB", 3, Image{3, 64<<20 + 2048}, 18.4, 77, 82},
	{"six agents, 3 layers of 64 MiB", 6, Image{3, 64<<20 + 2048}, 27.3, 102, 216},
	{"six agents, 3 layers of 32 MiB, the mean of five runs", 6, Image{3, 32<<20 + 2048}, 15.5, 53, 115},
}

// tolerance is how far the simulation may be from a fleet that was measured, of
// which single runs differ by up to 25% from their mean.
const tolerance = 0.2

func TestTheSimulationAgreesWithMeasuredFleets(t *testing.T) {
	t.Parallel()
	for _, m := range measured {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			mean := Loopback(m.agents, m.image, originRate).RunSeveral(10)
			for _, c := range []struct {
				what      string
				got, want float64
			}{
				{"seconds", mean.Last.Seconds(), m.seconds},
				{"pieces from the origin", mean.FromOrigin, m.fromOrigin},
				{"pieces from peers", mean.FromPeers, m.fromPeers},
			} {
				t.Logf("%s: simulated %.1f, measured %.1f", c.what, c.got, c.want)
				if math.Abs(c.got-c.want) > tolerance*c.want {
					t.Errorf("%s: simulated %.1f, measured %.1f", c.what, c.got, c.want)
				}
			}
		})
	}
}

func TestEveryAgentGetsEveryPieceOnce(t *testing.T) {
	t.Parallel()
	for _, agents := range []int{1, 2, 11, 12, 150} {
		t.Run(fmt.Sprint(agents, " agents"), func(t *testing.T) {
			t.Parallel()
			s := Loopback(agents, Image{Layers: 2, Layer: 70 << 20}, originRate) // 18 pieces, the last one short
			o := s.Run()
			if got, want := o.FromOrigin+o.FromPeers, agents*2*18; got != want {
				t.Errorf("%d pieces were needed and came, want %d", got, want)
			}
			if o.FromOrigin < 2*18 {
				t.Errorf("the origin gave %d pieces of %d", o.FromOrigin, 2*18)
			}
			if len(o.Finished) != agents || o.Finished[0] <= 0 {
				t.Errorf("the agents have it after %v", o.Finished)
			}
		})
	}
}

func TestOneSeedGivesOneOutcome(t *testing.T) {
	t.Parallel()
	s := Loopback(20, Image{Layers: 3, Layer: 40 << 20}, originRate)
	first, again := s.Run(), s.Run()
	if !slices.Equal(first.Finished, again.Finished) || first.FromOrigin != again.FromOrigin || first.Twice != again.Twice {
		t.Error("two runs with one seed differ")
	}
	s.Seed++
	if other := s.Run(); slices.Equal(first.Finished, other.Finished) {
		t.Error("runs with two seeds are the same")
	}
}

func TestAnAgentAloneTakesAsLongAsItsLinks(t *testing.T) {
	t.Parallel()
	s := Swarm{
		Agents: 1, Image: Image{Layers: 1, Layer: 100e6}, Piece: 10e6, Registry: 1e9,
		Origin: Link{Rate: 10e6}, Out: Link{Rate: 1e9}, In: Link{Rate: 1e9}, Local: 100e6,
	}
	// Two polls, the tracker's answer, ten pieces from the origin, the last one
	// into the agent, all of it to the fetcher.
	want := 2*time.Second + trackerAnswer + 10*time.Second + 10*time.Millisecond + time.Second
	if got := s.Run().Last(); (got - want).Abs() > time.Millisecond {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func TestABurstPassesAtOnce(t *testing.T) {
	t.Parallel()
	s := server{Link: Link{Rate: 10, Burst: 20}}
	for i, want := range []float64{100, 100, 101, 102} {
		if got := s.reserve(100, 10); got != want {
			t.Errorf("the send no. %d ends at %v, want %v", i, got, want)
		}
	}
}

func TestEventsComeInTheOrderOfTimeThenOfPush(t *testing.T) {
	t.Parallel()
	var h heap
	for i, at := range []float64{3, 1, 2, 1, 3, 2, 1} {
		h.push(event{at: at, node: int32(i)})
	}
	var got []int32
	for len(h.items) > 0 {
		got = append(got, h.pop().node)
	}
	if want := []int32{1, 3, 6, 2, 5, 0, 4}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

// planOutcome is the simulation of the whole fleet, which takes some seconds.
var planOutcome = sync.OnceValue(planSwarm.Run)

func TestPlansAreTheSumsOfTheirAssumptions(t *testing.T) {
	t.Parallel()
	plans := Plans(Outcome{Finished: []time.Duration{time.Minute}})
	const image = 5 << 30
	for i, want := range []Plan{
		{Bytes: 40_000 * image, Last: over(40_000*image, registryRate), Tokens: 10_000 * 4 * 12, Pulls: 40_000, PullsByTag: 40_000},
		{Bytes: 10_000 * image, Last: over(10_000*image, registryRate), Tokens: 10_000 * 12, Pulls: 10_000, PullsByTag: 40_000},
		{Bytes: 10_000 * image, Last: over(10_000*image, registryRate), Tokens: 10_000 * 12, Pulls: 10_000, PullsByTag: 10_000},
		{Bytes: 250 * image, Last: over(250*image, registryRate) + over(39*image, cacheRate), Tokens: 250 * 12, Pulls: 250, PullsByTag: 250},
		{Bytes: image, Last: time.Minute, Tokens: 12, Pulls: 1, PullsByTag: 40_000},
	} {
		want.Way = plans[i].Way
		if plans[i] != want {
			t.Errorf("plan %+v, want %+v", plans[i], want)
		}
	}
	if got := limited(250); got != 12*time.Hour {
		t.Errorf("250 pulls take %v under the limit, want 12h", got)
	}
}

func TestTheTableInTheDocumentIsTheOutput(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("simulates 10,000 agents")
	}
	const begin, end = "<!-- made by integration/fleet/simulate -->\n", "<!-- end -->\n"
	path := filepath.Join("..", "..", "..", "docs", "fleet.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), begin)
	got, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the table, between %q and %q", path, begin, end)
	}
	want := "\n" + Table(Plans(planOutcome())) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s has\n%s\nwant (go test ./simulate -update)\n%s", path, got, want)
	}
}
