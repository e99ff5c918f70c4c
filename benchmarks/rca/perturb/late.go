package perturb

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/replay"
)

// retryAfter is how much later than it was due a batch arrives that was not taken at
// first.
const retryAfter = time.Minute

// Late delivers telemetry as exporters do: what a resource sends of a signal leaves in
// batches, every Options.Late, each resource at a time of its own, so that parents and
// children, spans and their log records arrive out of order; and of these batches the
// share Options.Retry is refused at first and arrives a minute later.
//
// It takes what happened in the order of event time, a slice at a time, as a
// replay.Buffer hands it on. Flush delivers the rest.
type Late struct {
	options Options
	to      replay.Sink
	now     int64 // the newest event time: the clock of the exporters
	held    []parcel
	serial  int
}

var _ replay.Sink = (*Late)(nil)

// parcel is telemetry on its way.
type parcel struct {
	due    int64
	serial int // parcels of one batch keep their order
	send   func(ctx context.Context) error
}

// NewLate returns a sink that delivers to another one.
func NewLate(o Options, to replay.Sink) *Late { return &Late{options: o, to: to} }

// Delays tells whether Late has anything to do.
func (o *Options) Delays() bool { return o.Late > 0 || o.Retry > 0 }

// due is when what happened at a time arrives.
func (l *Late) due(signal string, r pcommon.Resource, at int64) int64 {
	id := fnv.New64a()
	_, _ = id.Write([]byte(signal))
	for _, key := range []string{"service.instance.id", "k8s.pod.uid", "service.name", "k8s.node.name", "host.name"} {
		if v, ok := r.Attributes().Get(key); ok {
			_, _ = id.Write([]byte(v.AsString()))
		}
	}
	source := mixed(id.Sum64() ^ l.options.Seed)
	every := max(int64(l.options.Late), int64(time.Second))
	batch := (at + int64(source%uint64(every))) / every
	due := at
	if l.options.Late > 0 {
		due = (batch+1)*every - int64(source%uint64(every))
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(batch))
	_, _ = id.Write(b[:])
	if float64(mixed(id.Sum64()))/math.MaxUint64 < l.options.Retry {
		due += int64(retryAfter)
	}
	return due
}

// mixed spreads a hash over all bits.
func mixed(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func (l *Late) hold(signal string, r pcommon.Resource, at int64, send func(context.Context) error) {
	l.now = max(l.now, at)
	l.serial++
	l.held = append(l.held, parcel{l.due(signal, r, at), l.serial, send})
}

// ConsumeTraces implements replay.Sink.
func (l *Late) ConsumeTraces(ctx context.Context, td ptrace.Traces) error {
	for _, rs := range td.ResourceSpans().All() {
		at := int64(0)
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				at = max(at, int64(s.EndTimestamp()))
			}
		}
		part := ptrace.NewTraces()
		rs.MoveTo(part.ResourceSpans().AppendEmpty())
		l.hold("traces", part.ResourceSpans().At(0).Resource(), at, func(ctx context.Context) error { return l.to.ConsumeTraces(ctx, part) })
	}
	return l.deliver(ctx, l.now)
}

// ConsumeLogs implements replay.Sink.
func (l *Late) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	for _, rl := range ld.ResourceLogs().All() {
		at := int64(0)
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				at = max(at, int64(cmp.Or(r.Timestamp(), r.ObservedTimestamp())))
			}
		}
		part := plog.NewLogs()
		rl.MoveTo(part.ResourceLogs().AppendEmpty())
		l.hold("logs", part.ResourceLogs().At(0).Resource(), at, func(ctx context.Context) error { return l.to.ConsumeLogs(ctx, part) })
	}
	return l.deliver(ctx, l.now)
}

// ConsumeMetrics implements replay.Sink. Metrics are passed on: who measures sends at
// once.
func (l *Late) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	return errors.Join(l.to.ConsumeMetrics(ctx, md), l.deliver(ctx, l.now))
}

// Flush delivers all that is held.
func (l *Late) Flush(ctx context.Context) error { return l.deliver(ctx, math.MaxInt64) }

func (l *Late) deliver(ctx context.Context, upTo int64) error {
	var due, kept []parcel
	for _, p := range l.held {
		if p.due <= upTo {
			due = append(due, p)
		} else {
			kept = append(kept, p)
		}
	}
	l.held = kept
	slices.SortFunc(due, func(a, b parcel) int { return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.serial, b.serial)) })
	var errs []error
	for _, p := range due {
		errs = append(errs, p.send(ctx))
	}
	return errors.Join(errs...)
}
