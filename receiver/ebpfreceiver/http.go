package ebpfreceiver

import (
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// spanEvent names spans in the metrics that count events.
const spanEvent = "span"

// maxObservation bounds programs::http::observation.
const maxObservation = time.Hour

// exchangeEvent is an HTTP request and the beginning of its response, of a process
// without an SDK. It becomes a span.
type exchangeEvent struct {
	base
	// begun is when the request was read or written, in nanoseconds of CLOCK_BOOTTIME;
	// the event's time is that of the response.
	begun        uint64
	trace        pcommon.TraceID
	span, parent pcommon.SpanID
	flags        uint32
	socket       endpoints
	method       string
	status       int // 0: the connection ended before there was a response
	isClient     bool
	// tgid and processStarted say whose it is.
	tgid           uint32
	processStarted uint64
}

func (exchangeEvent) name() string   { return spanEvent }
func (exchangeEvent) isUrgent() bool { return false }

// spans makes a span of each exchange among the events, under one resource for
// each process, and returns the other events.
func (e *encoder) spans(events []kernelEvent) (ptrace.Traces, []kernelEvent) {
	all := ptrace.NewTraces()
	if !slices.ContainsFunc(events, isExchange) {
		return all, events
	}
	var others []kernelEvent
	resources := map[processInfo]ptrace.SpanSlice{}
	for _, ev := range events {
		x, ok := ev.(exchangeEvent)
		if !ok {
			others = append(others, ev)
			continue
		}
		spans, ok := resources[x.who]
		if !ok {
			rs := all.ResourceSpans().AppendEmpty()
			e.spanResource(x.who).MoveTo(rs.Resource())
			scope := rs.ScopeSpans().AppendEmpty()
			scope.Scope().SetName(metadata.ScopeName)
			scope.Scope().SetVersion(e.version)
			spans = scope.Spans()
			resources[x.who] = spans
		}
		e.describeSpan(spans.AppendEmpty(), &x)
	}
	return all, others
}

func isExchange(ev kernelEvent) bool {
	_, ok := ev.(exchangeEvent)
	return ok
}

// spanResource is that of the process's records; but spans always have a
// service.name, as the specification of SDKs makes it.
func (e *encoder) spanResource(who processInfo) pcommon.Resource {
	res := e.resource(who)
	if _, ok := res.Attributes().Get(event.KeyServiceName); !ok {
		res.Attributes().PutStr(event.KeyServiceName, "unknown_service:"+who.name())
	}
	return res
}

func (e *encoder) describeSpan(span ptrace.Span, x *exchangeEvent) {
	span.SetTraceID(x.trace)
	span.SetSpanID(x.span)
	span.SetParentSpanID(x.parent)
	span.SetFlags(x.flags)
	span.SetName(x.method)
	span.SetStartTimestamp(pcommon.NewTimestampFromTime(e.clock.Wall(x.begun)))
	span.SetEndTimestamp(pcommon.NewTimestampFromTime(e.clock.Wall(max(x.at, x.begun))))
	attrs := span.Attributes()
	attrs.PutStr("http.request.method", x.method)
	attrs.PutStr("network.protocol.name", "http")
	attrs.PutStr("network.transport", "tcp")
	attrs.PutStr("network.peer.address", x.socket.peer.Addr().String())
	attrs.PutInt("network.peer.port", int64(x.socket.peer.Port()))
	server, failed := x.socket.local, 500
	span.SetKind(ptrace.SpanKindServer)
	if x.isClient {
		server, failed = x.socket.peer, 400
		span.SetKind(ptrace.SpanKindClient)
	}
	attrs.PutStr("server.address", server.Addr().String())
	attrs.PutInt("server.port", int64(server.Port()))
	if x.status == 0 {
		attrs.PutStr(event.KeyErrorType, "no_response")
		span.Status().SetCode(ptrace.StatusCodeError)
		return
	}
	attrs.PutInt("http.response.status_code", int64(x.status))
	if x.status >= failed {
		attrs.PutStr(event.KeyErrorType, strconv.Itoa(x.status))
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}
