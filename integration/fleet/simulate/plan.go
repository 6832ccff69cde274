// Package simulate says what it costs to start one image on a fleet, for each
// way to get it there. The ways that have no peers are sums; that with peers is
// simulated piece by piece. Nothing in here reads a clock or the network: the
// same numbers come out every time.
package simulate

import (
	"fmt"
	"strings"
	"time"
)

// Image is the shape of an image: layers of one size. Manifest and config count
// as requests and not as bytes.
type Image struct {
	Layers int
	Layer  int64 // bytes
}

// Size returns the bytes of all layers.
func (i Image) Size() int64 { return int64(i.Layers) * i.Layer }

// requests is how many answers it takes to get the image: manifest, config, layers.
func (i Image) requests() int64 { return int64(i.Layers) + 2 }

// What is assumed of the fleet. Other fleets: change it, and run the tests with
// -update.
const (
	fleetAgents   = 10_000
	tasksPerAgent = 4  // that start the image at once on one machine
	agentsPerRack = 40 // a rack of machines of one unit

	gigabit      = 1e9 / 8      // bytes a second
	registryRate = 10 * gigabit // what the registry's site gives; a larger one divides the times of the ways that it bounds
	agentRate    = 10 * gigabit // a usual machine
	cacheRate    = 25 * gigabit // a machine that was bought to be a cache
	localRate    = 8 * gigabit  // reading from the agent on the same machine, with the hash, on one processor

	peerOut = 200e6    // bytes a second: what Kraken lets an agent give,
	peerIn  = 300e6    // and take, where limits are switched on
	piece   = 16 << 20 // four times Kraken's default, and so pessimistic: the simulation takes a quarter of the time

	spread    = time.Second       // from the first agent that begins to the last
	tokenLife = 300 * time.Second // Docker Hub's
	pullLimit = 100               // manifests in pullWindow, as Docker Hub grants an address without a login
)

const pullWindow = 6 * time.Hour

// planned is a large image of machine learning: 5 GiB.
var planned = Image{Layers: 10, Layer: 512 << 20}

// planSwarm is the fleet with Kraken.
var planSwarm = Swarm{
	Agents: fleetAgents, Image: planned, Piece: piece, Registry: registryRate,
	Origin: Link{Rate: agentRate}, Out: Link{Rate: peerOut}, In: Link{Rate: peerIn}, Local: localRate,
	Spread: spread, Seed: 1,
}

// Plan is what one way costs.
type Plan struct {
	Way    string
	Bytes  int64         // leave the registry
	Last   time.Duration // when the last task has the image
	Tokens int64         // requests to the registry's token server, at most
	// Pulls are the manifests that the registry serves, which is what rate limits
	// count: where tasks name the image by digest, and where they name it by tag.
	Pulls, PullsByTag int64
}

// Plans returns the plan of each way. The outcome is that of the swarm.
func Plans(o Outcome) []Plan {
	const tasks, racks = fleetAgents * tasksPerAgent, fleetAgents / agentsPerRack
	size := planned.Size()
	toRacks := over(racks*size, registryRate)
	return []Plan{
		direct("each task by itself", tasks, tasksPerAgent, tasks),
		direct("a cache on each agent", fleetAgents, 1, fleetAgents),
		{
			// A cache asks the registry for each request as long as it does not have
			// the answer, with a token for each.
			Way: "distribution v3 in each rack, all at once", Bytes: fleetAgents * size,
			Last:   over(fleetAgents*size, registryRate),
			Tokens: fleetAgents * planned.requests(), Pulls: fleetAgents, PullsByTag: fleetAgents,
		},
		{
			Way: "distribution v3 in each rack, one agent of it first", Bytes: racks * size,
			Last:   toRacks + over((agentsPerRack-1)*size, cacheRate),
			Tokens: racks * planned.requests(), Pulls: racks, PullsByTag: racks,
		},
		{
			// What the origin takes from the registry; tags are resolved there by each
			// agent's fetcher, which needs a token for that.
			Way: "Kraken", Bytes: size,
			Last:   o.Last(),
			Tokens: planned.requests(), Pulls: 1, PullsByTag: tasks,
		},
	}
}

// direct is the plan of a way in which so many pulls, some of them by one agent,
// share what the registry gives.
func direct(way string, pulls, ofOneAgent, byDigest int64) Plan {
	bytes := pulls * planned.Size()
	last := max(over(bytes, registryRate), over(ofOneAgent*planned.Size(), agentRate))
	// A token serves all that an agent asks until it expires.
	tokens := min(int64(last/tokenLife)+1, ofOneAgent*planned.requests())
	return Plan{
		Way: way, Bytes: bytes, Last: last, Tokens: fleetAgents * tokens,
		Pulls: byDigest, PullsByTag: fleetAgents * tasksPerAgent,
	}
}

// over returns how long bytes take at a rate.
func over(bytes int64, rate float64) time.Duration {
	return time.Duration(float64(bytes) / rate * float64(time.Second))
}

// limited returns how long the pulls take under the limit alone.
func limited(pulls int64) time.Duration {
	return time.Duration((pulls-1)/pullLimit) * pullWindow
}

// Table returns plans as a table in Markdown.
func Table(plans []Plan) string {
	var table strings.Builder
	table.WriteString("| way | leaves the registry | times the image | the last task has it after | token requests, at most | pulls by digest | pulls by tag | the limit alone takes |\n")
	table.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, p := range plans {
		fmt.Fprintf(&table, "| %s | %s | %d | %s | %d | %d | %d | %s |\n", p.Way, bytesText(p.Bytes), p.Bytes/planned.Size(),
			durationText(p.Last), p.Tokens, p.Pulls, p.PullsByTag, durationText(limited(p.Pulls)))
	}
	return table.String()
}

func bytesText(n int64) string {
	if n >= 1e12 {
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func durationText(d time.Duration) string {
	switch {
	case d == 0:
		return "at once"
	case d < 3*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 3*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
