package ebpfreceiver

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// Values of the attribute outcome of otelcol_receiver_tapio_ebpf_http_requests.
const (
	outcomeTraced         = "traced"
	outcomeUntraced       = "no_traceparent"
	outcomeInvalid        = "invalid_traceparent"
	outcomeCut            = "cut"
	outcomeProcessUnknown = "process_unknown"
	outcomeRuntimeUnknown = "runtime_unknown"
)

// traceContext is the request that something happened on behalf of. Its zero
// value means that it is not known.
type traceContext struct {
	traceID pcommon.TraceID
	// spanID is that of the caller's span, which the request named as its parent,
	// unless an instrumentation told the span itself.
	spanID pcommon.SpanID
	flags  byte
	// association says how the event was joined to the request: one of the values
	// of tapio.trace.association.
	association string
}

// traced is part of the events that may have a request.
type traced struct{ request traceContext }

func (t traced) trace() traceContext { return t.request }

// setTrace joins a record to the request of its event, when that has one.
func setTrace(record plog.LogRecord, ev kernelEvent) {
	t, ok := ev.(interface{ trace() traceContext })
	if !ok || t.trace().association == "" {
		return
	}
	c := t.trace()
	record.SetTraceID(c.traceID)
	record.SetSpanID(c.spanID)
	record.SetFlags(plog.LogRecordFlags(c.flags))
	record.Attributes().PutStr(event.KeyTraceAssociation, c.association)
}
