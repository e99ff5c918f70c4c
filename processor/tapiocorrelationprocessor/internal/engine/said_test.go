package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// ask sends a request of payment in which it calls a database that sends no spans. It
// fails where says is set: by the database's span, in the words of its status, of its
// exception or of a log record's exception.
func (s *scenario) ask(says, by string, calls bool) {
	s.serial++
	name := fmt.Sprint("ask", s.serial)
	trace, end := id16(name), s.clock
	in, inside := newSpan(payment, trace, id8(name), pcommon.SpanID{}, "POST /charge", ptrace.SpanKindServer, end.Add(-10*time.Millisecond), end)
	out, call := newSpan(payment, trace, id8(name+"db"), id8(name), "SELECT", ptrace.SpanKindClient, end.Add(-8*time.Millisecond), end.Add(-2*time.Millisecond))
	out.Attributes().PutStr("server.address", "db")
	out.Attributes().PutInt("server.port", 5432)
	deepest := out
	if !calls {
		deepest = in
	}
	if says != "" {
		in.Status().SetCode(ptrace.StatusCodeError)
		deepest.Status().SetCode(ptrace.StatusCodeError)
		switch by {
		case "status":
			deepest.Status().SetMessage(says)
		case "exception":
			deepest.Status().SetMessage("it failed")
			x := deepest.Events().AppendEmpty()
			x.SetName("exception")
			x.Attributes().PutStr("exception.message", says)
		case "log":
			ld := plog.NewLogs()
			rl := ld.ResourceLogs().AppendEmpty()
			payment.resource(rl.Resource())
			r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			r.SetTimestamp(pcommon.NewTimestampFromTime(end.Add(-time.Millisecond)))
			r.SetTraceID(trace)
			r.SetSeverityNumber(plog.SeverityNumberError)
			r.Body().SetStr("request failed")
			r.Attributes().PutStr("exception.message", says)
			s.deliver(item{logs: ld})
		}
	}
	if calls {
		s.deliver(item{traces: call})
	}
	s.deliver(item{traces: inside})
	s.wait(500 * time.Millisecond)
}

// TestSaid: what a service says of why its calls fail names the cause, wherever an SDK puts
// it. What may be the words of who was called is no cause at the caller.
func TestSaid(t *testing.T) {
	const ports, space = "dial tcp 10.0.0.1:5432: connect: cannot assign requested address", "could not extend file: No space left on device"
	for _, by := range []string{"status", "exception", "log"} {
		for _, calls := range []bool{true, false} {
			t.Run(fmt.Sprint(by, calls), func(t *testing.T) {
				s := newScenario(t)
				for range 240 {
					s.ask("", "", true)
				}
				for range 60 {
					s.ask(ports, by, calls)
				}
				s.wait(10 * time.Second)
				f := s.one()
				assert.Equal(t, "local-ports-exhausted", f.Pattern)
				assert.Equal(t, "payment", f.RootCause.Entity.Name)
				assert.EqualValues(t, 60, f.Impact.FailedRequests)
				assert.Contains(t, f.Summary, "cannot assign requested address")
			})
		}
	}
	t.Run("the database's words", func(t *testing.T) {
		s := newScenario(t)
		for range 240 {
			s.ask("", "", true)
		}
		for range 60 {
			s.ask(space, "status", true)
		}
		s.wait(10 * time.Second)
		f := s.one()
		assert.Equal(t, "callee-failing", f.Pattern)
		assert.Equal(t, "db:5432", f.RootCause.Entity.Name)
	})
	t.Run("said long before", func(t *testing.T) {
		s := newScenario(t)
		for range 240 {
			s.ask("", "", true)
		}
		s.ask(ports, "status", true)
		for range 60 {
			s.ask("", "", true)
		}
		for range 60 {
			s.ask("syntax error", "status", true)
		}
		s.wait(10 * time.Second)
		hurt := map[string]int64{}
		for _, f := range s.latest() {
			hurt[f.Pattern] += f.Impact.FailedRequests
		}
		assert.Equal(t, map[string]int64{"local-ports-exhausted": 1, "callee-failing": 60}, hurt)
	})
}
