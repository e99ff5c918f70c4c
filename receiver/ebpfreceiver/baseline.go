package ebpfreceiver

import (
	"math"
	"slices"
)

const (
	// baselineSize is of how many intervals a baseline is made: ten minutes of 10 s.
	baselineSize = 60
	// baselineMin is how many it needs before anything is judged by it.
	baselineMin = 12
	// alarmAfter is how many intervals in a row must be unusual: one alone is a burst.
	alarmAfter = 2
	// usualAfter is how many unusual intervals in a row are the new usual.
	usualAfter = 30
	// spreads is how many standard deviations from the median are unusual.
	spreads = 6
	// farOctaves above the median is unusual whatever the spread: 64 times as much.
	farOctaves = 6
	// madToSigma makes a standard deviation of a median absolute deviation, for a
	// normal distribution.
	madToSigma = 1.4826
)

// threshold says what is unusual: at least floor, and factor times what is usual.
type threshold struct{ floor, factor float64 }

// baseline learns what is usual of a quantity from its own recent past: the median
// and the spread of its logarithm, which single outliers do not move. Unusual
// values are not learnt, unless they stay.
type baseline struct {
	past    []float64
	next    int
	unusual int // intervals in a row
}

// learn takes a value that is not judged.
func (b *baseline) learn(v float64) {
	v = math.Log2(v + 1)
	if len(b.past) < baselineSize {
		b.past = append(b.past, v)
		return
	}
	b.past[b.next] = v
	b.next = (b.next + 1) % baselineSize
}

// usual is the median, and how high a value may be for its spread alone; ok is
// false until enough is known.
func (b *baseline) usual() (median, highest float64, ok bool) {
	if len(b.past) < baselineMin {
		return 0, 0, false
	}
	sorted := slices.Clone(b.past)
	slices.Sort(sorted)
	middle := sorted[len(sorted)/2]
	for i, v := range sorted {
		sorted[i] = math.Abs(v - middle)
	}
	slices.Sort(sorted)
	spread := sorted[len(sorted)/2] * madToSigma
	return math.Exp2(middle) - 1, math.Exp2(middle+min(spreads*spread, farOctaves)) - 1, true
}

// judge says whether a value is unusual, the second or more in a row, and what
// would be usual. It learns the values that are not.
func (b *baseline) judge(v float64, t threshold) (usual float64, isAlarm bool) {
	median, highest, ok := b.usual()
	if !ok || v < t.floor || v < median*t.factor || v <= highest {
		b.learn(v)
		b.unusual = 0
		return median, false
	}
	if b.unusual++; b.unusual > usualAfter {
		*b = baseline{}
		b.learn(v)
		return median, false
	}
	return median, b.unusual >= alarmAfter
}

// skip tells that there was nothing to judge.
func (b *baseline) skip() { b.unusual = 0 }
