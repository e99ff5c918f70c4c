// Package rig is what the end-to-end tests of findings share: a network
// namespace in which a node's services live, a real collector in it that
// correlates, the load generator of the shop that counts what fails, and the
// checks that hold for every finding.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// Program is the path of a program that make build left in bin/, or in $TAPIO_BIN.
func Program(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("TAPIO_BIN")
	if dir == "" {
		_, err := os.Stat("go.mod")
		for dir = "."; err != nil; _, err = os.Stat(filepath.Join(dir, "go.mod")) {
			dir = filepath.Join(dir, "..")
		}
		dir = filepath.Join(dir, "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

var namespaces atomic.Int64

// Namespace makes a network namespace with a loopback interface, frees it with
// the test, and returns its path.
func Namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("tapio-rig-%d-%d", os.Getpid(), namespaces.Add(1))
	Run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { Run(t, "ip", "netns", "del", name) })
	path := "/run/netns/" + name
	Run(t, In(path, "ip", "link", "set", "lo", "up").Args...)
	return path
}

// In is a command that is to run in a network namespace.
func In(netns string, args ...string) *exec.Cmd {
	return exec.CommandContext(context.Background(), "nsenter", append([]string{"--net=" + netns, "--"}, args...)...) //nolint:gosec // tests say what to run
}

// Run runs a program to its end.
func Run(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...).CombinedOutput() //nolint:gosec // tests say what to run
	require.NoError(t, err, "%v: %s", args, out)
}

// Start runs a program in the background and stops it with the test.
func Start(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	return start(t, cmd).end
}

// process is a program that runs in the background.
type process struct {
	cmd *exec.Cmd
	out *os.File
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	p := &process{cmd: cmd, out: out}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		p.end()
		if text, err := os.ReadFile(out.Name()); t.Failed() && err == nil {
			t.Logf("%v wrote:\n%s", cmd.Args, text)
		}
	})
	return p
}

// end stops it in an orderly way.
func (p *process) end() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Wait()
		_ = p.out.Close()
	}
}

// configuration is the pipeline of every collector here; receivers are added.
const configuration = `
receivers:
  otlp: {protocols: {grpc: {endpoint: 0.0.0.0:4317}, http: {endpoint: %[1]s/otlp.sock, transport: unix}}}
processors:
  tapiocorrelation: {impact: {value_attribute: order.amount}}
exporters:
  tapio_findings:
  nop:
  file: {path: %[1]s/logs.json, flush_interval: 50ms}
  file/traces: {path: %[1]s/traces.json, flush_interval: 50ms}
extensions:
  tapio: {endpoint: 127.0.0.1:8467, path: %[1]s/findings.db}
  health_check: {endpoint: 127.0.0.1:13133}
  file_storage: {directory: %[1]s/storage, create_directory: true}
service:
  extensions: [tapio, health_check, file_storage]
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines:
    traces: {receivers: [otlp%[2]s], processors: [tapiocorrelation], exporters: [file/traces]}
    logs: {receivers: [otlp%[3]s], processors: [tapiocorrelation], exporters: [tapio_findings, file]}
    metrics: {receivers: [otlp%[4]s], processors: [tapiocorrelation], exporters: [nop]}
`

// Receivers are those of a collector beside otlp: their configuration, and which of
// them are in the pipelines of traces, logs and metrics.
type Receivers struct {
	YAML                  string
	Traces, Logs, Metrics []string
}

// Collector is the distribution, with the correlation and a store of its own.
type Collector struct {
	*process
	netns, dir string
	args       []string
}

// StartCollector starts a collector in a network namespace and waits until it is up.
func StartCollector(t *testing.T, netns string, r Receivers) *Collector {
	t.Helper()
	dir, err := os.MkdirTemp("", "tapio-rig-") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	list := func(names []string) string { return strings.Join(append([]string{""}, names...), ", ") }
	base, more := filepath.Join(dir, "base.yaml"), filepath.Join(dir, "receivers.yaml")
	require.NoError(t, os.WriteFile(base, fmt.Appendf(nil, configuration, dir, list(r.Traces), list(r.Logs), list(r.Metrics)), 0o600))
	require.NoError(t, os.WriteFile(more, []byte(r.YAML), 0o600))
	c := &Collector{netns: netns, dir: dir, args: []string{Program(t, "otelcol-tapio"), "--config", base, "--config", more}}
	c.up(t)
	return c
}

// up starts it and waits until it answers.
func (c *Collector) up(t *testing.T) {
	t.Helper()
	c.process = start(t, In(c.netns, c.args...))
	require.Eventually(t, func() bool {
		out, _ := In(c.netns, Program(t, "tapio"), "findings", "--output", "json").Output()
		return len(out) > 0
	}, time.Minute, 100*time.Millisecond, "the collector does not come up")
}

