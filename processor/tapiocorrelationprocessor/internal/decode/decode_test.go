package decode

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/ring"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// rig is a decoder with what it writes to.
type rig struct {
	*Decoder
	graph   *topology.Graph
	details *ring.Details
}

// noVisits looks at no trace in full.
var noVisits = Visits{Wants: func(record.TraceID) bool { return false }}

func (r rig) decodeTraces(td ptrace.Traces) ([]record.Event, Counts) {
	var b Batch
	counts := r.Traces(td, &b)
	return b.Events, counts
}

func (r rig) decodeLogs(ld plog.Logs) ([]record.Event, Counts) {
	var b Batch
	counts := r.Logs(ld, &b)
	return b.Events, counts
}

func newRig() rig {
	g := topology.New(topology.Limits{Entities: 1000, OperationsPerService: 100})
	d := ring.NewDetails(ring.New(1024), 1000)
	o := Options{UserAttributes: []string{"user.id", "enduser.id"}, ValueAttribute: "order.amount"}
	return rig{New(g, d, o, noVisits, func() time.Time { return noon.Add(time.Minute) }), g, d}
}

func tracesOf(t *testing.T) ptrace.Traces {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "spans.json"))
	require.NoError(t, err)
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(b)
	require.NoError(t, err)
	return td
}

func logsOf(t *testing.T) plog.Logs {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "logs.json"))
	require.NoError(t, err)
	ld, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(b)
	require.NoError(t, err)
	return ld
}

// A job of systemd that failed is no request that failed.
func TestSpansOfReceiversAreNoRequests(t *testing.T) {
	td := tracesOf(t)
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			ss.Scope().SetName(event.ReceiverScopes + "systemdreceiver")
		}
	}
	events, counts := newRig().decodeTraces(td)
	assert.Empty(t, events)
	assert.Equal(t, Counts{Skipped: td.SpanCount()}, counts)
}

func TestTraces(t *testing.T) {
	r := newRig()
	learn, _ := r.decodeTraces(tracesOf(t))
	r.graph.SetSlowOver(learn[0].Object, int64(time.Second)) // what detect does with POST /orders
	events, counts := r.decodeTraces(tracesOf(t))
	assert.Equal(t, Counts{Decoded: 4, Skipped: 1, Invalid: 5}, counts)
	require.Len(t, events, 4)

	normal, refused, slow, failed := events[0], events[1], events[2], events[3]
	assert.Equal(t, record.KindAnswer, normal.Kind, "a server span")
	assert.Zero(t, normal.Detail, "a normal span keeps no text")
	assert.Equal(t, noon.Add(10*time.Millisecond), record.UTC(normal.Time), "a span is at its end")
	assert.EqualValues(t, 10*time.Millisecond, normal.Value)
	assert.Equal(t, "0102030405060708090a0b0c0d0e0f10", normal.TraceID.String())
	subject, _ := r.graph.Entity(normal.Subject)
	assert.Equal(t, topology.KindProcess, subject.Kind)
	assert.Equal(t, normal.Object, slow.Object)
	assert.NotEqual(t, normal.Object, refused.Object)

	assert.Equal(t, record.KindFailedSpan, refused.Kind)
	s := r.details.Get(refused.Detail).Span
	peer, _ := r.graph.Entity(s.Peer)
	assert.Equal(t, "10.0.0.7:8081", peer.Name, "what was dialled, not what was asked for")
	s.Peer, s.Operation = 0, 0
	assert.Equal(t, &record.Span{
		ID: record.SpanID{1, 7: 2}, Parent: record.SpanID{1, 7: 1}, Kind: record.SpanClient, Name: "POST",
		Start: noon.UnixNano() + 1e6, End: noon.UnixNano() + 4e6, Failed: true, Failure: record.FailureRefused,
		ErrorType: "*net.OpError", Message: "dial tcp 10.0.0.7:8081: connect: connection refused",
		User: "first", UserKey: "user.id", Value: 12.5, HasValue: true,
	}, s)

	assert.Equal(t, record.KindSlowSpan, slow.Kind)
	s = r.details.Get(slow.Detail).Span
	assert.True(t, s.Slow)
	assert.False(t, s.Failed)

	assert.Equal(t, record.KindFailedSpan, failed.Kind)
	s = r.details.Get(failed.Detail).Span
	assert.Equal(t, "card declined", s.Message, "from the exception, where the status says nothing")
	assert.Equal(t, 503, s.HTTPStatus)
	assert.False(t, s.HasValue, "a text is no value")
}

