package symptom

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
)

const (
	// Early is how much earlier than its label a failure may begin.
	Early = time.Minute
	// From the first symptom on, at least half of the visits of lasting must show it, and
	// at least least of the first row of them: fewer are chance.
	lasting    = time.Minute
	least, row = 3, 4
	// A feature that nearly all visits of the past have, or hardly any, with at least
	// minPast of them: missing or new, it is a symptom.
	minPast          = 5
	usual, unusual   = 0.95, 0.02
	slowTimes        = 4
	slowBy           = 20 * time.Millisecond
	slowQuantile     = 0.8
	maxFeaturesVisit = 4096
)

// visit is a stay of a request in the service: its entry span with all below it that
// is of the same service.
type visit struct {
	operation  string
	start, end time.Time
	features   map[string]bool
	durations  map[string]time.Duration
	logged     bool
	exceptions []string // that were logged, by type
}

// Past is fault-free telemetry of the same system. It is safe for concurrent use.
type Past struct {
	recordings []dataset.Telemetry
	background map[string]bool // types of exceptions
	mu         sync.Mutex
	known      map[string]map[string][]*visit // by service and operation
}

// NewPast returns a past of these recordings. They must not change.
func NewPast(recordings ...dataset.Telemetry) *Past {
	p := &Past{recordings: recordings, background: map[string]bool{}, known: map[string]map[string][]*visit{}}
	for _, t := range recordings {
		for _, ld := range t.Logs {
			for _, rl := range ld.ResourceLogs().All() {
				for _, sl := range rl.ScopeLogs().All() {
					for _, l := range sl.LogRecords().All() {
						for _, e := range exception.FindAllString(l.Body().AsString(), -1) {
							p.background[e] = true
						}
					}
				}
			}
		}
	}
	return p
}

// foreign tells whether a visit failed as visits fail when nothing is wrong that has a
// label: with exceptions all of which the past knows, of any service.
func (p *Past) foreign(v *visit) bool {
	return len(v.exceptions) > 0 && !slices.ContainsFunc(v.exceptions, func(e string) bool { return !p.background[e] })
}

// of returns the visits of a service in which nothing failed, by operation: what fails
// in the past does not say what is usual.
func (p *Past) of(service string) map[string][]*visit {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known[service]
	if known != nil {
		return known
	}
	known = map[string][]*visit{}
	p.known[service] = known
	for _, t := range p.recordings {
		for _, v := range visits(t, service) {
			if len(v.exceptions) == 0 {
				known[v.operation] = append(known[v.operation], v)
			}
		}
	}
	return known
}

// First returns the start of the first visit of a service, not before the label less
// Early, from which on visits show a symptom; zero when none does. Of visits that a
// failure of the background ended, which the past shows as well, only durations count:
// what they lack is not the labelled failure's doing.
func (p *Past) First(of dataset.Telemetry, service string, label time.Time) time.Time {
	before := p.of(service)
	now := map[string][]*visit{}
	for _, v := range visits(of, service) {
		if !v.start.Before(label.Add(-Early)) {
			now[v.operation] = append(now[v.operation], v)
		}
	}
	var first time.Time
	for operation, list := range now {
		slices.SortFunc(list, func(a, b *visit) int { return a.start.Compare(b.start) })
		own := slices.DeleteFunc(slices.Clone(list), p.foreign)
		steps, slow := symptoms(before[operation], own)
		for _, deviates := range steps {
			first = earlier(first, begin(own, deviates))
		}
		for _, deviates := range slow {
			first = earlier(first, begin(list, deviates))
		}
	}
	return first
}

// earlier returns the earlier of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// begin returns when the first visit started from which on most deviate.
func begin(list []*visit, deviates func(*visit) bool) time.Time {
	for i, v := range list {
		if !deviates(v) {
			continue
		}
		n, k, first := 0, 0, 0
		for _, w := range list[i:] {
			if w.start.Sub(v.start) > lasting {
				break
			}
			n++
			if deviates(w) {
				k++
				if n <= row {
					first++
				}
			}
		}
		if first >= least && 2*k >= n {
			return v.start
		}
	}
	return time.Time{}
}

