package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// withPID is the same service as another process.
func (v service) withPID(pid int64) service { v.pid = pid; return v }

// on is the same service on another host.
func (v service) on(host string) service { v.host = host; return v }

// missingText joins what a finding says is missing.
func missingText(f *finding.Finding) string { return strings.Join(f.Missing, "\n") }

func TestApplicationEvidenceAlone(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	for range 10 {
		s.wait(100 * time.Millisecond)
		s.send(broken("u", 10, refused))
	}
	s.wait(5 * time.Second)

	f := s.one()
	assert.Equal(t, "connection-refused", f.Pattern)
	assert.Equal(t, "payment", f.RootCause.Entity.Name)
	assert.EqualValues(t, 10, f.Impact.FailedRequests)
	assert.Contains(t, missingText(f), "Kernel evidence is missing: no kernel receiver reports from node1")
	assert.Contains(t, missingText(f), "tapio_ebpf", "says how to get it")
	assert.Contains(t, missingText(f), "No refused connection to 127.0.0.1:8081 was seen by the kernel.")
	for _, l := range f.Chain {
		assert.NotEqual(t, finding.LayerKernel, l.Layer, l.Title)
	}
}

func TestMissingKernelEvidenceSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		name       string
		say        func(*scenario)
		want, deny string
	}{
		{"no program could start", func(s *scenario) {
			s.kernel(payment, event.EBPFStarted, s.clock, map[string]any{event.KeyEBPFPrograms: []any{}, event.KeyEBPFFailed: []any{"process_exit: operation not permitted"}})
		}, "runs no program (process_exit: operation not permitted)", ""},
		{"one program failed", func(s *scenario) {
			s.kernel(payment, event.EBPFStarted, s.clock, map[string]any{event.KeyEBPFPrograms: []any{"process_exit"}, event.KeyEBPFFailed: []any{"oom_kill: no such symbol"}})
		}, "no such symbol", "no kernel receiver reports"},
		{"all run", func(s *scenario) {
			s.kernel(payment, event.EBPFStarted, s.clock, map[string]any{event.KeyEBPFPrograms: []any{"process_exit"}, event.KeyEBPFFailed: []any{}})
		}, "No process of payment was seen to end", "Kernel evidence"},
		{"it reported before the engine was there", func(s *scenario) {
			s.kernel(ledger, event.ProcessExec, s.clock, nil)
		}, "No process of payment was seen to end", "Kernel evidence"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScenario(t)
			tc.say(s)
			s.healthy(5 * time.Second)
			for range 5 {
				s.wait(100 * time.Millisecond)
				s.send(broken("u", 10, refused))
			}
			s.wait(5 * time.Second)
			assert.Contains(t, missingText(s.one()), tc.want)
			if tc.deny != "" {
				assert.NotContains(t, missingText(s.one()), tc.deny)
			}
		})
	}
}

func TestLateCauseReplacesTheInferredOne(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	died := s.clock
	s.refusals(10, "u")
	first := s.one()
	require.Equal(t, "connection-refused", first.Pattern)

	s.kernel(payment, event.OOMKill, died, map[string]any{
		event.KeyOOMScope: "cgroup", event.KeyMemoryCgroup: "/shop/payment", event.KeyMemoryLimit: 64 << 20,
		event.KeyMemoryPeak: 64 << 20, event.KeyOOMRSS: 60 << 20,
	})
	s.kernel(payment, event.ProcessExit, died.Add(10*time.Millisecond), killed)
	s.wait(5 * time.Second)

	f := s.one()
	assert.Equal(t, first.ID, f.ID, "the same incident")
	assert.Greater(t, f.Revision, first.Revision)
	assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
	require.Len(t, f.EarlierCauses, 1)
	was := f.EarlierCauses[0]
	assert.Equal(t, "connection-refused", was.Pattern)
	assert.Equal(t, first.RootCause.Entity, was.Entity)
	assert.Equal(t, first.RootCause.Event, was.Event)
	assert.Contains(t, was.Reason, "tapio.oom.kill of payment v2.1.0 (process checkout, pid 12) at "+pattern.Clock(died.UnixNano())+" was seen; the cause before was only inferred")
	assert.GreaterOrEqual(t, was.Revision, first.Revision)
	assert.Less(t, was.Revision, f.Revision)
	assert.Equal(t, died, f.StartedAt)
	assert.EqualValues(t, 10, f.Impact.FailedRequests, "nothing is lost or counted twice")
	assert.NotContains(t, missingText(f), "Kernel evidence is missing")
	assertCausal(t, f)
	assertComplete(t, f)
}

