package replay

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

const (
	// slice is how much event time is handed on at once: as often as the engine looks
	// at its clock. Slices begin at multiples of it, whatever the recording.
	slice = int64(250 * time.Millisecond)
	// DefaultMaxHeld bounds the items that a buffer holds: about 1 GB of spans.
	DefaultMaxHeld = 1 << 20
	// maxAhead is how far after now an item may have happened, as for the engine: a
	// recording is of the past, and one wrong clock must not make all else late.
	maxAhead = 5 * time.Minute
)

// Sink takes slices in the order of event time.
type Sink interface {
	ConsumeTraces(ctx context.Context, td ptrace.Traces) error
	ConsumeLogs(ctx context.Context, ld plog.Logs) error
	ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error
}

// Counts are what became of the items of a recording.
type Counts struct {
	// Spans, Records and Points were read and had a usable time.
	Spans, Records, Points int64
	// Invalid items had no time (a span: no end) or one in the future, and were
	// left out.
	Invalid int64
	// Late items are older than what had already been handed on. They are handed on
	// next, out of order: the processor may count them as late too.
	Late int64
	// Other messages hold signals that the processor does not take: profiles.
	Other int64
	// Crowded counts how often items were handed on early because more than the
	// bound were held; what belongs before them is late then.
	Crowded int64
}

// Buffer sorts what it is given by event time: the end of a span, the time of a
// log record (when it was observed if it has none), the time of a data point.
// Ties are broken by content. It is used from one goroutine.
type Buffer struct {
	// Counts may be read between calls.
	Counts Counts

	sink     Sink
	maxHeld  int
	latest   int64 // of times that are believed
	items    []item
	released int64 // the end of the last slice that was handed on
	handed   int64 // the newest time that was handed on
	origins  map[string]*origin
}

// NewBuffer returns a buffer that hands on to sink and holds at most maxHeld items.
func NewBuffer(sink Sink, maxHeld int) *Buffer {
	return &Buffer{sink: sink, maxHeld: max(maxHeld, 1), latest: time.Now().Add(maxAhead).UnixNano(), origins: map[string]*origin{}}
}

// Traces takes the spans of td, which is used up. It returns the newest event time.
func (b *Buffer) Traces(td ptrace.Traces) (newest int64, err error) {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			o, err := b.origin(rs.Resource(), rs.SchemaUrl(), ss.Scope(), ss.SchemaUrl())
			if err != nil {
				return 0, err
			}
			for _, s := range ss.Spans().All() {
				it := item{at: int64(s.EndTimestamp()), signal: signalTraces, origin: o, span: s}
				if b.add(it) {
					b.Counts.Spans++
					newest = max(newest, it.at)
				}
			}
		}
	}
	return newest, nil
}

// Logs takes the records of ld, which is used up. It returns the newest event time.
func (b *Buffer) Logs(ld plog.Logs) (newest int64, err error) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			o, err := b.origin(rl.Resource(), rl.SchemaUrl(), sl.Scope(), sl.SchemaUrl())
			if err != nil {
				return 0, err
			}
			for _, r := range sl.LogRecords().All() {
				at := r.Timestamp()
				if at == 0 {
					at = r.ObservedTimestamp()
				}
				it := item{at: int64(at), signal: signalLogs, origin: o, record: r}
				if b.add(it) {
					b.Counts.Records++
					newest = max(newest, it.at)
				}
			}
		}
	}
	return newest, nil
}

// Metrics takes the data points of md, which is used up. It returns the newest
// event time.
func (b *Buffer) Metrics(md pmetric.Metrics) (newest int64, err error) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			o, err := b.origin(rm.Resource(), rm.SchemaUrl(), sm.Scope(), sm.SchemaUrl())
			if err != nil {
				return 0, err
			}
			for _, m := range sm.Metrics().All() {
				byTime(m, func(at int64, m pmetric.Metric) {
					if b.add(item{at: at, signal: signalMetrics, origin: o, metric: m}) {
						visitPoints(m, func(_ pcommon.Timestamp) bool { b.Counts.Points++; return false })
						newest = max(newest, at)
					}
				})
			}
		}
	}
	return newest, nil
}

// add tells whether the item has a usable time.
func (b *Buffer) add(it item) bool {
	if it.at <= 0 || it.at > b.latest {
		b.Counts.Invalid++
		return false
	}
	if it.at < b.released {
		b.Counts.Late++
	}
	b.items = append(b.items, it)
	return true
}

