package gauge

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Options configure a Tracker.
type Options struct {
	// MaxSeries bounds the resources that are watched, about 2.5 KB each at most.
	MaxSeries int
	// Horizon is how far ahead limits are predicted; 0 predicts nothing.
	Horizon time.Duration
	// Rules are metrics of the user, before the built-in ones.
	Rules []Rule
}

// DefaultMaxSeries and DefaultHorizon are for an installation that says nothing.
const (
	DefaultMaxSeries = 20_000
	DefaultHorizon   = 15 * time.Minute
)

// maxAhead is how far in the future a point may lie, as for all telemetry.
const maxAhead = int64(5 * time.Minute)

// Sizes are what a Tracker holds and what it refused or forgot.
type Sizes struct {
	Series, Capacity, Active, Predicted int
	// Evicted counts series that made room for new ones.
	Evicted uint64
}

// Tracker watches resources. It is safe for concurrent use.
type Tracker struct {
	options Options
	rules   table
	buffers sync.Pool

	mu        sync.Mutex
	series    map[uint64]*series
	workloads map[uint64][]*series
	dirty     []*series
	// active are the series in alarm, with a small change, or with a prediction.
	active  map[*series]struct{}
	floors  floors
	evicted uint64
	// lastEviction is when room was last looked for, in the time of the data.
	lastEviction int64
	scratch      scratch
}

// New returns a tracker, or what is wrong with the options.
func New(o Options) (*Tracker, error) {
	if o.MaxSeries <= 0 {
		return nil, fmt.Errorf("max_series: %d: must be positive", o.MaxSeries)
	}
	if o.Horizon < 0 {
		return nil, fmt.Errorf("horizon: %v: must not be negative", o.Horizon)
	}
	rules, err := newTable(o.Rules)
	if err != nil {
		return nil, err
	}
	t := &Tracker{
		options: o, rules: rules, series: map[uint64]*series{}, workloads: map[uint64][]*series{},
		active: map[*series]struct{}{}, floors: floors{},
	}
	t.buffers.New = func() any { return &decoder{rules: rules} }
	return t, nil
}

// Metrics takes a batch in. now is the clock, in ns since 1970; resolve is called
// once for every resource that carries a metric of the table. It does not change
// or keep md.
func (t *Tracker) Metrics(md pmetric.Metrics, resolve Resolve, now int64) Counts {
	d := t.buffers.Get().(*decoder)
	d.resolve, d.latest, d.out, d.counts = resolve, now+maxAhead, d.out[:0], Counts{}
	d.metrics(md)
	t.mu.Lock()
	for i := range d.out {
		t.observe(&d.out[i], &d.counts)
	}
	t.mu.Unlock()
	counts := d.counts
	d.resolve = nil
	clear(d.out)
	t.buffers.Put(d)
	return counts
}

// observe takes one point in.
func (t *Tracker) observe(p *point, counts *Counts) {
	s := t.series[p.series]
	if s == nil {
		if s = t.add(p); s == nil {
			counts.Used -= p.n
			counts.Refused += p.n
			return
		}
	}
	s.subject = cmp.Or(p.subject, s.subject)
	was := s.dirty
	if !s.observe(p) {
		counts.Used -= p.n
		counts.Late += p.n
		return
	}
	if s.dirty && !was {
		t.dirty = append(t.dirty, s)
	}
}

func (t *Tracker) add(p *point) *series {
	if len(t.series) >= t.options.MaxSeries && !t.evict(p.at) {
		return nil
	}
	s := &series{
		key: p.series, subject: p.subject, workload: p.workload, class: p.rule.Class,
		container: strings.Clone(p.container), instance: strings.Clone(p.instance), part: p.rule.part,
	}
	t.series[s.key] = s
	if s.workload != 0 {
		t.workloads[s.workload] = append(t.workloads[s.workload], s)
	}
	return s
}

// evict makes room by forgetting series that have been silent for a while. It
// looks at most every ten seconds: it reads all of them.
func (t *Tracker) evict(at int64) bool {
	if abs(at-t.lastEviction) < int64(10*time.Second) {
		return false
	}
	t.lastEviction = at
	before := len(t.series)
	t.sweep(at - channelStale)
	t.evicted += uint64(before - len(t.series))
	return len(t.series) < before
}

// Sweep forgets series without a point since a time, in ns since 1970.
func (t *Tracker) Sweep(before int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(before)
}

func (t *Tracker) sweep(before int64) {
	for key, s := range t.series {
		// What was predicted of a series must be withdrawn first.
		if max(s.touched, s.lastSeen()) >= before || s.prediction != nil {
			continue
		}
		delete(t.series, key)
		delete(t.active, s)
		t.leave(s)
	}
}

// leave takes a series out of its workload.
func (t *Tracker) leave(s *series) {
	list := t.workloads[s.workload]
	for i, x := range list {
		if x == s {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(t.workloads, s.workload)
	} else {
		t.workloads[s.workload] = list
	}
}

// Sizes returns what the tracker holds.
func (t *Tracker) Sizes() Sizes {
	t.mu.Lock()
	defer t.mu.Unlock()
	z := Sizes{Series: len(t.series), Capacity: t.options.MaxSeries, Active: len(t.active), Evicted: t.evicted}
	for s := range t.active {
		if s.prediction != nil {
			z.Predicted++
		}
	}
	return z
}
