package cloudopsbench

import (
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
)

// column is a column of metrics.csv.gz: whose value, and of what.
type column struct {
	workload *workload
	kind     string
	// quantile is that of the kind latency.
	quantile float64
	// total is the counter so far, of which the file has the increase per second.
	total float64
}

// columnForm is the name of a column: that of a workload, and what is measured.
var columnForm = regexp.MustCompile(`^(.+)-(cpu|mem|cpu_cfs|p(\d+)latency)$`)

// columns reads the header: the columns of workloads that are known, in the order of
// their names. Rates of requests, and what the nodes and their networks do, are not
// read: no rule of the processor judges them.
func (c *cluster) columns(header []string) map[string]*column {
	out := map[string]*column{}
	for _, name := range header {
		m := columnForm.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		i := slices.IndexFunc(c.workloads, func(w *workload) bool { return w.name == m[1] })
		if i < 0 {
			continue
		}
		x := &column{workload: c.workloads[i], kind: m[2]}
		if m[3] != "" {
			percent, _ := strconv.Atoi(m[3])
			x.kind, x.quantile = "latency", float64(percent)/100
		}
		out[name] = x
	}
	return out
}

// metrics writes the rows of metrics.csv.gz as the kubelet and the servers of the
// workloads would have told them: CPU and working set as levels, the time that a CPU
// limit stopped them as a counter, quantiles of the duration of requests as a summary.
func (c *cluster) metrics(folder string, shift time.Duration) (out []pmetric.Metrics, err error) {
	var columns map[string]*column
	var names []string
	var last time.Time
	err = optional(dataset.Table(filepath.Join(folder, "metrics.csv.gz"), []string{"time"}, func(row dataset.Row) error {
		if columns == nil {
			columns = c.columns(row.Columns())
			for _, n := range row.Columns() {
				if columns[n] != nil {
					names = append(names, n)
				}
			}
		}
		at, err := time.ParseInLocation(time.DateTime, row.Get("time"), zone)
		if err != nil {
			return fmt.Errorf("column time: %w", err)
		}
		step := at.Sub(last)
		if last.IsZero() {
			step = 0
		}
		last = at
		md := pmetric.NewMetrics()
		of := map[*workload]pmetric.MetricSlice{}
		durations := map[*workload]pmetric.SummaryDataPoint{}
		for _, n := range names {
			value, err := strconv.ParseFloat(row.Get(n), 64)
			if row.Get(n) == "" || math.IsNaN(value) {
				continue
			}
			if err != nil {
				return fmt.Errorf("column %s: %w", n, err)
			}
			x := columns[n]
			list, ok := of[x.workload]
			if !ok {
				rm := md.ResourceMetrics().AppendEmpty()
				put(rm.Resource().Attributes(), x.workload.resource())
				list = rm.ScopeMetrics().AppendEmpty().Metrics()
				of[x.workload] = list
			}
			x.write(list, durations, pcommon.NewTimestampFromTime(at.Add(shift)), value, step)
		}
		out = append(out, md)
		return nil
	}))
	return out, err
}

// write adds one value. A latency of 0 is that of no request.
func (x *column) write(to pmetric.MetricSlice, durations map[*workload]pmetric.SummaryDataPoint, at pcommon.Timestamp, value float64, step time.Duration) {
	level := func(name string) {
		m := to.AppendEmpty()
		m.SetName(name)
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(at)
		dp.SetDoubleValue(value)
	}
	switch x.kind {
	case "cpu":
		level("k8s.pod.cpu.usage")
	case "mem":
		level("k8s.pod.memory.working_set")
	case "cpu_cfs":
		x.total += value * float64(step)
		m := to.AppendEmpty()
		m.SetName("container.cpu.throttling_data.throttled_time")
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		dp := s.DataPoints().AppendEmpty()
		dp.SetTimestamp(at)
		dp.SetIntValue(int64(x.total))
	case "latency":
		if value == 0 {
			return
		}
		dp, ok := durations[x.workload]
		if !ok {
			m := to.AppendEmpty()
			m.SetName("http.server.request.duration")
			m.SetUnit("s")
			dp = m.SetEmptySummary().DataPoints().AppendEmpty()
			dp.SetTimestamp(at)
			durations[x.workload] = dp
		}
		q := dp.QuantileValues().AppendEmpty()
		q.SetQuantile(x.quantile)
		q.SetValue(value / 1000)
	}
}
