package operation

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/ptracetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/machine"
)

var goldenFlag = flag.Bool("golden", false, "write the golden files of testdata anew")

func newTestEncoder() *Encoder {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return &Encoder{
		Host: machine.Info{Name: "node-7", ID: "5e1f"}, Scope: "test", Version: "1",
		Wall: func(boot uint64) time.Time { return noon.Add(time.Duration(boot)) },
	}
}

// told is a day in the life of a sandbox: loopback, an exhausted pool and the
// clean-up after it, a good one, and one that runs when the collector ends.
func told() []*Operation {
	s := newStory()
	s.start(10, runtime, "loopback", "CNI_IFNAME=lo").reads(10, `{"name":"cni-loopback"}`).exits(10, 0)
	s.start(1, runtime, "bridge").reads(1, cbr0).start(2, 1, "host-local").reads(2, cbr0).
		writes(2, poolExhausted).exits(2, 1).writes(1, poolExhausted).exits(1, 1)
	s.start(3, runtime, "bridge", "CNI_COMMAND=DEL").reads(3, cbr0).ends(3, 9)
	s.wait(10*settle).tick().start(4, runtime, "bridge", "CNI_CONTAINERID=c2").reads(4, cbr0).start(5, 4, "host-local", "CNI_CONTAINERID=c2").
		exits(5, 0).exits(4, 0).start(6, runtime, "portmap", "CNI_CONTAINERID=c2").reads(6, cbr0).exits(6, 0).wait(10 * settle).tick()
	s.start(7, runtime, "bridge", "CNI_COMMAND=CHECK", "CNI_ARGS=K8S_POD_INFRA_CONTAINER_ID=c9").wait(1500 * ms)
	return append(s.done, s.Flush(s.now)...)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	e := newTestEncoder()
	operations := told()
	require.Len(t, operations, 5)
	traces := e.Traces(operations)
	logs := e.Failures(operations, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	tracesFile, logsFile := filepath.Join("testdata", "traces.yaml"), filepath.Join("testdata", "logs.yaml")
	if *goldenFlag {
		require.NoError(t, golden.WriteTraces(t, tracesFile, traces))
		require.NoError(t, golden.WriteLogs(t, logsFile, logs))
	}
	wantTraces, err := golden.ReadTraces(tracesFile)
	require.NoError(t, err)
	require.NoError(t, ptracetest.CompareTraces(wantTraces, traces))
	wantLogs, err := golden.ReadLogs(logsFile)
	require.NoError(t, err)
	require.NoError(t, plogtest.CompareLogs(wantLogs, logs))
}

func TestLogsBelongToSpans(t *testing.T) {
	t.Parallel()
	e := newTestEncoder()
	operations := told()
	spans := map[pcommon.SpanID]ptrace.Span{}
	for _, s := range e.Traces(operations).ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		assert.NotContains(t, spans, s.SpanID(), "ids are not used twice")
		assert.LessOrEqual(t, s.StartTimestamp(), s.EndTimestamp())
		spans[s.SpanID()] = s
	}
	for _, s := range spans {
		if parent := s.ParentSpanID(); !parent.IsEmpty() {
			require.Contains(t, spans, parent)
			assert.Equal(t, spans[parent].TraceID(), s.TraceID())
		}
	}
	var names []string
	for _, rl := range e.Failures(operations, time.Now()).ResourceLogs().All() {
		record := rl.ScopeLogs().At(0).LogRecords().At(0)
		require.Contains(t, spans, record.SpanID())
		span := spans[record.SpanID()]
		assert.Equal(t, span.TraceID(), record.TraceID())
		assert.Equal(t, ptrace.StatusCodeError, span.Status().Code())
		names = append(names, span.Name())
	}
	assert.Equal(t, []string{"host-local ADD", "bridge DEL"}, names)
}

func TestSentences(t *testing.T) {
	t.Parallel()
	e := newTestEncoder()
	var bodies []string
	for _, rl := range e.Failures(told(), time.Now()).ResourceLogs().All() {
		bodies = append(bodies, rl.ScopeLogs().At(0).LogRecords().At(0).Body().Str())
	}
	assert.Equal(t, []string{
		"Pod shop/payment-0: CNI ADD of eth0 in network cbr0 failed: host-local: failed to allocate for range 0: no IP addresses available in range set: 10.1.0.2-10.1.0.2",
		"Pod shop/payment-0: CNI DEL of eth0 in network cbr0 failed: bridge: killed by signal 9",
	}, bodies)
}

