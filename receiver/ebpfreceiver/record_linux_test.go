//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap/zaptest"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

var (
	recordFlag = flag.Bool("record", false, "record testdata/records from this machine's kernel (root, memory cgroup v1)")
	goldenFlag = flag.Bool("golden", false, "write testdata/records.yaml anew")
)

// fixtures are records as a kernel wrote them, in the order of the golden file.
var fixtures = []string{"exec", "exit-code", "exit-signal", "signal", "syscall", "oom", "connect-ipv4", "connect-ipv6", "listen", "reset", "retransmit", "overflow", "block-error"}

func readFixture(tb testing.TB, name string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "records", name+".bin"))
	require.NoError(tb, err)
	return raw
}

func TestRecordedEvents(t *testing.T) {
	t.Parallel()
	var events []kernelEvent
	known := new(knownProcesses)
	for _, name := range fixtures {
		ev, err := decode(readFixture(t, name), known)
		require.NoError(t, err, name)
		events = append(events, ev)
	}
	clock := linux.NewClock(func() int64 { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() })
	cfg := createDefaultConfig().(*Config)
	cfg.CommandLine = true
	settings := receivertest.NewNopSettings(metadata.Type)
	got := newEncoder(cfg, settings, machine.Info{Name: "node-7", ID: "5e1f"}, clock).encode(events, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))

	file := filepath.Join("testdata", "records.yaml")
	if *goldenFlag {
		require.NoError(t, golden.WriteLogs(t, file, got))
	}
	want, err := golden.ReadLogs(file)
	require.NoError(t, err)
	require.NoError(t, plogtest.CompareLogs(want, got))
}

func TestDecodeRefusesWhatIsNoRecord(t *testing.T) {
	t.Parallel()
	_, err := decode(nil, nil)
	require.ErrorIs(t, err, errShortRecord)
	for _, name := range fixtures {
		raw := readFixture(t, name)
		_, err := decode(raw[:len(raw)-9], nil) // a record may end with padding to 8
		require.ErrorIs(t, err, errShortRecord, name)
	}
	_, err = decode(make([]byte, 4096), nil)
	require.EqualError(t, err, "record has the unknown kind 0")
}

// TestKnownProcesses: what a process is told to be follows what its records say.
func TestKnownProcesses(t *testing.T) {
	known := new(knownProcesses)
	var p bpf.ProcessProcessId
	var c bpf.ProcessCgroupPath
	p.Start, p.Pid = 1, 7
	name := func(field []byte, text string) { clear(field); copy(field, text) }
	name(p.Exe[:], "sh")
	for _, step := range []struct {
		change func()
		want   processInfo
	}{
		{func() { c.Len = uint32(copy(c.Names[:], "leaf\x00")) }, processInfo{started: 1, pid: 7, executable: "sh", cgroup: "/leaf"}},
		{func() {}, processInfo{started: 1, pid: 7, executable: "sh", cgroup: "/leaf"}},
		{func() { name(p.Exe[:], "payment") }, processInfo{started: 1, pid: 7, executable: "payment", cgroup: "/leaf"}},
		{func() { c.Len = uint32(copy(c.Names[:], "moved\x00")) }, processInfo{started: 1, pid: 7, executable: "payment", cgroup: "/moved"}},
		{func() { c.Partial = uint32(bpf.ProcessPathPartTAPIO_PATH_TOP) }, processInfo{started: 1, pid: 7, executable: "payment", cgroup: "/moved/..."}},
		{func() { p.Start = 2 }, processInfo{started: 2, pid: 7, executable: "payment", cgroup: "/moved/..."}},
	} {
		step.change()
		assert.Equal(t, step.want, known.process(&p, &c))
	}
	for pid := range uint32(3 * maxKnownProcesses) {
		p.Pid = pid
		assert.Equal(t, pid, known.process(&p, &c).pid)
	}
	assert.LessOrEqual(t, len(known.known), maxKnownProcesses)
	assert.Zero(t, testing.AllocsPerRun(10, func() { known.process(&p, &c) }))
}

