package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// api is a unit whose processes send no spans: who calls it tells how it is.
const api = "api.service"

// runs starts a process of the unit, by hand or by systemd, that listens.
func (s *scenario) runs(pid int64, restarts int) {
	attrs := map[string]any{event.KeyProcessPID: pid, event.KeyProcessCreationTime: s.clock.Format(time.RFC3339Nano)}
	if restarts > 0 {
		attrs["tapio.systemd.unit.restarts"] = restarts
	}
	s.about("tapio.systemd.unit.activated", attrs, map[string]any{event.KeySystemdUnit: api})
	s.about(event.TCPListen, map[string]any{event.KeyConnectionState: "listen", event.KeyLocalAddress: "127.0.0.1", event.KeyLocalPort: 9090}, s.process(pid))
}

func (s *scenario) process(pid int64) map[string]any {
	return map[string]any{event.KeyProcessPID: pid, event.KeySystemdUnit: api, event.KeyProcessExecutableName: "python3"}
}

// calls sends two requests a second of storefront, which calls the unit.
func (s *scenario) calls(d time.Duration, refused bool) {
	for range int(d / (500 * time.Millisecond)) {
		s.serial++
		name := fmt.Sprint("api", s.serial)
		trace, end := id16(name), s.clock
		in, request := newSpan(storefront, trace, id8(name), pcommon.SpanID{}, "GET /", ptrace.SpanKindServer, end.Add(-4*time.Millisecond), end)
		out, call := newSpan(storefront, trace, id8(name+"out"), id8(name), "GET", ptrace.SpanKindClient, end.Add(-3*time.Millisecond), end.Add(-time.Millisecond))
		out.Attributes().PutStr("server.address", "127.0.0.1")
		out.Attributes().PutInt("server.port", 9090)
		if refused {
			in.Status().SetCode(ptrace.StatusCodeError)
			out.Status().SetCode(ptrace.StatusCodeError)
			out.Status().SetMessage("dial tcp 127.0.0.1:9090: connect: connection refused")
		}
		s.deliver(item{traces: call})
		s.deliver(item{traces: request})
		s.wait(500 * time.Millisecond)
	}
}

// TestOutagesOfANight: of a unit whose processes the kernel tells of, each outage that
// begins after the one before was mended is one of its own, whatever the one before was.
func TestOutagesOfANight(t *testing.T) {
	stop := func(s *scenario, pid int64) {
		s.about(event.ProcessExit, map[string]any{event.KeyExitSignal: 15, event.KeyExitSignalName: "SIGTERM"}, s.process(pid))
		s.about("tapio.systemd.unit.deactivated", nil, map[string]any{event.KeySystemdUnit: api})
	}
	kill := func(s *scenario, pid int64) {
		s.about(event.ProcessExit, map[string]any{event.KeyExitSignal: 9, event.KeyExitSignalName: "SIGKILL"}, s.process(pid))
	}
	fails := func(s *scenario, pid int64) {
		s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 3}, s.process(pid))
		s.about("tapio.systemd.unit.failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 3}, map[string]any{event.KeySystemdUnit: api})
	}
	for name, first := range map[string]func(*scenario, int64){"stopped": stop, "killed": kill, "failed": fails} {
		for again, second := range map[string]func(*scenario, int64){"stopped": stop, "killed": kill, "failed": fails} {
			for _, well := range []time.Duration{20 * time.Second, 2 * time.Minute} {
				t.Run(fmt.Sprint(name, ", well for ", well, ", ", again), func(t *testing.T) {
					t.Parallel()
					s := newScenario(t)
					s.runs(201, 0)
					s.calls(30*time.Second, false)
					first(s, 201)
					s.calls(10*time.Second, true)
					s.runs(202, 0)
					s.calls(well, false)
					require.NotEqual(t, finding.StateOpen, s.latest()[0].State)
					broken := s.clock
					second(s, 202)
					s.calls(10*time.Second, true)
					s.wait(3 * time.Second)
					all := s.latest()
					require.Len(t, all, 2)
					for n, f := range all {
						assert.EqualValues(t, 20, f.Impact.FailedRequests, n)
					}
					assert.Equal(t, finding.StateOpen, all[1].State)
					assert.WithinDuration(t, broken, all[1].StartedAt, time.Second)
				})
			}
		}
	}
}
