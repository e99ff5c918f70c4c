package scenario

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
)

// writer turns what happens into OTLP, without what is missing or lost, by the
// clocks of the nodes.
type writer struct {
	world *world
	// shift is added to all times, loss is drawn from random.
	shift  int64
	random *rand.Rand

	traces  ptrace.Traces
	logs    plog.Logs
	metrics pmetric.Metrics
	spanOf  map[*pod]ptrace.SpanSlice
	logOf   map[*pod]plog.LogRecordSlice
}

func newWriter(w *world, shift time.Duration, seed uint64) *writer {
	return &writer{
		world: w, shift: int64(shift), random: rand.New(rand.NewPCG(w.options.Seed, seed)),
		traces: ptrace.NewTraces(), logs: plog.NewLogs(), metrics: pmetric.NewMetrics(),
		spanOf: map[*pod]ptrace.SpanSlice{}, logOf: map[*pod]plog.LogRecordSlice{},
	}
}

func (w *writer) telemetry() dataset.Telemetry {
	return dataset.Telemetry{Traces: []ptrace.Traces{w.traces}, Logs: []plog.Logs{w.logs}, Metrics: []pmetric.Metrics{w.metrics}}
}

// stamp is the time by the clock of a node.
func (w *writer) stamp(at int64, n *node) pcommon.Timestamp {
	return pcommon.Timestamp(at + w.shift + n.skew)
}

func (w *writer) lost() bool {
	return w.world.options.Loss > 0 && w.random.Float64() < w.world.options.Loss
}

// attributes are set in the order of their keys and values.
func put(m pcommon.Map, pairs ...any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		key := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case string:
			m.PutStr(key, v)
		case bool:
			m.PutBool(key, v)
		case []string:
			list := m.PutEmptySlice(key)
			for _, s := range v {
				list.AppendEmpty().SetStr(s)
			}
		case int:
			m.PutInt(key, int64(v))
		case int64:
			m.PutInt(key, v)
		case float64:
			m.PutDouble(key, v)
		}
	}
}

const namespace = "shop"

// kubernetes are the attributes that every receiver in a cluster adds for a pod.
func (p *pod) kubernetes(m pcommon.Map) {
	if p.service.unit {
		return
	}
	put(m, event.KeyNamespaceName, namespace, event.KeyPodName, p.name, event.KeyPodUID, p.uid,
		event.KeyDeploymentName, p.service.name, event.KeyNodeName, p.node.name)
}

// sdk are the attributes of what a pod sends itself.
func (p *pod) sdk(m pcommon.Map) {
	put(m, event.KeyServiceName, p.service.name, event.KeyServiceVersion, p.service.version, event.KeyServiceInstanceID, p.uid)
	if p.service.unit {
		put(m, event.KeyHostName, p.node.name, event.KeyProcessPID, p.pid, event.KeyProcessCreationTime, p.created.Format(time.RFC3339Nano), event.KeyProcessExecutableName, "app")
		return
	}
	p.kubernetes(m)
	put(m, event.KeyContainerName, "app", event.KeyContainerID, p.container, event.KeyHostName, p.node.name)
}

// process are the attributes of what the kernel says of the process in a pod.
func (p *pod) process(m pcommon.Map) {
	p.cgroup(m)
	put(m, event.KeyProcessPID, p.pid, event.KeyProcessVPID, 1, event.KeyProcessCreationTime, p.created.Format(time.RFC3339Nano),
		event.KeyProcessExecutableName, "app")
	if p.service.unit {
		m.Remove(event.KeyProcessVPID) // it is in the first namespace
	}
}

// cgroup are the attributes of what the kernel says of all processes of a pod.
func (p *pod) cgroup(m pcommon.Map) {
	put(m, event.KeyHostName, p.node.name, event.KeyProcessCgroup, p.cgroupPath())
	if p.service.unit {
		put(m, event.KeySystemdUnit, p.service.unitName())
		return
	}
	put(m, event.KeyContainerID, p.container, event.KeyPodUID, p.uid)
}

func (p *pod) cgroupPath() string {
	if p.service.unit {
		return "/system.slice/" + p.service.unitName()
	}
	return "/kubepods/burstable/pod" + p.uid + "/" + p.container
}

func (s *service) unitName() string { return s.name + ".service" }

// ofUnit are the attributes of what systemd says of it.
func (p *pod) ofUnit(m pcommon.Map) {
	put(m, event.KeyHostName, p.node.name, event.KeySystemdUnit, p.service.unitName())
}

// span is a span before it is written.
type span struct {
	trace      uint64
	id, parent uint64
	pod        *pod
	name       string
	kind       ptrace.SpanKind
	start, end int64
	// failed is the error.type, "" for none, message what SDKs say of it, "" for nothing.
	failed, message string
	// calls is the service that a client span calls, peer the pod of it that it got.
	calls *service
	peer  *pod
	// asks is the database that it asks, "" for none.
	asks string
}

