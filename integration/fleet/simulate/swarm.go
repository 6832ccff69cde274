package simulate

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"
)

// What Kraken v0.1.4 does, by its source, where its configuration says nothing.
const (
	maxConnections   = 10                     // of one torrent at one peer, the origin too
	pipelineLimit    = 3                      // pieces asked for, at once, over one connection
	endgameThreshold = 3                      // with so few pieces missing, they are asked of several peers
	handoutLimit     = 50                     // peers that the tracker names in one answer, beside the origin
	trackerAnswer    = 100 * time.Millisecond // from an announcement to the connections, under load
	announceInterval = 3 * time.Second        // each time, an agent asks for one of its torrents
	firstPoll        = time.Second            // a blob that the origin does not have yet is asked for again after this,
	pollFactor       = 1.3                    // then after so many times as long,
	longestPoll      = 5 * time.Second        // at most
	idleLimit        = 30 * time.Second       // a connection that brings nothing for so long is closed; it is looked for as often
)

// Link is what a machine sends or takes.
type Link struct {
	Rate  float64 // bytes a second
	Burst float64 // bytes that pass at once after a pause; 0: none
}

// Swarm is a Kraken fleet that one image is asked of by all agents at once. Each
// layer is a torrent. No agent has anything of it, nor has the origin.
type Swarm struct {
	Agents   int
	Image    Image
	Piece    int64         // bytes
	Registry float64       // bytes a second, from the upstream registry to the origin
	Origin   Link          // what the origin gives
	Out, In  Link          // what each agent gives and takes
	Local    float64       // bytes a second, from an agent to its fetcher
	Spread   time.Duration // the fetchers begin within this, evenly
	Seed     uint64
}

// Loopback is a fleet on one machine, of which nothing but the origin's limit
// counts, in bytes a second; Kraken lets a second's worth pass at once.
func Loopback(agents int, image Image, originRate float64) Swarm {
	const unbounded = 1e9
	return Swarm{
		Agents: agents, Image: image, Piece: 4 << 20, Registry: unbounded,
		Origin: Link{Rate: originRate, Burst: originRate},
		Out:    Link{Rate: unbounded}, In: Link{Rate: unbounded}, Local: unbounded,
		Spread: 50 * time.Millisecond,
	}
}

// Outcome is what a pull by a swarm came to.
type Outcome struct {
	Finished              []time.Duration // when each fetcher had the image, sorted
	FromOrigin, FromPeers int             // pieces that agents needed and got
	Twice                 int             // pieces that came though they were there already
}

// Last is when all fetchers had the image.
func (o Outcome) Last() time.Duration { return o.Finished[len(o.Finished)-1] }

// Mean is what several outcomes of a swarm come to.
type Mean struct {
	Last                  time.Duration
	FromOrigin, FromPeers float64 // pieces
}

// RunSeveral runs a swarm with as many seeds and returns the means.
func (s Swarm) RunSeveral(times int) (m Mean) {
	for seed := range times {
		s.Seed = uint64(seed)
		o := s.Run()
		m.Last += o.Last() / time.Duration(times)
		m.FromOrigin += float64(o.FromOrigin) / float64(times)
		m.FromPeers += float64(o.FromPeers) / float64(times)
	}
	return m
}

// server is a link at work: what is sent over it waits for what was before.
type server struct {
	Link
	free float64 // seconds
}

// reserve returns when size bytes that are there at now have passed.
func (s *server) reserve(now, size float64) float64 {
	s.free = max(s.free, now-s.Burst/s.Rate) + size/s.Rate
	return max(now, s.free)
}

// The origin is node 0, the agents are those from 1.
const origin = 0

// connection joins two nodes for one torrent. Each end asks the other for pieces.
type connection struct {
	ends [2]int32
	used float64 // when it was made or brought a piece last
	// asked are the pieces on their way to each end.
	asked [2][]int16
}

