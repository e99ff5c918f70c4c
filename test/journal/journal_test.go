package journal

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
)

const (
	rotations   = 50
	perRotation = 400
	kills       = 6
	batchSize   = 200
)

// Nothing is lost over 50 rotations and several kill -9 of the collector, and
// every field of every record is the one that journalctl shows. What was
// acknowledged and not yet remembered when the collector was killed comes again:
// the last batch before the kill or nothing, at once after the start, with the same
// log.record.uid and the same content. The kills come in the worst moment, when a
// batch has just arrived.
func TestRotationsAndKills(t *testing.T) {
	j := startJournald(t)
	sink := newSink(t)
	c := &collector{config: configure(t, j.dir, sink.url)}
	c.start(t)
	t.Cleanup(c.kill)

	written := make(chan error, 1)
	go func() { written <- write(j) }()
	for range kills {
		before := sink.count()
		require.Eventually(t, func() bool { return sink.count() >= before+500 }, 60*time.Second, time.Millisecond,
			"the collector hands nothing on: %s", &c.out)
		c.kill()
		sink.killed()
		c.start(t)
	}
	require.NoError(t, <-written)
	require.NoError(t, j.send("MESSAGE=the end"))
	require.Eventually(t, func() bool { return sink.last() == "the end" }, 60*time.Second, 20*time.Millisecond)
	c.stop(t)

	want, order := j.entries()
	got := sink.records()
	require.GreaterOrEqual(t, len(want), rotations*perRotation)
	seen := map[string]bool{}
	var first []string
	for _, r := range got {
		uid, _ := r.Attributes().Get("log.record.uid")
		sameFields(t, want[uid.Str()], r)
		if seen[uid.Str()] {
			continue
		}
		seen[uid.Str()] = true
		first = append(first, uid.Str())
	}
	again := len(got) - len(first)
	t.Logf("%d entries in %d files, %d records, %d of them again after %d kills", len(want), j.files()+1, len(got), again, kills)
	assert.Equal(t, order, first, "every entry, in the order of journalctl")
	lives := sink.lives()
	require.Len(t, lives, kills+1)
	seen = map[string]bool{}
	for n, life := range lives {
		repeated := checkLife(t, life, seen)
		if n == 0 {
			require.Empty(t, repeated, "nobody was killed yet")
			continue
		}
		if len(repeated) > 0 {
			before := lives[n-1]
			require.Equal(t, uids(before[len(before)-1]), repeated, "the batch that was on its way, and no other")
		}
	}
}

// checkLife checks that only the first records of a life of the collector were seen
// before, and returns them.
func checkLife(t *testing.T, life [][]plog.LogRecord, seen map[string]bool) (repeated []string) {
	t.Helper()
	fresh := false
	for _, batch := range life {
		require.LessOrEqual(t, len(batch), batchSize)
		for _, uid := range uids(batch) {
			if !seen[uid] {
				fresh = true
				seen[uid] = true
				continue
			}
			require.False(t, fresh, "%s came again after others", uid)
			repeated = append(repeated, uid)
		}
	}
	return repeated
}

func uids(batch []plog.LogRecord) []string {
	all := make([]string, len(batch))
	for i, r := range batch {
		uid, _ := r.Attributes().Get("log.record.uid")
		all[i] = uid.Str()
	}
	return all
}

// sameFields compares the attributes tapio.journal.field.* with journalctl's.
func sameFields(t *testing.T, want map[string]string, r plog.LogRecord) {
	t.Helper()
	if want == nil {
		t.Fatalf("journalctl does not know %v", r.Attributes().AsRaw())
	}
	got := map[string]string{}
	for key, value := range r.Attributes().All() {
		if name, ok := strings.CutPrefix(key, "tapio.journal.field."); ok {
			got[name] = value.Str()
		}
	}
	for name, value := range want {
		if strings.HasPrefix(name, "__") {
			continue
		}
		if got[name] != strings.ToValidUTF8(value, "�") {
			t.Fatalf("%s is %q, journalctl has %q", name, got[name], value)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Fatalf("journalctl does not have %v", got)
	}
	if r.Body().Str() != want["MESSAGE"] {
		t.Fatalf("the body is %q, not %q", r.Body().Str(), want["MESSAGE"])
	}
}

// write logs for some 15 seconds.
func write(j *journald) error {
	for r := range rotations {
		for i := range perRotation {
			err := j.send(fmt.Sprintf("MESSAGE=entry %d of rotation %d", i, r), fmt.Sprintf("PRIORITY=%d", i%7),
				"SYSLOG_IDENTIFIER=test", "LONG="+strings.Repeat(fmt.Sprint(i), 400))
			if err != nil {
				return err
			}
			if i%40 == 0 {
				time.Sleep(25 * time.Millisecond)
			}
		}
		if err := j.rotate(); err != nil {
			return err
		}
	}
	return nil
}

// configure writes a configuration whose only exporter waits for the sink, so
// that an acknowledged batch has arrived.
func configure(t *testing.T, journals, sink string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
receivers:
  tapio_systemd:
    storage: file_storage
    units: {enabled: false}
    journal:
      directories: [%s]
      start_at: beginning
      priority: debug
      fields: ["*"]
      max_batch_size: %d
      poll_interval: 20ms
exporters:
  otlp_http: {endpoint: %s, compression: none, sending_queue: {enabled: false}}
extensions:
  file_storage: {directory: %s, create_directory: true}
service:
  extensions: [file_storage]
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [tapio_systemd], exporters: [otlp_http]}
`, journals, batchSize, sink, filepath.Join(dir, "storage")), 0o600))
	return path
}

// collector is the real program.
type collector struct {
	config string
	cmd    *exec.Cmd
	out    bytes.Buffer
}

func (c *collector) start(t *testing.T) {
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
	c.cmd = exec.Command(path, "--config", c.config)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	require.NoError(t, c.cmd.Start())
}

// kill ends it as a crash does.
func (c *collector) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

func (c *collector) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, c.cmd.Wait(), c.out.String())
	c.cmd = nil
}

// sink takes OTLP over HTTP and keeps all records.
type sink struct {
	url  string
	mu   sync.Mutex
	logs []plog.LogRecord
	// active are requests that are being taken.
	active sync.WaitGroup
	// batches are the requests of each life of the collector, empty ones left out.
	batches [][][]plog.LogRecord
}

// killed notes that the collector has ended and will begin another life.
func (s *sink) killed() {
	s.active.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, nil)
}

func (s *sink) lives() [][][]plog.LogRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func newSink(t *testing.T) *sink {
	s := &sink{batches: make([][][]plog.LogRecord, 1)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	defer s.active.Done()
	body, err := io.ReadAll(r.Body)
	if err != nil { // the collector was killed while it sent
		return
	}
	request := plogotlp.NewExportRequest()
	if err := request.UnmarshalProto(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []plog.LogRecord
	for _, rl := range request.Logs().ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, record := range sl.LogRecords().All() {
				batch = append(batch, record)
			}
		}
	}
	s.logs = append(s.logs, batch...)
	if n := len(s.batches) - 1; len(batch) > 0 {
		s.batches[n] = append(s.batches[n], batch)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.logs)
}

func (s *sink) records() []plog.LogRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs
}

// last is the body of the last record.
func (s *sink) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.logs) == 0 {
		return ""
	}
	return s.logs[len(s.logs)-1].Body().Str()
}