func id16(n uint64) (id pcommon.TraceID) {
	binary.BigEndian.PutUint64(id[:8], n*0x9e3779b97f4a7c15|1)
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func id8(n uint64) (id pcommon.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func (w *writer) span(s *span) {
	if !w.world.options.has(LayerTraces) || w.lost() {
		return
	}
	to, ok := w.spanOf[s.pod]
	if !ok {
		rs := w.traces.ResourceSpans().AppendEmpty()
		s.pod.sdk(rs.Resource().Attributes())
		to = rs.ScopeSpans().AppendEmpty().Spans()
		w.spanOf[s.pod] = to
	}
	x := to.AppendEmpty()
	x.SetTraceID(id16(s.trace))
	x.SetSpanID(id8(s.id))
	x.SetParentSpanID(id8(s.parent))
	x.SetName(s.name)
	x.SetKind(s.kind)
	x.SetStartTimestamp(w.stamp(s.start, s.pod.node))
	x.SetEndTimestamp(w.stamp(s.end, s.pod.node))
	if s.failed != "" {
		x.Status().SetCode(ptrace.StatusCodeError)
		x.Status().SetMessage(s.message)
		put(x.Attributes(), event.KeyErrorType, s.failed)
	}
	if s.calls != nil {
		put(x.Attributes(), event.KeyServerAddress, s.calls.name, event.KeyServerPort, servicePort)
	}
	if s.asks != "" {
		put(x.Attributes(), "db.system.name", "postgresql", event.KeyServerAddress, s.asks, event.KeyServerPort, 5432)
	}
	if s.peer != nil {
		put(x.Attributes(), event.KeyPeerAddress, s.peer.ip, event.KeyPeerPort, servicePort)
	}
}

const servicePort = 8080

// log writes what a pod logs in a span.
func (w *writer) log(p *pod, at int64, trace, span uint64, severity plog.SeverityNumber, body string) {
	if !w.world.options.has(LayerLogs) || w.lost() {
		return
	}
	to, ok := w.logOf[p]
	if !ok {
		rl := w.logs.ResourceLogs().AppendEmpty()
		p.sdk(rl.Resource().Attributes())
		to = rl.ScopeLogs().AppendEmpty().LogRecords()
		w.logOf[p] = to
	}
	x := to.AppendEmpty()
	x.SetTimestamp(w.stamp(at, p.node))
	x.SetSeverityNumber(severity)
	x.Body().SetStr(body)
	if span != 0 {
		x.SetTraceID(id16(trace))
		x.SetSpanID(id8(span))
	}
}

// event writes an event of a layer.
func (w *writer) event(layer, name string, at int64, n *node, severity plog.SeverityNumber, body string, resource func(pcommon.Map), pairs ...any) {
	w.traced(0, 0, layer, name, at, n, severity, body, resource, pairs...)
}

// traced writes an event that happened in a span.
func (w *writer) traced(trace, span uint64, layer, name string, at int64, n *node, severity plog.SeverityNumber, body string, resource func(pcommon.Map), pairs ...any) {
	if !w.world.options.has(layer) || w.lost() {
		return
	}
	rl := w.logs.ResourceLogs().AppendEmpty()
	resource(rl.Resource().Attributes())
	x := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	x.SetEventName(name)
	x.SetTimestamp(w.stamp(at, n))
	x.SetSeverityNumber(severity)
	x.Body().SetStr(body)
	if span != 0 {
		x.SetTraceID(id16(trace))
		x.SetSpanID(id8(span))
	}
	put(x.Attributes(), pairs...)
}

// gauge writes one value.
func (w *writer) gauge(ms pmetric.MetricSlice, name string, at int64, n *node, value float64, pairs ...any) {
	if w.lost() {
		return
	}
	m := ms.AppendEmpty()
	m.SetName(name)
	dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
	dp.SetTimestamp(w.stamp(at, n))
	dp.SetDoubleValue(value)
	put(dp.Attributes(), pairs...)
}

// counter writes a sum that grew from 0 since a time.
func (w *writer) counter(ms pmetric.MetricSlice, name string, since, at int64, n *node, value float64, pairs ...any) {
	if w.lost() {
		return
	}
	m := ms.AppendEmpty()
	m.SetName(name)
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	dp := sum.DataPoints().AppendEmpty()
	dp.SetStartTimestamp(w.stamp(since, n))
	dp.SetTimestamp(w.stamp(at, n))
	dp.SetDoubleValue(value)
	put(dp.Attributes(), pairs...)
}

// histogram writes how many there were since a time, and their sum.
func (w *writer) histogram(ms pmetric.MetricSlice, name string, since, at int64, n *node, count, sum float64, pairs ...any) {
	if w.lost() {
		return
	}
	m := ms.AppendEmpty()
	m.SetName(name)
	m.SetUnit("s")
	h := m.SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	dp := h.DataPoints().AppendEmpty()
	dp.SetStartTimestamp(w.stamp(since, n))
	dp.SetTimestamp(w.stamp(at, n))
	dp.SetCount(uint64(count))
	dp.SetSum(sum)
	put(dp.Attributes(), pairs...)
}

// resource begins the metrics of a resource.
func (w *writer) resource(attrs func(pcommon.Map)) pmetric.MetricSlice {
	rm := w.metrics.ResourceMetrics().AppendEmpty()
	attrs(rm.Resource().Attributes())
	return rm.ScopeMetrics().AppendEmpty().Metrics()
}

func text(format string, args ...any) string { return fmt.Sprintf(format, args...) }
