package slo

import (
	"fmt"
	"slices"
	"time"
)

// Request is whom a request was for, and how it went.
type Request struct {
	Service, Namespace, Operation string
	// Time is when it ended, in ns since 1970; Duration is in ns.
	Time, Duration int64
	Failed         bool
}

// Severity is how much a burn matters.
type Severity uint8

// The severities of a burn.
const (
	// SeverityNone: the budget lasts.
	SeverityNone Severity = iota
	// SeverityTicket: the budget will not last, and somebody should look within days.
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

// Status is how a service stands against its objective.
type Status struct {
	Objective
	// Burn is the rate at which the budget is used, 1 for exactly all of it by the end
	// of the window, measured over BurnWindow: the pair of windows that Severity is
	// of, or else the last hour.
	Burn       float64
	BurnWindow time.Duration
	Severity   Severity
	// Left is the share of the budget that is left, negative when more was used than
	// there is. Requests and Bad are counted since the tracker started or the
	// window began; Covered is how much of the window that is.
	Left          float64
	Requests, Bad float64
	Covered       time.Duration
}

// alert is a pair of windows with the burn rate that both must exceed.
type alert struct {
	long, short time.Duration
	burn        float64
	severity    Severity
}

// alerts are those of table 5-8 of the SRE Workbook, for a window of 30 days. The
// rates use 2 %, 5 % and 10 % of the budget within the long window; for other
// windows the rate is scaled so that the share stays the same.
var alerts = []alert{
	{time.Hour, 5 * time.Minute, 14.4, SeverityPage},
	{6 * time.Hour, 30 * time.Minute, 6, SeverityPage},
	{3 * 24 * time.Hour, 6 * time.Hour, 1, SeverityTicket},
}

// minBad is how many bad requests a burn needs: one failure of ten requests is
// chance, not a burn of 100.
const minBad = 3

// MaxServices bounds the services and operations that are counted, about 30 KB each.
const MaxServices = 2000

// Tracker counts good and bad requests against objectives. It is used by one
// goroutine.
type Tracker struct {
	objectives []Objective
	counters   map[key]*counter
	dropped    uint64
}

// key is what a counter counts: an objective for one service.
type key struct {
	objective          int
	service, namespace string
}

// New returns a tracker, or what is wrong with the objectives.
func New(objectives []Objective) (*Tracker, error) {
	if err := Validate(objectives); err != nil {
		return nil, fmt.Errorf("slo: %w", err)
	}
	return &Tracker{objectives: slices.Clone(objectives), counters: map[key]*counter{}}, nil
}

// Observe counts one server request under every objective that it belongs to. It
// does nothing for services without one.
func (t *Tracker) Observe(r *Request) {
	t.ObserveN(r, 1)
}

// ObserveN counts a request that stands for n, as where traces are sampled.
func (t *Tracker) ObserveN(r *Request, n float64) {
	for _, i := range t.of(r.Service, r.Namespace, r.Operation) {
		if i < 0 {
			continue
		}
		k := key{i, r.Service, r.Namespace}
		c := t.counters[k]
		if c == nil {
			if len(t.counters) >= MaxServices {
				t.dropped++
				continue
			}
			c = newCounter()
			t.counters[k] = c
		}
		o := &t.objectives[i]
		c.add(r.Time, n, r.Failed || o.Latency > 0 && r.Duration > int64(o.Latency))
	}
}

// of returns the objective of a service as a whole and that of the operation; -1
// where there is none.
func (t *Tracker) of(service, namespace, operation string) [2]int {
	found := [2]int{-1, -1}
	ranks := [2]int{}
	for i := range t.objectives {
		o := &t.objectives[i]
		rank, slot := o.rank(service, namespace), 0
		if o.Operation != "" {
			if o.Operation != operation {
				continue
			}
			slot = 1
		}
		if rank > ranks[slot] {
			found[slot], ranks[slot] = i, rank
		}
	}
	return found
}

// rank says how closely an objective names a service: 0 not at all.
func (o *Objective) rank(service, namespace string) int {
	switch {
	case o.Service == "":
		return 1
	case o.Service != service:
		return 0
	case o.Namespace == "":
		return 2
	case o.Namespace == namespace:
		return 3
	}
	return 0
}

// Status returns how a service stands at a time (ns since 1970) against the
// objectives that it has, the worst first. What has no objective has no status.
func (t *Tracker) Status(service, namespace string, now int64) []Status {
	var out []Status
	for i := range t.objectives {
		if c := t.counters[key{i, service, namespace}]; c != nil {
			out = append(out, c.status(&t.objectives[i], now))
		}
	}
	slices.SortStableFunc(out, func(a, b Status) int {
		if a.Severity != b.Severity {
			return int(b.Severity) - int(a.Severity)
		}
		switch {
		case a.Burn > b.Burn:
			return -1
		case a.Burn < b.Burn:
			return 1
		}
		return 0
	})
	return out
}

// Sweep forgets services without a request since a time.
func (t *Tracker) Sweep(before int64) {
	for k, c := range t.counters {
		if c.newest < before {
			delete(t.counters, k)
		}
	}
}

// Len returns how many services and operations are counted, Dropped how many
// requests were not because there were too many.
func (t *Tracker) Len() int { return len(t.counters) }

// Dropped returns how many requests were not counted because there were too many
// services.
func (t *Tracker) Dropped() uint64 { return t.dropped }