// outside hands over a kernel event of a process outside of the collector's pid namespace.
func (s *scenario) outside(name string, attrs map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	require.NoError(s.t, rl.Resource().Attributes().FromRaw(map[string]any{
		event.KeyHostName: payment.host, event.KeyProcessVPID: 7, event.KeyProcessExecutableName: "batch", event.KeyProcessCgroup: "/batch",
		event.KeyProcessCreationTime: epoch.Add(-time.Hour).Format(time.RFC3339Nano),
	}))
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(name)
	r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	s.deliver(item{logs: ld})
}

// TestOutsideOfThePIDNamespace: a process that the collector cannot number is not the
// host, and its loopback ports, maybe of another network namespace, are not the host's.
func TestOutsideOfThePIDNamespace(t *testing.T) {
	s := newScenario(t)
	s.outside(event.TCPListen, map[string]any{event.KeyLocalAddress: "127.0.0.1", event.KeyLocalPort: payment.port, event.KeyConnectionState: "listen"})
	s.wait(time.Second)
	s.outside(event.OOMKill, map[string]any{
		event.KeyOOMScope: "cgroup", event.KeyMemoryCgroup: "/batch", event.KeyMemoryLimit: 64 << 20,
		event.KeyMemoryPeak: 64 << 20, event.KeyOOMRSS: 60 << 20,
	})
	s.wait(10 * time.Millisecond)
	s.outside(event.ProcessExit, killed)
	s.refusals(10, "u")
	s.wait(5 * time.Second)

	all := s.latest()
	require.Len(t, all, 2)
	i := slices.IndexFunc(all, func(f *finding.Finding) bool { return f.Pattern == "memory-limit-oom-kill" })
	require.GreaterOrEqual(t, i, 0)
	other, ours := all[i], all[1-i]
	assert.Equal(t, "process", other.RootCause.Entity.Kind)
	assert.Equal(t, "batch was killed by the kernel: out of memory", other.Title)
	assert.Contains(t, other.RootCause.Description, "batch (outside of the collector's pid namespace)")
	require.Len(t, other.Chain, 2)
	assert.True(t, strings.HasPrefix(other.Chain[1].LinkedOn, "process batch started "), other.Chain[1].LinkedOn)
	assert.Zero(t, other.Impact.FailedRequests)
	assert.Equal(t, "connection-refused", ours.Pattern)
	assert.EqualValues(t, 10, ours.Impact.FailedRequests)
}

func TestSamePIDOnAnotherHostDoesNotLink(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.oom(payment.on("node2"))
	s.wait(10 * time.Millisecond)
	s.exit(payment.on("node2"), killed)
	s.refusals(10, "u")
	s.wait(5 * time.Second)

	all := s.latest()
	require.Len(t, all, 2, "two machines, two incidents")
	i := slices.IndexFunc(all, func(f *finding.Finding) bool { return f.Pattern == "memory-limit-oom-kill" })
	require.GreaterOrEqual(t, i, 0)
	other, ours := all[i], all[1-i]
	assert.Equal(t, "node2", other.RootCause.Entity.Attributes[event.KeyHostName])
	assert.Zero(t, other.Impact.FailedRequests)
	assert.Equal(t, "connection-refused", ours.Pattern)
	assert.EqualValues(t, 10, ours.Impact.FailedRequests)
}

func TestCrashLoopIsOneIncident(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	for round := range 3 {
		p := payment.withPID(payment.pid + int64(round)*100)
		if round > 0 {
			for range 20 { // it comes back as another process
				s.send(order{"u", 1, &call{from: load, to: storefront, took: 12 * time.Millisecond, status: 200, inner: &call{
					from: storefront, to: p, took: 8 * time.Millisecond, status: 200,
				}}})
				s.wait(100 * time.Millisecond)
			}
		}
		s.oom(p)
		s.wait(10 * time.Millisecond)
		s.exit(p, killed)
		s.refusals(5, "u")
		s.wait(3 * time.Second)
	}

	f := s.one()
	assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
	assert.EqualValues(t, 15, f.Impact.FailedRequests)
	assert.EqualValues(t, 3, f.Chain[0].Count, "three kills")
	assert.EqualValues(t, 3, f.RootCause.Evidence["tapio.cause.count"])
	assertCausal(t, f)
}