// symptoms are the ways in which visits can deviate from the past: by their steps, and
// by their durations.
func symptoms(past, now []*visit) (steps, slow []func(*visit) bool) {
	if len(past) < minPast {
		return nil, nil
	}
	counts, durations, fresh := map[string]int{}, map[string][]time.Duration{}, map[string]bool{}
	all, logged := float64(len(past)), 0.0
	for _, v := range past {
		if v.logged {
			logged++
		}
		for f := range v.features {
			counts[f]++
		}
		for m, d := range v.durations {
			durations[m] = append(durations[m], d)
		}
	}
	total := func(f string) float64 {
		if strings.HasPrefix(f, logFeature) {
			return logged
		}
		return all
	}
	for f, n := range counts {
		if total(f) >= minPast && float64(n) >= usual*total(f) {
			steps = append(steps, func(v *visit) bool { return !v.features[f] })
		}
	}
	for _, v := range now {
		for f := range v.features {
			if !fresh[f] && total(f) >= minPast && float64(counts[f]) <= unusual*total(f) {
				fresh[f] = true
				steps = append(steps, func(v *visit) bool { return v.features[f] })
			}
		}
	}
	for m, list := range durations {
		if len(list) < minPast {
			continue
		}
		slices.Sort(list)
		median := list[len(list)/2]
		limit := max(slowTimes*median, median+slowBy)
		if list[int(slowQuantile*float64(len(list)))] > limit {
			continue
		}
		slow = append(slow, func(v *visit) bool { return v.durations[m] > limit })
	}
	return steps, slow
}

// span is a span with what it belongs to.
type span struct {
	service, name string
	id, parent    pcommon.SpanID
	trace         pcommon.TraceID
	start, end    time.Time
}

type spanKey struct {
	trace pcommon.TraceID
	id    pcommon.SpanID
}

// visits takes the telemetry of all services apart into the visits of one.
func visits(t dataset.Telemetry, service string) []*visit {
	spans := map[spanKey]*span{}
	for _, td := range t.Traces {
		for _, rs := range td.ResourceSpans().All() {
			name, _ := rs.Resource().Attributes().Get(event.KeyServiceName)
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					spans[spanKey{s.TraceID(), s.SpanID()}] = &span{
						service: name.AsString(), name: s.Name(), id: s.SpanID(), parent: s.ParentSpanID(), trace: s.TraceID(),
						start: s.StartTimestamp().AsTime(), end: s.EndTimestamp().AsTime(),
					}
				}
			}
		}
	}
	of := map[spanKey]*visit{}
	var out []*visit
	var enter func(s *span, depth int) *visit
	enter = func(s *span, depth int) *visit {
		key := spanKey{s.trace, s.id}
		if v := of[key]; v != nil {
			return v
		}
		parent := spans[spanKey{s.trace, s.parent}]
		if parent != nil && parent.service == service && depth > 0 {
			of[key] = enter(parent, depth-1)
			return of[key]
		}
		v := &visit{operation: s.name, start: s.start, end: s.end, features: map[string]bool{}, durations: map[string]time.Duration{}}
		if parent != nil {
			v.durations["way in"] = parent.end.Sub(parent.start) - s.end.Sub(s.start)
		}
		of[key] = v
		out = append(out, v)
		return v
	}
	const deepest = 100
	called := map[spanKey]bool{}
	for _, s := range spans {
		called[spanKey{s.trace, s.parent}] = true
	}
	for _, s := range spans {
		if s.service == service {
			v := enter(s, deepest)
			v.features["span "+s.name] = true
			if !called[spanKey{s.trace, s.id}] { // what waits for another one is not its own
				v.durations["span "+s.name] = max(v.durations["span "+s.name], s.end.Sub(s.start))
			}
			continue
		}
		if p := spans[spanKey{s.trace, s.parent}]; p != nil && p.service == service {
			v := enter(p, deepest)
			v.features["call "+s.service+" "+s.name] = true
			way := "way to " + s.service + " " + s.name
			v.durations[way] = max(v.durations[way], p.end.Sub(p.start)-s.end.Sub(s.start))
		}
	}
	statements(t, of)
	return out
}

// logFeature begins the features that log records tell of.
const logFeature = "log "

// variable is what differs from record to record of one statement. Of the rest, the
// beginning tells statements apart: what comes late are values.
var variable = regexp.MustCompile(`[0-9a-f]{8,}|[0-9]+`)

var exception = regexp.MustCompile(`[\w.$]*\w(Exception|Error)\b`)

const maxWords = 10

func statement(body string) string {
	words := strings.Fields(variable.ReplaceAllString(body, "*"))
	return strings.Join(words[:min(len(words), maxWords)], " ")
}

func statements(t dataset.Telemetry, of map[spanKey]*visit) {
	for _, ld := range t.Logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, l := range sl.LogRecords().All() {
					if v := of[spanKey{l.TraceID(), l.SpanID()}]; v != nil && len(v.features) < maxFeaturesVisit {
						v.logged = true
						v.exceptions = append(v.exceptions, exception.FindAllString(l.Body().AsString(), -1)...)
						v.features[logFeature+statement(l.Body().AsString())] = true
					}
				}
			}
		}
	}
}
