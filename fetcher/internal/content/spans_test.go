package content

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var sameSpans = cmp.AllowUnexported(span{})

func TestSpansMergeWhatTouchesOrOverlaps(t *testing.T) {
	t.Parallel()
	for label, test := range map[string]struct{ add, want spans }{
		"nothing":                       {spans{}, nil},
		"nothing somewhere":             {spans{{5, 5}}, nil},
		"one":                           {spans{{2, 4}}, spans{{2, 4}}},
		"nothing inside of one":         {spans{{2, 4}, {3, 3}}, spans{{2, 4}}},
		"one after another with a gap":  {spans{{2, 4}, {5, 6}}, spans{{2, 4}, {5, 6}}},
		"one before another with a gap": {spans{{5, 6}, {2, 4}}, spans{{2, 4}, {5, 6}}},
		"one that follows another":      {spans{{2, 4}, {4, 6}}, spans{{2, 6}}},
		"one that comes before another": {spans{{4, 6}, {2, 4}}, spans{{2, 6}}},
		"one that overlaps the end":     {spans{{2, 4}, {3, 6}}, spans{{2, 6}}},
		"one that overlaps the begin":   {spans{{4, 6}, {2, 5}}, spans{{2, 6}}},
		"one inside of another":         {spans{{2, 6}, {3, 4}}, spans{{2, 6}}},
		"one around another":            {spans{{3, 4}, {2, 6}}, spans{{2, 6}}},
		"the same again":                {spans{{2, 4}, {2, 4}}, spans{{2, 4}}},
		"one that closes a gap":         {spans{{2, 4}, {6, 8}, {4, 6}}, spans{{2, 8}}},
		"one that overlaps both sides":  {spans{{2, 4}, {6, 8}, {3, 7}}, spans{{2, 8}}},
		"one around many":               {spans{{2, 3}, {4, 5}, {6, 7}, {9, 10}, {1, 8}}, spans{{1, 8}, {9, 10}}},
		"one between others":            {spans{{0, 1}, {8, 9}, {4, 5}}, spans{{0, 1}, {4, 5}, {8, 9}}},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			var s spans
			for _, x := range test.add {
				s.add(x)
			}
			if diff := cmp.Diff(test.want, s, sameSpans); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingIsTheFirstStretchThatTheSetLacks(t *testing.T) {
	t.Parallel()
	s := spans{{2, 4}, {6, 8}}
	for label, test := range map[string]struct{ of, want span }{
		"before all":                   {span{0, 2}, span{0, 2}},
		"up into the first":            {span{0, 3}, span{0, 2}},
		"around the first":             {span{0, 6}, span{0, 2}},
		"nothing, before all":          {span{0, 0}, span{0, 0}},
		"nothing, inside":              {span{3, 3}, span{3, 3}},
		"a part of the first":          {span{2, 3}, span{3, 3}},
		"the first":                    {span{2, 4}, span{4, 4}},
		"from the first on":            {span{3, 5}, span{4, 5}},
		"from the first to the second": {span{2, 7}, span{4, 6}},
		"all and more":                 {span{2, 9}, span{4, 6}},
		"from the second on":           {span{7, 9}, span{8, 9}},
		"after all":                    {span{8, 9}, span{8, 9}},
		"far after all":                {span{20, 30}, span{20, 30}},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			if got := s.missing(test.of); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// FuzzSpans holds the set to a bitmap, and to its own order. Each two bytes of
// the input are a span.
func FuzzSpans(f *testing.F) {
	f.Add([]byte{1, 3, 5, 7, 3, 5})
	f.Add([]byte{0, 255, 10, 20})
	f.Add([]byte{7, 3, 9, 1, 8, 1, 20, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		var s spans
		var model [512]bool
		for ; len(input) >= 2; input = input[2:] {
			x := span{int64(input[0]), int64(input[0]) + int64(input[1])}
			if got, want := s.missing(x), missing(model[:], x); got != want {
				t.Fatalf("missing of %v in %v: got %v, want %v", x, s, got, want)
			}
			s.add(x)
			for i := x.from; i < x.to; i++ {
				model[i] = true
			}
			if got := bits(s); !slices.Equal(got, model[:]) {
				t.Fatalf("after %v the set is %v", x, s)
			}
			end := int64(-1)
			for _, y := range s {
				if y.from <= end || y.from >= y.to {
					t.Fatalf("%v is not in order", s)
				}
				end = y.to
			}
			if got, want := s.prefix(), int64(slices.Index(model[:], false)); got != want {
				t.Fatalf("prefix of %v: got %d, want %d", s, got, want)
			}
			count := int64(0)
			for _, b := range model {
				if b {
					count++
				}
			}
			if s.size() != count {
				t.Fatalf("size of %v: got %d, want %d", s, s.size(), count)
			}
		}
	})
}

// bits is the set as a bitmap.
func bits(s spans) []bool {
	b := make([]bool, 512)
	for _, x := range s {
		for i := x.from; i < x.to; i++ {
			b[i] = true
		}
	}
	return b
}

// missing is the first run of false in x.
func missing(model []bool, x span) span {
	for x.from < x.to && model[x.from] {
		x.from++
	}
	end := x.from
	for end < x.to && !model[end] {
		end++
	}
	return span{x.from, end}
}
