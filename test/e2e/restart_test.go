package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
)

// TestCollectorKilled kills the collector in mid-run, with orders failing, as
// soon as tapio findings shows a finding: that finding must be there after a
// restart.
func TestCollectorKilled(t *testing.T) {
	s := startShop(t, nil, "--fault", "sigkill", "--after", "3s")
	poll(t, time.Minute, "report", func() bool { return s.exists("report.json") })
	st := s.state(t)
	var shown []*finding.Finding
	poll(t, time.Minute, "finding", func() bool {
		var err error
		shown, err = listed(t, st.Collector.API)
		shown = ofShop(t, shown, st)
		return err == nil && len(shown) > 0
	})
	require.NoError(t, syscall.Kill(st.PIDs[collectorName], syscall.SIGKILL))
	require.Len(t, shown, 1)
	assert.Equal(t, 1, s.wait(t, runLimit), "the run must say that its collector died")
	assert.Contains(t, s.out.String(), "the collector ended during the run (signal: killed)")

	a := freeAddresses(t, 6)
	restartCollector(t, a, st.Collector.Database)
	after, err := listed(t, "http://"+a[2])
	require.NoError(t, err)
	after = ofShop(t, after, st)
	require.Len(t, after, 1, "kept, and not twice")
	assert.Equal(t, shown[0].ID, after[0].ID)
	assert.GreaterOrEqual(t, after[0].Revision, shown[0].Revision)
	assert.Equal(t, shown[0].RootCause, after[0].RootCause)
	require.NotEmpty(t, after[0].HurtTraces)
	out, code := run(t, environ("TAPIO_ENDPOINT=http://"+a[2]), bin(t, tapioName), "correlate", "--trace-id", after[0].HurtTraces[0].TraceID)
	assert.Zero(t, code, out)
	assert.Contains(t, out, shown[0].ID.String())
}

// restartCollector starts a collector with the default configuration on six
// addresses and that database, and with more configuration.
func restartCollector(t *testing.T, a []string, database string, more ...string) *program {
	t.Helper()
	_, metricsPort, _ := strings.Cut(a[5], ":")
	args := []string{"--config", defaultConfig(t)}
	for _, config := range more {
		args = append(args, "--config", config)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin(t, collectorName), args...)
	cmd.Env = environ(
		"TAPIO_OTLP_GRPC_ENDPOINT="+a[0], "TAPIO_OTLP_HTTP_ENDPOINT="+a[1], "TAPIO_API_ENDPOINT="+a[2],
		"TAPIO_HEALTH_ENDPOINT="+a[3], "TAPIO_ZPAGES_ENDPOINT="+a[4], "TAPIO_METRICS_PORT="+metricsPort,
		"TAPIO_DATABASE="+database,
	)
	p := start(t, cmd)
	p.waitHealthy(t, a[3])
	return p
}

// TestDefaultConfigStops: the collector ends on SIGTERM by itself, at once.
func TestDefaultConfigStops(t *testing.T) {
	a := freeAddresses(t, 6)
	p := restartCollector(t, a, filepath.Join(t.TempDir(), "findings.db"))
	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t, 10*time.Second))
}
