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

// run is a process of the unit, as systemd and the kernel tell of it.
func (s *scenario) run(pid int64, attrs map[string]any) map[string]any {
	out := map[string]any{event.KeyProcessPID: pid, event.KeyProcessCreationTime: s.clock.Format(time.RFC3339Nano), "tapio.systemd.invocation_id": fmt.Sprint("run", pid)}
	for k, v := range attrs {
		out[k] = v
	}
	return out
}

// stopped has systemd end a process of the unit, as the kernel sees it.
func (s *scenario) stopped(pid int64, by string) {
	s.about(event.ProcessSignal, map[string]any{event.KeySignal: 15, event.KeySignalName: "SIGTERM", event.KeySenderName: by, event.KeySenderPID: 1}, s.process(pid))
	s.wait(time.Millisecond)
	s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 0}, s.process(pid))
}

// TestRestartInVain: a unit is restarted, and its new run fails: with what the kernel tells of
// the ends of both, it is the failure of the unit that is told, as it is without.
func TestRestartInVain(t *testing.T) {
	unit := map[string]any{event.KeySystemdUnit: api}
	ends := func(s *scenario, pid int64, code int) {
		s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: code}, s.process(pid))
	}
	failed := func(s *scenario, attrs map[string]any) { s.about("tapio.systemd.unit.failed", attrs, unit) }
	exit := func(code int) map[string]any {
		return map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: code}
	}
	stop := func(s *scenario, told bool) {
		s.system("manager.reloaded", nil)
		s.stopped(201, "systemd")
		if told { // systemd is not always seen to be between two runs
			s.wait(5 * time.Millisecond)
			s.about("tapio.systemd.unit.deactivated", nil, unit)
		}
		s.wait(20 * time.Millisecond)
	}
	typo := func(s *scenario, told bool) {
		stop(s, told)
		again := s.run(301, exit(78))
		s.calls(500*time.Millisecond, true)
		ends(s, 301, 78)
		s.wait(2 * time.Millisecond)
		failed(s, again)
		s.calls(10*time.Second, true)
	}
	for name, tc := range map[string]struct {
		want, says string
		requests   int
		play       func(s *scenario, told bool)
	}{
		"its configuration is broken": {"unit-failed", "exit code 78", 21, typo},
		"that, and the failure is told before the kernel's word of the stop": {"unit-failed", "exit code 78", 20, func(s *scenario, _ bool) {
			stopped := s.clock
			s.wait(50 * time.Millisecond)
			again := s.run(301, exit(78))
			s.wait(50 * time.Millisecond)
			failed(s, again)
			now := s.clock
			s.clock = stopped
			s.stopped(201, "systemd")
			s.clock = now
			s.calls(10*time.Second, true)
		}},
		"that, and it is given up": {"unit-start-limit", "exit code 78", 30, func(s *scenario, told bool) {
			stop(s, told)
			again := s.run(301, exit(78))
			s.calls(500*time.Millisecond, true)
			ends(s, 301, 78)
			failed(s, again)
			for n := range 3 {
				s.wait(700 * time.Millisecond)
				s.about("tapio.systemd.unit.restarting", map[string]any{"tapio.systemd.restart.count": n + 1}, unit)
				s.calls(500*time.Millisecond, true)
				ends(s, int64(302+n), 78)
			}
			s.wait(100 * time.Millisecond)
			s.about("tapio.systemd.unit.start_limit_hit", s.run(304, map[string]any{"tapio.systemd.unit.restarts": 4, event.KeyErrorType: "exit-code"}), unit)
			s.calls(13*time.Second, true)
		}},
		"its start takes too long": {"unit-failed", "timeout", 36, func(s *scenario, told bool) {
			stop(s, told)
			again := s.run(301, map[string]any{event.KeyErrorType: "timeout"})
			s.calls(8*time.Second, true)
			s.stopped(301, "systemd")
			s.wait(2 * time.Millisecond)
			failed(s, again)
			s.calls(10*time.Second, true)
		}},
		"its configuration is broken, and by systemd alone it is known whose the process was": {"unit-failed", "exit code 78", 21, func(s *scenario, told bool) {
			stop(s, told)
			again := s.run(301, exit(78))
			s.calls(500*time.Millisecond, true)
			s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 78}, map[string]any{event.KeyProcessPID: 301, event.KeyProcessExecutableName: "python3"})
			s.wait(2 * time.Millisecond)
			failed(s, again)
			s.calls(10*time.Second, true)
		}},
		"its executable is missing": {"unit-failed", "203", 20, func(s *scenario, told bool) {
			stop(s, told)
			again := s.run(301, exit(203))
			s.wait(70 * time.Millisecond)
			s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 203}, map[string]any{event.KeyProcessPID: 301, event.KeySystemdUnit: api, event.KeyProcessExecutableName: "systemd"})
			s.about("tapio.systemd.unit.exec_failed", map[string]any{event.KeyErrorType: "no such file or directory"}, unit)
			s.wait(2 * time.Millisecond)
			failed(s, again)
			s.calls(10*time.Second, true)
		}},
		"what it does before its start fails": {"unit-failed", "exit code 32", 20, func(s *scenario, told bool) {
			stop(s, told)
			s.wait(100 * time.Millisecond)
			failed(s, map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 32, "tapio.systemd.unit.command": "ExecStartPre"})
			s.calls(10*time.Second, true)
		}},
	} {
		for _, told := range []bool{false, true} {
			for _, again := range []bool{false, true} {
				t.Run(fmt.Sprint(name, ", inactive told: ", told, ", after another outage: ", again), func(t *testing.T) {
					t.Parallel()
					s := newScenario(t)
					s.runs(101, 0)
					s.calls(30*time.Second, false)
					if again { // the same before, mended by hand
						s.stopped(101, "systemd")
						s.wait(50 * time.Millisecond)
						before := s.run(102, exit(78))
						s.wait(50 * time.Millisecond)
						ends(s, 102, 78)
						failed(s, before)
						s.about("tapio.systemd.unit.start_limit_hit", s.run(102, map[string]any{"tapio.systemd.unit.restarts": 4, event.KeyErrorType: "exit-code"}), unit)
						s.calls(10*time.Second, true)
						s.runs(201, 0)
						s.calls(28*time.Second, false)
					} else {
						s.stopped(101, "systemd")
						s.wait(50 * time.Millisecond)
						s.runs(201, 0)
						s.calls(20*time.Second, false)
					}
					broken := s.clock
					tc.play(s, told)
					s.wait(3 * time.Second)
					all := s.latest()
					if again {
						require.Len(t, all, 2)
						assert.Equal(t, "unit-start-limit", all[0].Pattern)
						assert.EqualValues(t, 20, all[0].Impact.FailedRequests)
						all = all[1:]
					}
					require.Len(t, all, 1)
					f := all[0]
					assert.Equal(t, tc.want, f.Pattern)
					assert.Equal(t, api, f.RootCause.Entity.Name)
					assert.Contains(t, f.RootCause.Description, tc.says)
					assert.EqualValues(t, tc.requests, f.Impact.FailedRequests)
					assert.WithinDuration(t, broken, f.StartedAt, time.Second)
					for _, h := range f.Rejected {
						assert.NotContains(t, h.Reason, "it was over before", h.Pattern)
					}
				})
			}
		}
	}
}

