package engine

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
)

// many is more than any bound of small; fewer is enough where each has a service.
const many, fewer = 100_000, 20_000

// small bounds everything tightly.
func small(o *Options) {
	o.RingCapacity, o.MaxDetails, o.MaxEntities, o.MaxRequests, o.MaxIncidents = 1<<12, 1000, 2000, 500, 10
}

// cpuTime is what the process has computed so far, in user mode: however busy the machine is, it grows by the work alone. Tests that
// run beside count too, some seconds.
func cpuTime(t *testing.T) time.Duration {
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano())
}

// batches calls fill for n spans of one service, a thousand an export.
func (s *scenario) batches(n int, fill func(i int, sp ptrace.Span, resource pcommon.Map)) {
	for i := 0; i < n; i += 1000 {
		td := ptrace.NewTraces()
		for j := i; j < i+1000; j++ {
			rs := td.ResourceSpans().AppendEmpty()
			storefront.resource(rs.Resource())
			sp := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			sp.SetTraceID(id16(fmt.Sprint("hostile", j)))
			sp.SetSpanID(id8(fmt.Sprint("hostile", j)))
			sp.SetName("GET /")
			sp.SetKind(ptrace.SpanKindServer)
			sp.SetStartTimestamp(pcommon.NewTimestampFromTime(s.clock.Add(-time.Millisecond)))
			sp.SetEndTimestamp(pcommon.NewTimestampFromTime(s.clock))
			fill(j, sp, rs.Resource().Attributes())
		}
		s.deliver(item{traces: td})
		s.wait(50 * time.Millisecond)
	}
}

// assertBounded checks what the engine holds against its options.
func (s *scenario) assertBounded() {
	s.t.Helper()
	s.engine.sweep(s.clock.UnixNano()) // brings the counters up to date
	e, o, c := s.engine, s.engine.options, &s.engine.Counters
	stats := e.graph.Stats()
	assert.LessOrEqual(s.t, stats.Entities, o.MaxEntities)
	assert.LessOrEqual(s.t, e.details.Len(), o.MaxDetails)
	assert.LessOrEqual(s.t, e.ring.Len(), e.ring.Capacity())
	assert.LessOrEqual(s.t, c.RequestsHeld.Load(), int64(o.MaxRequests))
	assert.LessOrEqual(s.t, len(e.incidents), o.MaxIncidents)
	assert.LessOrEqual(s.t, len(e.resolved), o.MaxIncidents)
	assert.LessOrEqual(s.t, len(e.groups), maxGroups)
	for _, g := range e.groups {
		assert.LessOrEqual(s.t, len(g.requests), maxGroup)
	}
	assert.LessOrEqual(s.t, len(e.hosts), maxHosts)
}

func TestHostileSpanNames(t *testing.T) {
	t.Parallel()
	s := newScenario(t, small)
	s.batches(many, func(i int, sp ptrace.Span, _ pcommon.Map) { sp.SetName(fmt.Sprint("GET /item/", i)) })
	s.assertBounded()
	assert.EqualValues(t, many, s.engine.Counters.Spans.Load())
	assert.LessOrEqual(t, s.engine.baselines.Len(), maxOperations+1)
	assert.EqualValues(t, many-maxOperations, s.engine.graph.Stats().Overflow, "counted under one operation, and counted")
	assert.Empty(t, s.findings)
}

func TestHostileTraceIDs(t *testing.T) {
	t.Parallel()
	s := newScenario(t, small)
	s.batches(many, func(_ int, sp ptrace.Span, _ pcommon.Map) { sp.Status().SetCode(ptrace.StatusCodeError) })
	s.assertBounded()
	assert.Positive(t, s.engine.Counters.RequestsEvicted.Load())
	assert.Positive(t, s.engine.details.Evicted())
}

func TestHostileServices(t *testing.T) {
	t.Parallel()
	s := newScenario(t, small)
	s.batches(fewer, func(i int, sp ptrace.Span, r pcommon.Map) {
		r.PutStr(event.KeyServiceName, fmt.Sprint("service", i))
		r.PutStr(event.KeyHostName, fmt.Sprint("host", i))
		sp.SetKind(ptrace.SpanKindClient)
		sp.Attributes().PutStr(event.KeyServerAddress, fmt.Sprint("10.", i%200, ".", i/200%200, ".", i/40000))
		sp.Attributes().PutInt(event.KeyServerPort, 80)
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage("connection refused")
	})
	s.assertBounded()
	assert.Positive(t, s.engine.graph.Stats().Evicted)
	assert.LessOrEqual(t, s.engine.baselines.Len(), s.engine.options.MaxEntities, "an operation that the graph forgot needs no past")
}

// events calls fill for n log records, a thousand an export.
func (s *scenario) events(n int, fill func(i int, r plog.LogRecord, resource pcommon.Map)) {
	for i := 0; i < n; i += 1000 {
		ld := plog.NewLogs()
		for j := i; j < i+1000; j++ {
			rl := ld.ResourceLogs().AppendEmpty()
			payment.resource(rl.Resource())
			r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
			fill(j, r, rl.Resource().Attributes())
		}
		s.deliver(item{logs: ld})
		s.wait(50 * time.Millisecond)
	}
}

