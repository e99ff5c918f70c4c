package gauge

import (
	"math"
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// step is the resolution of the past that is kept, in ns. Samples that are closer
	// together are averaged.
	step = int64(30e9)
	// maxSamples bounds the past of one series: 48 minutes at step, 96 at one sample a
	// minute.
	maxSamples = 96
	// maxRecent is how many samples make up "now", nowSpan their age.
	maxRecent = 8
	nowSpan   = int64(30e9)
	// minPast is how many samples of the past a judgement needs.
	minPast = 6
	// minYoung is how many samples before the recent ones stand in for a past that is
	// not there yet, where samples are frequent; maxYoung bounds them.
	minYoung, maxYoung = 8, 24
	// channelStale is how long a metric is preferred to another that says the same
	// after its last point.
	channelStale = int64(300e9)
	// maxGap is the longest time between two points of a counter of which the rate
	// is of use.
	maxGap = int64(600e9)
	// unlimited is what runtimes report for no limit: half of the largest int64.
	unlimited = float64(1 << 62)
)

// sample is one value of the past.
type sample struct {
	at    int64 // ns since 1970
	value float32
	// abnormal samples do not count as normal: the resource was in alarm.
	abnormal bool
}

// channel is the last value that one role of a series had.
type channel struct {
	rule *rule // the metric that it comes from
	// value and at are the last level or rate; at is 0 when there is none.
	value float64
	at    int64
	// total, seen and start are the counter that a rate is made of.
	total       float64
	seen, start int64
}

// series is one resource of one thing: its recent past, its limit, and what is
// believed of it at the moment.
type series struct {
	key               uint64
	subject           record.EntityID
	workload          uint64
	class             Class
	part, instance    string
	container         string
	use, free, limit  channel
	share, wait, base channel
	// derived is the limit that a use and its share of the limit imply.
	derived float64
	// touched is the newest point, first the oldest, interval the usual distance of
	// two uses, in ns.
	touched, first, interval int64

	recent  [maxRecent]sample64
	nRecent int
	// young are the first samples, oldest first, while there is no past.
	young []float32
	past  []sample // ordered by time, oldest first
	// history is what was before the past, of classes that are foretold.
	history *history
	// falls are the last times that something was let go of, oldest first.
	falls [teeth]int64
	open  bucket
	stats stats

	dirty      bool
	alarm      alarm
	prediction *forecast
	// arrived is set when what was foretold came true, until the value is well below.
	arrived bool
	// fatal is from which value on it was killed once, died when it was last at its
	// limit, as foretold; 0 for never.
	fatal float64
	died  int64
}

type sample64 struct {
	at    int64
	value float64
}

// bucket collects the samples of one step.
type bucket struct {
	at       int64 // of the newest
	begin    int64
	sum      float64
	n        int
	abnormal bool
}

// stats of the normal past, computed when it has changed.
type stats struct {
	n      int
	median float64
	stale  bool
}

// observe takes one point in. It returns false for one that is not newer than the
// last of its role.
func (s *series) observe(p *point) bool {
	c := s.channel(p.rule)
	if c == nil {
		return true // another metric says the same, better
	}
	if p.temporality == delta {
		if p.at <= c.at {
			return false
		}
		c.value = p.value / (float64(p.at-p.start) / 1e9)
		c.at = p.at
	} else if !p.rule.Rate {
		if p.at <= c.at {
			return false
		}
		c.value, c.at = p.value, p.at
	} else if late, ok := c.rate(p); !ok {
		if !late {
			s.touched = max(s.touched, p.at)
		}
		return !late
	}
	s.touched = max(s.touched, p.at)
	s.dirty = true
	s.push(p.at)
	return true
}

// channel returns where a point of a rule belongs, nil when a better metric says
// the same.
func (s *series) channel(r *rule) *channel {
	if r.base && s.use.rule != nil && s.use.rule.id < r.id && s.touched-s.use.at <= channelStale {
		return &s.base
	}
	var c *channel
	switch r.Role {
	case RoleUse:
		c = &s.use
	case RoleFree:
		c = &s.free
	case RoleLimit:
		c = &s.limit
	case RoleUtilization:
		c = &s.share
	case RoleWaiting:
		c = &s.wait
	default:
		return nil
	}
	switch {
	case c.rule == r:
	case c.rule == nil:
		c.rule = r
	case r.id < c.rule.id || s.touched-max(c.at, c.seen) > channelStale:
		if r.base && s.base.rule == nil || c.rule.base {
			s.base = *c
		}
		*c = channel{rule: r}
		if r.Role == RoleUse {
			s.forget()
		}
	default:
		return nil
	}
	return c
}

// rate turns a counter into its increase per second since the last point. The first
// point, and the first after a restart or a long gap, have none; late tells whether
// that is because the point is not newer than the last.
func (c *channel) rate(p *point) (late, ok bool) {
	if p.at <= c.seen {
		return true, false
	}
	seconds := float64(p.at-c.seen) / 1e9
	restarted := c.seen == 0 || p.value < c.total || p.start > c.seen || p.at-c.seen > maxGap
	value := (p.value - c.total) / seconds
	c.total, c.seen, c.start = p.value, p.at, p.start
	if restarted {
		return false, false
	}
	c.value, c.at = value, p.at
	return false, true
}

// forget drops the past: what comes is measured in another way.
func (s *series) forget() {
	s.nRecent, s.young, s.past, s.history, s.open, s.stats, s.first = 0, nil, s.past[:0], nil, bucket{}, stats{}, 0
}

