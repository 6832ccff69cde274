package content

import "slices"

// span is the bytes from one offset up to another.
type span struct{ from, to int64 }

// spans is a set of bytes: sorted, and between any two of its spans lies at
// least one byte that is in neither. Its length is how scattered the bytes are,
// not how many.
type spans []span

// reaching returns the index of the first span that ends at offset or later.
func (s spans) reaching(offset int64) int {
	i, _ := slices.BinarySearchFunc(s, offset, func(x span, offset int64) int {
		if x.to < offset {
			return -1
		}
		return 1
	})
	return i
}

// add puts the bytes of x into the set.
func (s *spans) add(x span) {
	if x.from >= x.to {
		return
	}
	first := s.reaching(x.from)
	end := first
	for ; end < len(*s) && (*s)[end].from <= x.to; end++ {
		x.from, x.to = min(x.from, (*s)[end].from), max(x.to, (*s)[end].to)
	}
	if end == first {
		*s = slices.Insert(*s, first, x)
		return
	}
	(*s)[first] = x
	*s = slices.Delete(*s, first+1, end)
}

// missing returns the first stretch of x that is not in the set; an empty one at
// the end of x where all of it is.
func (s spans) missing(x span) span {
	for _, y := range s[s.reaching(x.from):] {
		if y.from > x.from {
			return span{x.from, min(x.to, y.from)}
		}
		x.from = min(max(x.from, y.to), x.to)
	}
	return x
}

// prefix returns how many bytes from 0 on are in the set without a gap.
func (s spans) prefix() int64 {
	if len(s) == 0 || s[0].from > 0 {
		return 0
	}
	return s[0].to
}

// size returns how many bytes are in the set.
func (s spans) size() (n int64) {
	for _, x := range s {
		n += x.to - x.from
	}
	return n
}
