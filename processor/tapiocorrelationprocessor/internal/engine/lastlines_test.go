package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// prints hands over what somebody logged some time ago.
func (s *scenario) prints(ago time.Duration, severity plog.SeverityNumber, text string, resource, attrs map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	require.NoError(s.t, rl.Resource().Attributes().FromRaw(resource))
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetSeverityNumber(severity)
	r.Body().SetStr(text)
	r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock.Add(-ago)))
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	s.deliver(item{logs: ld})
}

const (
	paymentUnit = "payments.service"
	fatal       = "FATAL: cannot read /etc/payment/tls.key: permission denied"
	info        = plog.SeverityNumberInfo
)

var ofPaymentUnit = map[string]any{event.KeyHostName: "node1", event.KeySystemdUnit: paymentUnit}

// journal hands over what a run of payment's unit printed.
func (s *scenario) journal(ago time.Duration, run, text string) {
	s.prints(ago, info, text, ofPaymentUnit, map[string]any{event.KeySystemdInvocation: run, event.KeyProcessPID: payment.pid})
}

// fails hands over that a run of payment's unit failed, and its callers' failed requests.
func (s *scenario) fails(run string) {
	s.unit(paymentUnit, payment, "failed", map[string]any{
		event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 78, event.KeySystemdInvocation: run,
	})
	s.refusals(5, "u")
}

func textsOf(lines []finding.LogLine) (out []string) {
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return out
}