func TestHostileEvents(t *testing.T) {
	t.Parallel()
	t.Run("names", func(t *testing.T) {
		s := newScenario(t, small)
		s.events(many, func(i int, r plog.LogRecord, _ pcommon.Map) { r.SetEventName(fmt.Sprint("event", i)) })
		s.assertBounded()
		assert.Zero(t, s.engine.occurrences.Len(), "no pattern knows them")
		assert.Positive(t, s.engine.details.Evicted())
	})
	t.Run("exits of one process", func(t *testing.T) {
		t.Parallel()
		s := newScenario(t, small)
		start := cpuTime(t)
		s.events(many, func(i int, r plog.LogRecord, _ pcommon.Map) {
			r.SetEventName(event.ProcessExit)
			r.SetTimestamp(r.Timestamp() - pcommon.Timestamp(i%1000)) // each its own event
			r.Attributes().PutInt(event.KeyProcessExitCode, 2)
		})
		s.refusals(10, "u")
		s.wait(5 * time.Second)
		s.assertBounded()
		assert.LessOrEqual(t, s.engine.occurrences.Len(), s.engine.options.MaxDetails/4+10)
		assert.Positive(t, s.engine.Counters.OccurrencesEvicted.Load())
		assert.Less(t, cpuTime(t)-start, time.Minute, "no quadratic work")
	})
	t.Run("exits of many processes of one container", func(t *testing.T) {
		s := newScenario(t)
		start := cpuTime(t)
		s.inContainer(payment, 1, event.ProcessExec, nil)
		s.healthy(2 * time.Second)
		s.events(fewer, func(i int, r plog.LogRecord, resource pcommon.Map) {
			resource.PutInt(event.KeyProcessPID, int64(1000+i))
			resource.PutInt(event.KeyProcessVPID, int64(1000+i))
			resource.PutStr(event.KeyContainerID, "0123456789abcdef0123456789abcdef")
			r.SetEventName(event.ProcessExit)
			r.Attributes().PutInt(event.KeyProcessExitCode, int64(i%3))
		})
		for range 100 {
			s.refusals(1, "u")
		}
		s.wait(5 * time.Second)
		s.assertBounded()
		assert.Less(t, cpuTime(t)-start, time.Minute, "no quadratic work")
	})
	t.Run("kills of many processes", func(t *testing.T) {
		t.Parallel()
		s := newScenario(t, small, func(o *Options) { o.MaxDetails, o.MaxEntities, o.RingCapacity = 1<<17, 100_000, 1<<15 })
		s.events(fewer, func(i int, r plog.LogRecord, resource pcommon.Map) {
			resource.PutInt(event.KeyProcessPID, int64(i/2+1))
			resource.PutStr(event.KeyServiceName, fmt.Sprint("service", i/2))
			r.SetEventName(event.OOMKill)
			r.Attributes().PutStr(event.KeyOOMScope, "cgroup")
			if i%2 == 1 {
				r.SetEventName(event.ProcessExit)
				r.Attributes().PutInt(event.KeyExitSignal, 9)
			}
		})
		s.assertBounded()
		assert.Positive(t, s.engine.Counters.IncidentsDropped.Load())
	})
	t.Run("receivers of many hosts", func(t *testing.T) {
		t.Parallel()
		s := newScenario(t, small)
		s.events(fewer, func(i int, r plog.LogRecord, resource pcommon.Map) {
			resource.PutStr(event.KeyHostName, fmt.Sprint("host", i))
			r.SetEventName(event.EBPFStarted)
		})
		s.assertBounded()
		assert.Positive(t, s.engine.Counters.HostsDropped.Load())
	})
}

// One trace of many failed spans, each the child of the one before.
func TestHostileDepth(t *testing.T) {
	t.Parallel()
	s := newScenario(t, small)
	dies(exit2)(s)
	start := cpuTime(t)
	trace := id16("deep")
	s.batches(10_000, func(i int, sp ptrace.Span, _ pcommon.Map) {
		sp.SetTraceID(trace)
		sp.SetName(fmt.Sprint("level", i))
		sp.SetParentSpanID(id8(fmt.Sprint("hostile", i-1)))
		sp.Status().SetCode(ptrace.StatusCodeError)
	})
	s.wait(10 * time.Second)
	s.assertBounded()
	assert.Positive(t, s.engine.Counters.SpansCut.Load())
	assert.Less(t, cpuTime(t)-start, time.Minute, "no quadratic work")
}

// Spans that are each other's parents have no root and no end.
func TestHostileCycle(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.exit(payment, exit2)
	for n := range 10 {
		s.wait(100 * time.Millisecond)
		trace := id16(fmt.Sprint("cycle", n))
		a, b := id8(fmt.Sprint("a", n)), id8(fmt.Sprint("b", n))
		for _, x := range []struct{ id, parent pcommon.SpanID }{{a, b}, {b, a}} {
			sp, td := newSpan(storefront, trace, x.id, x.parent, "POST", spanClient, s.clock.Add(-time.Millisecond), s.clock)
			sp.Attributes().PutStr(event.KeyServerAddress, "127.0.0.1")
			sp.Attributes().PutInt(event.KeyServerPort, payment.port)
			sp.Status().SetCode(ptrace.StatusCodeError)
			sp.Status().SetMessage(refused)
			s.deliver(item{traces: td})
		}
	}
	s.refusals(3, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.EqualValues(t, 3, f.Impact.FailedRequests, "what has no entry is no request")
	assertCausal(t, f)
}

// A host whose clock is minutes ahead does not blind the engine to the others.
func TestClockAhead(t *testing.T) {
	s := newScenario(t)
	s.healthy(2 * time.Minute)
	for range 300 {
		_, td := newSpan(service{"other", "1", "node9", 5, 0}, id16("ahead"), id8("ahead"), noParent, "job", spanServer,
			s.clock.Add(4*time.Minute), s.clock.Add(4*time.Minute+time.Millisecond))
		s.deliver(item{traces: td})
		s.send(failing(500, 3*time.Millisecond))
		s.wait(100 * time.Millisecond)
	}
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, "callee-failing", f.Pattern)
	assert.Equal(t, "ledger", f.RootCause.Entity.Name)
}