// push adds the signal to the past when the channels that make it up are complete
// at a time.
func (s *series) push(at int64) {
	value, ok := s.signal(at)
	if !ok || s.nRecent > 0 && at <= s.recent[s.nRecent-1].at {
		return
	}
	if s.first == 0 {
		s.first = at
	}
	if s.nRecent > 0 {
		s.learnInterval(at - s.recent[s.nRecent-1].at)
	}
	if s.nRecent == maxRecent {
		s.grow(s.recent[0].value)
		copy(s.recent[:], s.recent[1:])
		s.nRecent--
	}
	s.recent[s.nRecent] = sample64{at, value}
	s.nRecent++
	s.fill(at, value)
}

// grow adds a sample that is no longer recent to the first ones.
func (s *series) grow(value float64) {
	switch {
	case s.stats.n >= minPast:
		s.young = nil
	case len(s.young) < maxYoung && !s.alarm.open:
		s.young = append(s.young, float32(value))
	}
}

func (s *series) learnInterval(d int64) {
	if s.interval == 0 || d < s.interval {
		s.interval = d
		return
	}
	s.interval += (d - s.interval) / 8
}

// signal is what the class judges: the use; use over limit for ratios; limit minus
// free where nobody reports the use.
func (s *series) signal(at int64) (float64, bool) {
	switch {
	case specs[s.class].ratio && s.share.rule != nil:
		return min(s.share.value, 1), s.share.at == at
	case specs[s.class].ratio:
		if s.use.at != at || s.limit.at != at || s.limit.value <= 0 {
			return 0, false
		}
		return min(s.use.value/s.limit.value, 1), true
	case specs[s.class].mean && s.use.rule != nil && s.use.rule.take == takeSum:
		if s.use.at != at || s.limit.at != at || s.limit.value <= 0 {
			return 0, false
		}
		return s.use.value / s.limit.value, true
	case s.use.rule != nil:
		return s.use.value, s.use.at == at
	case s.free.rule != nil && s.limit.rule != nil:
		return max(s.limit.value-s.free.value, 0), s.free.at == at && s.limit.at == at
	case s.share.rule != nil && s.limit.rule == nil:
		return s.share.value, s.share.at == at
	}
	return 0, false
}

// fill adds a value to the open bucket, and the bucket to the past when a step is
// over.
func (s *series) fill(at int64, value float64) {
	b := &s.open
	if b.n > 0 && at-b.begin >= step {
		s.keep(sample{at: b.at, value: float32(b.sum / float64(b.n)), abnormal: b.abnormal})
		*b = bucket{}
	}
	if b.n == 0 {
		b.begin = at
	}
	b.at = at
	b.sum += value
	b.n++
	b.abnormal = b.abnormal || s.alarm.open
}

func (s *series) keep(x sample) {
	if len(s.past) == maxSamples {
		if specs[s.class].goal > 0 {
			if s.history == nil {
				s.history = &history{}
			}
			s.history.add(s.past[0])
		}
		copy(s.past, s.past[1:])
		s.past = s.past[:maxSamples-1]
	}
	if n := len(s.past); n > 0 && fell(s.past[n-1], x) {
		copy(s.falls[:], s.falls[1:])
		s.falls[teeth-1] = x.at
	}
	s.past = append(s.past, x)
	s.stats.stale = true
}

// now is the median of the samples of the last moments, and the time of the newest:
// where samples are frequent, a peak of one of them is not there.
func (s *series) now() (float64, int64) {
	if s.nRecent == 0 {
		return 0, 0
	}
	newest := s.recent[s.nRecent-1].at
	var values [maxRecent]float64
	n := 0
	for _, x := range s.recent[:s.nRecent] {
		if newest-x.at <= nowSpan {
			values[n] = x.value
			n++
		}
	}
	return median(values[:n]), newest
}

// ceiling returns the limit in the unit of the signal, 0 when it is unknown.
func (s *series) ceiling() float64 {
	var l float64
	switch {
	case specs[s.class].ratio || s.class == ClassGC || s.class == ClassDiskIO:
		return 1
	case specs[s.class].mean:
		return 0
	case s.use.at > 0 && s.free.at > 0 && abs(s.use.at-s.free.at) <= channelStale:
		l = s.use.value + s.free.value
	case s.limit.at > 0:
		l = s.limit.value
	case s.share.at > 0 && s.use.at == 0:
		l = 1
	case s.share.at > 0 && s.share.value > 0:
		of := &s.use
		if s.base.at > 0 {
			of = &s.base
		}
		if of.at == s.share.at {
			s.derived = of.value / s.share.value
		}
		l = s.derived
	}
	if l <= 0 || l >= unlimited || math.IsInf(l, 0) {
		return 0
	}
	return l
}

// refresh returns the statistics of the normal past. scratch is overwritten.
func (s *series) refresh(scratch *[maxSamples]float64) stats {
	if s.stats.stale {
		values := s.normal(scratch)
		s.stats = stats{n: len(values), median: median(values)}
	}
	return s.stats
}

// normal copies the normal past to scratch.
func (s *series) normal(scratch *[maxSamples]float64) []float64 {
	values := scratch[:0]
	for i := range s.past {
		if !s.past[i].abnormal {
			values = append(values, float64(s.past[i].value))
		}
	}
	return values
}

// adopt takes what was abnormal as the new normal.
func (s *series) adopt() {
	for i := range s.past {
		s.past[i].abnormal = false
	}
	s.open.abnormal = false
	s.stats.stale = true
}

// median sorts values and returns the middle one, or the mean of the two; 0 of none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// ninetieth returns the 90th percentile of sorted values (nearest rank); 0 of none.
func ninetieth(sorted []float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*9+9)/10-1]
}

func abs(x int64) int64 {
	if x < 0 {
		return -x
	}
	return x
}
