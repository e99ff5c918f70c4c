package ebpfreceiver

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/kmsg"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

var testEpoch = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

func newTestEncoder(change func(*Config)) *encoder {
	cfg := createDefaultConfig().(*Config)
	if change != nil {
		change(cfg)
	}
	return newEncoder(cfg, receivertest.NewNopSettings(metadata.Type), machine.Info{Name: "node-7"},
		linux.NewClock(func() int64 { return testEpoch.UnixNano() }))
}

// encodeOne returns the one record of an event and its resource attributes.
func encodeOne(t *testing.T, ev kernelEvent) (plog.LogRecord, map[string]any) {
	t.Helper()
	logs := newTestEncoder(nil).encode([]kernelEvent{ev}, testEpoch)
	require.Equal(t, 1, logs.LogRecordCount())
	rl := logs.ResourceLogs().At(0)
	return recordsOf(rl).At(0), rl.Resource().Attributes().AsRaw()
}

func TestExitSeverityAndSentence(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status   uint32
		severity plog.SeverityNumber
		body     string
		attrs    map[string]any
	}{
		{0, plog.SeverityNumberInfo, "payment (pid 42) exited with code 0", map[string]any{event.KeyProcessExitCode: int64(0)}},
		{0x700, plog.SeverityNumberWarn, "payment (pid 42) exited with code 7", map[string]any{event.KeyProcessExitCode: int64(7)}},
		{0xff00, plog.SeverityNumberWarn, "payment (pid 42) exited with code 255", map[string]any{event.KeyProcessExitCode: int64(255)}},
		{15, plog.SeverityNumberInfo, "payment (pid 42) was ended by SIGTERM", map[string]any{event.KeyExitSignal: int64(15), event.KeyExitSignalName: "SIGTERM", event.KeyCoreDumped: false}},
		{0x8b, plog.SeverityNumberError, "payment (pid 42) was ended by SIGSEGV", map[string]any{event.KeyExitSignal: int64(11), event.KeyExitSignalName: "SIGSEGV", event.KeyCoreDumped: true}},
		{64, plog.SeverityNumberError, "payment (pid 42) was ended by SIGRTMAX", map[string]any{event.KeyExitSignal: int64(64), event.KeyExitSignalName: "SIGRTMAX", event.KeyCoreDumped: false}},
		{50, plog.SeverityNumberError, "payment (pid 42) was ended by SIGRTMAX-14", map[string]any{event.KeyExitSignal: int64(50), event.KeyExitSignalName: "SIGRTMAX-14", event.KeyCoreDumped: false}},
		{40, plog.SeverityNumberError, "payment (pid 42) was ended by SIGRTMIN+6", map[string]any{event.KeyExitSignal: int64(40), event.KeyExitSignalName: "SIGRTMIN+6", event.KeyCoreDumped: false}},
	} {
		record, _ := encodeOne(t, exitEvent{base: base{5, testProcess}, status: tc.status})
		assert.Equal(t, tc.severity, record.SeverityNumber(), tc.body)
		assert.Equal(t, tc.body, record.Body().Str())
		assert.Equal(t, tc.attrs, record.Attributes().AsRaw())
	}
}

func TestOOMOfTheNode(t *testing.T) {
	t.Parallel()
	record, _ := encodeOne(t, oomEvent{base: base{5, testProcess}, rss: 3 << 30, scoreAdj: -500})
	assert.Equal(t, map[string]any{
		event.KeyOOMScope: "node", event.KeyOOMRSS: int64(3 << 30), event.KeyOOMScoreAdj: int64(-500),
	}, record.Attributes().AsRaw(), "no limit, so none is invented")
	assert.Equal(t, "The kernel killed payment (pid 42), which held 3.0 GiB: the machine was out of memory", record.Body().Str())
}

func TestConnectErrorTypes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		errno   int32
		isLocal bool
		want    string
	}{
		{111, false, event.ErrorConnectionRefused},
		{110, false, event.ErrorConnectionTimedOut},
		{113, false, event.ErrorHostUnreachable},
		{101, false, event.ErrorNetworkUnreachable},
		{104, false, event.ErrorConnectionReset},
		{0, false, event.ErrorConnectionAborted},
		{0, true, event.ErrorLocal},
		{92, false, "protocol_unreachable"},
		{777, false, "errno_777"},
	} {
		ev := connectEvent{base: base{5, testProcess}, errno: tc.errno, isLocal: tc.isLocal, peer: netip.MustParseAddrPort("[2001:db8::1]:443")}
		record, _ := encodeOne(t, ev)
		got, _ := record.Attributes().Get(event.KeyErrorType)
		assert.Equal(t, tc.want, got.Str())
	}
}

