package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// anonymous sends a request of which the spans name services, and no process, host or
// container: a call to an address that nobody is known at.
func (s *scenario) anonymous(name, err string) (trace pcommon.TraceID, caller pcommon.SpanID) {
	trace, caller = id16("trace"+name), id8("client"+name)
	span := func(id, parent pcommon.SpanID, kind ptrace.SpanKind) {
		sp, td := newSpan(storefront, trace, id, parent, "POST", kind, s.clock.Add(-5*time.Millisecond), s.clock)
		attrs := td.ResourceSpans().At(0).Resource().Attributes()
		attrs.Clear()
		attrs.PutStr(event.KeyServiceName, "storefront")
		if kind == spanClient {
			sp.Attributes().PutStr(event.KeyServerAddress, "10.0.0.7")
			sp.Attributes().PutInt(event.KeyServerPort, 8081)
		}
		if err != "" {
			sp.Status().SetCode(ptrace.StatusCodeError)
			sp.Status().SetMessage(err)
		}
		s.deliver(item{traces: td})
	}
	span(caller, id8("server"+name), spanClient)
	span(id8("server"+name), pcommon.SpanID{}, spanServer)
	return trace, caller
}

// died hands over the end of a process that the spans do not name, of another host.
func (s *scenario) died(at time.Time, trace pcommon.TraceID, span pcommon.SpanID, association string) {
	s.unnamed(event.ProcessExit, map[string]any{event.KeyExitSignal: 11, event.KeyExitSignalName: "SIGSEGV"}, at, trace, span, association)
}

// unnamed hands over what the kernel saw of that process while it served a call.
func (s *scenario) unnamed(name string, attrs map[string]any, at time.Time, trace pcommon.TraceID, span pcommon.SpanID, association string) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	require.NoError(s.t, rl.Resource().Attributes().FromRaw(map[string]any{
		event.KeyHostName: "node7", event.KeyProcessPID: 4711, event.KeyProcessExecutableName: "charge",
		event.KeyProcessCreationTime: epoch.Add(-time.Hour).Format(time.RFC3339Nano),
	}))
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(name)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	r.SetTraceID(trace)
	r.SetSpanID(span)
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	if association != "" {
		r.Attributes().PutStr(event.KeyTraceAssociation, association)
	}
	s.deliver(item{logs: ld})
}

// TestJoinedByTraceAlone: a process and the call that failed because it died have
// nothing in common but what the kernel read of the request.
func TestJoinedByTraceAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		association string
		other       bool // the event is of another call
		late        bool // it arrives when the request has settled
		joined      bool
	}{
		"the same call":                    {association: event.AssociationGoroutine, joined: true},
		"the same call, the event is late": {association: event.AssociationGoroutine, late: true, joined: true},
		"another call of the trace":        {association: event.AssociationThread, other: true},
		"another call, late":               {association: event.AssociationThread, other: true, late: true},
		"no request is known":              {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			for range 10 {
				s.anonymous(s.clock.String(), "")
				s.wait(100 * time.Millisecond)
			}
			trace, span := s.anonymous("hurt", eof)
			if tc.other {
				span = id8("another call")
			}
			died := s.clock.Add(-time.Millisecond)
			if tc.late {
				s.wait(10 * time.Second)
			}
			s.died(died, trace, span, tc.association)
			s.wait(10 * time.Second)
			var hurt []finding.HurtTrace
			for _, f := range s.latest() {
				if f.RootCause.Event == event.ProcessExit {
					hurt = append(hurt, f.HurtTraces...)
				}
			}
			if !tc.joined {
				assert.Empty(t, hurt)
				return
			}
			require.Len(t, hurt, 1)
			assert.Equal(t, trace.String(), hurt[0].TraceID)
			f := s.one()
			assert.Equal(t, "charge", f.RootCause.Entity.Name)
			assert.EqualValues(t, 1, f.Impact.FailedRequests)
		})
	}
}

// outOfSpace plays calls that fail, and what the kernel refuses their server in them, or in
// another call.
func outOfSpace(same bool, association string) func(*scenario) {
	return func(s *scenario) {
		for range 10 {
			s.anonymous(s.clock.String(), "")
			s.wait(100 * time.Millisecond)
		}
		for i := range 10 {
			trace, span := s.anonymous(fmt.Sprint("hurt", i), "500 Internal Server Error")
			if !same {
				span = id8("another call")
			}
			s.unnamed(event.SyscallFailed, map[string]any{event.KeyErrorType: "ENOSPC", event.KeySyscall: "write"}, s.clock.Add(-time.Millisecond), trace, span, association)
			s.wait(100 * time.Millisecond)
		}
		s.wait(20 * time.Second)
	}
}

// refusedByKernel plays calls of payment that fail while the kernel refuses a process
// something. Nobody knows in which request.
func refusedByKernel(errno string, process service) func(*scenario) {
	return func(s *scenario) {
		s.healthy(time.Minute)
		for range 10 {
			s.kernel(process, event.SyscallFailed, s.clock.Add(-3*time.Millisecond), map[string]any{event.KeyErrorType: errno, event.KeySyscall: "write"})
			s.send(order{"u", 10, &call{from: load, to: storefront, took: 9 * time.Millisecond, status: 500, inner: &call{
				from: storefront, to: payment, took: 5 * time.Millisecond, status: 500,
			}}})
			s.wait(100 * time.Millisecond)
		}
		s.wait(20 * time.Second)
	}
}

// TestRefusedByKernel: requests of a service fail while the kernel refuses its process
// what it needs. What it refuses another process of the host, or that does no harm, says nothing of them.
func TestRefusedByKernel(t *testing.T) {
	for name, tc := range map[string]struct {
		errno   string
		process service
		want    string // the pattern, "" for none that the kernel's word is the cause of
	}{
		"no space":                {"ENOSPC", payment, "process-out-of-space"},
		"no descriptor":           {"EMFILE", payment, "process-out-of-files"},
		"no space for a stranger": {"ENOSPC", payment.withPID(4711), ""},
		"no such file":            {"ENOENT", payment, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			refusedByKernel(tc.errno, tc.process)(s)
			f := s.one()
			assert.Equal(t, "payment", f.RootCause.Entity.Name)
			assert.EqualValues(t, 10, f.Impact.FailedRequests)
			assert.NotContains(t, missingText(f), "Kernel evidence is missing")
			if tc.want == "" {
				assert.NotEqual(t, event.SyscallFailed, f.RootCause.Event)
				return
			}
			assert.Equal(t, tc.want, f.Pattern)
		})
	}
}

// TestOutOfSpaceInARequest: a call failed in the very request in which the kernel refused
// its server space. That of another one, or of none that is known, says nothing of it.
func TestOutOfSpaceInARequest(t *testing.T) {
	for name, tc := range map[string]struct {
		association string
		same        bool // the event is of the call that failed
		found       bool
	}{
		"the same call":       {association: event.AssociationThread, same: true, found: true},
		"another call":        {association: event.AssociationThread},
		"no request is known": {same: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			outOfSpace(tc.same, tc.association)(s)
			if !tc.found {
				for _, f := range s.latest() {
					assert.NotEqual(t, event.SyscallFailed, f.RootCause.Event)
				}
				return
			}
			f := s.one()
			assert.Equal(t, "request-out-of-space", f.Pattern)
			assert.Equal(t, "charge", f.RootCause.Entity.Name)
			assert.Equal(t, "ENOSPC", f.RootCause.Evidence[event.KeyErrorType])
			assert.EqualValues(t, 10, f.Impact.FailedRequests)
		})
	}
}