// A plugin that hangs is told by name after a while, and again when it ends.
func TestPluginThatHangs(t *testing.T) {
	t.Parallel()
	e := newTestEncoder()
	hang := func() (*story, *Operation) {
		s := newStory()
		s.start(1, runtime, "bridge").reads(1, cbr0).start(2, 1, "host-local").exits(2, 0).start(3, 1, "dhcp").reads(3, cbr0).wait(patience).tick()
		require.Len(t, s.done, 1)
		assert.Empty(t, s.wait(ms).tick().done[1:], "told once")
		return s, s.done[0]
	}
	one := func(logs plog.Logs) plog.LogRecord {
		require.Equal(t, 1, logs.LogRecordCount())
		return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	}
	attribute := func(m pcommon.Map, key string) any {
		v, _ := m.Get(key)
		return v.AsRaw()
	}
	began := newStory().now + ms
	spanned := func(o *Operation) (root ptrace.Span, byName map[string]ptrace.Span) {
		byName = map[string]ptrace.Span{}
		for _, s := range e.Traces([]*Operation{o}).ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
			byName[s.Name()] = s
		}
		return byName["cni ADD"], byName
	}

	s, o := hang()
	record := one(e.Failures(s.done, time.Now()))
	stuckAt := s.now - ms
	assert.Equal(t, "Pod shop/payment-0: CNI ADD of eth0 in network cbr0 does not end: dhcp: no end of it was seen within 5m0s", record.Body().Str())
	assert.Equal(t, pcommon.NewTimestampFromTime(e.Wall(stuckAt)), record.Timestamp(), "not when it began")
	assert.Equal(t, time.Duration(stuckAt-began).Seconds(), attribute(record.Attributes(), event.KeyCNIDuration))
	assert.Equal(t, "dhcp", attribute(record.Attributes(), event.KeyCNIPlugin))
	assert.Equal(t, event.ErrorNotFinished, attribute(record.Attributes(), event.KeyErrorType))
	assert.Zero(t, e.Traces(s.done).SpanCount(), "spans are sent when they ended")

	s.wait(45*uint64(time.Second)).ends(3, 9).exits(1, 1)
	again := one(e.Failures(s.done[1:], time.Now()))
	assert.Equal(t, event.ErrorKilled, attribute(again.Attributes(), event.KeyErrorType))
	assert.Equal(t, time.Duration(s.now-began).Seconds(), attribute(again.Attributes(), event.KeyCNIDuration))
	assert.Equal(t, record.SpanID(), again.SpanID())
	assert.Equal(t, record.TraceID(), again.TraceID())
	root, spans := spanned(o)
	assert.Equal(t, e.Wall(s.now), root.EndTimestamp().AsTime())
	assert.Equal(t, again.SpanID(), spans["dhcp ADD"].SpanID())

	s, o = hang()
	s.exits(3, 0).exits(1, 0).wait(settle + ms).tick()
	assert.Zero(t, e.Failures(s.done[1:], time.Now()).LogRecordCount())
	over := one(e.Recoveries(s.done[1:], time.Now()))
	assert.Equal(t, event.CNIRecovered, over.EventName())
	assert.Equal(t, event.CNIOperation, attribute(over.Attributes(), event.KeyCNIRecovered))
	assert.Equal(t, "Over: Pod shop/payment-0: CNI ADD of eth0 in network cbr0 succeeded after 5m0s", over.Body().Str())
	root, _ = spanned(o)
	assert.Equal(t, ptrace.StatusCodeUnset, root.Status().Code())

	s, o = hang()
	s.wait(giveUpAfter).tick()
	assert.Zero(t, e.Failures(s.done[1:], time.Now()).LogRecordCount()+e.Recoveries(s.done[1:], time.Now()).LogRecordCount())
	root, spans = spanned(o)
	for _, span := range []ptrace.Span{root, spans["bridge ADD"], spans["dhcp ADD"]} {
		assert.Equal(t, e.Wall(s.now), span.EndTimestamp().AsTime(), "when it was given up")
		assert.Equal(t, ptrace.StatusCodeError, span.Status().Code())
		assert.Equal(t, "no end of it was seen within 1h5m0s", span.Status().Message())
	}
	assert.Equal(t, "dhcp", attribute(root.Attributes(), event.KeyCNIPlugin))
	assert.Zero(t, s.Held())
}

func TestSeverity(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]plog.SeverityNumber{
		"ADD": plog.SeverityNumberError, "STATUS": plog.SeverityNumberError,
		"DEL": plog.SeverityNumberWarn, "CHECK": plog.SeverityNumberWarn, "GC": plog.SeverityNumberWarn,
	} {
		assert.Equal(t, want, Severity(command), command)
	}
}