// BenchmarkRecord: a record of a process that is known, from the bytes in the ring to the
// log record, without the ring.
func BenchmarkRecord(b *testing.B) {
	raw := readFixture(b, "syscall")
	r := newTestReceiver(b)
	known := new(knownProcesses)
	var burst, batch []kernelEvent
	b.ReportAllocs()
	for b.Loop() {
		ev, err := decode(raw, known)
		if err != nil {
			b.Fatal(err)
		}
		if burst = append(burst, ev); len(burst) < maxBurst {
			continue
		}
		r.enqueue(burst)
		burst = burst[:0]
		for batch = r.queue.pop(batch[:0]); len(batch) > 0; batch = r.queue.pop(batch[:0]) {
			r.encoder.encode(batch, time.Unix(0, 0))
		}
	}
}

func newTestReceiver(tb testing.TB) *ebpfReceiver {
	tb.Helper()
	cfg := createDefaultConfig().(*Config)
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), nil, nil)
	require.NoError(tb, err)
	r.queue = newQueue(cfg.QueueSize, cfg.MaxBatchSize)
	r.encoder = newEncoder(cfg, r.set, machine.Info{Name: "h"}, linux.NewClock(func() int64 { return 0 }))
	return r
}

func FuzzDecode(f *testing.F) {
	for _, name := range fixtures {
		f.Add(readFixture(f, name))
		f.Add(append(readFixture(f, name), bytes.Repeat([]byte{2}, 32)...)) // with a trace
	}
	process := make([]byte, unsafe.Sizeof(bpf.HTTPHttpProcessRecord{}))
	process[8] = byte(kindHTTPProcess)
	f.Add(process)
	exchange := make([]byte, unsafe.Sizeof(bpf.HTTPHttpExchangeRecord{}))
	exchange[8] = byte(kindHTTPExchange)
	f.Add(exchange)
	clock := linux.NewClock(func() int64 { return 0 })
	encoder := newEncoder(createDefaultConfig().(*Config), receivertest.NewNopSettings(metadata.Type), machine.Info{Name: "h"}, clock)
	known := new(knownProcesses)
	f.Fuzz(func(t *testing.T, raw []byte) {
		ev, err := decode(raw, known)
		if err != nil {
			return
		}
		if _, ok := ev.(httpProcessEvent); ok {
			return // it is for the receiver itself
		}
		if spans, others := encoder.spans([]kernelEvent{ev}); len(others) == 0 {
			if spans.SpanCount() != 1 {
				t.Errorf("%d spans of one event", spans.SpanCount())
			}
			return
		}
		if got := encoder.encode([]kernelEvent{ev}, time.Unix(0, 0)); got.LogRecordCount() != 1 {
			t.Errorf("%d records of one event", got.LogRecordCount())
		}
	})
}

func TestPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names string
		part  bpf.ProcessPathPart
		want  string
	}{
		{"", bpf.ProcessPathPartTAPIO_PATH_WHOLE, "/"},
		{"", bpf.ProcessPathPartTAPIO_PATH_UNKNOWN, ""},
		{"a\x00", bpf.ProcessPathPartTAPIO_PATH_WHOLE, "/a"},
		{"leaf\x00mid\x00top\x00", bpf.ProcessPathPartTAPIO_PATH_WHOLE, "/top/mid/leaf"},
		{"mid\x00top\x00", bpf.ProcessPathPartTAPIO_PATH_TOP, "/top/mid/..."},
		{"af\x00mid\x00top\x00", bpf.ProcessPathPartTAPIO_PATH_TOP_CUT, "/top/mid/..."},
		{"", bpf.ProcessPathPartTAPIO_PATH_TOP_CUT, "/..."},
		{"bad\xff\x00", bpf.ProcessPathPartTAPIO_PATH_WHOLE, "/bad\uFFFD"},
	} {
		p := bpf.ProcessCgroupPath{Len: uint32(len(tc.names)), Partial: uint32(tc.part)}
		copy(p.Names[:], tc.names)
		assert.Equal(t, tc.want, path(&p))
	}
	assert.NotPanics(t, func() { path(&bpf.ProcessCgroupPath{Len: 1 << 31}) })
}

