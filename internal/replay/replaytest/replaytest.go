// Package replaytest makes recordings for tests: the telemetry of a small shop
// whose payment service is killed at its memory limit.
package replaytest

import (
	"encoding/binary"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
)

// Start is when the recording begins.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	// minutes of the recording; payment is killed in the middle of the fourth.
	minutes   = 5
	perSecond = 4
	killed    = 210 * time.Second
	down      = 20 * time.Second
)

// Message is one export of one signal: the others are empty.
type Message struct {
	Traces  *ptrace.Traces
	Logs    *plog.Logs
	Metrics *pmetric.Metrics
}

// Shop returns the recording, one message for each second and signal, in the
// order of time.
func Shop() (out []Message) {
	for second := range minutes * 60 {
		at := Start.Add(time.Duration(second) * time.Second)
		td, ld := ptrace.NewTraces(), plog.NewLogs()
		for n := range perSecond {
			requestAt(td, at.Add(time.Duration(n)*time.Second/perSecond), uint64(second*perSecond+n+1))
		}
		out = append(out, Message{Traces: &td})
		if at.Equal(Start.Add(killed)) {
			kill(ld, at)
		}
		access(ld, at)
		out = append(out, Message{Logs: &ld})
		if second%30 == 0 {
			md := memory(at, second)
			out = append(out, Message{Metrics: &md})
		}
	}
	return out
}

func resource(r pcommon.Resource, service string, pid int64) {
	r.Attributes().PutStr(event.KeyServiceName, service)
	r.Attributes().PutStr(event.KeyHostName, "node1")
	r.Attributes().PutInt(event.KeyProcessPID, pid)
}

// requestAt adds a request: the gateway's span, its call, and the span of payment,
// which is missing while payment is down.
func requestAt(td ptrace.Traces, at time.Time, n uint64) {
	var trace pcommon.TraceID
	binary.BigEndian.PutUint64(trace[8:], n)
	up := at.Before(Start.Add(killed)) || !at.Before(Start.Add(killed+down))
	gateway := td.ResourceSpans().AppendEmpty()
	resource(gateway.Resource(), "gateway", 10)
	spans := gateway.ScopeSpans().AppendEmpty().Spans()
	root := spanOf(spans, trace, n*10+1, 0, "POST /checkout", ptrace.SpanKindServer, at, 20*time.Millisecond)
	call := spanOf(spans, trace, n*10+2, n*10+1, "POST", ptrace.SpanKindClient, at.Add(time.Millisecond), 15*time.Millisecond)
	call.Attributes().PutStr(event.KeyServerAddress, "10.0.0.7")
	call.Attributes().PutInt(event.KeyServerPort, 8080)
	if up {
		payment := td.ResourceSpans().AppendEmpty()
		resource(payment.Resource(), "payment", 42)
		spanOf(payment.ScopeSpans().AppendEmpty().Spans(), trace, n*10+3, n*10+2, "POST /charge", ptrace.SpanKindServer, at.Add(2*time.Millisecond), 10*time.Millisecond)
		return
	}
	call.Status().SetCode(ptrace.StatusCodeError)
	call.Status().SetMessage("dial tcp 10.0.0.7:8080: connect: connection refused")
	root.Status().SetCode(ptrace.StatusCodeError)
	root.Attributes().PutStr(event.KeyUserID, trace.String()[24:])
}

func spanOf(to ptrace.SpanSlice, trace pcommon.TraceID, id, parent uint64, name string, kind ptrace.SpanKind, at time.Time, took time.Duration) ptrace.Span {
	s := to.AppendEmpty()
	s.SetTraceID(trace)
	s.SetSpanID(spanID(id))
	if parent != 0 {
		s.SetParentSpanID(spanID(parent))
	}
	s.SetName(name)
	s.SetKind(kind)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(at.Add(took)))
	return s
}

func spanID(n uint64) (id pcommon.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

// kill adds the kernel's records.
func kill(ld plog.Logs, at time.Time) {
	rl := ld.ResourceLogs().AppendEmpty()
	resource(rl.Resource(), "payment", 42)
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	r := records.AppendEmpty()
	r.SetEventName(event.OOMKill)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	r.Attributes().PutStr(event.KeyOOMScope, "cgroup")
	r.Attributes().PutInt(event.KeyMemoryLimit, 64<<20)
	r = records.AppendEmpty()
	r.SetEventName(event.ProcessExit)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at.Add(time.Millisecond)))
	r.Attributes().PutInt(event.KeyExitSignal, 9)
	r.Attributes().PutStr(event.KeyExitSignalName, "SIGKILL")
}

// access adds two lines of the gateway's log with the same time, the second seen
// only: its own time is not known.
func access(ld plog.Logs, at time.Time) {
	rl := ld.ResourceLogs().AppendEmpty()
	resource(rl.Resource(), "gateway", 10)
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	r := records.AppendEmpty()
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	r.Body().SetStr("access POST /checkout")
	r = records.AppendEmpty()
	r.SetObservedTimestamp(pcommon.NewTimestampFromTime(at))
	r.Body().SetStr("access GET /healthz")
}

func memory(at time.Time, second int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	resource(rm.Resource(), "payment", 42)
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("container.memory.usage")
	m.SetUnit("By")
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(pcommon.NewTimestampFromTime(at))
	p.SetIntValue(int64(second) << 18)
	return md
}