// torrent is one layer in the swarm.
type torrent struct {
	pieces      int
	words       int      // of 64 pieces, in have and pending
	have        []uint64 // by node
	pending     []uint64 // by node: on its way from anybody
	missing     []int    // by node
	known       []bool   // by node: whether the tracker knows it
	announced   []int32  // those that it knows
	connected   [][]int32
	connections []connection
}

func newTorrent(nodes int, size, piece int64) *torrent {
	pieces := int((size + piece - 1) / piece)
	words := (pieces + 63) / 64
	t := &torrent{
		pieces: pieces, words: words,
		have: make([]uint64, nodes*words), pending: make([]uint64, nodes*words),
		missing: make([]int, nodes), known: make([]bool, nodes), connected: make([][]int32, nodes),
	}
	for node := range t.missing {
		t.missing[node] = pieces
	}
	for piece := range pieces {
		t.have[piece/64] |= 1 << (piece % 64)
	}
	t.missing[origin] = 0
	return t
}

func (t *torrent) complete(node int32) bool { return t.missing[node] == 0 }

// event is what happens at a time.
type event struct {
	at   float64
	kind kind
	to   uint8 // the end of the connection that a piece goes to
	// node announces, or is told of; a piece goes over a connection of a torrent.
	torrent, piece int16
	node           int32
}

type kind uint8

const (
	announces kind = iota // node tells the tracker of itself and a torrent
	connects              // node has the tracker's answer
	ticks                 // node asks for more peers
	prunes                // node closes connections that bring nothing
	sent                  // a piece has left its sender
	arrives               // a piece has reached its receiver
)

// run is the state of a simulation.
type run struct {
	Swarm
	random   *rand.Rand
	events   heap
	torrents []*torrent
	out, in  []server // by node
	local    []server
	finished []float64
	next     []int // by node: the torrent to announce next
	outcome  Outcome
}

// Run simulates the pull. It is deterministic.
func (s Swarm) Run() Outcome {
	nodes := s.Agents + 1
	r := &run{
		Swarm: s, random: rand.New(rand.NewPCG(s.Seed, 0)),
		out: make([]server, nodes), in: make([]server, nodes), local: make([]server, nodes),
		finished: make([]float64, nodes), next: make([]int, nodes),
	}
	for node := range nodes {
		r.out[node], r.in[node], r.local[node] = server{Link: s.Out}, server{Link: s.In}, server{Link: Link{Rate: s.Local}}
	}
	r.out[origin] = server{Link: s.Origin}
	for range s.Image.Layers {
		r.torrents = append(r.torrents, newTorrent(nodes, s.Image.Layer, s.Piece))
	}
	r.begin()
	for len(r.events.items) > 0 {
		r.handle(r.events.pop())
	}
	for _, at := range r.finished[1:] {
		r.outcome.Finished = append(r.outcome.Finished, time.Duration(at*float64(time.Second)))
	}
	slices.Sort(r.outcome.Finished)
	return r.outcome
}

// begin lets each agent ask for the manifest, which takes one poll, and then for
// the layers, which the origin has when all of them have come from the registry.
func (r *run) begin() {
	there := firstPoll.Seconds() + float64(r.Image.Size())/r.Registry
	for node := 1; node <= r.Agents; node++ {
		start := r.random.Float64() * r.Spread.Seconds()
		asked := start + firstPoll.Seconds()
		at := asked + firstPoll.Seconds()
		for wait := firstPoll.Seconds(); at < there; at += wait {
			wait = min(wait*pollFactor, longestPoll.Seconds())
		}
		for torrent := range r.torrents {
			r.events.push(event{at: at, kind: announces, torrent: int16(torrent), node: int32(node)})
		}
		// An agent's clock for announcements began with the agent, long before.
		tick := at + r.random.Float64()*announceInterval.Seconds()
		r.events.push(event{at: tick, kind: ticks, node: int32(node)})
		prune := at + r.random.Float64()*idleLimit.Seconds()
		r.events.push(event{at: prune, kind: prunes, node: int32(node)})
	}
}

