// Package engine runs the steps in order: it reads the ring, keeps baselines and
// hurt requests, offers causes and effects to hypotheses, and hands out findings.
// One goroutine does all of it; decoding happens on the goroutines that deliver
// the data.
package engine

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/decode"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/emit"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/ring"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/slo"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/tail"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/template"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

const (
	// settleAfter is how long a hurt request is waited for: its spans come from
	// several SDKs, each with an export delay of its own.
	settleAfter = 2 * time.Second
	// tick is how often the engine looks at its clock when nothing arrives.
	tick = 250 * time.Millisecond
	// reviseEvery is the least time between two revisions of one finding. Where only
	// numbers changed, it is a reviseShare of how long it has been followed, up to
	// reviseAtLeastEvery: numbers that are late by that are hardly wrong.
	reviseEvery        = time.Second
	reviseShare        = 60
	reviseAtLeastEvery = 30 * time.Second
	// sayEvery is how much later than it said an incident has an effect before it says so
	// though nothing else changed: after a restart it counts when that was.
	sayEvery = time.Minute
	// occurrenceShare is the part of MaxDetails that bounds the events kept of each name.
	occurrenceShare = 4
	// sweepEvery is how often what is old is forgotten.
	sweepEvery = 10 * time.Second
	// readBatch is how many records are taken from the ring at once.
	readBatch = 512
)

// Options configure an engine. All must be set.
type Options struct {
	// Window is how far back causes and effects are looked for, Retention how long
	// entities and resolved incidents are remembered, Quiet how long after its last
	// effect an incident is resolved.
	Window, Retention, Quiet time.Duration
	MinScore                 float64
	Weights                  explain.Weights
	Impact                   decode.Options
	// Bounds.
	RingCapacity, MaxDetails, MaxEntities, MaxRequests, MaxIncidents, MaxTraces, MaxCauseSpans int
	Patterns                                                                                   []*pattern.Pattern
	// Records are the conditions of the patterns on whole records, nil for none.
	Records *pattern.Records
	// Visits configure the judge of visits, Gauges judges resource metrics.
	Visits visit.Options
	Gauges *gauge.Tracker
	// Objectives are valid service level objectives.
	Objectives []slo.Objective
	// Now is the clock. EventTime replaces it by the time of the newest item: for
	// replays, which deliver in order of event time and wait for the outcome.
	Now       func() time.Time
	EventTime bool
	Logger    *zap.Logger
}

// Sink takes what the engine finds. Its methods are called from the engine's
// goroutine, one at a time.
type Sink interface {
	// Finding takes one revision, as it is, as a log record, and with the spans
	// that are new with it.
	Finding(f *finding.Finding, log plog.Logs, spans ptrace.Traces)
}

// Counters are the engine's losses and sizes; safe to read at any time.
type Counters struct {
	Spans, Logs, Points, PointsIgnored, SeriesRefused, Skipped, Invalid, Unevaluated, Lost, Late, Duplicates, Ungrouped atomic.Int64
	RequestsHeld, RequestsEvicted, SpansCut                                                                             atomic.Int64
	OccurrencesHeld, OccurrencesEvicted                                                                                 atomic.Int64
	IncidentsOpen, IncidentsDropped, Operations                                                                         atomic.Int64
	HostsDropped, UnitsHeld, BaselinesDropped                                                                           atomic.Int64
}

