package transfer

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAPlanDividesABlob writes a plan as its free spans and its busy parts, each
// as begin of what is not written, end of what is claimed, end.
func TestAPlanDividesABlob(t *testing.T) {
	t.Parallel()
	type free = [][2]int64
	type busy = [][3]int64
	for name, test := range map[string]struct {
		size, have int64
		do         func(p *plan)
		free       free
		busy       busy
	}{
		"at first all of it is free": {
			100, 0, func(*plan) {}, free{{0, 100}}, nil,
		},
		"what the sink has already is not fetched": {
			100, 30, func(*plan) {}, free{{30, 100}}, nil,
		},
		"of a blob that is all there nothing is free": {
			100, 100, func(*plan) {}, nil, nil,
		},
		"an empty blob has nothing": {
			0, 0, func(*plan) {}, nil, nil,
		},
		"without a limit a stream takes all that is free in one stretch": {
			100, 0, func(p *plan) { p.take(0) }, nil, busy{{0, 0, 100}},
		},
		"with a limit it takes the first bytes": {
			100, 0, func(p *plan) { p.take(40); p.take(40) }, free{{80, 100}}, busy{{0, 0, 40}, {40, 40, 80}},
		},
		"a limit beyond the end is none": {
			100, 0, func(p *plan) { p.take(101) }, nil, busy{{0, 0, 100}},
		},
		"the rest of a part can be split": {
			100, 0, func(p *plan) { p.take(0).claim(20); p.split(40) }, free{{60, 100}}, busy{{0, 20, 60}},
		},
		"a part with too little left is not split": {
			100, 0, func(p *plan) { p.take(0).claim(21); p.split(40) }, nil, busy{{0, 21, 100}},
		},
		"the part with most left is split": {
			100, 0, func(p *plan) { p.take(30); p.take(40).claim(5); p.take(30); p.split(10) }, free{{52, 70}}, busy{{0, 0, 30}, {30, 35, 52}, {70, 70, 100}},
		},
		"a part without a known end is not split": {
			-1, 0, func(p *plan) { p.take(0); p.split(1) }, nil, busy{{0, 0, unknownEnd}},
		},
		"what a part did not write is free again": {
			100, 0, func(p *plan) { a := p.take(40); p.take(0); a.claim(30); a.written = 20; p.release(a) }, free{{20, 40}}, busy{{40, 40, 100}},
		},
		"free bytes that touch are one stretch": {
			100, 0, func(p *plan) { a, b, c := p.take(30), p.take(30), p.take(0); p.release(a); p.release(c); p.release(b) }, free{{0, 100}}, nil,
		},
		"free bytes that do not touch are two": {
			100, 0, func(p *plan) { a, b := p.take(30), p.take(30); p.take(30); p.release(b); a.written = 10; p.release(a) }, free{{10, 60}, {90, 100}}, busy{{60, 60, 90}},
		},
		"a part goes on over the free bytes behind it": {
			100, 0, func(p *plan) { a := p.take(30); p.extend(a) }, nil, busy{{0, 0, 100}},
		},
		"a part goes on as far as nobody is": {
			100, 0, func(p *plan) { a, b := p.take(30), p.take(30); p.take(0); p.release(b); p.extend(a) }, nil, busy{{0, 0, 60}, {60, 60, 100}},
		},
		"a part does not go on over another": {
			100, 0, func(p *plan) { a := p.take(30); p.take(30); p.extend(a) }, free{{60, 100}}, busy{{0, 0, 30}, {30, 30, 60}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlan(test.size, test.have)
			test.do(&p)
			var gotFree free
			for _, s := range p.free {
				gotFree = append(gotFree, [2]int64{s.begin, s.end})
			}
			var gotBusy busy
			for _, b := range p.busy {
				gotBusy = append(gotBusy, [3]int64{b.written, b.claimed, b.end})
			}
			if diff := cmp.Diff(test.free, gotFree); diff != "" {
				t.Errorf("free (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.busy, gotBusy); diff != "" {
				t.Errorf("busy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAClaimIsWhatIsLeftAndNoMore(t *testing.T) {
	t.Parallel()
	p := newPlan(100, 0)
	a := p.take(50)
	var got []int64
	for range 4 {
		got = append(got, a.claim(20))
	}
	if diff := cmp.Diff([]int64{20, 20, 10, 0}, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestAPlanHasReachedItsFirstMissingByte(t *testing.T) {
	t.Parallel()
	p := newPlan(100, 0)
	a, b := p.take(30), p.take(30)
	a.claim(20)
	a.written, b.written = 10, 60
	if got := p.reached(); got != 10 {
		t.Errorf("with a busy part it reached %d, want 10", got)
	}
	p.release(b)
	p.release(a)
	if got := p.reached(); got != 10 {
		t.Errorf("with a free span it reached %d, want 10", got)
	}
	a = p.take(0)
	a.written = 30
	p.release(a)
	if got := p.reached(); got != 60 {
		t.Errorf("behind a part that is complete it reached %d, want 60", got)
	}
}

// model is a plan as one number for each byte.
type model struct {
	*testing.T
	plan    plan
	size    int64
	learnt  bool  // the plan knows the size
	have    int64 // bytes that were there at first
	written []int // how often each byte was written
	parts   []*part
}

// write puts so many of a part's claimed bytes in the sink.
func (m *model) write(p *part, n int64) {
	n = min(n, p.claimed-p.written)
	for i := range n {
		m.written[p.written+i]++
	}
	p.written += n
}

// claim has a stream read, but no server gives more bytes than there are.
func (m *model) claim(p *part, n int64) { p.claim(min(n, m.size-p.claimed)) }

func (m *model) release(p *part) {
	m.plan.release(p)
	m.parts = slices.DeleteFunc(m.parts, func(o *part) bool { return o == p })
}

// learn tells the plan the size, as the answer to the only part there can be.
func (m *model) learn() {
	if !m.learnt && len(m.parts) == 1 {
		m.parts[0].end, m.learnt = m.size, true
	}
}

// split reports what the plan said it would do, and did.
func (m *model) split(least int64) {
	idle := len(m.plan.free) == 0
	divisible := m.plan.divisible(least)
	if did := m.plan.split(least); idle && did != divisible {
		m.Errorf("divisible is %v, but split %v", divisible, did)
	}
}

// do takes one step of a history.
func (m *model) do(op, n byte) {
	var p *part
	if len(m.parts) > 0 {
		p = m.parts[int(n)%len(m.parts)]
	}
	switch op % 7 {
	case 0:
		if p := m.plan.take(int64(n)); p != nil {
			m.parts = append(m.parts, p)
		}
		return
	case 1:
		m.split(max(1, int64(n)/8))
		return
	case 2:
		m.learn()
		return
	}
	if p == nil {
		return
	}
	switch op % 7 {
	case 3:
		m.claim(p, int64(n))
	case 4:
		m.write(p, int64(n))
	case 5:
		m.release(p)
	case 6:
		m.plan.extend(p)
	}
}

// check holds the plan against the model: each byte is in the sink, or a part's,
// or free, and no byte is twice in one of them.
func (m *model) check() {
	m.Helper()
	places := make([]int, m.size)
	mark := func(begin, end int64) {
		for i := begin; i < min(end, m.size); i++ {
			places[i]++
		}
	}
	unclaimed := int64(0)
	for _, s := range m.plan.free {
		mark(s.begin, s.end)
		unclaimed += min(s.end, m.size) - s.begin
	}
	for _, p := range m.parts {
		if p.written > p.claimed || p.claimed > p.end {
			m.Fatalf("a part is out of order: %+v", *p)
		}
		mark(p.written, p.end)
		unclaimed += min(p.end, m.size) - p.claimed
	}
	all, first := true, m.size
	for i, n := range m.written {
		if n+places[i] != 1 {
			m.Fatalf("byte %d: %d times written, %d times to be written", i, n, places[i])
		}
		if n == 0 && all {
			all, first = false, int64(i)
		}
	}
	if m.learnt && m.plan.left() != unclaimed {
		m.Fatalf("%d bytes are left, want %d", m.plan.left(), unclaimed)
	}
	if m.plan.complete() && !all {
		m.Fatalf("complete without byte %d", first)
	}
	if m.learnt && all && len(m.parts) == 0 && !m.plan.complete() {
		m.Fatal("not complete with all bytes")
	}
	if !all && m.plan.reached() != first {
		m.Fatalf("reached %d, want %d", m.plan.reached(), first)
	}
}

// finish has one stream fetch what is left.
func (m *model) finish() {
	for len(m.parts) > 0 {
		m.release(m.parts[0])
		m.check()
	}
	for limit := int64(50); ; {
		if !m.learnt {
			limit = 0
		}
		p := m.plan.take(limit)
		if p == nil {
			break
		}
		m.parts = append(m.parts, p)
		m.learn()
		m.claim(p, m.size)
		m.write(p, m.size)
		m.release(p)
		m.check()
	}
	if !m.plan.complete() {
		m.Error("not complete in the end")
	}
}

// FuzzPlan has streams take, claim, write, split, extend and give back parts as
// the input says, and holds the plan to a model of each byte after each step.
func FuzzPlan(f *testing.F) {
	f.Add(uint8(100), uint8(0), true, []byte{0, 40, 3, 30, 4, 20, 5, 0})
	f.Add(uint8(200), uint8(10), true, []byte{0, 0, 1, 8, 0, 50, 3, 200, 3, 100, 1, 8, 4, 255, 6, 0, 5, 1, 0, 7})
	f.Add(uint8(90), uint8(0), false, []byte{0, 0, 3, 20, 4, 10, 5, 0, 0, 0, 2, 0, 1, 8})
	f.Add(uint8(124), uint8(36), true, []byte("1 1000B1C1Y1B0C0"))
	f.Add(uint8(0), uint8(0), false, []byte{0, 0, 2, 0, 4, 1})
	f.Fuzz(func(t *testing.T, size, have uint8, known bool, history []byte) {
		have = min(have, size)
		m := &model{T: t, size: int64(size), learnt: known, have: int64(have), written: make([]int, size)}
		for i := range have {
			m.written[i]++
		}
		end := int64(-1)
		if known {
			end = m.size
		}
		m.plan = newPlan(end, m.have)
		for ; len(history) >= 2; history = history[2:] {
			if !m.learnt { // nobody else may ask before the first answer
				if op := history[0] % 7; op == 0 && history[1] != 0 || op == 1 {
					continue
				}
			}
			m.do(history[0], history[1])
			m.check()
		}
		m.finish()
	})
}
