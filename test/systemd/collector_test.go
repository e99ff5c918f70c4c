package systemd

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/test/internal/rig"
)

// collector is a real collector with the receiver under test, and files for all
// that it emits, which outlive its restarts.
type collector struct {
	dir, config string
	uid         uint32
	// groups are those of the user, beside his own.
	groups []uint32
	// journal is the configuration of the part that reads it, units more lines of the other.
	journal, units string
	cmd            *exec.Cmd
	out            rig.Output
	// awaited are the events of each unit that was waited for.
	awaited map[string][]string
}

const configuration = `
receivers:
  tapio_systemd:
    host_name: node-7
    storage: tapio
    units:
      bus_address: %[1]s
      critical: [hungry.service]
%[4]s    journal: %[3]s
exporters:
  file/logs: {path: %[2]s/logs.json, append: true, flush_interval: 20ms}
  file/traces: {path: %[2]s/traces.json, append: true, flush_interval: 20ms}
extensions:
  tapio: {path: %[2]s/storage/findings.db, endpoint: 127.0.0.1:0}
service:
  extensions: [tapio]
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [tapio_systemd], exporters: [file/logs]}
    traces: {receivers: [tapio_systemd], exporters: [file/traces]}
`

// newCollector writes the configuration of a collector that watches a machine
// as the user uid. It does not read the journal unless an option says so.
func newCollector(t *testing.T, m *machine, uid uint32, options ...func(*collector)) *collector {
	t.Helper()
	dir, err := os.MkdirTemp("", "tapio-systemd-collector-")
	require.NoError(t, err)
	c := &collector{dir: dir, config: filepath.Join(dir, "config.yaml"), uid: uid, journal: "{enabled: false}", awaited: map[string][]string{}}
	for _, option := range options {
		option(c)
	}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.kill()
		}
		if t.Failed() {
			for _, r := range c.all(t) {
				t.Log(r.at.Format("15:04:05.000000"), r.name, r.unit, r.attributes)
			}
			t.Logf("output of the collector:\n%s", c.out.String())
		}
		assert.NoError(t, os.RemoveAll(dir))
	})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "storage"), 0o700))
	require.NoError(t, os.WriteFile(c.config, fmt.Appendf(nil, configuration, m.address(), dir, c.journal, c.units), 0o600))
	for _, path := range []string{dir, c.config, filepath.Join(dir, "storage")} {
		require.NoError(t, os.Chown(path, int(uid), int(uid)))
	}
	return c
}

// program is the collector under test.
func program(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TAPIO_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, "otelcol-tapio"))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

// start starts it and waits until it sees systemd.
func (c *collector) start(t *testing.T) {
	t.Helper()
	path := program(t)
	before := len(c.events(t, "", "tapio.systemd.started"))
	c.cmd = exec.Command(path, "--config", c.config)
	if c.uid != 0 { // the repository may be closed to others
		copied := filepath.Join(c.dir, "otelcol-tapio")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(copied, data, 0o755))
		c.cmd = exec.Command(copied, "--config", c.config)
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid, Groups: c.groups}}
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	require.NoError(t, c.cmd.Start())
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.systemd.started")) > before },
		30*time.Second, 50*time.Millisecond, "the collector does not see systemd")
}

// kill ends it as a crash does.
func (c *collector) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
}

// stop ends it in an orderly way.
func (c *collector) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, c.cmd.Wait())
	c.cmd = nil
}

// record is one event.
type record struct {
	name, unit string
	at         time.Time
	severity   string
	body       string
	attributes map[string]any
}

// span is one job, or a part of the boot.
type span struct {
	ptrace.Span
	service string
}

func lines(t *testing.T, path string, each func([]byte) error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	// What a crash cut off in the middle of a line is not JSON; there is at most
	// one such line, and the next is written right after it.
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		if i := max(bytes.LastIndex(scanner.Bytes(), []byte(`{"resourceLogs"`)), bytes.LastIndex(scanner.Bytes(), []byte(`{"resourceSpans"`))); i >= 0 {
			if err := each(scanner.Bytes()[i:]); err != nil {
				continue // not written whole yet
			}
		}
	}
}

// all are the events so far, in the order in which they were emitted.
func (c *collector) all(t *testing.T) []record {
	t.Helper()
	var records []record
	lines(t, filepath.Join(c.dir, "logs.json"), func(line []byte) error {
		logs, err := new(plog.JSONUnmarshaler).UnmarshalLogs(line)
		if err != nil {
			return err
		}
		for _, rl := range logs.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, lr := range sl.LogRecords().All() {
					records = append(records, record{
						lr.EventName(), text(rl.Resource().Attributes(), "systemd.unit.name"), lr.Timestamp().AsTime(),
						lr.SeverityText(), lr.Body().Str(), lr.Attributes().AsRaw(),
					})
				}
			}
		}
		return nil
	})
	return records
}

// events are those of a unit ("" for all) with a name ("" for all).
func (c *collector) events(t *testing.T, unit, name string) []record {
	t.Helper()
	var found []record
	for _, r := range c.all(t) {
		if (unit == "" || r.unit == unit) && (name == "" || r.name == name) {
			found = append(found, r)
		}
	}
	return found
}

// names are the events of a unit in short: "failed", "restarting 2".
func (c *collector) names(t *testing.T, unit string) []string {
	t.Helper()
	var names []string
	for _, r := range c.events(t, unit, "") {
		name := strings.TrimPrefix(strings.TrimPrefix(r.name, "tapio.systemd."), "unit.")
		if count, ok := r.attributes["tapio.systemd.restart.count"]; ok {
			name = fmt.Sprint(name, " ", count)
		}
		names = append(names, name)
	}
	return names
}

// await waits until the events of a unit are these.
func (c *collector) await(t *testing.T, unit string, want ...string) {
	t.Helper()
	if !assert.Eventually(t, func() bool { return len(c.names(t, unit)) >= len(want) }, 20*time.Second, 50*time.Millisecond) {
		t.Errorf("%s: too few events", unit)
	}
	assert.Equal(t, want, c.names(t, unit), unit)
	c.awaited[unit] = want
}

// checkNoMore: nothing has followed what was awaited of each unit, such as a second copy.
func (c *collector) checkNoMore(t *testing.T) {
	t.Helper()
	for unit, want := range c.awaited {
		assert.Equal(t, want, c.names(t, unit), unit)
	}
}

// spans are those of a service so far ("" for all).
func (c *collector) spans(t *testing.T, service string) []span {
	t.Helper()
	var spans []span
	lines(t, filepath.Join(c.dir, "traces.json"), func(line []byte) error {
		traces, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(line)
		if err != nil {
			return err
		}
		for _, rs := range traces.ResourceSpans().All() {
			of := text(rs.Resource().Attributes(), "service.name")
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					if service == "" || service == of {
						spans = append(spans, span{s, of})
					}
				}
			}
		}
		return nil
	})
	return spans
}

func text(attrs pcommon.Map, key string) string {
	v, ok := attrs.Get(key)
	if !ok {
		return ""
	}
	return v.AsString()
}
