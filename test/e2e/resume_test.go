package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
)

// resolveAfter is longer than a busy machine may hold up orders that come ten a second.
const resolveAfter = 15 * time.Second

// TestCollectorRestartsInAFailure restarts the collector while orders fail: the same
// finding goes on, and ends when the failure has, also when that is while no collector
// runs.
func TestCollectorRestartsInAFailure(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) { restartInAFailure(t, sig) })
	}
}

func restartInAFailure(t *testing.T, sig syscall.Signal) {
	a := freeAddresses(t, 9)
	dir := t.TempDir()
	api := "http://" + a[2]
	collector := func() *program {
		return restartCollector(t, a, filepath.Join(dir, "findings.db"),
			"yaml:processors::tapiocorrelation::resolve_after: "+resolveAfter.String(),
			"yaml:processors::tapiocorrelation::impact::value_attribute: order.amount")
	}
	end := func(p *program) {
		t.Helper()
		p.signal(t, sig)
		p.wait(t, 30*time.Second)
	}
	first := collector()
	service := func(args ...string) *program {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin(t, checkoutName), args...)
		cmd.Env = environ("OTEL_EXPORTER_OTLP_ENDPOINT=http://" + a[0])
		return start(t, cmd)
	}
	service("ledger", "--listen", a[6])
	payment := service("payment", "--listen", a[7], "--ledger-url", "http://"+a[6])
	service("storefront", "--listen", a[8], "--payment-url", "http://"+a[7])
	load := service("load", "--url", "http://"+a[8], "--duration", "0", "--report", filepath.Join(dir, "report.json"))
	sent := func() (r report) {
		if b, err := os.ReadFile(filepath.Join(dir, "report.json")); err == nil {
			_ = json.Unmarshal(b, &r) // it is written again and again: the next read sees it whole
		}
		return r
	}
	poll(t, time.Minute, "30 orders that payment charged", func() bool { return sent().OK >= 30 })
	payment.signal(t, syscall.SIGKILL)

	var f *finding.Finding
	defer func() {
		if t.Failed() && f != nil {
			t.Logf("revision %d, %s: %d failed orders of %d", f.Revision, f.State, f.Impact.FailedRequests, sent().Failed)
		}
	}()
	last := func() bool {
		f = ofPayment(t, api)
		return f != nil
	}
	poll(t, time.Minute, "finding of ten failed orders", func() bool { return last() && f.Impact.FailedRequests >= 10 })
	shown := f
	require.Equal(t, finding.StateOpen, shown.State)
	end(first)
	down := sent().Failed
	poll(t, time.Minute, "orders that fail while no collector runs", func() bool { return sent().Failed >= down+10 })

	second := collector()
	poll(t, time.Minute, "finding that goes on", func() bool { return last() && f.Impact.FailedRequests >= down+20 })
	assert.Equal(t, shown.ID, f.ID)
	assert.Equal(t, finding.StateOpen, f.State)
	assert.Greater(t, f.Revision, shown.Revision)
	assert.Equal(t, shown.RootCause, f.RootCause)
	assert.Equal(t, shown.DetectedAt, f.DetectedAt)

	load.signal(t, syscall.SIGTERM)
	require.Zero(t, load.wait(t, 30*time.Second))
	r := sent()
	require.True(t, r.Complete)
	checkOnce(t, f, r)
	end(second)
	third := collector()
	poll(t, time.Minute, "end of the finding", func() bool { return last() && f.State.Over() })
	assert.Equal(t, shown.ID, f.ID)
	assert.Equal(t, finding.StateResolved, f.State)
	assert.Contains(t, f.Ending, "Nothing of it was seen in the 15s since the collector started again at ")
	checkOnce(t, f, r)
	end(third)
}

// checkOnce: every order that the finding counts failed, and is counted once. What the
// services could not hand over while no collector ran, they drop after some seconds.
func checkOnce(t *testing.T, f *finding.Finding, r report) {
	t.Helper()
	listed := map[string]bool{}
	for _, h := range f.HurtTraces {
		assert.False(t, listed[h.TraceID], "%s is listed twice", h.TraceID)
		assert.Contains(t, r.FailedTraceIDs, h.TraceID)
		listed[h.TraceID] = true
	}
	assert.Len(t, listed, int(f.Impact.FailedRequests))
	require.NotNil(t, f.Impact.Users)
	assert.LessOrEqual(t, *f.Impact.Users, int64(len(r.FailedUsers)))
	require.NotNil(t, f.Impact.Value)
	assert.LessOrEqual(t, *f.Impact.Value, r.FailedAmount+0.01)
}

// ofPayment returns the one finding that orders failed because of payment, nil for none;
// the kernel may have seen other things on this machine.
func ofPayment(t *testing.T, api string) *finding.Finding {
	t.Helper()
	all, err := listed(t, api)
	if err != nil {
		return nil
	}
	all = slices.DeleteFunc(all, func(f *finding.Finding) bool { return f.Impact.FailedRequests == 0 })
	if len(all) == 0 {
		return nil
	}
	if len(all) > 1 {
		whole, err := json.MarshalIndent(all, "", "  ")
		require.NoError(t, err)
		require.Failf(t, "one incident, one finding", "there are %d: %s", len(all), whole)
	}
	return all[0]
}