func TestConnectOfNobodyKnown(t *testing.T) {
	t.Parallel()
	record, resource := encodeOne(t, connectEvent{base: base{at: 5}, errno: 111, netns: 9, peer: netip.MustParseAddrPort("[2001:db8::1]:443")})
	assert.Equal(t, map[string]any{event.KeyHostName: "node-7"}, resource, "no process rather than a wrong one")
	assert.Equal(t, map[string]any{
		event.KeyErrorType: event.ErrorConnectionRefused, event.KeyNetworkTransport: "tcp", event.KeyNetworkType: "ipv6",
		event.KeyPeerAddress: "2001:db8::1", event.KeyPeerPort: int64(443), event.KeyNetworkNamespace: int64(9),
	}, record.Attributes().AsRaw())
	assert.Equal(t, "an unknown process could not connect to [2001:db8::1]:443: connection refused", record.Body().Str())
}

func TestProcessOutsideOfThePIDNamespace(t *testing.T) {
	t.Parallel()
	who := testProcess
	who.pid, who.vpid, who.parent = 0, 7, 0
	record, resource := encodeOne(t, exitEvent{base: base{5, who}})
	assert.NotContains(t, resource, event.KeyProcessPID)
	assert.NotContains(t, resource, event.KeyProcessParentPID)
	assert.Equal(t, int64(7), resource[event.KeyProcessVPID])
	assert.Equal(t, "payment exited with code 0", record.Body().Str())
}

func TestExecutablePathIsAbsolute(t *testing.T) {
	t.Parallel()
	record, _ := encodeOne(t, execEvent{base: base{5, testProcess}, path: "./payment", args: []string{""}})
	assert.Empty(t, record.Attributes().AsRaw())
	assert.Equal(t, "payment (pid 42) began to run ./payment", record.Body().Str())
}

func TestOneResourceForEachProcess(t *testing.T) {
	t.Parallel()
	other := testProcess
	other.pid = 43
	logs := newTestEncoder(nil).encode([]kernelEvent{
		exitEvent{base: base{1, testProcess}}, exitEvent{base: base{2, other}}, refused(3),
	}, testEpoch)
	require.Equal(t, 2, logs.ResourceLogs().Len())
	first := recordsOf(logs.ResourceLogs().At(0))
	require.Equal(t, 2, first.Len())
	assert.Equal(t, event.TCPConnectFailed, first.At(1).EventName())
	assert.Equal(t, testEpoch.Add(3), first.At(1).Timestamp().AsTime())
	assert.Equal(t, metadata.ScopeName, logs.ResourceLogs().At(0).ScopeLogs().At(0).Scope().Name())
}

// TestStormKeepsOrder: what is encoded together has each its own time, severity, text
// and request.
func TestStormKeepsOrder(t *testing.T) {
	t.Parallel()
	other := testProcess
	other.pid = 43
	exit := func(at uint64, who processInfo, code uint32) kernelEvent {
		return exitEvent{base: base{at, who}, status: code << 8, traced: traced{traceContext{traceID: [16]byte{byte(at)}, association: event.AssociationThread}}}
	}
	logs := newTestEncoder(nil).encode([]kernelEvent{
		exit(1, testProcess, 0), exit(2, testProcess, 3), exit(3, testProcess, 0), exit(4, other, 4), refused(5), exit(6, testProcess, 6),
		messageEvent{base: base{7, testProcess}, line: "seven", found: kmsg.Event{Name: event.ProcessExit}},
	}, testEpoch)
	require.Equal(t, 2, logs.ResourceLogs().Len())
	var got []string
	for _, rl := range logs.ResourceLogs().All() {
		for _, r := range recordsOf(rl).All() {
			got = append(got, fmt.Sprint(r.Timestamp().AsTime().Sub(testEpoch).Nanoseconds(), r.TraceID()[0], " ", r.SeverityText(), " ", r.Body().Str()))
		}
	}
	assert.Equal(t, []string{
		"1 1 Info payment (pid 42) exited with code 0", "2 2 Warn payment (pid 42) exited with code 3", "3 3 Info payment (pid 42) exited with code 0",
		"5 0 Warn payment (pid 42) could not connect to 10.0.0.1:80: connection refused", "6 6 Warn payment (pid 42) exited with code 6", "7 0 Unspecified seven",
		"4 4 Warn payment (pid 43) exited with code 4",
	}, got)
}

