package engine

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/decode"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// scenario feeds an engine with the telemetry of a shop (load -> storefront ->
// payment -> ledger) on a clock of its own, and keeps what the engine finds.
type scenario struct {
	t       testing.TB
	engine  *Engine
	options Options
	clock   time.Time
	serial  int

	// recording keeps telemetry on the tape instead of delivering it.
	recording bool
	tape      []item

	findings []*finding.Finding // every revision
	logs     []plog.Logs
	traces   []ptrace.Traces
}

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newScenario(t testing.TB, change ...func(*Options)) *scenario {
	t.Helper()
	patterns, err := pattern.Library()
	require.NoError(t, err)
	gauges, err := gauge.New(gauge.Options{MaxSeries: 1000, Horizon: gauge.DefaultHorizon})
	require.NoError(t, err)
	s := &scenario{t: t, clock: epoch}
	o := Options{
		Window: 5 * time.Minute, Retention: 30 * time.Minute, Quiet: 5 * time.Minute, MinScore: 0.7,
		Weights:      explain.Weights{Completeness: 0.4, Reliability: 0.4, Timing: 0.2},
		Impact:       decode.Options{UserAttributes: []string{"user.id"}, ValueAttribute: "order.amount"},
		RingCapacity: 1 << 14, MaxDetails: 1 << 14, MaxEntities: 10_000, MaxRequests: 10_000, MaxIncidents: 100,
		MaxTraces: 1000, MaxCauseSpans: 3, Patterns: patterns, Gauges: gauges,
		Now: func() time.Time { return s.clock }, Logger: zap.NewNop(),
	}
	for _, f := range change {
		f(&o)
	}
	s.options = o
	s.engine = New(o)
	s.engine.sink = s
	return s
}

// item is one export, of spans or of log records, and when it arrives.
type item struct {
	at     time.Time
	traces ptrace.Traces
	logs   plog.Logs
}

// deliver hands an export to the engine, or keeps it on the tape.
func (s *scenario) deliver(x item) {
	switch {
	case s.recording:
		x.at = s.clock
		s.tape = append(s.tape, x)
	case x.traces != (ptrace.Traces{}):
		s.engine.Traces(x.traces)
	default:
		s.engine.Logs(x.logs)
	}
}

// Finding implements Sink.
func (s *scenario) Finding(f *finding.Finding, log plog.Logs, spans ptrace.Traces) {
	s.findings = append(s.findings, f)
	s.logs = append(s.logs, log)
	s.traces = append(s.traces, spans)
}

// wait lets time pass.
func (s *scenario) wait(d time.Duration) {
	for ; d > 0; d -= tick {
		s.clock = s.clock.Add(min(d, tick))
		s.engine.Drain()
		s.engine.Advance()
	}
}

// latest returns the last revision of each finding, in the order of their first.
func (s *scenario) latest() []*finding.Finding {
	var out []*finding.Finding
	at := map[finding.ID]int{}
	for _, f := range s.findings {
		if i, ok := at[f.ID]; ok {
			out[i] = f
			continue
		}
		at[f.ID] = len(out)
		out = append(out, f)
	}
	return out
}

// one returns the last revision of the only finding.
func (s *scenario) one() *finding.Finding {
	s.t.Helper()
	all := s.latest()
	require.Len(s.t, all, 1, "findings")
	return all[0]
}

// service is an instance of a service that runs as a process of a host.
type service struct {
	name, version, host string
	pid                 int64
	port                int64
}

var (
	load       = service{"shop-load", "1", "node1", 10, 0}
	storefront = service{"storefront", "1.4.0", "node1", 11, 8080}
	payment    = service{"payment", "v2.1.0", "node1", 12, 8081}
	ledger     = service{"ledger", "3.0.1", "node1", 13, 8082}
)