// Restart stops it in an orderly way and starts it again after meanwhile.
func (c *Collector) Restart(t *testing.T, meanwhile func()) {
	t.Helper()
	c.end()
	meanwhile()
	c.up(t)
}

// Send delivers log records, as a receiver of their kind would.
func (c *Collector) Send(t *testing.T, logs plog.Logs) {
	t.Helper()
	body, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	require.NoError(t, err)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(c.dir, "otlp.sock"))
	}}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://collector/v1/logs", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// Has tells whether a log record with all of these texts has passed.
func (c *Collector) Has(texts ...string) bool {
	data, err := os.ReadFile(filepath.Join(c.dir, "logs.json"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			return true
		}
	}
	return false
}

// Record waits for the first log record of an event of a unit and returns its attributes.
func (c *Collector) Record(t *testing.T, name, unit string) map[string]any {
	t.Helper()
	var found map[string]any
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(filepath.Join(c.dir, "logs.json"))
		if err != nil {
			return false
		}
		for line := range strings.Lines(string(data)) {
			logs, err := new(plog.JSONUnmarshaler).UnmarshalLogs([]byte(line))
			if err != nil {
				continue // not written whole yet
			}
			for _, rl := range logs.ResourceLogs().All() {
				of, _ := rl.Resource().Attributes().Get("systemd.unit.name")
				for _, sl := range rl.ScopeLogs().All() {
					for _, lr := range sl.LogRecords().All() {
						if lr.EventName() == name && of.AsString() == unit {
							found = lr.Attributes().AsRaw()
							return true
						}
					}
				}
			}
		}
		return false
	}, 10*time.Second, 100*time.Millisecond, "no %s of %s", name, unit)
	return found
}

// elsewhere tells of an out-of-memory kill that hurt no request: the kernel's events
// are those of the whole machine, on which other tests may run.
func elsewhere(f *finding.Finding) bool {
	return f.RootCause.Event == event.OOMKill && f.Impact.FailedRequests == 0 && f.Impact.SlowRequests == 0
}

// Findings are those of the collector's store, but what was withdrawn and what
// happened elsewhere.
func (c *Collector) Findings(t *testing.T) []*finding.Finding {
	t.Helper()
	out, err := In(c.netns, Program(t, "tapio"), "findings", "--output", "json").Output()
	require.NoError(t, err)
	var page struct {
		Findings []*finding.Finding `json:"findings"`
	}
	require.NoError(t, json.Unmarshal(out, &page), "%s", out)
	return slices.DeleteFunc(page.Findings, func(f *finding.Finding) bool { return f.State == finding.StateWithdrawn || elsewhere(f) })
}

// Show is what people read of a finding.
func (c *Collector) Show(t *testing.T, id string) string {
	t.Helper()
	out, err := In(c.netns, Program(t, "tapio"), "findings", "show", id).Output()
	require.NoError(t, err)
	return string(out)
}

// Only waits until there is one finding that ready accepts and returns it. Others
// may not be there.
func (c *Collector) Only(t *testing.T, pattern string, ready func(*finding.Finding) bool) *finding.Finding {
	t.Helper()
	var all []*finding.Finding
	ok := assert.Eventually(t, func() bool {
		all = c.Findings(t)
		return len(all) == 1 && all[0].Pattern == pattern && ready(all[0])
	}, 30*time.Second, 200*time.Millisecond)
	for _, f := range all {
		Log(t, f)
	}
	require.True(t, ok, "no single finding %s, complete", pattern)
	return all[0]
}

// Log writes a finding down.
func Log(t *testing.T, f *finding.Finding) {
	t.Helper()
	t.Logf("%s %s, confidence %.2f: %s", f.Pattern, f.State, f.Confidence.Score, f.Summary)
	for _, l := range f.RootCause.LastLines {
		t.Logf("  said %s %s", l.Time.Format("15:04:05.000"), l.Text)
	}
	for _, m := range f.Missing {
		t.Logf("  missing: %s", m)
	}
	for _, l := range f.Chain {
		t.Logf("  %s [%s] %s (x%d) %s: %s", l.Time.Format("15:04:05.000"), l.Layer, l.Title, l.Count, l.LinkedBy, l.LinkedOn)
	}
	for _, a := range f.Actions.Immediate {
		t.Logf("  now: %s", a)
	}
	for _, h := range f.Rejected {
		t.Logf("  not %s of %s (%.2f): %s", h.Pattern, h.Entity.Name, h.Score, h.Reason)
	}
}

