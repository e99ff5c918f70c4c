package visit

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Span is a span as far as visits need it.
type Span struct {
	Trace      record.TraceID
	ID, Parent record.SpanID
	// Service is whose span it is. Instance is which pod or process of it, 0 when
	// unknown.
	Service, Instance record.EntityID
	// Operation is the interned pair of service, kind and name of the span.
	Operation record.EntityID
	// Name is the number of the span's name, the same in all services (see
	// template.Miner.Name), 0 when unknown: an unusual span that arises in several
	// services, such as a framework's error handler, is none of theirs.
	Name uint32
	Kind record.SpanKind
	// Start and End are in ns since 1970 UTC.
	Start, End int64
	Failed     bool
	// Waits: how long it takes says nothing, for it waits on purpose.
	Waits bool
}

// Log is a log record as far as visits need it.
type Log struct {
	Trace record.TraceID
	// Span is zero when the record does not say in which span it was written.
	Span              record.SpanID
	Service, Instance record.EntityID
	// Template is the number of the statement, Variant that of its wording, Exception
	// that of the exception type that it names; the last two are 0 for none (see
	// package template).
	Template, Variant, Exception uint32
	// Time is in ns since 1970 UTC.
	Time int64
	// Severity is the OpenTelemetry severity number, 0 when unknown.
	Severity uint8
}

// Options bound an analyzer. The zero value of each field means its default.
type Options struct {
	// Window is how long the present is: what is judged. Default 60 s; 30 to 120 s
	// did equally well on the labelled cases.
	Window time.Duration
	// Idle is how long nothing of a trace must arrive until it is complete, at most: less
	// once its root span is there and the rest of others like it used to follow sooner.
	// Default 10 s, which is what SDKs and agents take to export.
	Idle time.Duration
	// MaxTracesPerSecond is how many traces are looked at; above it they are sampled
	// by trace id. Default 20, which gives every minute 1200 traces.
	MaxTracesPerSecond int
	// MaxOpen bounds the traces that are not complete. Default 10,000.
	MaxOpen int
	// MaxSpans and MaxLogs bound what is kept of one open trace. Default 2,000 each.
	MaxSpans, MaxLogs int
	// MaxOperations bounds the operations with a past. Default 10,000.
	MaxOperations int
	// MaxMeasures bounds the durations with a past (edges, leaf spans, own times).
	// Default 20,000 of 0.5 KB.
	MaxMeasures int
	// Forget is after what time an operation that was not seen is forgotten.
	// Default 6 h.
	Forget time.Duration
	// Accept is after what time a change that stays is the new normal. Default
	// 30 min.
	Accept time.Duration
}

func (o *Options) defaults() {
	set(&o.Window, time.Minute)
	set(&o.Idle, 10*time.Second)
	set(&o.MaxTracesPerSecond, 20)
	set(&o.MaxOpen, 10_000)
	set(&o.MaxSpans, 2_000)
	set(&o.MaxLogs, 2_000)
	set(&o.MaxOperations, 10_000)
	set(&o.MaxMeasures, 20_000)
	set(&o.Forget, 6*time.Hour)
	set(&o.Accept, 30*time.Minute)
}

func set[T int | time.Duration](v *T, standard T) {
	if *v <= 0 {
		*v = standard
	}
}

// Counters are an analyzer's sizes and losses; safe to read at any time.
type Counters struct {
	// Open traces, operations and measures with a past, traces in the window.
	Open, Operations, Measures, Window atomic.Int64
	// Late are spans and log records of traces that were judged already,
	// Duplicates those that were there, Cut those beyond a trace's bounds, Evicted
	// the traces that were dropped unfinished, Dropped what found no room in a
	// bounded table.
	Late, Duplicates, Cut, Evicted, Dropped atomic.Int64
}

// Analyzer compares the visits of the last minute with those before.
type Analyzer struct {
	options  Options
	Counters Counters
	sampler  sampler
	now      int64
	open     map[record.TraceID]*trace
	free     []*trace
	done     doneSet
	swept    int64

	operations map[record.EntityID]*operation
	measures   map[measureKey]*measure
	window     []completed               // oldest first
	feeds      map[record.EntityID]*feed // of services and instances
	mark       int64                     // the newest log record of all
	torn       torn
	exceptions map[exception]origins
	resources  map[record.EntityID]resource
	outcries   map[record.EntityID]*outcries // of services
	answers    map[record.EntityID]*answer   // of client spans, by operation
	build      builder
	judge      judge
}

// exception is a statement with the exception type that it named, or the name of
// an unusual span, with no statement.
type exception struct{ statement, name uint32 }

// answer is what is below client spans of one operation.
type answer struct {
	by   record.EntityID // spans of one operation, 0 when there are several
	n, k float64         // spans that ended well, and those of them with one below
	seen int64
}

