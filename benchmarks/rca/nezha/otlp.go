package nezha

import (
	"math"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
)

var nan = math.NaN()

// column is a column of metrics.csv.gz and the metric that it becomes.
type column struct {
	name, metric, unit string
	// factor converts the column's unit into unit.
	factor float64
	// direction is set for a rate per second, which becomes a counter.
	direction string
}

var columns = [...]column{
	{name: "CpuUsage(m)", metric: "k8s.pod.cpu.usage", unit: "{cpu}", factor: 1e-3},
	{name: "CpuUsageRate(%)", metric: "k8s.pod.cpu_limit_utilization", unit: "1", factor: 1e-2},
	{name: "MemoryUsage(Mi)", metric: "k8s.pod.memory.usage", unit: "By", factor: 1 << 20},
	{name: "MemoryUsageRate(%)", metric: "k8s.pod.memory_limit_utilization", unit: "1", factor: 1e-2},
	{name: "NetworkReceiveBytes", metric: "k8s.pod.network.io", unit: "By", factor: 1, direction: "receive"},
	{name: "NetworkTransmitBytes", metric: "k8s.pod.network.io", unit: "By", factor: 1, direction: "transmit"},
}

// telemetry makes OTLP of the rows, with times moved by shift.
func (r *rows) telemetry(shift time.Duration) dataset.Telemetry {
	return dataset.Telemetry{
		Traces:  []ptrace.Traces{tracesOf(r.spans, int64(shift))},
		Logs:    []plog.Logs{logsOf(r.logs, int64(shift))},
		Metrics: []pmetric.Metrics{metricsOf(r.metrics, int64(shift))},
	}
}

func (s source) resource(r pcommon.Resource) {
	for _, a := range [...]struct{ key, value string }{
		{event.KeyServiceName, s.service}, {event.KeyPodName, s.pod}, {event.KeyContainerName, s.container}, {event.KeyNodeName, s.node},
	} {
		if a.value != "" {
			r.Attributes().PutStr(a.key, a.value)
		}
	}
}

func tracesOf(spans []span, shift int64) ptrace.Traces {
	td := ptrace.NewTraces()
	of := map[source]ptrace.SpanSlice{}
	for i := range spans {
		s := &spans[i]
		to, ok := of[s.source]
		if !ok {
			rs := td.ResourceSpans().AppendEmpty()
			s.source.resource(rs.Resource())
			to = rs.ScopeSpans().AppendEmpty().Spans()
			of[s.source] = to
		}
		x := to.AppendEmpty()
		x.SetTraceID(s.trace)
		x.SetSpanID(s.id)
		x.SetParentSpanID(s.parent)
		x.SetName(s.name)
		x.SetStartTimestamp(pcommon.Timestamp(s.start + shift))
		x.SetEndTimestamp(pcommon.Timestamp(s.finis + shift))
	}
	return td
}

func logsOf(logs []record, shift int64) plog.Logs {
	ld := plog.NewLogs()
	of := map[source]plog.LogRecordSlice{}
	for i := range logs {
		l := &logs[i]
		to, ok := of[l.source]
		if !ok {
			rl := ld.ResourceLogs().AppendEmpty()
			l.source.resource(rl.Resource())
			to = rl.ScopeLogs().AppendEmpty().LogRecords()
			of[l.source] = to
		}
		x := to.AppendEmpty()
		x.SetTimestamp(pcommon.Timestamp(l.at + shift))
		x.SetTraceID(l.trace)
		x.SetSpanID(l.span)
		x.SetSeverityText(l.severity)
		x.SetSeverityNumber(severities[l.severity])
		x.Body().SetStr(l.body)
		if l.stream != "" {
			x.Attributes().PutStr("log.iostream", l.stream)
		}
	}
	return ld
}

// total is what a rate added up to.
type total struct {
	begin, at int64
	sum       float64
}

// metricsOf expects rows in the order of time.
func metricsOf(metrics []gauges, shift int64) pmetric.Metrics {
	md := pmetric.NewMetrics()
	type series struct {
		source source
		column int
	}
	of := map[source]pmetric.MetricSlice{}
	totals := map[series]*total{}
	for i := range metrics {
		g := &metrics[i]
		to, ok := of[g.source]
		if !ok {
			rm := md.ResourceMetrics().AppendEmpty()
			g.source.resource(rm.Resource())
			to = rm.ScopeMetrics().AppendEmpty().Metrics()
			of[g.source] = to
		}
		for n, c := range columns {
			v := g.values[n] * c.factor
			if math.IsNaN(v) {
				continue
			}
			if c.direction == "" {
				point(to.AppendEmpty(), c).SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(v)
			} else {
				key := series{g.source, n}
				if totals[key] == nil {
					totals[key] = &total{begin: g.at, at: g.at}
				}
				totals[key].counter(point(to.AppendEmpty(), c), c, g.at, v, shift)
			}
			stamp(to.At(to.Len()-1), g.at+shift)
		}
	}
	return md
}

func point(m pmetric.Metric, c column) pmetric.Metric {
	m.SetName(c.metric)
	m.SetUnit(c.unit)
	return m
}

// stamp sets the time of a metric's only point.
func stamp(m pmetric.Metric, at int64) {
	if m.Type() == pmetric.MetricTypeGauge {
		m.Gauge().DataPoints().At(0).SetTimestamp(pcommon.Timestamp(at))
		return
	}
	m.Sum().DataPoints().At(0).SetTimestamp(pcommon.Timestamp(at))
}

// counter makes m the counter after the rate (per second) was seen at a time.
func (t *total) counter(m pmetric.Metric, c column, at int64, rate float64, shift int64) {
	t.sum += rate * time.Duration(at-t.at).Seconds()
	t.at = at
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetStartTimestamp(pcommon.Timestamp(t.begin + shift))
	p.SetIntValue(int64(t.sum))
	p.Attributes().PutStr("direction", c.direction)
}