// Engine correlates. Traces and Logs are safe for concurrent use.
type Engine struct {
	options  Options
	Counters Counters
	graph    *topology.Graph
	ring     *ring.Ring
	details  *ring.Details
	decoder  *decode.Decoder
	texts    *pattern.LogTexts // nil when no pattern looks for any
	named    map[string]bool   // the events that patterns name
	wake     chan struct{}
	batches  sync.Pool
	visited  intake
	gauges   *gauge.Tracker
	slos     *slo.Tracker
	miner    *template.Miner
	tails    *tail.Tails
	jobs     chan job
	ended    chan struct{}
	clock    atomic.Int64 // event time, where that is the clock
	caughtUp atomic.Int64 // when the last look began that judged all that had arrived

	// What follows belongs to the goroutine of Run.
	sink        Sink
	processor   string // whose findings these are, once somebody keeps them
	cursor      uint64
	batch       []record.Event
	baselines   *detect.Baselines
	requests    *detect.Requests
	occurrences *detect.Occurrences
	uses        uses              // how long occurrences are kept
	shortSaid   int64             // when it was logged last that too many come
	waiting     []*detect.Request // hurt requests that are not settled, oldest first
	groups      map[groupKey]*group
	grouped     int // requests in all groups
	incidents   []*open
	resolved    []*open // kept for a while: the same cause is the same incident
	hosts       map[record.EntityID]*kernel
	lastSweep   int64
	newest      int64           // the newest event time
	drained     int64           // the engine's time at the last read of the ring
	answered    *detect.Answers // who took requests when: not the dead
	hurtAt      *detect.Answers // at whom requests went wrong when
	visits      *visit.Analyzer
	judged      int64                       // when visits were judged last
	suspects    []visit.Suspect             // what that said
	gauged      int64                       // when metrics were judged last
	announced   map[gauge.Key]bool          // anomalies that lasted at the last judgement
	scored      map[record.EntityID]float64 // services with an abnormal resource
	slow        []slowService               // services whose metrics say that requests are slow
	predicted   map[gauge.Key]*open         // warnings that are open
	grows       []grown                     // those of processes that the kernel sees grow
	units       map[record.EntityID]unitState
}

// open is an incident and what of it has left.
type open struct {
	*incident.Incident
	emitted emit.Emitted
	revised int64 // the engine's time of the last revision
	said    int64 // the last effect that it told of
	since   int64 // when this engine began to revise it, or it began anew
	told    gist  // the last revision
	// peak and rival are the highest scores of the cause's service and of another one
	// while the incident was open, where statistics name the cause.
	peak, rival float64
	// traced says that it was looked where its cause came from, since it hurt somebody.
	traced bool
	// spares is the service that a node's cause does not hurt, 0 for none (see judgeNodes).
	spares record.EntityID
}

// gist is what of a revision is news at once when it changes: all but numbers.
type gist struct {
	pattern, event  string
	entity          record.EntityID
	predicted, over bool
	shown           explain.Shown
	score           float64
}

// gist is what the next revision would say.
func (o *open) gist(w explain.Weights) gist {
	h := o.Hypothesis
	return gist{h.Pattern.ID, h.Cause.Event, h.Cause.Entity, o.Predicted(), o.Resolved(), h.Shown(), h.Confidence(w).Score}
}

// moved is the least change of a confidence that is news at once: what people see of it.
const moved = 0.01

// news tells whether a revision says more than other numbers.
func (g gist) news(last gist) bool {
	if math.Abs(g.score-last.score) >= moved {
		return true
	}
	g.score = last.score
	return g != last
}

// pause is how long after its last revision an incident whose numbers changed has its next.
func (o *open) pause(now int64) int64 {
	return min(max((now-o.since)/reviseShare, int64(reviseEvery)), int64(reviseAtLeastEvery))
}