func TestLogs(t *testing.T) {
	r := newRig()
	events, counts := r.decodeLogs(logsOf(t))
	assert.Equal(t, Counts{Decoded: 2, Skipped: 1, Invalid: 2}, counts)
	require.Len(t, events, 2)
	assert.Equal(t, record.KindEvent, events[0].Kind)
	assert.EqualValues(t, plog.SeverityNumberError, events[0].Severity)
	assert.Equal(t, "0102030405060708090a0b0c0d0e0f10", events[0].TraceID.String())
	d := r.details.Get(events[0].Detail)
	assert.Equal(t, event.TCPConnectFailed, d.Name)
	peer, _ := r.graph.Entity(d.Peer)
	assert.Equal(t, "10.0.0.7:8081", peer.Name)
	assert.Equal(t, int64(8081), d.Attr(event.KeyPeerPort))
	assert.Equal(t, 0.001, d.Attr(event.KeyConnectDuration))
	assert.Equal(t, true, d.Attr("flag"))
	assert.Equal(t, []string{"a", "1"}, d.Attr("list"))
	assert.IsType(t, "", d.Attr("infinite"), "a finding is JSON, which has no infinity")

	assert.Equal(t, record.KindLog, events[1].Kind)
	assert.EqualValues(t, noon.UnixNano()+7, events[1].Time, "observed, where nobody said when")
	assert.Zero(t, events[1].Detail)
}

// TestReached: of a call that went well it is known at which address.
func TestReached(t *testing.T) {
	r := newRig()
	decode := func(kind ptrace.SpanKind, address string, failed bool) record.Event {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr(event.KeyServiceName, "shop")
		s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID{1})
		s.SetKind(kind)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(noon))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(noon))
		if address != "" {
			s.Attributes().PutStr(event.KeyServerAddress, address)
			s.Attributes().PutInt(event.KeyServerPort, 8081)
		}
		if failed {
			s.Status().SetCode(ptrace.StatusCodeError)
		}
		events, _ := r.decodeTraces(td)
		require.Len(t, events, 1)
		return events[0]
	}
	well := decode(ptrace.SpanKindClient, "10.0.0.7", false)
	assert.Equal(t, record.KindReached, well.Kind)
	peer, _ := r.graph.Entity(well.Subject)
	assert.Equal(t, "10.0.0.7:8081", peer.Name)
	assert.NotZero(t, well.Object)
	assert.Equal(t, record.KindSpan, decode(ptrace.SpanKindClient, "", false).Kind, "nobody knows where")
	assert.Equal(t, record.KindAnswer, decode(ptrace.SpanKindServer, "10.0.0.7", false).Kind)
	assert.Equal(t, record.KindFailedSpan, decode(ptrace.SpanKindClient, "10.0.0.7", true).Kind)
}

// TestSockets: the kernel's records tell who answers where and who calls whom,
// before any span does.
func TestSockets(t *testing.T) {
	r := newRig()
	tell := func(service string, pid int64, name string, attrs map[string]any) {
		ld := plog.NewLogs()
		rl := ld.ResourceLogs().AppendEmpty()
		require.NoError(t, rl.Resource().Attributes().FromRaw(map[string]any{"service.name": service, "host.name": "n", "process.pid": pid}))
		lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		lr.SetEventName(name)
		lr.SetTimestamp(pcommon.NewTimestampFromTime(noon))
		require.NoError(t, lr.Attributes().FromRaw(attrs))
		_, counts := r.decodeLogs(ld)
		require.Equal(t, 1, counts.Decoded)
	}
	at := noon.UnixNano()
	host := r.graph.Resolve(&topology.Resource{Host: "n"}, at).Host
	owner := func(address string, port int64) string {
		return r.graph.ServiceName(r.graph.Owner(r.graph.Address(host, address, port, at), at))
	}
	tell("payment", 2, event.TCPListen, map[string]any{event.KeyLocalAddress: "::", event.KeyLocalPort: 80, event.KeyConnectionState: "listen"})
	assert.Equal(t, "payment", owner("127.0.0.1", 80))
	tell("stock", 3, event.TCPListen, map[string]any{event.KeyLocalAddress: "10.0.0.7", event.KeyLocalPort: 81, event.KeyConnectionState: "listen"})
	assert.Equal(t, "stock", owner("10.0.0.7", 81))
	tell("mail", 4, event.TCPListen, map[string]any{event.KeyLocalAddress: "10.0.0.7", event.KeyLocalPort: 82, event.KeyConnectionState: "closed"})
	assert.Empty(t, owner("10.0.0.7", 82))
	tell("payment", 2, event.TCPConnections, map[string]any{event.KeyLocalAddress: "10.0.0.8", event.KeyLocalPort: 80, event.KeyPeerAddress: "10.0.0.9", event.KeyTCPRole: "server"})
	assert.Equal(t, "payment", owner("10.0.0.8", 80))
	tell("shop", 5, event.TCPConnections, map[string]any{event.KeyLocalAddress: "10.0.0.9", event.KeyPeerAddress: "10.0.0.8", event.KeyPeerPort: 80, event.KeyTCPRole: "client"})
	service := func(name string) record.EntityID {
		return r.graph.Resolve(&topology.Resource{Service: name}, at).Service
	}
	assert.Equal(t, []record.EntityID{service("payment")}, r.graph.Callees(service("shop"), at))
}