// Held returns how many items wait.
func (b *Buffer) Held() int { return len(b.items) }

// Release hands on the slices that end at or before the event time upTo. When
// more items wait than the buffer may hold, the older half goes too.
func (b *Buffer) Release(ctx context.Context, upTo int64) error {
	if len(b.items) > b.maxHeld {
		b.Counts.Crowded++
		slices.SortFunc(b.items, compareItems)
		upTo = max(upTo, b.items[len(b.items)/2].at+slice)
	}
	upTo = max(upTo-upTo%slice, b.released) // what came late is below that already
	n := 0
	for i := range b.items {
		if b.items[i].at < upTo {
			n++
		}
	}
	due, kept := make([]item, 0, n), make([]item, 0, len(b.items)-n)
	for _, it := range b.items {
		if it.at < upTo {
			due = append(due, it)
		} else {
			kept = append(kept, it)
		}
	}
	b.released, b.items = upTo, kept
	return b.handOn(ctx, due)
}

// maxOrigins bounds the origins that are remembered to be shared.
const maxOrigins = 10_000

// origin returns that of a batch: what thousands of batches say alike is held once.
func (b *Buffer) origin(res pcommon.Resource, schema string, scope pcommon.InstrumentationScope, scopeSchema string) (*origin, error) {
	o, err := newOrigin(res, schema, scope, scopeSchema)
	if err != nil {
		return nil, err
	}
	if known, ok := b.origins[o.key]; ok {
		return known, nil
	}
	if len(b.origins) >= maxOrigins {
		clear(b.origins)
	}
	b.origins[o.key] = o
	return o, nil
}

// Flush hands on all that waits.
func (b *Buffer) Flush(ctx context.Context) error {
	return b.Release(ctx, math.MaxInt64)
}

// handOn sorts items and hands them on, a slice at a time.
func (b *Buffer) handOn(ctx context.Context, items []item) error {
	slices.SortFunc(items, compareItems)
	breakTies(items)
	for len(items) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, end := 1, items[0].at-items[0].at%slice+slice
		for n < len(items) && items[n].at < end {
			n++
		}
		if err := b.send(ctx, items[:n]); err != nil {
			return err
		}
		b.handed = max(b.handed, items[n-1].at)
		items = items[n:]
	}
	return nil
}

// breakTies orders sorted items that happened at the same time by their content.
func breakTies(items []item) {
	for i := 0; i < len(items); {
		n := i + 1
		for n < len(items) && tied(&items[i], &items[n]) {
			n++
		}
		if n-i > 1 {
			ties := make([]keyed, 0, n-i)
			for _, it := range items[i:n] {
				ties = append(ties, keyed{it, it.content()})
			}
			slices.SortFunc(ties, compareKeyed)
			for j, k := range ties {
				items[i+j] = k.item
			}
		}
		i = n
	}
}

// send hands on one slice: what has the same resource and scope together, in the
// order of their first item.
func (b *Buffer) send(ctx context.Context, items []item) error {
	td, ld, md := ptrace.NewTraces(), plog.NewLogs(), pmetric.NewMetrics()
	spans, records, metrics := map[string]ptrace.SpanSlice{}, map[string]plog.LogRecordSlice{}, map[string]pmetric.MetricSlice{}
	for _, it := range items {
		key := it.origin.key
		switch it.signal {
		case signalTraces:
			to, ok := spans[key]
			if !ok {
				to = it.origin.spans(td.ResourceSpans().AppendEmpty())
				spans[key] = to
			}
			it.span.MoveTo(to.AppendEmpty())
		case signalLogs:
			to, ok := records[key]
			if !ok {
				to = it.origin.logs(ld.ResourceLogs().AppendEmpty())
				records[key] = to
			}
			it.record.MoveTo(to.AppendEmpty())
		case signalMetrics:
			to, ok := metrics[key]
			if !ok {
				to = it.origin.metrics(md.ResourceMetrics().AppendEmpty())
				metrics[key] = to
			}
			it.metric.MoveTo(to.AppendEmpty())
		}
	}
	var errs []error
	if len(spans) > 0 {
		errs = append(errs, b.sink.ConsumeTraces(ctx, td))
	}
	if len(records) > 0 {
		errs = append(errs, b.sink.ConsumeLogs(ctx, ld))
	}
	if len(metrics) > 0 {
		errs = append(errs, b.sink.ConsumeMetrics(ctx, md))
	}
	return errors.Join(errs...)
}