// New returns an engine. Run must be called for anything to be found.
func New(o Options) *Engine {
	e := &Engine{
		options: o,
		graph:   topology.New(topology.Limits{Entities: o.MaxEntities, OperationsPerService: maxOperations}),
		ring:    ring.New(o.RingCapacity),
		wake:    make(chan struct{}, 1),
		jobs:    make(chan job), ended: make(chan struct{}),
		batch:    make([]record.Event, readBatch),
		requests: detect.NewRequests(o.MaxRequests), occurrences: detect.NewOccurrences(o.MaxDetails / occurrenceShare),
		groups: map[groupKey]*group{}, answered: detect.NewAnswers(), hurtAt: detect.NewAnswers(), hosts: map[record.EntityID]*kernel{},
		announced: map[gauge.Key]bool{}, scored: map[record.EntityID]float64{}, predicted: map[gauge.Key]*open{},
		units: map[record.EntityID]unitState{},
	}
	if o.EventTime {
		e.options.Now = func() time.Time { return time.Unix(0, e.clock.Load()) }
	}
	e.details = ring.NewDetails(e.ring, o.MaxDetails)
	e.tails = tail.New()
	e.visits, e.miner = visit.New(o.Visits), template.New(maxTemplates)
	e.gauges = o.Gauges
	e.slos, _ = slo.New(o.Objectives, e.served) // they are valid
	e.decoder = decode.New(e.graph, e.details, o.Impact, decode.Visits{Wants: e.visits.Wants, Miner: e.miner}, e.options.Now)
	e.decoder.Tails(e.tails)
	e.baselines = detect.NewBaselines(min(o.MaxEntities, maxBaselines), e.graph.SetSlowOver)
	e.uses, e.named = newUses(o.Window, o.Patterns), pattern.Named(o.Patterns)
	if texts := pattern.TextsOf(o.Patterns); texts != nil {
		e.decoder.Texts(pattern.Log, texts.Find)
		e.texts = texts
	}
	if o.Records != nil {
		e.decoder.Test(pattern.Log, o.Records)
	}
	e.batches.New = func() any { return &decode.Batch{} }
	return e
}

// maxTemplates bounds the statements of log records that are told apart.
const maxTemplates = 20_000

// maxBaselines bounds the operations whose past is kept: 5.5 KB each.
const maxBaselines = 20_000

// maxOperations bounds the span names of one service.
const maxOperations = 1000

// Traces takes in spans. It does not change or keep td.
func (e *Engine) Traces(td ptrace.Traces) {
	take := func() {
		e.take(&e.Counters.Spans, func(b *decode.Batch) decode.Counts { return e.decoder.Traces(td, b) })
	}
	if e.options.EventTime {
		e.inEventTime(newestSpan(td), take)
		return
	}
	take()
}

// Logs takes in log records. It does not change or keep ld.
func (e *Engine) Logs(ld plog.Logs) {
	take := func() {
		e.take(&e.Counters.Logs, func(b *decode.Batch) decode.Counts { return e.decoder.Logs(ld, b) })
	}
	if e.options.EventTime {
		e.inEventTime(newestLog(ld), take)
		return
	}
	take()
}

