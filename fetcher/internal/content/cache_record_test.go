package content

import (
	"bytes"
	"testing"
)

var aStamp = stamp{boot: [16]byte{1}, inode: 2, links: 3, size: 4, mtime: 5, ctime: 6, device: 7}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, r := range []record{
		{}, {stage: partial, received: 1 << 40}, {stage: gone},
		{stage: stored, stamp: aStamp}, {stage: stored, stamp: aStamp, marked: true},
		{stage: stored, stamp: stamp{mtime: -1, ctime: -1, inode: 1<<64 - 1}},
	} {
		if got := decode(r.encode()); got != r {
			t.Errorf("got %+v, want %+v", got, r)
		}
	}
}

func TestARecordWithAnyByteChangedPromisesNothing(t *testing.T) {
	t.Parallel()
	for i := range recordSize {
		b := record{stage: stored, stamp: aStamp, marked: true}.encode()
		b[i] ^= 1
		if got := decode(b); got != (record{}) {
			t.Errorf("byte %d: %+v", i, got)
		}
	}
}

func TestARecordProvesOnlyWhatNothingCouldHaveChanged(t *testing.T) {
	t.Parallel()
	as := func(change func(*stamp)) stamp {
		s := aStamp
		change(&s)
		return s
	}
	same := as(func(*stamp) {})
	fewer := as(func(s *stamp) { s.links--; s.ctime++ })
	for label, test := range map[string]struct {
		record record
		now    stamp
		mark   bool
		want   bool
	}{
		"the same stamp":                    {record{stage: stored, stamp: aStamp}, same, false, true},
		"the same stamp, a partial's":       {record{stage: partial, stamp: aStamp}, same, true, false},
		"the same stamp, of what is gone":   {record{stage: gone, stamp: aStamp}, same, true, false},
		"no record":                         {record{}, same, true, false},
		"no stamps here":                    {record{stage: stored}, stamp{}, true, false},
		"another boot":                      {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.boot[15]++ }), true, false},
		"another inode":                     {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.inode++ }), true, false},
		"another device":                    {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.device++ }), true, false},
		"another size":                      {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.size++ }), true, false},
		"another mtime":                     {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.mtime++ }), true, false},
		"another ctime":                     {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.ctime++ }), true, false},
		"more links":                        {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.ctime++; s.links++ }), true, false},
		"fewer links, and the mark":         {record{stage: stored, stamp: aStamp, marked: true}, fewer, true, true},
		"fewer links, and the mark is gone": {record{stage: stored, stamp: aStamp, marked: true}, fewer, false, false},
		"fewer links, and a mark that was never ours": {record{stage: stored, stamp: aStamp}, fewer, true, false},
		"fewer links, the mark, and another mtime":    {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.links--; s.ctime++; s.mtime++ }), true, false},
		"fewer links, the mark, and another size":     {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.links--; s.ctime++; s.size++ }), true, false},
		"fewer links, the mark, and another inode":    {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.links--; s.ctime++; s.inode++ }), true, false},
		"fewer links, the mark, and another boot":     {record{stage: stored, stamp: aStamp, marked: true}, as(func(s *stamp) { s.links--; s.ctime++; s.boot[0]++ }), true, false},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			if got := test.record.proves(test.now, func() bool { return test.mark }); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzRecord holds decode to: what it takes is what encode writes, byte by byte.
func FuzzRecord(f *testing.F) {
	for _, r := range []record{{}, {stage: partial, received: 7}, {stage: stored, stamp: aStamp, marked: true}} {
		f.Add(r.encode(), true)
	}
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) == recordSize { // else no mutation gets past the checksum
			seal(b)
		}
		r := decode(b)
		if r == (record{}) {
			return
		}
		if !bytes.Equal(r.encode(), b) {
			t.Errorf("%x was read as %+v", b, r)
		}
		if r.received < 0 || r.stage > gone {
			t.Errorf("got %+v", r)
		}
	})
}