// Report is what the load generator counted.
type Report struct {
	Complete       bool       `json:"complete"`
	Sent           int64      `json:"sent"`
	OK             int64      `json:"ok"`
	Failed         int64      `json:"failed"`
	FailedUsers    []string   `json:"failed_users"`
	FailedAmount   float64    `json:"failed_amount"`
	FailedTraceIDs []string   `json:"failed_trace_ids"`
	FirstFailure   *time.Time `json:"first_failure"`
}

// Load sends orders to a storefront.
type Load struct {
	*process
	path string
}

// StartLoad begins to send 10 orders a second from a network namespace.
func StartLoad(t *testing.T, netns, url, otlp string) *Load {
	t.Helper()
	storefront, err := neturl.Parse(url)
	require.NoError(t, err)
	WaitListening(t, netns, storefront.Host)
	l := &Load{path: filepath.Join(t.TempDir(), "report.json")}
	l.process = start(t, In(netns, Program(t, "checkout"), "load", "--url", url, "--otlp-endpoint", otlp, "--report", l.path))
	return l
}

// WaitListening waits until somebody listens at each address (host:port).
func WaitListening(t *testing.T, netns string, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			return In(netns, "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%s", host, port)).Run() == nil
		}, 30*time.Second, 50*time.Millisecond, "nobody listens at %s", address)
	}
}

// Report is what was counted so far.
func (l *Load) Report(t *testing.T) Report {
	t.Helper()
	var r Report
	data, err := os.ReadFile(l.path)
	if os.IsNotExist(err) {
		return r
	}
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &r))
	return r
}

// WaitOK waits until so many more orders went well, WaitFailed until so many failed.
func (l *Load) WaitOK(t *testing.T, n int64) {
	t.Helper()
	before := l.Report(t).OK
	require.Eventually(t, func() bool { return l.Report(t).OK >= before+n }, time.Minute, 50*time.Millisecond, "no orders go well")
}

// WaitFailed waits until so many orders failed.
func (l *Load) WaitFailed(t *testing.T, n int64) {
	t.Helper()
	require.Eventually(t, func() bool { return l.Report(t).Failed >= n }, time.Minute, 50*time.Millisecond, "no orders fail")
}

// Stop stops it and returns the final report.
func (l *Load) Stop(t *testing.T) Report {
	t.Helper()
	l.end()
	r := l.Report(t)
	require.True(t, r.Complete)
	return r
}

// Counts tells whether a finding has counted what the load generator counted.
func (r Report) Counts(f *finding.Finding) bool { return f.Impact.FailedRequests == r.Failed }

// Check checks what must hold for every finding: the cause first, each link after the
// one that it follows from, in the list and in time, with the identity that links
// them; actions for now, soon and later; and the impact that the load generator saw.
func Check(t *testing.T, f *finding.Finding, r Report) {
	t.Helper()
	require.NotEmpty(t, f.Chain)
	assert.Equal(t, f.RootCause.Event, f.Chain[0].Event)
	assert.Empty(t, f.Chain[0].Parent)
	seen := map[string]bool{f.Chain[0].Key: true}
	for _, l := range f.Chain[1:] {
		assert.True(t, seen[l.Parent], "%q stands after its parent %q", l.Title, l.Parent)
		assert.NotEmpty(t, l.LinkedBy, l.Title)
		assert.NotEmpty(t, l.LinkedOn, l.Title)
		seen[l.Key] = true
	}
	assert.GreaterOrEqual(t, f.Confidence.Score, 0.7)
	assert.LessOrEqual(t, f.Confidence.Score, 1.0)
	assert.NotEmpty(t, f.RootCause.Description)
	for _, actions := range [][]string{f.Actions.Immediate, f.Actions.ShortTerm, f.Actions.LongTerm} {
		assert.NotEmpty(t, actions)
		for _, a := range actions {
			assert.NotContains(t, a, "<no value>")
			assert.NotContains(t, a, "unknown")
		}
	}
	assert.Equal(t, r.Failed, f.Impact.FailedRequests, "failed orders")
	if assert.NotNil(t, f.Impact.Users) {
		assert.EqualValues(t, len(r.FailedUsers), *f.Impact.Users)
	}
	if assert.NotNil(t, f.Impact.Value) {
		assert.InDelta(t, r.FailedAmount, *f.Impact.Value, 0.005)
	}
}

// Link is the link of a chain with that event, of that entity where one is named.
func Link(t *testing.T, f *finding.Finding, name, entity string) finding.Link {
	t.Helper()
	for _, l := range f.Chain {
		if l.Event == name && (entity == "" || l.Entity.Name == entity) {
			return l
		}
	}
	t.Fatalf("no %s of %s in the chain", name, entity)
	return finding.Link{}
}