// TestLastLines: what the one that ended said last is in the finding, and nobody else's words.
func TestLastLines(t *testing.T) {
	pod := map[string]any{event.KeyNamespaceName: "shop", event.KeyPodName: "payment-1", event.KeyNodeName: "node1", event.KeyServiceName: "payment", event.KeyDeploymentName: "payment"}
	in := func(container string, restart string) map[string]any {
		r := map[string]any{event.KeyContainerName: container, event.KeyContainerRestart: restart}
		for k, v := range pod {
			r[k] = v
		}
		return r
	}
	crashes := func(s *scenario) {
		s.about(event.K8sContainerWaiting, map[string]any{event.KeyContainerName: "app", event.KeyContainerReason: "CrashLoopBackOff", event.KeyContainerRestart: 5}, pod)
		s.about("tapio.k8s.workload.unavailable", nil, map[string]any{event.KeyNamespaceName: "shop", event.KeyServiceName: "payment", event.KeyDeploymentName: "payment"})
	}
	for name, tc := range map[string]struct {
		want    []string
		missing string
		play    func(*scenario)
	}{
		"a unit's run": {[]string{"reading keys", fatal}, "", func(s *scenario) {
			s.journal(30*time.Second, "run1", "of the run before")
			s.journal(2*time.Minute, "run2", "long ago")
			s.journal(20*time.Millisecond, "run2", "reading keys")
			s.journal(10*time.Millisecond, "run2", fatal)
			s.prints(time.Millisecond, plog.SeverityNumberWarn, "payments.service: Failed with result 'exit-code'.", ofPaymentUnit, map[string]any{event.KeyProcessPID: 1})
			s.fails("run2")
		}},
		"its journal comes later than the news of its end": {[]string{fatal}, "", func(s *scenario) {
			s.fails("run2")
			s.wait(time.Second)
			s.journal(time.Second, "run2", fatal)
		}},
		"warnings before the last two": {[]string{"ERROR one", "WARN two", "level=error three", "four", "five"}, "", func(s *scenario) {
			for i, text := range []string{"zero", "ERROR one", "a", "WARN two", "b", "level=error three", "c", "four", "five"} {
				s.journal(time.Duration(10-i)*time.Millisecond, "run2", text)
			}
			s.fails("run2")
		}},
		"stack traces are their first lines": {[]string{"Exception in thread main java.lang.IllegalStateException: no key", "Caused by: java.io.IOException: denied"}, "", func(s *scenario) {
			for _, text := range []string{"Exception in thread main java.lang.IllegalStateException: no key", "\tat a.B.c(B.java:1)", "Caused by: java.io.IOException: denied", "\tat d.E.f(E.java:2)", ""} {
				s.journal(time.Millisecond, "run2", text)
			}
			s.fails("run2")
		}},
		"said again and again": {[]string{"retrying"}, "", func(s *scenario) {
			for range 10 {
				s.journal(time.Millisecond, "run2", "retrying")
			}
			s.fails("run2")
		}},
		"another run alone spoke": {nil, "What payments.service logged before it ended: no log record of it was received; see `journalctl -u payments.service`.", func(s *scenario) {
			s.journal(time.Second, "run1", "of the run before")
			s.prints(0, info, "of the unit on another host", map[string]any{event.KeyHostName: "node2", event.KeySystemdUnit: paymentUnit}, map[string]any{event.KeySystemdInvocation: "run2"})
			s.prints(0, info, "of another unit", map[string]any{event.KeyHostName: "node1", event.KeySystemdUnit: "x.service"}, map[string]any{event.KeySystemdInvocation: "run2"})
			s.fails("run2")
		}},
		"a process that logs by OTLP": {[]string{fatal}, "", func(s *scenario) {
			s.prints(time.Second, plog.SeverityNumberFatal, fatal, map[string]any{event.KeyServiceName: "payment", event.KeyHostName: "node1", event.KeyProcessPID: payment.pid}, nil)
			s.prints(time.Second, plog.SeverityNumberFatal, "of another service", map[string]any{event.KeyServiceName: "ledger", event.KeyHostName: "node1", event.KeyProcessPID: ledger.pid}, nil)
			s.exit(payment, exit2)
			s.refusals(5, "u")
		}},
		"a process of a unit, as the kernel saw it": {[]string{fatal}, "", func(s *scenario) {
			s.about(event.SystemdUnitRunning, map[string]any{event.KeyProcessPID: payment.pid, event.KeyProcessCreationTime: epoch.Add(-time.Hour).Add(40 * time.Millisecond).Format(time.RFC3339Nano)}, ofPaymentUnit)
			s.journal(time.Second, "run2", fatal)
			s.prints(0, info, "of another process of the unit", ofPaymentUnit, map[string]any{event.KeySystemdInvocation: "run2", event.KeyProcessPID: 4711})
			s.exit(payment, exit2)
			s.refusals(5, "u")
		}},
		"a process silent": {nil, "What payment v2.1.0 (process checkout, pid 12) logged before it ended: no log record of it was received.", func(s *scenario) {
			s.exit(payment, exit2)
			s.refusals(5, "u")
		}},
		"a container, by its pod and name": {[]string{fatal}, "", func(s *scenario) {
			s.prints(3*time.Second, info, "of an earlier run", in("app", "3"), nil)
			s.prints(2*time.Second, info, fatal, in("app", "5"), nil)
			s.prints(time.Second, info, "of the sidecar", in("proxy", "0"), nil)
			crashes(s)
		}},
		"a container silent": {nil, "see `kubectl logs --previous`.", func(s *scenario) {
			s.prints(time.Second, info, "of the sidecar", in("proxy", "0"), nil)
			crashes(s)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			tc.play(s)
			s.wait(5 * time.Second)
			f := s.one()
			assert.Equal(t, tc.want, textsOf(f.RootCause.LastLines))
			if missing := strings.Join(f.Missing, "\n"); tc.missing == "" {
				assert.NotContains(t, missing, "no log record")
			} else {
				assert.Contains(t, missing, tc.missing)
			}
		})
	}
}

// TestLastLinesOverARestart: what was quoted stays, though the lines are forgotten.
func TestLastLinesOverARestart(t *testing.T) {
	s := kept(t)
	s.healthy(5 * time.Second)
	s.journal(10*time.Millisecond, "run2", fatal)
	s.fails("run2")
	s.wait(5 * time.Second)
	resumed, _ := s.restart(10 * time.Second)
	require.Equal(t, 1, resumed)
	s.refusals(5, "v")
	s.wait(5 * time.Second)
	assert.Equal(t, []string{fatal}, textsOf(s.one().RootCause.LastLines))
}