// origins are the services in which an exception arose: in which it was logged, with
// none in a visit below.
type origins struct {
	first record.EntityID
	more  int64 // since when it arises in others as well, 0 when it does not
	seen  int64
}

// resource is the newest metric anomaly of a service.
type resource struct {
	z  float64
	at int64
}

// New returns an analyzer without a past.
func New(o Options) *Analyzer {
	o.defaults()
	a := &Analyzer{
		options: o, open: map[record.TraceID]*trace{}, operations: map[record.EntityID]*operation{},
		measures: map[measureKey]*measure{}, feeds: map[record.EntityID]*feed{}, exceptions: map[exception]origins{},
		resources: map[record.EntityID]resource{}, outcries: map[record.EntityID]*outcries{}, answers: map[record.EntityID]*answer{},
	}
	a.sampler.init(o.MaxTracesPerSecond)
	a.done.init(2 * o.MaxOpen)
	a.build.init()
	return a
}

// Wants tells whether spans and log records of a trace are looked at. It spares
// the caller to prepare those that are not, and is safe for concurrent use.
func (a *Analyzer) Wants(id record.TraceID) bool { return a.sampler.wants(hash(id)) }

// Sampled returns the share of traces that is looked at, in (0, 1].
func (a *Analyzer) Sampled() float64 { return a.sampler.share() }

// Span takes in a span.
func (a *Analyzer) Span(s Span) {
	t := a.trace(s.Trace, s.End)
	if t == nil {
		return
	}
	if s.End < s.Start || s.Service == 0 || s.Operation == 0 || len(t.spans) >= a.options.MaxSpans {
		t.cut = true
		a.Counters.Cut.Add(1)
		return
	}
	if s.Parent == (record.SpanID{}) && t.root == 0 {
		t.root, t.ended = s.Operation, a.now
	}
	t.spans = append(t.spans, s)
}

// Log takes in a log record.
func (a *Analyzer) Log(l Log) {
	a.arrived(&l)
	a.errorLog(&l)
	t := a.trace(l.Trace, l.Time)
	if t == nil {
		return
	}
	if l.Service == 0 || l.Template == 0 || len(t.logs) >= a.options.MaxLogs {
		a.Counters.Cut.Add(1)
		return
	}
	t.logs = append(t.logs, l)
}

// Arrived notes that log records of a service and instance arrive up to a time in
// ns: a statement can only be missed where the feed is known to work. Log does it
// too; for records of traces that are not looked at, only this is needed.
func (a *Analyzer) Arrived(service, instance record.EntityID, at int64) {
	a.arrived(&Log{Service: service, Instance: instance, Time: at})
}

func (a *Analyzer) arrived(l *Log) {
	a.mark = max(a.mark, l.Time)
	for _, id := range [2]record.EntityID{l.Service, l.Instance} {
		if id == 0 {
			continue
		}
		f := a.feeds[id]
		if f == nil {
			if len(a.feeds) >= 4*a.options.MaxOperations {
				a.Counters.Dropped.Add(1)
				continue
			}
			f = &feed{}
			a.feeds[id] = f
		}
		f.add(l.Time)
	}
}

// Resource reports how abnormal a metric of a service is: z is 0 when it is as
// ever. It counts until the next report, for at most three windows.
func (a *Analyzer) Resource(service record.EntityID, z float64, at int64) {
	if service == 0 || math.IsNaN(z) {
		return
	}
	if _, ok := a.resources[service]; !ok && len(a.resources) >= a.options.MaxOperations {
		a.Counters.Dropped.Add(1)
		return
	}
	a.resources[service] = resource{z, at}
}

// trace returns the open trace, nil when the item is not looked at.
func (a *Analyzer) trace(id record.TraceID, at int64) *trace {
	if id == (record.TraceID{}) {
		return nil
	}
	h := hash(id)
	if !a.sampler.wants(h) {
		return nil
	}
	if a.now == 0 {
		a.now = at
	}
	t := a.open[id]
	if t != nil {
		t.last = a.now
		return t
	}
	if root, done := a.done.get(h); done {
		a.tooSoon(root)
		return nil
	}
	if len(a.open) >= a.options.MaxOpen {
		a.Counters.Evicted.Add(1)
		return nil
	}
	a.sampler.opened(a.now)
	if n := len(a.free); n > 0 {
		t, a.free = a.free[n-1], a.free[:n-1]
	} else {
		t = &trace{}
	}
	*t = trace{id: id, hash: h, opened: a.now, last: a.now, spans: t.spans[:0], logs: t.logs[:0]}
	a.open[id] = t
	a.Counters.Open.Store(int64(len(a.open)))
	return t
}
