package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The text format of Prometheus, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). The client
// library would take 1.7 ms of each start, of 8.7, and 210 KiB, whether there
// are metrics or not; what is needed of it is this file.

// textFormat is the Content-Type of what write writes.
const textFormat = "text/plain; version=0.0.4; charset=utf-8"

// The types of a family.
const (
	counterType   = "counter"
	gaugeType     = "gauge"
	histogramType = "histogram"
)

// family is a metric with all its label sets. Safe for concurrent use.
type family struct {
	name, help, kind string
	labels           []string
	bounds           []float64 // of a histogram's buckets, ascending, without +Inf

	mu     sync.Mutex
	series map[string]*series
}

// series is one label set.
type series struct {
	values []string // of the labels
	value  float64  // of a histogram: the sum
	counts []uint64 // for each bound, and +Inf; not yet summed up
}

// at returns the series of the label values. The caller has f.mu.
func (f *family) at(values []string) *series {
	if len(values) != len(f.labels) {
		panic(fmt.Sprintf("%s has %d labels, not %d", f.name, len(f.labels), len(values)))
	}
	key := strings.Join(values, "\xff") // which is in no UTF-8
	s := f.series[key]
	if s == nil {
		if f.series == nil {
			f.series = map[string]*series{}
		}
		s = &series{values: slices.Clone(values)}
		if f.kind == histogramType {
			s.counts = make([]uint64, len(f.bounds)+1)
		}
		f.series[key] = s
	}
	return s
}

// add adds to a counter or a gauge. It makes the series even where n is 0.
func (f *family) add(n float64, values ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at(values).value += n
}

// set sets a gauge, or a counter that somebody else counts.
func (f *family) set(n float64, values ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at(values).value = n
}

// observe counts n in a histogram.
func (f *family) observe(n float64, values ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.at(values)
	i, _ := slices.BinarySearch(f.bounds, n) // a bucket holds its own bound
	s.counts[i]++
	s.value += n
}

// write writes the family with its series in order. One without series has its
// name only, so that who looks for it knows that it is there.
func (f *family) write(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
	keys := make([]string, 0, len(f.series))
	for key := range f.series {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		s := f.series[key]
		if f.kind == histogramType {
			f.writeBuckets(w, s)
			continue
		}
		fmt.Fprintf(w, "%s%s %s\n", f.name, braced(pairs(f.labels, s.values)), number(s.value))
	}
}

func (f *family) writeBuckets(w io.Writer, s *series) {
	labels := pairs(f.labels, s.values)
	sum := uint64(0)
	for i, n := range s.counts {
		sum += n
		bound := math.Inf(1)
		if i < len(f.bounds) {
			bound = f.bounds[i]
		}
		le := append(slices.Clone(labels), `le="`+number(bound)+`"`)
		fmt.Fprintf(w, "%s_bucket%s %d\n", f.name, braced(le), sum)
	}
	fmt.Fprintf(w, "%s_sum%s %s\n%s_count%s %d\n", f.name, braced(labels), number(s.value), f.name, braced(labels), sum)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// pairs are the labels as name="value".
func pairs(names, values []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = name + `="` + labelEscapes.Replace(strings.ToValidUTF8(values[i], "\ufffd")) + `"`
	}
	return all
}

func braced(pairs []string) string {
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// number is a float as the format has it.
func number(n float64) string {
	if math.IsInf(n, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}