// TestSocketsOutsideOfThePIDNamespace: who has no pid here may be in another network
// namespace: its ports are not the host's.
func TestSocketsOutsideOfThePIDNamespace(t *testing.T) {
	r := newRig()
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	require.NoError(t, rl.Resource().Attributes().FromRaw(map[string]any{
		"host.name": "n", "process.vpid": 7, "process.creation.time": "2026-11-23T11:00:00Z", "process.executable.name": "test",
	}))
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	for port, address := range map[int64]string{80: "::", 81: "127.0.0.1", 82: "::1", 83: "10.0.0.7"} {
		for _, name := range []string{event.TCPListen, event.UDPListen, event.TCPConnections, event.TCPReset} {
			lr := records.AppendEmpty()
			lr.SetEventName(name)
			lr.SetTimestamp(pcommon.NewTimestampFromTime(noon))
			require.NoError(t, lr.Attributes().FromRaw(map[string]any{
				event.KeyLocalAddress: address, event.KeyLocalPort: port, event.KeyConnectionState: "listen", event.KeyTCPRole: "server",
				event.KeyPeerAddress: "127.0.0.1", event.KeyPeerPort: 90,
			}))
		}
	}
	events, counts := r.decodeLogs(ld)
	require.Equal(t, 16, counts.Decoded)
	at := noon.UnixNano()
	host := r.graph.Resolve(&topology.Resource{Host: "n"}, at).Host
	for _, port := range []int64{80, 81, 82} {
		assert.Zero(t, r.graph.Owner(r.graph.Address(host, "127.0.0.1", port, at), at))
	}
	assert.Equal(t, "test", r.graph.ServiceName(r.graph.Owner(r.graph.Address(host, "10.0.0.7", 83, at), at)), "any other is the same for both")
	for _, e := range events {
		assert.NotEqual(t, host, e.Subject)
		assert.NotEqual(t, r.graph.Address(host, "127.0.0.1", 90, at), r.details.Get(e.Detail).Peer)
	}
}