// TestStopThatIsTheCause: what ended a process of a unit is the cause, although the unit
// failed too, where that says more: a person, a run that was well after the restart.
func TestStopThatIsTheCause(t *testing.T) {
	unit := map[string]any{event.KeySystemdUnit: api}
	for name, tc := range map[string]struct {
		want []string
		play func(*scenario)
	}{
		"a person stops it, and its end is a failure": {[]string{"process-stopped: 20"}, func(s *scenario) {
			s.about(event.ProcessSignal, map[string]any{event.KeySignal: 15, event.KeySignalName: "SIGTERM", event.KeySenderName: "bash"}, s.process(201))
			s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 143}, s.process(201))
			s.about("tapio.systemd.unit.failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 143, event.KeyProcessPID: 201}, unit)
			s.calls(10*time.Second, true)
		}},
		"a person kills it": {[]string{"process-killed: 20"}, func(s *scenario) {
			s.about(event.ProcessSignal, map[string]any{event.KeySignal: 9, event.KeySignalName: "SIGKILL", event.KeySenderName: "bash"}, s.process(201))
			s.about(event.ProcessExit, map[string]any{event.KeyExitSignal: 9, event.KeyExitSignalName: "SIGKILL"}, s.process(201))
			s.about("tapio.systemd.unit.failed", map[string]any{event.KeyErrorType: "signal", event.KeyExitSignal: 9, event.KeyProcessPID: 201}, unit)
			s.calls(10*time.Second, true)
		}},
		"systemd stops it": {[]string{"process-stopped: 20"}, func(s *scenario) {
			s.stopped(201, "systemd")
			s.about("tapio.systemd.unit.deactivated", nil, unit)
			s.calls(10*time.Second, true)
		}},
		"it is restarted, is well, and fails a while later": {[]string{"process-stopped: 4", "unit-failed: 20"}, func(s *scenario) {
			s.stopped(201, "systemd")
			s.calls(2*time.Second, true)
			s.runs(202, 0)
			again := s.run(202, map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 3})
			s.calls(40*time.Second, false)
			s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 3}, s.process(202))
			s.about("tapio.systemd.unit.failed", again, unit)
			s.calls(10*time.Second, true)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.runs(201, 0)
			s.calls(30*time.Second, false)
			tc.play(s)
			s.wait(3 * time.Second)
			var found []string
			for _, f := range s.latest() {
				found = append(found, fmt.Sprint(f.Pattern, ": ", f.Impact.FailedRequests))
			}
			assert.Equal(t, tc.want, found)
		})
	}
}