func (v service) resource(r pcommon.Resource) {
	a := r.Attributes()
	a.PutStr(event.KeyServiceName, v.name)
	a.PutStr(event.KeyServiceVersion, v.version)
	a.PutStr(event.KeyHostName, v.host)
	a.PutInt(event.KeyProcessPID, v.pid)
}

// call is one step of a request: a client span of the caller and, when the callee
// answered, its server span, with what it called in turn.
type call struct {
	from, to service
	took     time.Duration
	// err is the client's error message; status the HTTP status of the answer, 0
	// when there was none.
	err    string
	status int
	inner  *call
}

// order is a request through the shop; it ends now.
type order struct {
	user   string
	amount float64
	call   *call
}

func id8(s string) (id pcommon.SpanID) {
	h := sha256.Sum256([]byte(s))
	copy(id[:], h[:])
	return id
}

func id16(s string) (id pcommon.TraceID) {
	h := sha256.Sum256([]byte(s))
	copy(id[:], h[:])
	return id
}

// send hands an order's spans over, each service's in an export of its own.
func (s *scenario) send(o order) pcommon.TraceID {
	s.serial++
	name := time.Duration(s.serial).String()
	trace := id16("trace" + name)
	s.span(o.call, o, trace, name, pcommon.SpanID{}, s.clock)
	return trace
}

func (s *scenario) span(c *call, o order, trace pcommon.TraceID, name string, parent pcommon.SpanID, end time.Time) {
	client, server := id8("client"+name), id8("server"+name)
	if c.inner != nil {
		s.span(c.inner, o, trace, name+".", server, end.Add(-time.Millisecond))
	}
	start := end.Add(-c.took)
	if c.status != 0 {
		sp, td := newSpan(c.to, trace, server, client, "POST /"+c.to.name, ptrace.SpanKindServer, start.Add(time.Millisecond/2), end.Add(-time.Millisecond/2))
		sp.Attributes().PutInt("http.response.status_code", int64(c.status))
		if c.status >= 500 {
			sp.Status().SetCode(ptrace.StatusCodeError)
		}
		s.deliver(item{traces: td})
	}
	sp, td := newSpan(c.from, trace, client, parent, "POST", ptrace.SpanKindClient, start, end)
	sp.Attributes().PutStr(event.KeyServerAddress, "127.0.0.1")
	sp.Attributes().PutInt(event.KeyServerPort, c.to.port)
	if parent.IsEmpty() && o.user != "" {
		sp.Attributes().PutStr("user.id", o.user)
		sp.Attributes().PutDouble("order.amount", o.amount)
	}
	if c.status != 0 {
		sp.Attributes().PutInt("http.response.status_code", int64(c.status))
	}
	if c.err != "" || c.status >= 500 {
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage(c.err)
	}
	s.deliver(item{traces: td})
}

func newSpan(v service, trace pcommon.TraceID, id, parent pcommon.SpanID, name string, kind ptrace.SpanKind, start, end time.Time) (ptrace.Span, ptrace.Traces) {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	v.resource(rs.Resource())
	sp := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	sp.SetTraceID(trace)
	sp.SetSpanID(id)
	sp.SetParentSpanID(parent)
	sp.SetName(name)
	sp.SetKind(kind)
	sp.SetStartTimestamp(pcommon.NewTimestampFromTime(start))
	sp.SetEndTimestamp(pcommon.NewTimestampFromTime(end))
	return sp, td
}

// good is a request that succeeds.
func good(user string, amount float64) order {
	return order{user, amount, &call{from: load, to: storefront, took: 12 * time.Millisecond, status: 200, inner: &call{
		from: storefront, to: payment, took: 8 * time.Millisecond, status: 200, inner: &call{
			from: payment, to: ledger, took: 3 * time.Millisecond, status: 200,
		},
	}}}
}

// broken is a request whose call to payment fails with an error of the client.
func broken(user string, amount float64, err string) order {
	return order{user, amount, &call{from: load, to: storefront, took: 5 * time.Millisecond, status: 500, inner: &call{
		from: storefront, to: payment, took: time.Millisecond, err: err,
	}}}
}