func TestErrorType(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"failed to allocate for range 0: no IP addresses available in range set: 10.1.0.2-10.1.0.2":                                 event.ErrorAddressPoolExhausted,
		"Error at storage engine: Could not allocate IP in range: ip: 172.16.0.1 / - 172.16.0.6 / range":                            event.ErrorAddressPoolExhausted,
		"add cmd: failed to assign an IP address to container":                                                                      event.ErrorAddressPoolExhausted,
		"failed to request IPv4 addresses: Assigned 0 out of 1 requested IPv4 addresses; No IPs available in pools: [10.99.9.0/29]": event.ErrorAddressPoolExhausted,
		"Unable to allocate IP via local cilium agent: [POST /ipam][502] postIpamFailure range is full":                             event.ErrorAddressPoolExhausted,
		"10.88.0.5 has been allocated to c1, duplicate allocation is not allowed":                                                   event.ErrorAddressAlreadyAllocated,
		`fork/exec /opt/cni/bin/host-local: exec format error`:                                                                      event.ErrorPluginNotExecutable,
		`failed to find plugin "nosuch" in path [/usr/lib/cni]`:                                                                     event.ErrorPluginMissing,
		`failed to open netns "/var/run/netns/gone": failed to Statfs "/var/run/netns/gone": no such file or directory`:             event.ErrorNetnsMissing,
		"container veth name provided (eth0) already exists":                                                                        event.ErrorInterfaceExists,
		"unable to connect to Cilium agent: failed to create cilium agent client after 30.000000 seconds timeout":                   event.ErrorAgentUnreachable,
		"loadFlannelSubnetEnv failed: open /run/flannel/subnet.env: no such file or directory":                                      event.ErrorAgentUnreachable,
		"something else": event.ErrorPluginFailed,
	} {
		c := Call{End: 1, Status: 0x100, HasFailure: true, Failure: Failure{Code: 999, Message: message}}
		assert.Equal(t, want, c.ErrorType(), message)
	}
	assert.Equal(t, "try_again_later", (&Call{End: 1, Status: 0x100, Failure: Failure{Code: 11}}).ErrorType())
	assert.Equal(t, event.ErrorKilled, (&Call{End: 1, Status: 9}).ErrorType())
}

// What was not seen of an error is not there: no code 0 and no empty message.
func TestErrorOfWhichOnlyDetailsAreSeen(t *testing.T) {
	t.Parallel()
	s := newStory().start(1, runtime, "bridge").moves(1, Stdout, 0, `{"details":"a long sto`, true).exits(1, 1)
	record := newTestEncoder().Failures(s.done, time.Now()).ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	for _, key := range []string{event.KeyCNIErrorCode, event.KeyCNIErrorMessage} {
		_, ok := record.Attributes().Get(key)
		assert.False(t, ok, key)
	}
	details, _ := record.Attributes().Get(event.KeyCNIErrorDetails)
	assert.Equal(t, "a long sto", details.Str())
	assert.Equal(t, "Pod shop/payment-0: CNI ADD of eth0 failed: bridge: exit code 1; a long sto", record.Body().Str())
}

// FuzzOperation: whatever an environment and streams hold, there is one operation
// with valid text, or none.
func FuzzOperation(f *testing.F) {
	f.Add([]byte("CNI_COMMAND=ADD\x00CNI_PATH=/opt/cni/bin\x00CNI_ARGS=K8S_POD_NAME=a;;=\x00"), []byte(cbr0), []byte(poolExhausted), true, uint32(0x100))
	f.Add([]byte("CNI_COMMAND=DEL"), []byte(`{"name":`), []byte(`{"code":7,"msg":"\ud8`), false, uint32(9))
	f.Fuzz(func(t *testing.T, env, config, answer []byte, isCut bool, status uint32) {
		a := NewAssembler(follow)
		a.Add(Exec{At: 1, ID: id(1), Parent: runtime, Path: "/opt/cni/bin/bridge", Env: env})
		a.Add(Data{At: 2, ID: id(1), Stream: Stdin, Bytes: config, More: isCut})
		a.Add(Data{At: 3, ID: id(1), Stream: Stdout, Bytes: answer, More: isCut})
		done := append(a.Add(Exit{At: 4, ID: id(1), Status: status}), a.Flush(5)...)
		if len(done) > 1 || a.Held() != 0 {
			t.Fatalf("%d operations, %d calls held", len(done), a.Held())
		}
		e := newTestEncoder()
		for _, s := range texts(e.Traces(done), e.Failures(done, time.Now())) {
			if s != strings.ToValidUTF8(s, "") || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' }) {
				t.Errorf("%q", s)
			}
		}
	})
}

// texts are all strings of attributes, names and bodies.
func texts(traces ptrace.Traces, logs plog.Logs) []string {
	var all []string
	add := func(m pcommon.Map) {
		for _, v := range m.All() {
			all = append(all, v.AsString())
		}
	}
	for _, rs := range traces.ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			all = append(all, s.Name(), s.Status().Message())
			add(s.Attributes())
		}
	}
	for _, rl := range logs.ResourceLogs().All() {
		add(rl.Resource().Attributes())
		for _, r := range rl.ScopeLogs().At(0).LogRecords().All() {
			all = append(all, r.Body().Str())
			add(r.Attributes())
		}
	}
	return all
}
