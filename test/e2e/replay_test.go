package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/replay/replaytest"
)

// TestReplay: what the file exporter wrote, in whatever format, is explained, the
// same every time.
func TestReplay(t *testing.T) {
	var want string
	for name, args := range map[string][]string{
		"each message compressed": nil,
		"whole file compressed":   {"--feature-gates", "exporter.file.nativeCompression"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := record(t, args...)
			for _, file := range []string{"json", "proto", "json_zstd", "proto_zstd"} {
				cmd := exec.CommandContext(t.Context(), bin(t, tapioName), "replay", "-o", "json", filepath.Join(dir, file))
				cmd.Env = environ()
				var errs bytes.Buffer
				cmd.Stderr = &errs
				out, err := cmd.Output()
				require.NoError(t, err, errs.String())
				assert.Equal(t, "replayed 3520 spans, 602 log records, 10 data points\n", errs.String(), file)
				if want == "" {
					want = string(out)
					checkReplayed(t, out)
				}
				assert.Equal(t, want, string(out), file)
			}
		})
	}
}

func checkReplayed(t *testing.T, out []byte) {
	t.Helper()
	var page struct {
		Findings []*finding.Finding `json:"findings"`
	}
	require.NoError(t, json.Unmarshal(out, &page))
	require.Len(t, page.Findings, 1)
	f := page.Findings[0]
	assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
	assert.EqualValues(t, 80, f.Impact.FailedRequests)
	assert.WithinDuration(t, replaytest.Start.Add(210*time.Second), f.StartedAt, 0)
}

// record sends the shop's telemetry through a collector that writes files, and
// returns where they are.
func record(t *testing.T, args ...string) (dir string) {
	t.Helper()
	config, err := filepath.Abs(filepath.Join("testdata", "files.yaml"))
	require.NoError(t, err)
	a, dir := freeAddresses(t, 2), t.TempDir()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin(t, collectorName), append([]string{"--config", config}, args...)...)
	cmd.Env = environ("FILES_OTLP_ENDPOINT="+a[0], "FILES_HEALTH_ENDPOINT="+a[1], "FILES_DIR="+dir)
	collector := start(t, cmd)
	collector.waitHealthy(t, a[1])
	for _, m := range replaytest.Shop() {
		path := "/v1/metrics"
		var body []byte
		var err error
		switch {
		case m.Traces != nil:
			path = "/v1/traces"
			body, err = new(ptrace.ProtoMarshaler).MarshalTraces(*m.Traces)
		case m.Logs != nil:
			path = "/v1/logs"
			body, err = new(plog.ProtoMarshaler).MarshalLogs(*m.Logs)
		default:
			body, err = new(pmetric.ProtoMarshaler).MarshalMetrics(*m.Metrics)
		}
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a[0]+path, bytes.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-protobuf")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	collector.stop(30 * time.Second)
	return dir
}

// TestReplayOfWhatWasLivedThrough: an incident explained from files is what it was
// while it happened.
func TestReplayOfWhatWasLivedThrough(t *testing.T) {
	requireKernel(t)
	config, err := filepath.Abs(filepath.Join("testdata", "record.yaml"))
	require.NoError(t, err)
	dir := t.TempDir()
	s := startShop(t, []string{"RECORD_DIR=" + dir}, "--fault", "sigkill", "--after", "5s", "--config", config)
	require.Zero(t, s.wait(t, runLimit))
	lived := s.onlyFinding(t)

	section := filepath.Join(dir, "tapiocorrelation.yaml") // as the shop configures its collector
	require.NoError(t, os.WriteFile(section, []byte("impact: {value_attribute: order.amount}\n"), 0o600))
	out, code := run(t, environ(), bin(t, tapioName), "replay", "-o", "json", "--config", section, filepath.Join(dir, "traces.json"), filepath.Join(dir, "logs.pb"))
	require.Zero(t, code, out)
	var page struct {
		Findings []*finding.Finding `json:"findings"`
	}
	begin := bytes.IndexByte([]byte(out), '{') // after the lines on stderr
	require.GreaterOrEqual(t, begin, 0, out)
	require.NoError(t, json.NewDecoder(bytes.NewReader([]byte(out)[begin:])).Decode(&page), out)
	all := ofShop(t, page.Findings, s.state(t))
	require.Len(t, all, 1, out)
	replayed := all[0]
	assert.Equal(t, lived.ID, replayed.ID)
	assert.Equal(t, lived.Pattern, replayed.Pattern)
	assert.Equal(t, lived.StartedAt, replayed.StartedAt)
	assert.Equal(t, lived.RootCause, replayed.RootCause)
	require.NotNil(t, lived.Impact.Value)
	require.NotNil(t, replayed.Impact.Value)
	assert.InDelta(t, *lived.Impact.Value, *replayed.Impact.Value, 0.001) // added up in another order
	// Living, a request whose caller's spans come later than it is waited for is
	// counted under the operation that was seen first too.
	assert.Subset(t, lived.Impact.Operations, replayed.Impact.Operations)
	replayed.Impact.Value, replayed.Impact.Operations = lived.Impact.Value, lived.Impact.Operations
	assert.Equal(t, lived.Impact, replayed.Impact)
	assert.Equal(t, links(lived), links(replayed))
}

// links are what a chain says of each link.
func links(f *finding.Finding) (out []string) {
	for _, l := range f.Chain {
		out = append(out, l.Key+" of "+l.Parent+" by "+string(l.LinkedBy)+": "+l.Title)
	}
	return out
}
