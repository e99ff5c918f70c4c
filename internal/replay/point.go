package replay

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// byTime calls yield with each time of m's data points and a metric that has only
// the points of that time: m itself where all have the same. m is used up.
func byTime(m pmetric.Metric, yield func(at int64, m pmetric.Metric)) {
	times := map[pcommon.Timestamp]struct{}{}
	visitPoints(m, func(at pcommon.Timestamp) bool {
		times[at] = struct{}{}
		return false
	})
	for at := range times {
		part := m
		if len(times) > 1 {
			part = pmetric.NewMetric()
			m.CopyTo(part)
			visitPoints(part, func(t pcommon.Timestamp) bool { return t != at })
		}
		yield(int64(at), part)
	}
}

// visitPoints calls drop with the time of each data point of m and removes those
// for which it returns true.
func visitPoints(m pmetric.Metric, drop func(at pcommon.Timestamp) bool) {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool { return drop(p.Timestamp()) })
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool { return drop(p.Timestamp()) })
	case pmetric.MetricTypeHistogram:
		m.Histogram().DataPoints().RemoveIf(func(p pmetric.HistogramDataPoint) bool { return drop(p.Timestamp()) })
	case pmetric.MetricTypeExponentialHistogram:
		m.ExponentialHistogram().DataPoints().RemoveIf(func(p pmetric.ExponentialHistogramDataPoint) bool { return drop(p.Timestamp()) })
	case pmetric.MetricTypeSummary:
		m.Summary().DataPoints().RemoveIf(func(p pmetric.SummaryDataPoint) bool { return drop(p.Timestamp()) })
	}
}