func TestDisabledEventsAreNotEmitted(t *testing.T) {
	t.Parallel()
	e := newTestEncoder(func(c *Config) { c.Events.TapioProcessExec.Enabled = false })
	logs := e.encode([]kernelEvent{execOf(1), refused(2)}, testEpoch)
	assert.Equal(t, []string{event.TCPConnectFailed}, eventNamesOf([]plog.Logs{logs}))
}

func TestBytesText(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 64 << 20: "64.0 MiB", 3 << 40: "3.0 TiB", 1 << 63: "8.0 EiB"} {
		assert.Equal(t, want, bytesText(n))
	}
}

// TestRepeats: what failed again is a record of its own, with its own time.
func TestRepeats(t *testing.T) {
	t.Parallel()
	fail := func(errno string, trace byte, at uint64, again ...failedAgain) syscallEvent {
		ev := syscallEvent{base: base{at, testProcess}, calls: []failedCall{{"openat", errno}}, again: again}
		if trace != 0 {
			ev.request = traceContext{traceID: pcommon.TraceID{trace}, spanID: pcommon.SpanID{trace}, association: "thread"}
		}
		return ev
	}
	single := []kernelEvent{
		fail("EMFILE", 0, 1), fail("EMFILE", 0, 2), fail("ENOSPC", 0, 3), fail("ENOSPC", 7, 4), fail("ENOSPC", 7, 5),
		fail("EMFILE", 0, 6), refused(7), fail("EMFILE", 0, 8), fail("EMFILE", 0, 9), fail("EMFILE", 0, 10),
	}
	mixed := fail("EMFILE", 0, 1, failedAgain{2, 0}, failedAgain{3, 1})
	mixed.calls = append(mixed.calls, failedCall{"openat", "ENOSPC"})
	events := []kernelEvent{
		mixed, fail("ENOSPC", 7, 4, failedAgain{5, 0}),
		fail("EMFILE", 0, 6), refused(7), fail("EMFILE", 0, 8, failedAgain{9, 0}, failedAgain{10, 0}),
	}
	want := describeRecords(newTestEncoder(func(*Config) {}).encode(single, testEpoch))
	e := newTestEncoder(func(*Config) {})
	for range 2 { // nothing of the batch before is in the next
		got := describeRecords(e.encode(events, testEpoch))
		assert.Equal(t, want, got)
	}
	assert.Len(t, want, len(single))
}

// describeRecords says of each record all that events can differ in.
func describeRecords(logs plog.Logs) (all []string) {
	for _, rl := range logs.ResourceLogs().All() {
		for _, r := range recordsOf(rl).All() {
			all = append(all, fmt.Sprint(r.EventName(), r.Timestamp(), r.ObservedTimestamp(), r.SeverityText(), r.Body().AsString(), r.Attributes().AsRaw(), r.TraceID(), r.SpanID(), r.Flags()))
		}
	}
	return all
}

// TestQueueRefusesWhatHasNoPlace: of a burst what fits is taken, urgent events longest.
func TestQueueRefusesWhatHasNoPlace(t *testing.T) {
	t.Parallel()
	q := newQueue(4, 3)
	got := q.push([]kernelEvent{execOf(1), execOf(2), execOf(3), execOf(4), refused(5), refused(6)})
	require.Len(t, got, 2)
	assert.Equal(t, []uint64{4, 6}, []uint64{got[0].time(), got[1].time()})
	assert.Len(t, q.ready, 1)
	assert.Len(t, q.urgent, 1)
	assert.Equal(t, 4, q.len())
	assert.Len(t, q.pop(nil), 3)
	assert.Len(t, q.pop(nil), 1)

	repeated := syscallEvent{base: base{7, testProcess}, calls: []failedCall{{}}, again: []failedAgain{{at: 8}}}
	require.Empty(t, q.push([]kernelEvent{repeated, repeated}))
	assert.Len(t, q.pop(nil), 1, "a batch has three records at most")
	assert.Len(t, q.pop(nil), 1)
	repeated.again = []failedAgain{{at: 8}, {at: 9}, {at: 10}}
	require.Empty(t, q.push([]kernelEvent{repeated}))
	assert.Len(t, q.pop(nil), 1, "it goes all the same")
}

func TestQueueKeepsOrderAroundItsEnd(t *testing.T) {
	t.Parallel()
	q := newQueue(4, 3)
	var got []uint64
	for i := range uint64(10) {
		require.Empty(t, q.push([]kernelEvent{refused(i)}))
		if i%2 == 1 {
			for _, ev := range q.pop(nil) {
				got = append(got, ev.time())
			}
		}
	}
	assert.Equal(t, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, got)
	assert.Zero(t, q.len())
	assert.Equal(t, make([]kernelEvent, 4), q.ring, "what was taken is not held")
}
