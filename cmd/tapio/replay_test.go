package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/findingsapi"
	"github.com/yairfalse/tapio/internal/replay/replaytest"
)

// shopFile writes the shop's recording as JSON lines, by gzip.
func shopFile(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	for _, m := range replaytest.Shop() {
		var b []byte
		var err error
		switch {
		case m.Traces != nil:
			b, err = new(ptrace.JSONMarshaler).MarshalTraces(*m.Traces)
		case m.Logs != nil:
			b, err = new(plog.JSONMarshaler).MarshalLogs(*m.Logs)
		default:
			b, err = new(pmetric.JSONMarshaler).MarshalMetrics(*m.Metrics)
		}
		require.NoError(t, err)
		_, err = z.Write(append(b, '\n'))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return write(t, out.Bytes())
}

func write(t *testing.T, contents []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, contents, 0o600))
	return path
}

func TestReplayExplainsARecording(t *testing.T) {
	shop := shopFile(t)
	code, out, errs := tapio(t, nil, "replay", shop)
	assert.Equal(t, exitOK, code)
	assert.Contains(t, out, "CORRELATION SUMMARY")
	assert.Contains(t, out, "payment")
	assert.Contains(t, out, "80") // failed requests
	assert.Equal(t, "replayed 3520 spans, 602 log records, 10 data points\n", errs)

	code, out, _ = tapio(t, nil, "replay", "-o", "json", shop)
	assert.Equal(t, exitOK, code)
	var page findingsapi.Page
	require.NoError(t, json.Unmarshal([]byte(out), &page))
	require.Len(t, page.Findings, 1)
	assert.Equal(t, "memory-limit-oom-kill", page.Findings[0].Pattern)
	_, again, _ := tapio(t, nil, "replay", "-o", "json", shop)
	assert.Equal(t, out, again)
}

func TestReplayWithAConfiguration(t *testing.T) {
	strict := write(t, []byte("min_score: 1\n"))
	code, out, _ := tapio(t, nil, "replay", "--config", strict, shopFile(t))
	assert.Equal(t, exitOK, code)
	assert.Equal(t, "No findings.\n", out)
	code, out, _ = tapio(t, nil, "replay", "--config", strict, "-o", "json", shopFile(t))
	assert.Equal(t, exitOK, code)
	assert.JSONEq(t, `{"findings": []}`, out)
}

func TestReplayOfWhatCannotBeRead(t *testing.T) {
	garbage := write(t, []byte("hello\n"))
	code, out, errs := tapio(t, nil, "replay", shopFile(t), garbage)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, out, "CORRELATION SUMMARY", "the other file is explained")
	assert.Contains(t, errs, "tapio: "+garbage+": offset 0")
	code, out, errs = tapio(t, nil, "replay", garbage+"-none")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "tapio: open "+garbage+"-none")
	assert.Empty(t, out)
}

func TestReplayOfNothing(t *testing.T) {
	empty := write(t, nil)
	code, out, errs := tapio(t, nil, "replay", empty)
	assert.Equal(t, exitFailed, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, "tapio: nothing to replay: no span, log record or data point with a time was read: "+empty+"\n")
}

func TestReplayWrongUsage(t *testing.T) {
	shop := shopFile(t)
	for want, args := range map[string][]string{
		"requires at least 1 arg":           {"replay"},
		`--output "xml": want text or json`: {"replay", shop, "-o", "xml"},
		"--lateness -1s: want 0s to 1h0m0s": {"replay", shop, "--lateness", "-1s"},
		"windov":                            {"replay", shop, "--config", write(t, []byte("windov: 1m\n"))},
	} {
		code, out, errs := tapio(t, nil, args...)
		assert.Equal(t, exitUsage, code, args)
		assert.Contains(t, errs, want, args)
		assert.Empty(t, out, args)
	}
}

// TestEachMistakeIsALine: what is joined is not run together.
func TestEachMistakeIsALine(t *testing.T) {
	code, _, errs := tapio(t, nil, "replay", shopFile(t), "--config", write(t, []byte("min_score: 7\nring: {capacity: 3}\n")))
	assert.Equal(t, exitUsage, code)
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	require.Len(t, lines, 2)
	for _, line := range lines {
		assert.True(t, strings.HasPrefix(line, "tapio: "), line)
	}
	assert.Contains(t, lines[0], "min_score: 7")
	assert.Contains(t, lines[1], "ring::capacity: 3")
}

// What is wrong is said in one line, without empty ones and words of libraries.
func TestReplayConfigurationInOneLine(t *testing.T) {
	file := write(t, []byte("window: 5\n"))
	code, _, errs := tapio(t, nil, "replay", shopFile(t), "--config", file)
	assert.Equal(t, exitUsage, code)
	assert.Equal(t, "tapio: --config: "+file+": window: 5 is not allowed: want a number with its unit, such as 30s, 5m or 1h\n", errs)
}

func TestReplayInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"replay", shopFile(t)}, terminal{Writer: &out, width: defaultWidth}, &errs, func(string) string { return "" })
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs.String(), "tapio: interrupted\n")
	assert.Empty(t, out.String())
}