func (r *run) handle(e event) {
	switch e.kind {
	case announces:
		r.announce(e.at, e.node, int(e.torrent))
	case connects:
		r.connectMore(e.at, e.node, int(e.torrent))
	case ticks:
		r.tick(e.at, e.node)
	case prunes:
		r.prune(e.at, e.node)
	case sent:
		to := r.torrents[e.torrent].connections[e.node].ends[e.to]
		e.at, e.kind = r.in[to].reserve(e.at, r.size(e.piece)), arrives
		r.events.push(e)
	case arrives:
		r.arrive(e)
	}
}

// size is that of a piece; the last one of a layer may be shorter.
func (r *run) size(piece int16) float64 {
	return float64(min(r.Piece, r.Image.Layer-int64(piece)*r.Piece))
}

// tick announces the next torrent of a node that lacks pieces and connections.
func (r *run) tick(now float64, node int32) {
	lacking := false
	for range r.torrents {
		index := r.next[node] % len(r.torrents)
		r.next[node]++
		t := r.torrents[index]
		if t.complete(node) {
			continue
		}
		lacking = true
		if len(t.connected[node]) < maxConnections {
			r.announce(now, node, index)
			break
		}
	}
	if lacking {
		r.events.push(event{at: now + announceInterval.Seconds(), kind: ticks, node: node})
	}
}

// announce tells the tracker of a node. Many do at once, and are named to each
// other when they get the answer.
func (r *run) announce(now float64, node int32, index int) {
	t := r.torrents[index]
	if !t.known[node] {
		t.known[node] = true
		t.announced = append(t.announced, node)
	}
	r.events.push(event{at: now + trackerAnswer.Seconds(), kind: connects, torrent: int16(index), node: node})
}

// connectMore connects a node to peers that the tracker named, the first of them
// for which it has room. A peer that takes no more is not replaced by another.
func (r *run) connectMore(now float64, node int32, index int) {
	t := r.torrents[index]
	peers := r.handout(t, node)
	for _, peer := range peers[:min(len(peers), maxConnections-len(t.connected[node]))] {
		if len(t.connected[node]) < maxConnections && len(t.connected[peer]) < maxConnections {
			r.connect(now, index, node, peer)
		}
	}
}

// handout returns the peers that the tracker names to a node, in their order.
func (r *run) handout(t *torrent, node int32) []int32 {
	peers := make([]int32, 0, handoutLimit+1)
	if len(t.announced) <= handoutLimit {
		peers = append(peers, t.announced...)
		r.random.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	} else {
		for len(peers) < handoutLimit {
			peers = append(peers, t.announced[r.random.IntN(len(t.announced))])
		}
	}
	peers = append(peers, origin)
	rank := func(peer int32) int {
		switch {
		case peer == origin:
			return 1
		case t.complete(peer):
			return 0
		}
		return 2
	}
	slices.SortStableFunc(peers, func(a, b int32) int { return rank(a) - rank(b) })
	return slices.DeleteFunc(peers, func(peer int32) bool { return peer == node || t.joined(node, peer) })
}

// joined tells whether two nodes are connected.
func (t *torrent) joined(node, peer int32) bool {
	return slices.ContainsFunc(t.connected[node], func(c int32) bool {
		ends := t.connections[c].ends
		return ends[0] == peer || ends[1] == peer
	})
}

// connect joins two nodes, which both ask for what the other has.
func (r *run) connect(now float64, index int, node, peer int32) {
	t := r.torrents[index]
	c := int32(len(t.connections))
	t.connections = append(t.connections, connection{ends: [2]int32{node, peer}, used: now})
	t.connected[node] = append(t.connected[node], c)
	t.connected[peer] = append(t.connected[peer], c)
	r.ask(now, index, c, 0)
	r.ask(now, index, c, 1)
}

// ask lets one end of a connection ask the other for pieces that it lacks, any
// of them, as many as the pipeline takes.
func (r *run) ask(now float64, index int, c int32, end uint8) {
	t := r.torrents[index]
	conn := &t.connections[c]
	node, peer := conn.ends[end], conn.ends[1-end]
	if t.complete(node) {
		return
	}
	for len(conn.asked[end]) < pipelineLimit {
		piece := r.choose(t, conn, end)
		if piece < 0 {
			return
		}
		conn.asked[end] = append(conn.asked[end], piece)
		t.pending[int(node)*t.words+int(piece)/64] |= 1 << (piece % 64)
		left := r.out[peer].reserve(now, r.size(piece))
		r.events.push(event{at: left, kind: sent, to: end, torrent: int16(index), piece: piece, node: c})
	}
}