func TestTwoFaultsAreTwoFindings(t *testing.T) {
	search := service{"search", "9", "node2", 12, 9000} // the same pid as payment, on another host
	web := service{"web", "2", "node2", 11, 9001}
	s := newScenario(t)
	toSearch := func(status int, err string) order {
		return order{"v", 3, &call{from: load.on("node2"), to: web, took: 9 * time.Millisecond, status: max(status, 0), inner: &call{
			from: web, to: search, took: 4 * time.Millisecond, status: status, err: err,
		}}}
	}
	for range 20 {
		s.send(toSearch(200, ""))
		s.send(good("u", 10))
		s.wait(100 * time.Millisecond)
	}
	s.oom(payment)
	s.exit(payment, killed)
	s.exit(search, exit2)
	for range 7 {
		s.wait(100 * time.Millisecond)
		s.send(broken("u", 10, refused))
		down := toSearch(0, "dial tcp 127.0.0.1:9000: connect: connection refused")
		down.call.status = 503
		s.send(down)
	}
	s.wait(5 * time.Second)

	all := s.latest()
	require.Len(t, all, 2)
	byName := map[string]*finding.Finding{}
	for _, f := range all {
		byName[f.RootCause.Entity.Name] = f
		assert.EqualValues(t, 7, f.Impact.FailedRequests)
	}
	require.Contains(t, byName, "payment")
	require.Contains(t, byName, "search")
	assert.Equal(t, "memory-limit-oom-kill", byName["payment"].Pattern)
	assert.InDelta(t, 70, *byName["payment"].Impact.Value, 1e-9)
	assert.Equal(t, "process-crashed", byName["search"].Pattern)
	assert.InDelta(t, 21, *byName["search"].Impact.Value, 1e-9)
}

func TestFailingCalleeIsBlamedNotItsCallers(t *testing.T) {
	for name, bad := range map[string]order{
		"callee-failing": failing(500, 3*time.Millisecond), "operation-slow": failing(200, 300*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.healthy(2 * time.Minute)
			s.traffic(30*time.Second, 1, bad)
			s.wait(5 * time.Second)
			f := s.one()
			assert.Equal(t, name, f.Pattern)
			assert.Equal(t, "ledger", f.RootCause.Entity.Name)
			assert.ElementsMatch(t, []string{"payment", "shop-load", "storefront"}, f.Impact.Services)
			if name == "callee-failing" {
				assert.EqualValues(t, 300, f.Impact.FailedRequests)
				assert.Zero(t, f.Impact.SlowRequests)
			} else {
				assert.EqualValues(t, 300, f.Impact.SlowRequests)
				assert.Zero(t, f.Impact.FailedRequests)
				assert.Nil(t, f.Impact.Value, "an order that was slow was not lost")
			}
			assertCausal(t, f)
		})
	}
}

// An effect is no cause: the end of the process that the kernel killed is not said
// to be a kill of its own, and the finding says what was weighed.
func TestEffectIsExplainedAway(t *testing.T) {
	s := newScenario(t)
	oomOf("cgroup")(s)
	f := s.one()
	var said []string
	for _, r := range f.Rejected {
		said = append(said, r.Pattern+": "+r.Reason)
	}
	text := strings.Join(said, "\n")
	assert.Contains(t, text, "process-killed: it follows from the cause")
	assert.Contains(t, text, "node-out-of-memory: ruled out: tapio.oom.scope is cgroup")
	assert.Contains(t, text, "callee-failing: its failed requests each hold a failed call to payment")
}

// A process beside the one that serves ends: the same container, not the cause.
func TestSidecarIsNotTheCause(t *testing.T) {
	s := newScenario(t)
	inContainer := func(name string, at service, vpid int64, attrs map[string]any) {
		s.inContainer(at, vpid, name, attrs)
	}
	inContainer(event.ProcessExec, payment, 1, nil)
	s.healthy(5 * time.Second)
	inContainer(event.ProcessExit, service{"", "", "node1", 500, 0}, 37, exit2)
	s.refusals(5, "u")
	s.wait(5 * time.Second)
	assert.Equal(t, "connection-refused", s.one().Pattern)

	s = newScenario(t)
	s.inContainer(payment, 1, event.ProcessExec, nil)
	s.healthy(5 * time.Second)
	s.inContainer(payment, 1, event.ProcessExit, exit2)
	s.refusals(5, "u")
	s.wait(5 * time.Second)
	assert.Equal(t, "process-crashed", s.one().Pattern, "the first process of the container is the cause")
}