// TestRecord writes the fixtures. Its processes live in a cgroup such as a
// container of Kubernetes has.
func TestRecord(t *testing.T) {
	if !*recordFlag {
		t.Skip("run with -record to write testdata/records")
	}
	cfg := createDefaultConfig().(*Config)
	cfg.CommandLine = true
	k := openKernel(cfg, programs(cfg), zaptest.NewLogger(t))
	defer k.close()
	require.Empty(t, k.failures)
	folder := podCgroup(t)

	pids := make(map[string]int)
	run := func(name, what string, end func(*exec.Cmd)) {
		cmd := role(what)
		cmd.Args = []string{"payment", "--port=8080"}
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		require.NoError(t, os.WriteFile(folder+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
		_, _ = stdin.Write([]byte{1})
		end(cmd)
		_ = cmd.Wait()
		pids[name] = cmd.Process.Pid
	}
	run("exit-code", "exit-later", func(*exec.Cmd) {})
	run("exit-signal", "sleep", func(c *exec.Cmd) { _ = c.Process.Kill() })
	run("oom", "eat", func(*exec.Cmd) {})
	run("syscall", "storm", func(*exec.Cmd) {})
	run("connect", "connect", func(*exec.Cmd) {})
	run("sockets", "sockets", func(c *exec.Cmd) {
		time.Sleep(time.Second)
		k.sample()
		_ = c.Process.Kill()
	})
	writeInVain(t, failingDevice(t))
	run("exec", "exec", func(*exec.Cmd) {}) // its second exec, in its cgroup, is the last

	var rec ringbuf.Record
	k.reader.SetDeadline(time.Now().Add(time.Second))
	for k.reader.ReadInto(&rec) == nil {
		ev, err := decode(rec.RawSample, nil)
		require.NoError(t, err)
		if name := fixtureOf(ev, pids); name != "" {
			require.NoError(t, os.WriteFile(filepath.Join("testdata", "records", name+".bin"), rec.RawSample, 0o600))
		}
	}
}

func fixtureOf(ev kernelEvent, pids map[string]int) string {
	is := func(name string) bool { return int(ev.process().pid) == pids[name] }
	switch ev := ev.(type) {
	case execEvent:
		if is("exec") {
			return "exec"
		}
	case exitEvent:
		if is("exit-code") {
			return "exit-code"
		}
		if is("exit-signal") {
			return "exit-signal"
		}
	case signalEvent:
		if is("exit-signal") {
			return "signal"
		}
	case syscallEvent:
		if is("syscall") {
			return "syscall"
		}
	case oomEvent:
		if is("oom") {
			return "oom"
		}
	case connectEvent:
		if is("connect") && ev.peer.Addr().Is4() {
			return "connect-ipv4"
		}
		if is("connect") {
			return "connect-ipv6"
		}
	case listenEvent:
		if is("sockets") && !ev.ends {
			return "listen"
		}
	case resetEvent:
		if is("sockets") && ev.isReceived {
			return "reset"
		}
	case retransmitEvent:
		if is("sockets") && ev.state == "established" {
			return "retransmit"
		}
	case overflowEvent:
		if is("sockets") {
			return "overflow"
		}
	case blockErrorEvent:
		return "block-error"
	}
	return ""
}

// podCgroup makes /kubepods/burstable/pod<uid>/<container> in the memory
// hierarchy, with a limit of 64 MiB on the container.
func podCgroup(t *testing.T) string {
	t.Helper()
	folder := "/sys/fs/cgroup/memory"
	for _, name := range []string{"kubepods", "burstable", "pod2f1c7a3e-9d4b-4c55-8f60-0a1b2c3d4e5f", strings.Repeat("3c5f0ad4", 8)} {
		folder = filepath.Join(folder, name)
		makeCgroup(t, folder)
	}
	require.NoError(t, os.WriteFile(folder+"/memory.limit_in_bytes", []byte("67108864"), 0o600))
	return folder
}

// dialClosedPorts is the role "connect".
func dialClosedPorts() {
	for _, address := range []string{"127.0.0.1:9", "[::1]:9"} {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
		}
	}
}