// choose returns one of the pieces that an end may ask for, at random, or -1.
func (r *run) choose(t *torrent, conn *connection, end uint8) int16 {
	node, peer := int(conn.ends[end])*t.words, int(conn.ends[1-end])*t.words
	endgame := t.missing[conn.ends[end]] <= endgameThreshold
	wanted := func(word int) uint64 {
		set := t.have[peer+word] &^ t.have[node+word]
		if !endgame {
			return set &^ t.pending[node+word]
		}
		for _, piece := range conn.asked[end] {
			if int(piece)/64 == word {
				set &^= 1 << (piece % 64)
			}
		}
		return set
	}
	total := 0
	for word := range t.words {
		total += bits.OnesCount64(wanted(word))
	}
	if total == 0 {
		return -1
	}
	nth := r.random.IntN(total)
	for word := 0; ; word++ {
		set := wanted(word)
		count := bits.OnesCount64(set)
		if nth >= count {
			nth -= count
			continue
		}
		for ; nth > 0; nth-- {
			set &= set - 1
		}
		return int16(word*64 + bits.TrailingZeros64(set))
	}
}

// arrive takes a piece in, tells the peers of it and asks for more.
func (r *run) arrive(e event) {
	t := r.torrents[e.torrent]
	conn := &t.connections[e.node]
	node, peer := conn.ends[e.to], conn.ends[1-e.to]
	conn.asked[e.to] = slices.DeleteFunc(conn.asked[e.to], func(piece int16) bool { return piece == e.piece })
	word, bit := int(node)*t.words+int(e.piece)/64, uint64(1)<<(e.piece%64)
	if t.have[word]&bit != 0 {
		r.outcome.Twice++
		return
	}
	conn.used = e.at
	t.have[word] |= bit
	t.missing[node]--
	if peer == origin {
		r.outcome.FromOrigin++
	} else {
		r.outcome.FromPeers++
	}
	if t.complete(node) {
		r.completed(e.at, t, node)
	}
	r.ask(e.at, int(e.torrent), e.node, e.to)
	for _, c := range slices.Clone(t.connected[node]) {
		other := uint8(0)
		if t.connections[c].ends[0] == node {
			other = 1
		}
		r.ask(e.at, int(e.torrent), c, other)
	}
}

// completed hands a layer to the fetcher, which gets nothing before, and ends
// the connections to others that have it all.
func (r *run) completed(now float64, t *torrent, node int32) {
	r.finished[node] = max(r.finished[node], r.local[node].reserve(now, float64(r.Image.Layer)))
	t.disconnect(node, func(c *connection) bool { return t.complete(c.ends[0]) && t.complete(c.ends[1]) })
}

// prune ends the connections of a node that brought nothing for long.
func (r *run) prune(now float64, node int32) {
	lacking := false
	for _, t := range r.torrents {
		lacking = lacking || !t.complete(node)
		t.disconnect(node, func(c *connection) bool {
			return now-c.used > idleLimit.Seconds() && len(c.asked[0])+len(c.asked[1]) == 0
		})
	}
	if lacking {
		r.events.push(event{at: now + idleLimit.Seconds(), kind: prunes, node: node})
	}
}

// disconnect ends those of a node's connections that are to end.
func (t *torrent) disconnect(node int32, end func(*connection) bool) {
	t.connected[node] = slices.DeleteFunc(t.connected[node], func(c int32) bool {
		conn := &t.connections[c]
		if !end(conn) {
			return false
		}
		peer := conn.ends[0] + conn.ends[1] - node
		t.connected[peer] = slices.DeleteFunc(t.connected[peer], func(other int32) bool { return other == c })
		return true
	})
}
