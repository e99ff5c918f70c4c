package replay

import (
	"bytes"
	"cmp"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// signal is the kind of an item. Where items of several kinds happened at the
// same nanosecond they are handed on in this order.
type signal uint8

const (
	signalTraces signal = iota
	signalLogs
	signalMetrics
)

// item is one span, one log record, or the data points of one metric that have
// the same time.
type item struct {
	at     int64 // nanoseconds since 1970
	signal signal
	origin *origin

	span   ptrace.Span
	record plog.LogRecord
	metric pmetric.Metric
}

// origin is the resource and scope of items. Origins with equal keys are alike.
type origin struct {
	key       string
	resource  pcommon.Resource
	scope     pcommon.InstrumentationScope
	schema    string // of the resource
	scopeSpec string // schema of the scope
}

// newOrigin copies resource and scope: the items outlive their batch.
func newOrigin(res pcommon.Resource, schema string, scope pcommon.InstrumentationScope, scopeSchema string) (*origin, error) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	res.CopyTo(rl.Resource())
	rl.SetSchemaUrl(schema)
	sl := rl.ScopeLogs().AppendEmpty()
	scope.CopyTo(sl.Scope())
	sl.SetSchemaUrl(scopeSchema)
	key, err := new(plog.ProtoMarshaler).MarshalLogs(ld)
	return &origin{key: string(key), resource: rl.Resource(), scope: sl.Scope(), schema: schema, scopeSpec: scopeSchema}, err
}

func (o *origin) spans(rs ptrace.ResourceSpans) ptrace.SpanSlice {
	o.resource.CopyTo(rs.Resource())
	rs.SetSchemaUrl(o.schema)
	ss := rs.ScopeSpans().AppendEmpty()
	o.scope.CopyTo(ss.Scope())
	ss.SetSchemaUrl(o.scopeSpec)
	return ss.Spans()
}

func (o *origin) logs(rl plog.ResourceLogs) plog.LogRecordSlice {
	o.resource.CopyTo(rl.Resource())
	rl.SetSchemaUrl(o.schema)
	sl := rl.ScopeLogs().AppendEmpty()
	o.scope.CopyTo(sl.Scope())
	sl.SetSchemaUrl(o.scopeSpec)
	return sl.LogRecords()
}

func (o *origin) metrics(rm pmetric.ResourceMetrics) pmetric.MetricSlice {
	o.resource.CopyTo(rm.Resource())
	rm.SetSchemaUrl(o.schema)
	sm := rm.ScopeMetrics().AppendEmpty()
	o.scope.CopyTo(sm.Scope())
	sm.SetSchemaUrl(o.scopeSpec)
	return sm.Metrics()
}

// content is the item in OTLP, without its origin. With that it tells items of the same
// time and kind apart.
func (it *item) content() []byte {
	var b []byte
	switch it.signal {
	case signalTraces:
		td := ptrace.NewTraces()
		it.span.CopyTo(td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty())
		b, _ = new(ptrace.ProtoMarshaler).MarshalTraces(td)
	case signalLogs:
		ld := plog.NewLogs()
		it.record.CopyTo(ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
		b, _ = new(plog.ProtoMarshaler).MarshalLogs(ld)
	case signalMetrics:
		md := pmetric.NewMetrics()
		it.metric.CopyTo(md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty())
		b, _ = new(pmetric.ProtoMarshaler).MarshalMetrics(md)
	}
	return b
}

// tied tells whether only the content can say which of two items comes first.
func tied(a, b *item) bool { return compareItems(*a, *b) == 0 }

func compareItems(a, b item) int {
	switch {
	case a.at != b.at:
		return cmp.Compare(a.at, b.at)
	case a.signal != b.signal:
		return cmp.Compare(a.signal, b.signal)
	}
	return strings.Compare(a.origin.key, b.origin.key)
}

// keyed is an item with its content, while ties are broken.
type keyed struct {
	item    item
	content []byte
}

func compareKeyed(a, b keyed) int { return bytes.Compare(a.content, b.content) }