func (e *Engine) take(in *atomic.Int64, read func(*decode.Batch) decode.Counts) {
	b := e.batches.Get().(*decode.Batch)
	b.Reset()
	counts := read(b)
	in.Add(int64(counts.Decoded))
	e.Counters.Skipped.Add(int64(counts.Skipped))
	e.Counters.Invalid.Add(int64(counts.Invalid))
	e.Counters.Unevaluated.Add(int64(counts.Unevaluated))
	e.visited.put(b)
	e.ring.Append(b.Events)
	e.batches.Put(b)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Ring returns the ring, Graph the topology, Details the details: for metrics.
func (e *Engine) Ring() *ring.Ring { return e.ring }

// Now returns the time of the engine's clock.
func (e *Engine) Now() time.Time { return e.options.Now() }

// Graph returns the topology.
func (e *Engine) Graph() *topology.Graph { return e.graph }

// Details returns the store of details.
func (e *Engine) Details() *ring.Details { return e.details }

// Gauges returns the judge of resource metrics, Visits the sizes and losses of that
// of visits.
func (e *Engine) Gauges() *gauge.Tracker { return e.gauges }

// Visits returns the sizes and losses of the judge of visits.
func (e *Engine) Visits() *visit.Counters { return &e.visits.Counters }

// VisitsDropped returns how many spans and log records the judge of visits lost.
func (e *Engine) VisitsDropped() int64 {
	c := &e.visits.Counters
	return c.Late.Load() + c.Duplicates.Load() + c.Cut.Load() + c.Evicted.Load() + c.Dropped.Load() + e.visited.dropped.Load()
}

// StatementsForgotten returns how many statements of log records made room for others, and
// how many names were not told apart because there were too many.
func (e *Engine) StatementsForgotten() int64 { return int64(e.miner.Evicted()) }

// Tails returns the last log records of those who write some.
func (e *Engine) Tails() *tail.Tails { return e.tails }

// Statements returns how many statements of log records are told apart.
func (e *Engine) Statements() int { return e.miner.Len() }

// Capacities are the bounds of what the engine holds.
func (e *Engine) Capacities() map[string]int {
	return map[string]int{
		"events": e.ring.Capacity(), "details": e.options.MaxDetails, "entities": e.options.MaxEntities,
		"requests": e.options.MaxRequests, "incidents": e.options.MaxIncidents,
		"statements": maxTemplates, "tails": tail.Capacity, "units": maxUnits, "series": e.gauges.Sizes().Capacity,
	}
}

// Flush handles what has arrived and writes all revisions that are due or not; it
// returns when the sink has them, when Run has ended or when ctx is done. In event
// time nothing more is waited for: what needs time to settle gets it.
func (e *Engine) Flush(ctx context.Context) {
	e.onRun(ctx, e.finish)
}

func (e *Engine) finish() {
	e.Drain()
	switch {
	case !e.options.EventTime:
		e.settle(e.now() + int64(settleAfter)) // nobody waits any more
	case e.clock.Load() > 0:
		e.advanceTo(e.clock.Load() + int64(settled))
	}
	e.flush(true)
}

// Run works until ctx is done, then handles what has arrived, writes the last
// revisions and returns.
func (e *Engine) Run(ctx context.Context, sink Sink) {
	e.sink = sink
	defer close(e.ended)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var advanced int64
	for {
		select {
		case <-e.wake:
		case <-ticker.C:
		case j := <-e.jobs:
			j.do()
			close(j.done)
		case <-ctx.Done():
			e.Drain()
			e.flush(true)
			return
		}
		if e.options.EventTime {
			continue // whoever delivers moves the clock
		}
		e.Drain()
		// Time's own work needs no more than the clock's resolution, however often
		// data arrives.
		if now := e.now(); now-advanced >= int64(tick) || now < advanced {
			advanced = now
			e.Advance()
		}
	}
}

// Drain handles all records that have arrived.
func (e *Engine) Drain() {
	begun, warned := e.now(), false
	if e.caughtUp.Load() == 0 {
		e.caughtUp.Store(begun) // the first look: nothing has waited before it
	}
	e.visited.take(e.visits)
	// Not what arrives meanwhile: time has its own work to do.
	for head := e.ring.Head(); e.cursor < head; {
		n, next, lost := e.ring.Read(e.cursor, e.batch)
		e.cursor = next
		e.drained = e.now()
		e.Counters.Lost.Add(int64(lost))
		for i := range n {
			e.handle(&e.batch[i])
		}
		if !warned && !e.options.EventTime && e.Lag() > behindAfter { // by this look, or by what time had to do before it
			warned = true
			e.options.Logger.Warn("More arrives than can be judged: findings come late, and what is overwritten before it was read is lost; see processor_tapiocorrelation_lag",
				zap.Uint64("waiting", head-e.cursor), zap.Duration("behind", e.Lag()))
		}
	}
	e.caughtUp.Store(begun)
	if warned {
		e.options.Logger.Info("What had arrived is judged", zap.Duration("behind", e.Lag()))
	}
	e.flush(false)
}

// behindAfter is how long a look at what has arrived takes before that is worth a warning.
const behindAfter = 10 * time.Second

// Lag returns how long ago the last look began that judged all that had arrived, 0 before
// the first: what has arrived since may wait for so long.
func (e *Engine) Lag() time.Duration {
	begun := e.caughtUp.Load()
	if begun == 0 {
		return 0
	}
	return time.Duration(max(e.now()-begun, 0))
}

// handle takes one record through detection.
func (e *Engine) handle(r *record.Event) {
	e.newest = max(e.newest, r.Time)
	switch r.Kind {
	case record.KindSpan, record.KindAnswer, record.KindReached, record.KindSlowSpan, record.KindFailedSpan:
		// A clock that is ahead must not fill the buckets of the future.
		e.baselines.Observe(r.Object, min(r.Time, e.drained), r.Value, r.Kind == record.KindFailedSpan)
		e.slos.Observe(r.Object, min(r.Time, e.drained), r.Value, r.Kind == record.KindFailedSpan)
		switch r.Kind {
		case record.KindAnswer:
			e.answers(r)
		case record.KindReached:
			e.answered.Add(r.Subject, min(r.Time, e.drained))
		case record.KindSlowSpan, record.KindFailedSpan:
			e.hurt(r)
		}
	case record.KindEvent:
		d := e.details.Get(r.Detail)
		if d != nil {
			e.unitState(d.Name, r.Subject, r.Time)
		}
		if d != nil && !e.late(r) {
			e.occur(&detect.Occurrence{Name: d.Name, Time: r.Time, TraceID: r.TraceID, Subject: r.Subject, Detail: d})
		}
	}
}

// late tells whether a record is older than anything it could explain.
func (e *Engine) late(r *record.Event) bool {
	if r.Time >= e.now()-int64(e.options.Window) {
		return false
	}
	e.Counters.Late.Add(1)
	return true
}

// latest is the newest event time, but never in the future: one host whose clock
// is ahead must not make the events of all others seem old.
func (e *Engine) latest() int64 { return min(e.newest, e.now()) }

func (e *Engine) now() int64 { return e.options.Now().UnixNano() }

// answers notes that somebody took a request, and for which operation, whatever became of it.
func (e *Engine) answers(r *record.Event) {
	at := min(r.Time-r.Value, e.drained)
	e.answered.Add(r.Subject, at)
	e.answered.Add(r.Object, at)
}

// aliveAfter tells whether a target took a request after something happened to it,
// and not after the failure that this might explain.
func (e *Engine) aliveAfter(t explain.Target, happened, failure int64) bool {
	return e.took(t, happened+explain.Slack, failure)
}

// wellFor is for how long nothing goes wrong at one that is well again.
const wellFor = 10 * time.Second

// wellBefore tells whether a target was well between a failure and a later cause, of which
// it is no effect then, however late such may be told: it took requests, and for a while
// none went wrong. One that starts over after the cause has served nobody since it began.
func (e *Engine) wellBefore(p *pattern.Pattern, cause int64, t explain.Target, failure int64) bool {
	until := cause - explain.Slack
	return p.StartsOver.Event != "" && failure < until && e.took(t, failure, until) &&
		!slices.ContainsFunc(e.witnesses(t), func(id record.EntityID) bool { return !e.hurtAt.Pauses(id, failure, until, wellFor) })
}

// took tells whether a target took a request after a time and not after another: of a pod
// that has an address, who was answered there says so, too.
func (e *Engine) took(t explain.Target, after, until int64) bool {
	return slices.ContainsFunc(e.witnesses(t), func(id record.EntityID) bool { return e.answered.Between(id, after, until) })
}

// witnesses are those whose answers say that a target takes requests: at a loopback address
// nobody else answers.
func (e *Engine) witnesses(t explain.Target) []record.EntityID {
	if t.Holder != 0 && t.Holder == t.Process || t.Address != 0 && e.graph.Loopback(t.Address) {
		return []record.EntityID{cmp.Or(t.Process, t.Service), t.Address}
	}
	return []record.EntityID{cmp.Or(t.Process, t.Service)}
}

// well tells whether a target took a request between the cause of a hypothesis, or an
// effect by which that came to the target later, and a failure; or before the cause.
func (e *Engine) well(h *explain.Hypothesis, t explain.Target, failure int64) bool {
	if e.wellBefore(h.Pattern, h.Cause.Time, t, failure) {
		return true
	}
	last, reached := h.Last(), h.ReachedAt(t.Process)
	if reached <= last {
		return e.aliveAfter(t, last, failure)
	}
	return e.aliveAfter(t, min(reached, failure), max(reached, failure))
}

// hurt adds a failed or slow span to its request.
func (e *Engine) hurt(r *record.Event) {
	d := e.details.Get(r.Detail)
	if d == nil || d.Span == nil || r.TraceID == (record.TraceID{}) || e.late(r) {
		return
	}
	if d.Span.Kind == record.SpanServer {
		e.answers(r)
	}
	if d.Span.Peer != 0 && (!d.Span.Failed || d.Span.HTTPStatus != 0) {
		e.answered.Add(d.Span.Peer, min(r.Time, e.drained))
	}
	now := e.now()
	span := detect.HurtSpan{Span: d.Span, Subject: r.Subject}
	request, added := e.requests.Add(r.TraceID, span, now)
	if !added {
		return
	}
	if i := incident.Of(request); i != nil {
		i.AddSpan(request, span)
		for _, other := range incident.Shared(request) {
			other.AddSpan(request, span)
		}
		return
	}
	if len(request.Spans) == 1 {
		if len(e.waiting) >= e.options.MaxRequests {
			e.settle(now + int64(settleAfter)) // too many to wait for: take them as they are
		}
		e.waiting = append(e.waiting, request)
	}
	// A refused connection is the end of its branch: nothing deeper can follow.
	if _, origin := explain.TargetOf(e.graph, request); origin.Failure == record.FailureRefused {
		e.assign(request)
	}
}

// Advance does what time alone brings about: requests settle, quiet incidents are
// resolved, the old is forgotten.
func (e *Engine) Advance() {
	now := e.now()
	e.settle(now)
	e.judgeGauges(now)
	e.withdrawGrowth(now)
	e.judgeVisits(now)
	e.judgeGroups(now)
	e.traceBack()
	for _, o := range e.incidents {
		e.quote(o, now)
		if o.Hypothesis.Lasted(now) {
			o.Dirty = true
		}
		e.end(o, now)
	}
	e.flush(false)
	if now-e.lastSweep >= int64(sweepEvery) || now < e.lastSweep {
		e.lastSweep = now
		e.sweep(now)
	}
}

// traceBack looks where the cause of an incident came from that hurt nobody at first: what
// makes a finding only with requests can be that, now that it has some.
func (e *Engine) traceBack() {
	for _, o := range slices.Clone(e.incidents) {
		if c := o.Hypothesis.Cause.Occurrence; !o.traced && c != nil && o.Hypothesis.Pattern.MayLast(c.Detail) && o.HasHurt() {
			o.traced = true
			e.spreadFrom(c)
		}
	}
}

// end resolves an incident that is over, and makes one that goes on say so now and then.
func (e *Engine) end(o *open, now int64) {
	h := o.Hypothesis
	e.wellAgain(o)
	last := max(h.LastEffect, h.Cause.Time, h.OverSince())
	switch {
	case o.Resolved():
	case o.Predicted():
		e.forgotten(o, now)
	case o.Emitted() && h.Settled(now):
		o.Resolve(last, e.whyOver(h))
	case now-max(last, h.Resumed()) > e.quiet(o):
		o.Resolve(last, e.whyQuiet(o))
	case h.LastEffect-o.said > int64(sayEvery):
		o.Dirty = true
	}
}

// settle assigns the requests that nothing was added to for a while.
func (e *Engine) settle(now int64) {
	kept := e.waiting[:0]
	for _, r := range e.waiting {
		if age := now - r.Changed; age >= 0 && age < int64(settleAfter) { // below 0: the clock was set back
			kept = append(kept, r)
			continue
		}
		r.Settled = true
		if i := incident.Of(r); i != nil {
			i.Count(r)
			for _, other := range incident.Shared(r) {
				other.Count(r)
			}
		} else {
			e.assign(r)
		}
	}
	clear(e.waiting[len(kept):])
	e.waiting = kept
}

// flush hands out the incidents that have something new to say. At the end, all
// does not wait for the interval between revisions.
func (e *Engine) flush(all bool) {
	now := e.now()
	kept := e.incidents[:0]
	for _, o := range e.incidents {
		if o.Dirty && (all || e.due(o, now)) && (o.Emitted() || o.Ready(e.options.MinScore)) {
			e.revise(o, now)
		}
		if o.Resolved() {
			e.retire(o)
		} else {
			kept = append(kept, o)
		}
	}
	clear(e.incidents[len(kept):])
	e.incidents = kept
	e.Counters.IncidentsOpen.Store(int64(len(kept)))
}

// due tells whether an incident that has something new to say can do so now.
func (e *Engine) due(o *open, now int64) bool {
	if o.Resolved() || !o.Emitted() || now < o.revised {
		return true
	}
	age := now - o.revised
	return age >= int64(reviseEvery) && (age >= o.pause(now) || o.gist(e.options.Weights).news(o.told))
}

func (e *Engine) revise(o *open, now int64) {
	o.revised, o.said, o.told = now, o.Hypothesis.LastEffect, o.gist(e.options.Weights)
	o.since = cmp.Or(o.since, now)
	o.Rejected, o.Notes = e.alternatives(o), e.missingReceivers(o)
	if o.Hypothesis.Cause.Occurrence == nil {
		o.Notes = append(o.Notes, e.missingEvents()...)
	}
	o.Hypothesis.Quote(e.tails)
	if !o.told.over { // what fails later says nothing of it
		o.Hypothesis.FailedUnits = e.failedUnits(e.hostOf(o.Hypothesis), o.Hypothesis.Began())
	}
	e.stakes(o, now)
	e.send(o.Finding(now), &o.emitted)
}

// send hands out one revision.
func (e *Engine) send(f *finding.Finding, emitted *emit.Emitted) {
	log, err := emit.Log(f, e.options.Now())
	if err != nil {
		e.options.Logger.Error("a finding cannot be written as a log record", zap.Error(err))
		return
	}
	e.sink.Finding(f, log, emitted.Traces(f, e.options.MaxCauseSpans))
}

// keep makes the topology remember whom incidents are about: an outage of hours is
// still the same one.
func (e *Engine) keep(now int64) {
	for _, list := range [][]*open{e.incidents, e.resolved} {
		for _, o := range list {
			e.graph.Touch(now, o.Hypothesis.Entities()...)
			e.graph.Touch(now, o.Hypothesis.Addresses()...)
			e.graph.Touch(now, o.Hypothesis.Service)
		}
	}
	e.keepUnits(now)
}

func (e *Engine) sweep(now int64) {
	window := now - int64(e.options.Window)
	e.forgetResolved(now - int64(e.options.Retention))
	e.requests.Sweep(window)
	e.occurrences.Sweep(now)
	e.sayShort(now)
	e.gauges.Sweep(now - int64(e.options.Retention))
	e.slos.Sweep(now - int64(slo.MaxWindow))
	e.tails.Sweep(window)
	e.keep(now)
	e.graph.Sweep(now - int64(e.options.Retention))
	e.answered.Sweep(now - int64(e.options.Retention))
	e.hurtAt.Sweep(now - int64(e.options.Retention))
	e.baselines.Sweep(now-int64(e.options.Retention), e.graph.Known)
	e.grouped = 0
	for key, g := range e.groups {
		if !g.sweep(window) {
			delete(e.groups, key)
		}
		e.grouped += len(g.requests)
	}
	for id, k := range e.hosts {
		if _, ok := e.graph.Entity(id); !ok && k.at < now-int64(e.options.Retention) {
			delete(e.hosts, id)
		}
	}
	c := &e.Counters
	c.RequestsHeld.Store(int64(e.requests.Len()))
	c.RequestsEvicted.Store(int64(e.requests.Evicted()))
	c.SpansCut.Store(int64(e.requests.Cut()))
	c.OccurrencesHeld.Store(int64(e.occurrences.Len()))
	c.OccurrencesEvicted.Store(int64(e.occurrences.Evicted()))
	c.Operations.Store(int64(e.baselines.Len()))
	c.BaselinesDropped.Store(int64(e.baselines.Dropped()))
}