func TestClassify(t *testing.T) {
	for said, want := range map[string]record.Failure{
		// Go
		"dial tcp 10.0.0.7:80: connect: connection refused":                                                      record.FailureRefused,
		"dial tcp: lookup payment on 127.0.0.1:53: read udp 127.0.0.1:4->127.0.0.1:53: read: connection refused": record.FailureUnresolved,
		"dial tcp: lookup payment on 10.0.0.1:53: read udp 10.0.0.7:4->10.0.0.1:53: i/o timeout":                 record.FailureUnresolved,
		"read tcp 10.0.0.1:4->10.0.0.7:80: read: connection reset by peer":                                       record.FailureBroken,
		`Post "http://payment/charge": EOF`:                                                                      record.FailureBroken,
		"unexpected EOF":                                                                                         record.FailureBroken,
		"http: server closed idle connection":                                                                    record.FailureOther,
		"write: broken pipe":                                                                                     record.FailureBroken,
		"context deadline exceeded (Client.Timeout exceeded while awaiting headers)":                             record.FailureTimeout,
		"rpc error: code = Unavailable desc = connection error: dial tcp 1.2.3.4:5: connect: connection refused": record.FailureRefused,
		// Java
		"java.net.UnknownHostException: payment: Temporary failure in name resolution":                                         record.FailureUnresolved,
		"java.net.ConnectException: Connection refused":                                                                        record.FailureRefused,
		"java.net.SocketException: Connection reset":                                                                           record.FailureBroken,
		"java.net.SocketTimeoutException: Read timed out":                                                                      record.FailureTimeout,
		"org.apache.http.conn.HttpHostConnectException: Connect to payment:80 failed: Connection refused (Connection refused)": record.FailureRefused,
		// Node.js
		"getaddrinfo EAI_AGAIN payment":    record.FailureUnresolved,
		"connect ECONNREFUSED 10.0.0.7:80": record.FailureRefused,
		"read ECONNRESET":                  record.FailureBroken,
		"socket hang up":                   record.FailureBroken,
		"connect ETIMEDOUT 10.0.0.7:80":    record.FailureTimeout,
		// Python
		"<urlopen error [Errno -2] Name or service not known>":                                          record.FailureUnresolved,
		"ConnectionRefusedError\n[Errno 111] Connection refused":                                        record.FailureRefused,
		"ConnectionResetError\n[Errno 104] Connection reset by peer":                                    record.FailureBroken,
		"http.client.RemoteDisconnected: Remote end closed connection without response":                 record.FailureBroken,
		"aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected":                        record.FailureBroken,
		"requests.exceptions.ReadTimeout: HTTPConnectionPool(host='payment', port=80): Read timed out.": record.FailureTimeout,
		// .NET
		"System.Net.Sockets.SocketException (111): Connection refused":                             record.FailureRefused,
		"No connection could be made because the target machine actively refused it. (payment:80)": record.FailureRefused,
		"System.Net.Http.HttpRequestException: Connection refused (payment:80)":                    record.FailureRefused,
		"The request was canceled due to the configured HttpClient.Timeout of 5 seconds elapsing.": record.FailureTimeout,
		// Neither
		"":                record.FailureOther,
		"card declined":   record.FailureOther,
		"payment refused": record.FailureOther,
		"404":             record.FailureOther,
	} {
		assert.Equal(t, want, classify(said), said)
	}
}

func TestOnlyCallsWithoutAnswerAreClassified(t *testing.T) {
	r := newRig()
	td := ptrace.NewTraces()
	spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for _, kind := range []ptrace.SpanKind{ptrace.SpanKindServer, ptrace.SpanKindClient} {
		s := spans.AppendEmpty()
		s.SetKind(kind)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(noon))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(noon))
		s.Status().SetCode(ptrace.StatusCodeError)
		s.Status().SetMessage("upstream said: connection refused")
		if kind == ptrace.SpanKindClient {
			s.Attributes().PutInt("http.response.status_code", 502)
		}
	}
	events, _ := r.decodeTraces(td)
	for _, e := range events {
		assert.Equal(t, record.FailureOther, r.details.Get(e.Detail).Span.Failure)
	}
}

// Whatever the size of what comes in, what is kept is bounded.
func TestHostileSizes(t *testing.T) {
	long := strings.Repeat("x\xff", 1<<19)
	r := newRig()
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr(event.KeyServiceName, long)
	s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.SetName(long)
	s.SetKind(ptrace.SpanKindClient)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(noon))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(noon))
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage(long)
	for _, key := range []string{"user.id", event.KeyErrorType, event.KeyServerAddress} {
		s.Attributes().PutStr(key, long)
	}
	s.Attributes().PutInt(event.KeyServerPort, math.MaxInt64)
	s.Attributes().PutDouble("order.amount", math.NaN())
	events, _ := r.decodeTraces(td)
	sp := r.details.Get(events[0].Detail).Span
	for _, text := range []string{sp.Name, sp.Message, sp.User, sp.ErrorType} {
		assert.LessOrEqual(t, len(text), 3*record.MaxText)
		assert.True(t, utf8.ValidString(text))
	}
	assert.False(t, sp.HasValue, "NaN is no value")
	assert.Zero(t, sp.Peer)

	ld := plog.NewLogs()
	l := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	l.SetTimestamp(pcommon.NewTimestampFromTime(noon))
	l.SetEventName(long)
	l.SetSeverityNumber(math.MaxInt32)
	for n := range 10_000 {
		l.Attributes().PutStr(fmt.Sprint(long[:100], n), long[:1000])
	}
	events, _ = r.decodeLogs(ld)
	d := r.details.Get(events[0].Detail)
	assert.Len(t, d.Attrs, maxAttributes)
	assert.LessOrEqual(t, len(d.Name), 3*record.MaxText)
	assert.EqualValues(t, math.MaxUint8, events[0].Severity)
}