const (
	refused = `Post "http://127.0.0.1:8081/charge": dial tcp 127.0.0.1:8081: connect: connection refused`
	eof     = `Post "http://127.0.0.1:8081/charge": EOF`
)

func refusedAt(v service) string {
	return fmt.Sprintf("dial tcp 127.0.0.1:%d: connect: connection refused", v.port)
}

// healthy sends good requests for a while, ten a second.
func (s *scenario) healthy(d time.Duration) {
	for n := range int(d / (100 * time.Millisecond)) {
		s.send(good("user-"+string(rune('a'+n%26)), 10))
		s.wait(100 * time.Millisecond)
	}
}

// kernel hands over an event of a process from the kernel receiver.
func (s *scenario) kernel(v service, name string, at time.Time, attrs map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	a := rl.Resource().Attributes()
	a.PutStr(event.KeyHostName, v.host)
	a.PutInt(event.KeyProcessPID, v.pid)
	a.PutStr(event.KeyProcessCreationTime, epoch.Add(-time.Hour).Format(time.RFC3339Nano))
	a.PutStr(event.KeyProcessExecutableName, "checkout")
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(name)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	s.deliver(item{logs: ld})
}

func (s *scenario) oom(v service) {
	s.kernel(v, event.OOMKill, s.clock, map[string]any{
		event.KeyOOMScope: "cgroup", event.KeyMemoryCgroup: "/shop/payment", event.KeyMemoryLimit: 64 << 20,
		event.KeyMemoryPeak: 64 << 20, event.KeyOOMRSS: 60 << 20,
	})
}

func (s *scenario) exit(v service, attrs map[string]any) {
	s.kernel(v, event.ProcessExit, s.clock, attrs)
}

var killed = map[string]any{event.KeyExitSignal: 9, event.KeyExitSignalName: "SIGKILL"}

func (s *scenario) connectFailed(from, to service) {
	s.kernel(from, event.TCPConnectFailed, s.clock, map[string]any{
		event.KeyPeerAddress: "127.0.0.1", event.KeyPeerPort: to.port, event.KeyErrorType: event.ErrorConnectionRefused,
	})
}

// inContainer hands over a kernel event of a process of payment's container.
func (s *scenario) inContainer(v service, vpid int64, name string, attrs map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	a := rl.Resource().Attributes()
	a.PutStr(event.KeyHostName, v.host)
	a.PutInt(event.KeyProcessPID, v.pid)
	a.PutInt(event.KeyProcessVPID, vpid)
	a.PutStr(event.KeyContainerID, "0123456789abcdef0123456789abcdef")
	a.PutStr(event.KeyProcessCreationTime, epoch.Add(-time.Hour).Format(time.RFC3339Nano))
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(name)
	r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	s.deliver(item{logs: ld})
}

// Shorthands for spans that are built by hand.
var (
	noParent pcommon.SpanID
	noTrace  pcommon.TraceID
)

const (
	spanServer = ptrace.SpanKindServer
	spanClient = ptrace.SpanKindClient
)

// attempt sends one call of storefront to payment: refused with err, else answered.
func (s *scenario) attempt(trace pcommon.TraceID, parent pcommon.SpanID, name, err string) {
	client := id8(name)
	sp, td := newSpan(storefront, trace, client, parent, "POST", spanClient, s.clock.Add(-3*time.Millisecond), s.clock)
	sp.Attributes().PutStr(event.KeyServerAddress, "127.0.0.1")
	sp.Attributes().PutInt(event.KeyServerPort, payment.port)
	if err != "" {
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage(err)
	}
	s.deliver(item{traces: td})
	if err == "" {
		_, td := newSpan(payment.withPID(99), trace, id8(name+"server"), client, "POST /payment", spanServer, s.clock.Add(-2*time.Millisecond), s.clock)
		s.deliver(item{traces: td})
	}
}
