package slo

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Target is what an operation belongs to.
type Target struct {
	// Service is the entity of the service; Name and Namespace are its service.name
	// and service.namespace.
	Service         record.EntityID
	Name, Namespace string
	// Operation is the span name.
	Operation string
}

// Resolve returns whose operation it is; false for one that takes no requests, such
// as that of a client span. It is called once for every operation.
type Resolve func(operation record.EntityID) (Target, bool)

// Severity is how much a burn matters.
type Severity uint8

// The severities of a burn.
const (
	// SeverityNone: the budget lasts.
	SeverityNone Severity = iota
	// SeverityTicket: the budget will not last; somebody should look within days.
	SeverityTicket
	// SeverityPage: a large part of the budget goes within hours.
	SeverityPage
)

// String returns the word for the severity.
func (s Severity) String() string {
	switch s {
	case SeverityTicket:
		return "ticket"
	case SeverityPage:
		return "page"
	case SeverityNone:
	}
	return "none"
}

// Status is how a service stands against one of its objectives.
type Status struct {
	// Objective has its window set, also where the configuration has the default.
	Objective
	// Severity is that of the worst pair of windows that burn too fast.
	Severity Severity
	// Burn is the rate at which the budget is used, 1 for exactly all of it by the end
	// of the window, measured over BurnWindow: the longer one of the pair that
	// Severity comes from, or else of the fastest pair.
	Burn       float64
	BurnWindow time.Duration
	// Left is the share of the window's budget that is left, negative when more was
	// used than there is. What was not seen of the window counts as good, at the rate
	// of requests of what was.
	Left float64
	// Requests and Bad were counted over Covered, the part of the window that was seen.
	Requests, Bad float64
	Covered       time.Duration
}

const (
	// MaxCounters bounds the services and operations that are counted, 5 KB each.
	MaxCounters = 2000
	// maxOperations bounds the operations that are known to have an objective or not.
	maxOperations = 50_000
)

// Tracker counts good and bad requests against objectives. It is used by one
// goroutine.
type Tracker struct {
	objectives []Objective
	resolve    Resolve
	operations map[record.EntityID]counters
	counters   map[key]*counter
	dropped    uint64
}

// counters are those of the service as a whole and of the operation; nil where there
// is no objective.
type counters [2]*counter

// key is what a counter counts: one objective of one service.
type key struct {
	service   record.EntityID
	objective int
}

// New returns a tracker, or what is wrong with the objectives.
func New(objectives []Objective, resolve Resolve) (*Tracker, error) {
	if err := Validate(objectives); err != nil {
		return nil, err
	}
	return &Tracker{
		objectives: slices.Clone(objectives), resolve: resolve,
		operations: map[record.EntityID]counters{}, counters: map[key]*counter{},
	}, nil
}

// Observe counts a request: its operation, when it ended (ns since 1970, not in the
// future), how long it took (ns), and whether it failed. It does nothing for
// operations without an objective.
func (t *Tracker) Observe(operation record.EntityID, at, duration int64, failed bool) {
	if len(t.objectives) == 0 {
		return
	}
	cs, ok := t.operations[operation]
	if !ok {
		cs = t.open(operation)
	}
	for _, c := range cs {
		if c != nil {
			c.add(at, failed || c.latency > 0 && duration > c.latency)
		}
	}
}

// open finds the counters of an operation that was not seen before.
func (t *Tracker) open(operation record.EntityID) counters {
	var cs counters
	target, ok := t.resolve(operation)
	if ok {
		for slot, i := range t.find(&target) {
			if i >= 0 {
				cs[slot] = t.counter(key{target.Service, i})
			}
		}
	}
	if len(t.operations) >= maxOperations {
		clear(t.operations)
	}
	t.operations[operation] = cs
	return cs
}

func (t *Tracker) counter(k key) *counter {
	c := t.counters[k]
	if c == nil {
		if len(t.counters) >= MaxCounters {
			t.dropped++
			return nil
		}
		c = newCounter(int64(t.objectives[k.objective].Latency))
		t.counters[k] = c
	}
	return c
}

// find returns the objective of the service as a whole and that of the operation,
// -1 where there is none. The one that names the service most closely counts.
func (t *Tracker) find(target *Target) [2]int {
	found, ranks := [2]int{-1, -1}, [2]int{}
	for i := range t.objectives {
		o := &t.objectives[i]
		slot := 0
		if o.Operation != "" {
			if o.Operation != target.Operation {
				continue
			}
			slot = 1
		}
		if rank := o.rank(target); rank > ranks[slot] {
			found[slot], ranks[slot] = i, rank
		}
	}
	return found
}

// rank says how closely an objective names a service: 0 not at all.
func (o *Objective) rank(target *Target) int {
	switch {
	case o.Service == "":
		return 1
	case o.Service != target.Name:
		return 0
	case o.Namespace == "":
		return 2
	case o.Namespace == target.Namespace:
		return 3
	}
	return 0
}

// Status returns how a service stands at a time (ns since 1970) against each of its
// objectives that requests were counted for, the worst first.
func (t *Tracker) Status(service record.EntityID, now int64) []Status {
	var out []Status
	for i := range t.objectives {
		if c := t.counters[key{service, i}]; c != nil {
			out = append(out, c.status(&t.objectives[i], now))
		}
	}
	slices.SortStableFunc(out, func(a, b Status) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(b.Burn, a.Burn))
	})
	return out
}

// Sweep forgets services without a request since a time, in ns since 1970.
func (t *Tracker) Sweep(before int64) {
	n := len(t.counters)
	for k, c := range t.counters {
		if c.newest < before {
			delete(t.counters, k)
		}
	}
	if len(t.counters) < n {
		clear(t.operations)
	}
}

// Sizes are what a Tracker holds, and how many operations it could not count because
// there were too many.
type Sizes struct {
	Counters, Capacity int
	Dropped            uint64
}

// Sizes returns what the tracker holds.
func (t *Tracker) Sizes() Sizes {
	return Sizes{Counters: len(t.counters), Capacity: MaxCounters, Dropped: t.dropped}
}

// String describes the objective in the words of a finding.
func (o *Objective) String() string {
	s := fmt.Sprintf("%g %% of requests good", 100*o.Target)
	if o.Latency > 0 {
		s = fmt.Sprintf("%g %% of requests good within %v", 100*o.Target, o.Latency)
	}
	if o.Operation != "" {
		s += " of " + o.Operation
	}
	return fmt.Sprintf("%s in %d days", s, int(o.window().Hours()/24))
}