// TestFailedUnitsAreNamed: why nothing listens is not known, but which units are failed there.
func TestFailedUnitsAreNamed(t *testing.T) {
	const says = "What listened there before; these units are or were failed on node1: "
	for name, tc := range map[string]struct {
		want string
		play func(*scenario)
	}{
		"one that failed before anybody watched": {says + "payments.service since 2026-11-23 11:00:00 UTC.", func(s *scenario) {
			s.unitAt(epoch.Add(-time.Hour), paymentUnit, service{}, "failed", map[string]any{"tapio.systemd.snapshot": true})
			s.wait(45 * time.Minute) // longer than what no event names is remembered
		}},
		"the last of many first": {says + "u6.service since 2026-11-23 12:00:06 UTC, u5.service since 2026-11-23 12:00:05 UTC, u4.service since 2026-11-23 12:00:04 UTC, " +
			"u3.service since 2026-11-23 12:00:03 UTC, u2.service since 2026-11-23 12:00:02 UTC, and 1 more.", func(s *scenario) {
			for i := range 6 {
				s.wait(time.Second)
				s.unitAt(epoch.Add(time.Duration(i+1)*time.Second), "u"+string(rune('1'+i))+".service", service{}, "failed", nil)
			}
		}},
		"the nearest first, well again or not": {says + "payments.service from 2026-11-23 12:05:00 to 2026-11-23 12:05:04 UTC, job.service since 2026-11-23 12:00:00 UTC.", func(s *scenario) {
			s.unit("job.service", service{}, "failed", nil)
			s.unit("old.service", service{}, "failed", nil)
			s.wait(2 * time.Minute)
			s.unit("old.service", service{}, "activated", nil)
			s.wait(3 * time.Minute)
			s.unit(paymentUnit, service{}, "failed", nil)
			s.refusals(5, "u")
			at := epoch.Add(5 * time.Minute)
			for n, what := range []string{"activated", "failed", "start_limit_hit", "activated"} {
				s.unitAt(at.Add(time.Duration(n+1)*time.Second), paymentUnit, service{}, what, nil)
			}
		}},
		"one that was started again": {"", func(s *scenario) {
			s.unit(paymentUnit, service{}, "failed", nil)
			s.wait(time.Second)
			at := s.clock
			s.unit(paymentUnit, service{}, "activated", nil)
			s.wait(time.Second)
			s.unitAt(at.Add(-500*time.Millisecond), paymentUnit, service{}, "start_limit_hit", nil) // told late
			s.wait(10 * time.Minute)
		}},
		"one of another host": {"", func(s *scenario) {
			s.about("tapio.systemd.unit.failed", nil, map[string]any{event.KeySystemdUnit: paymentUnit})
			ld := plog.NewLogs()
			rl := ld.ResourceLogs().AppendEmpty()
			rl.Resource().Attributes().PutStr(event.KeyHostName, "node1")
			rl.Resource().Attributes().PutStr(event.KeySystemdUnit, paymentUnit)
			r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			r.SetEventName("tapio.systemd.unit.activated")
			r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock.Add(time.Millisecond)))
			s.deliver(item{logs: ld})
			s.wait(time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			tc.play(s)
			s.refusals(10, "u")
			s.wait(5 * time.Second)
			var f *finding.Finding
			for _, x := range s.latest() {
				if x.Pattern == "connection-refused" {
					f = x
				}
			}
			require.NotNil(t, f)
			missing := strings.Join(f.Missing, "\n")
			if tc.want == "" {
				assert.NotContains(t, missing, "units are failed")
				return
			}
			assert.Contains(t, missing, tc.want)
			assert.Contains(t, f.Actions.Immediate[0], "failed on node1: ", "who reads what to do is told, too")
		})
	}
}

// TestFailedUnitsStayNamed: the unit fails again later, which takes nothing from what was said
// of the outage before.
func TestFailedUnitsStayNamed(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.unit(paymentUnit, service{}, "failed", nil)
	s.refusals(10, "u")
	s.unit(paymentUnit, service{}, "activated", nil)
	s.healthy(30 * time.Second)
	s.unit(paymentUnit, service{}, "failed", nil)
	s.wait(10 * time.Minute)
	f := s.latest()[0]
	require.Equal(t, "connection-refused", f.Pattern)
	assert.Equal(t, finding.StateResolved, f.State)
	assert.Contains(t, strings.Join(f.Missing, "\n"), "payments.service from 2026-11-23 12:00:00 to ")
}
