package e2e

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// runLimit bounds a run in which payment breaks: it takes some 15 seconds.
const runLimit = 2 * time.Minute

// TestLeak: payment leaks into its cgroup's limit and the kernel kills it.
func TestLeak(t *testing.T) {
	requireKernel(t)
	s := startShop(t, nil, "--fault", "leak", "--memory-limit", "64MiB")
	require.Zero(t, s.wait(t, runLimit))
	st, r, f := s.state(t), s.report(t), s.onlyFinding(t)
	requireKilled(t, st, 1)

	assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
	assert.Equal(t, event.OOMKill, f.RootCause.Event)
	checkPayment(t, f, st)
	assert.EqualValues(t, 64<<20, st.Payment.LimitBytes)
	assert.EqualValues(t, st.Payment.LimitBytes, f.RootCause.Evidence[event.KeyMemoryLimit])
	assert.GreaterOrEqual(t, f.RootCause.Evidence[event.KeyMemoryPeak], st.Payment.LimitBytes)
	assert.Equal(t, "cgroup", f.RootCause.Evidence[event.KeyOOMScope])
	checkFinding(t, f, r)
	for _, layer := range []finding.Layer{finding.LayerKernel, finding.LayerNetwork, finding.LayerApp, finding.LayerBusiness} {
		assert.True(t, layers(f)[layer], "no link of layer %s", layer)
	}
	for _, h := range f.Rejected {
		assert.Less(t, h.Score, f.Confidence.Score, h.Pattern)
		assert.NotEmpty(t, h.Reason, h.Pattern)
	}
	checkText(t, s.out.String(), st, r)
}

// checkText: what people read has all sections, and the numbers of this run.
func checkText(t *testing.T, text string, st state, r report) {
	t.Helper()
	for _, want := range []string{
		"tapio correlate --trace-id " + r.FailedTraceIDs[0],
		"CORRELATION SUMMARY", "EVENT CHAIN", "[KERNEL]", "[NET]", "[APP]", "[BIZ]",
		"RECOMMENDED ACTIONS", "IMMEDIATE", "SHORT-TERM", "LONG-TERM",
		"CONSIDERED AND REJECTED", "MISSING EVIDENCE",
		st.Payment.Version, strconv.FormatInt(st.Payment.PID, 10), "64 MiB",
		fmt.Sprintf("%d failed requests", r.Failed), fmt.Sprintf("%d (distinct user.id)", len(r.FailedUsers)),
	} {
		assert.Contains(t, text, want)
	}
}

// requireKilled checks, with the kernel's counter, that the fault was the one meant.
func requireKilled(t *testing.T, st state, oomKills int64) {
	t.Helper()
	require.Equal(t, "signal: killed", st.Payment.Ended)
	require.NotNil(t, st.Payment.OOMKills)
	require.Equal(t, oomKills, *st.Payment.OOMKills)
}

// checkPayment: the root cause is the process that ended, when it ended.
func checkPayment(t *testing.T, f *finding.Finding, st state) {
	t.Helper()
	e := f.RootCause.Entity
	assert.Equal(t, "process", e.Kind)
	assert.EqualValues(t, st.Payment.PID, e.Attributes[event.KeyProcessPID])
	assert.Equal(t, "payment", e.Attributes[event.KeyServiceName])
	assert.Equal(t, st.Payment.Version, e.Attributes[event.KeyServiceVersion])
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, host, e.Attributes[event.KeyHostName])
	require.NotNil(t, st.Payment.EndedAt)
	assert.WithinDuration(t, *st.Payment.EndedAt, f.StartedAt, time.Second)
}

// checkSender: the orchestrator of the shop is who ended payment.
func checkSender(t *testing.T, f *finding.Finding, s *shop) {
	t.Helper()
	assert.EqualValues(t, s.cmd.Process.Pid, f.RootCause.Evidence[event.KeySenderPID])
	assert.Contains(t, f.RootCause.Description, fmt.Sprintf("(pid %d", s.cmd.Process.Pid))
}

// TestSIGKILL: the same signal as an out-of-memory kill, from another hand.
func TestSIGKILL(t *testing.T) {
	requireKernel(t)
	s := startShop(t, nil, "--fault", "sigkill", "--after", "5s")
	require.Zero(t, s.wait(t, runLimit))
	st, f := s.state(t), s.onlyFinding(t)
	requireKilled(t, st, 0)

	assert.Equal(t, "process-killed", f.Pattern)
	assert.Equal(t, event.ProcessExit, f.RootCause.Event)
	assert.EqualValues(t, 9, f.RootCause.Evidence[event.KeyExitSignal])
	assert.NotContains(t, f.RootCause.Evidence, event.KeyProcessExitCode)
	checkSender(t, f, s)
	checkPayment(t, f, st)
	checkFinding(t, f, s.report(t))
}

// TestStop: somebody stopped payment, and it ended in good order.
func TestStop(t *testing.T) {
	requireKernel(t)
	s := startShop(t, nil, "--fault", "stop", "--after", "5s")
	require.Zero(t, s.wait(t, runLimit))
	st, f := s.state(t), s.onlyFinding(t)
	require.Equal(t, "exit status 0", st.Payment.Ended)

	assert.Equal(t, "process-stopped", f.Pattern)
	assert.Equal(t, event.ProcessExit, f.RootCause.Event)
	assert.EqualValues(t, 0, f.RootCause.Evidence[event.KeyProcessExitCode])
	assert.NotContains(t, f.RootCause.Evidence, event.KeyExitSignal)
	checkSender(t, f, s)
	assert.Contains(t, f.RootCause.Description, "storefront", "storefront is who went on calling payment")
	checkPayment(t, f, st)
	checkFinding(t, f, s.report(t))
}

// TestHang: payment is there and does nothing, and those who call it give up.
func TestHang(t *testing.T) {
	s := startShop(t, nil, "--fault", "hang", "--after", "5s")
	require.Zero(t, s.wait(t, runLimit))
	f := s.onlyFinding(t)
	assert.Equal(t, "not-responding", f.Pattern)
	assert.Equal(t, "payment", f.RootCause.Entity.Name)
	checkImpact(t, f, s.report(t))
	checkChain(t, f)
}

// TestHealthy: two minutes of orders, nothing broken, nothing found.
func TestHealthy(t *testing.T) {
	const duration = 2 * time.Minute
	s := startShop(t, nil, "--fault", "none", "--duration", duration.String())
	require.Zero(t, s.wait(t, duration+runLimit))
	r := s.report(t)
	assert.InDelta(t, 1200, r.Sent, 20, "10 orders a second")
	assert.Zero(t, r.NotSent)
	assert.Zero(t, r.Failed)
	assert.Empty(t, s.findings(t))
}

// TestNoFindingFails: the demo must not pretend.
func TestNoFindingFails(t *testing.T) {
	s := startShop(t, nil, "--fault", "leak", "--leak", "4MiB", "--config", "yaml:processors::tapiocorrelation::min_score: 1")
	assert.Equal(t, 1, s.wait(t, runLimit))
	assert.Contains(t, s.out.String(), "no finding explains trace "+s.report(t).FailedTraceIDs[0])
	assert.Empty(t, s.findings(t))
}