func TestResourceCacheIsBounded(t *testing.T) {
	r := newRig()
	for n := range 2 * maxResources {
		m := pcommon.NewMap()
		m.PutInt(event.KeyProcessPID, int64(n))
		m.PutStr(event.KeyHostName, "node1")
		r.resolve(m, noon.UnixNano())
	}
	assert.LessOrEqual(t, len(r.cache), maxResources)
}

func TestResourcesThatDifferAreNotMixedUp(t *testing.T) {
	r := newRig()
	seen := map[uint64]string{}
	for name, fill := range map[string]func(pcommon.Map){
		"a=b": func(m pcommon.Map) { m.PutStr("a", "b") }, "ab=": func(m pcommon.Map) { m.PutStr("ab", "") },
		"pid 1": func(m pcommon.Map) { m.PutInt("process.pid", 1) }, "pid 2": func(m pcommon.Map) { m.PutInt("process.pid", 2) },
		"pid text": func(m pcommon.Map) { m.PutStr("process.pid", "1") }, "empty": func(pcommon.Map) {},
	} {
		m := pcommon.NewMap()
		fill(m)
		h := r.hash(m)
		assert.Empty(t, seen[h], name)
		seen[h] = name
		assert.Equal(t, h, r.hash(m))
	}
}

// normal is a batch of spans with 15 attributes each, none failed or slow.
func normal(n int) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr(event.KeyServiceName, "storefront")
	rs.Resource().Attributes().PutStr(event.KeyHostName, "node1")
	rs.Resource().Attributes().PutInt(event.KeyProcessPID, 11)
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	for i := range n {
		s := spans.AppendEmpty()
		s.SetTraceID(pcommon.TraceID{1, byte(i)})
		s.SetSpanID(pcommon.SpanID{1, 7: byte(i)})
		s.SetParentSpanID(pcommon.SpanID{2, 7: byte(i)})
		s.SetName("GET /item")
		s.SetKind(ptrace.SpanKind(1 + i%5))
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(noon))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(noon.Add(time.Millisecond)))
		for a := range 13 {
			s.Attributes().PutStr(fmt.Sprint("attribute.", a), "value")
		}
		s.Attributes().PutStr(event.KeyServerAddress, "127.0.0.1")
		s.Attributes().PutInt(event.KeyServerPort, 8080)
	}
	return td
}

func TestNormalSpansDoNotAllocate(t *testing.T) {
	r, td := newRig(), normal(100)
	buf := Batch{Events: make([]record.Event, 0, 100)}
	run := func() { buf.Reset(); r.Traces(td, &buf) }
	run() // learns the resource, operations and addresses
	assert.Zero(t, testing.AllocsPerRun(100, run))
	assert.Len(t, buf.Events, 100)
}

func FuzzTraces(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "spans.json"))
	require.NoError(f, err)
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(b)
	require.NoError(f, err)
	b, err = (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		if err != nil {
			return
		}
		r := newRig()
		events, counts := r.decodeTraces(td)
		if len(events) != counts.Decoded || counts.Decoded+counts.Skipped+counts.Invalid != td.SpanCount() {
			t.Fatalf("%d spans, %d events, %+v", td.SpanCount(), len(events), counts)
		}
		checkEvents(t, r, events)
	})
}

func FuzzLogs(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "logs.json"))
	require.NoError(f, err)
	ld, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(b)
	require.NoError(f, err)
	b, err = (&plog.ProtoMarshaler{}).MarshalLogs(ld)
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ld, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(b)
		if err != nil {
			return
		}
		r := newRig()
		events, counts := r.decodeLogs(ld)
		if len(events) != counts.Decoded || counts.Decoded+counts.Skipped+counts.Invalid != ld.LogRecordCount() {
			t.Fatalf("%d records, %d events, %+v", ld.LogRecordCount(), len(events), counts)
		}
		checkEvents(t, r, events)
	})
}

// checkEvents checks what the rest of the engine relies on.
func checkEvents(t *testing.T, r rig, events []record.Event) {
	t.Helper()
	for _, e := range events {
		if e.Time <= 0 || e.Value < 0 || e.Subject == 0 || e.Kind == 0 {
			t.Fatalf("%+v", e)
		}
		d := r.details.Get(e.Detail)
		if (d != nil) != (e.Kind >= record.KindSlowSpan) {
			t.Fatalf("%+v has detail %v", e, d)
		}
		if d == nil {
			continue
		}
		for _, a := range d.Attrs {
			if x, ok := a.Value.(float64); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
				t.Fatalf("%s is %v", a.Key, x)
			}
		}
		if !utf8.ValidString(d.Name) {
			t.Fatalf("%q", d.Name)
		}
	}
}
