package transfer

import (
	"cmp"
	"math"
	"slices"
)

// span is the bytes from begin up to, but not including, end.
type span struct{ begin, end int64 }

// part is a span that one stream fetches. Its end may come nearer meanwhile,
// when another stream takes over the rest.
type part struct {
	written int64 // all before is in the sink
	claimed int64 // all before is the stream's alone: read, or about to be
	end     int64
}

// plan divides a blob among streams. It decides and does nothing else. Not safe
// for concurrent use.
type plan struct {
	free []span  // nobody's, in order and apart from one another
	busy []*part // somebody's
}

const unknownEnd = math.MaxInt64

// newPlan begins after the first have bytes. A negative size is not known yet.
func newPlan(size, have int64) plan {
	if size < 0 {
		size = unknownEnd
	}
	var p plan
	p.put(span{have, size})
	return p
}

// take gives the first free bytes, at most limit of them; 0: all.
func (p *plan) take(limit int64) *part {
	if len(p.free) == 0 {
		return nil
	}
	first := &p.free[0]
	t := &part{written: first.begin, claimed: first.begin, end: first.end}
	if limit > 0 && first.end-first.begin > limit {
		t.end = first.begin + limit
		first.begin = t.end
	} else {
		p.free = p.free[1:]
	}
	p.busy = append(p.busy, t)
	return t
}

// split frees the second half of the part that has most left to do, if each
// half has at least so many bytes.
func (p *plan) split(least int64) bool {
	most := p.longest()
	if most == nil || most.left() < 2*least {
		return false
	}
	middle := most.claimed + most.left()/2
	p.put(span{middle, most.end})
	most.end = middle
	return true
}

// assign gives the first free bytes as take does, or half of the part that has
// most left to do where nothing is free.
func (p *plan) assign(limit, least int64) *part {
	if t := p.take(limit); t != nil {
		return t
	}
	if p.split(least) {
		return p.take(limit)
	}
	return nil
}

// divisible reports whether there is work for one more stream.
func (p *plan) divisible(least int64) bool {
	if len(p.free) > 0 {
		return true
	}
	most := p.longest()
	return most != nil && most.left() >= 2*least
}

func (p *plan) longest() *part {
	var most *part
	for _, t := range p.busy {
		if t.end != unknownEnd && (most == nil || t.left() > most.left()) {
			most = t
		}
	}
	return most
}

func (t *part) left() int64 { return t.end - t.claimed }

// claim makes the next bytes of a part its stream's alone and returns how many;
// 0: none are left.
func (t *part) claim(most int64) int64 {
	n := min(most, t.left())
	t.claimed += n
	return n
}

// extend adds the free bytes that follow a part to it: its answer goes on.
func (p *plan) extend(t *part) bool {
	for i, s := range p.free {
		if s.begin == t.end {
			t.end = s.end
			p.free = slices.Delete(p.free, i, i+1)
			return true
		}
	}
	return false
}

// release ends a part. What it did not write is free again.
func (p *plan) release(t *part) {
	p.busy = slices.DeleteFunc(p.busy, func(b *part) bool { return b == t })
	p.put(span{t.written, t.end})
}

// complete reports whether every byte is in the sink.
func (p *plan) complete() bool { return len(p.free) == 0 && len(p.busy) == 0 }

// reached counts the bytes that are in the sink, from the first one up to the
// first that is missing, of a plan that is not complete.
func (p *plan) reached() int64 {
	least := int64(unknownEnd)
	if len(p.free) > 0 {
		least = p.free[0].begin
	}
	for _, t := range p.busy {
		if t.written < t.end {
			least = min(least, t.written)
		}
	}
	return least
}

// left counts the bytes that nobody has claimed.
func (p *plan) left() int64 {
	var n int64
	for _, s := range p.free {
		n += s.end - s.begin
	}
	for _, t := range p.busy {
		n += t.left()
	}
	return n
}

// put adds a span to the free ones, and joins those that touch.
func (p *plan) put(s span) {
	if s.begin >= s.end {
		return
	}
	at, _ := slices.BinarySearchFunc(p.free, s, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	p.free = slices.Insert(p.free, at, s)
	if at+1 < len(p.free) && p.free[at].end == p.free[at+1].begin {
		p.free[at].end = p.free[at+1].end
		p.free = slices.Delete(p.free, at+1, at+2)
	}
	if at > 0 && p.free[at-1].end == p.free[at].begin {
		p.free[at-1].end = p.free[at].end
		p.free = slices.Delete(p.free, at, at+1)
	}
}
