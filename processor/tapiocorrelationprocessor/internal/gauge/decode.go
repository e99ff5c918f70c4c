package gauge

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Resolve returns the entity that the attributes of a resource name, at a time in
// ns since 1970; 0 when they name none.
type Resolve func(attrs pcommon.Map, at int64) record.EntityID

// temporality says what the value of a point is.
type temporality uint8

const (
	level      temporality = iota // the value itself
	cumulative                    // a counter since its start
	delta                         // an increase since the start of the point
)

// point is one value of one resource, with what is needed to find or make its
// series. It holds no pdata.
type point struct {
	source
	series   uint64
	subject  record.EntityID
	rule     *rule
	instance string
	// at and start are in ns since 1970; start is 0 when unknown.
	at, start int64
	value     float64
	temporality
	// n is how many points were added up.
	n int
}

// maxValue is more than any resource has, and little enough to be added up.
const maxValue = 1e30

// Counts are what became of the data points of one batch.
type Counts struct {
	// Used points say something of a resource, Ignored ones belong to no rule,
	// Invalid ones have no usable time or value or the wrong type, Late ones are not
	// newer than the last of their series, Refused ones would have needed one series
	// too many.
	Used, Ignored, Invalid, Late, Refused int
}

// decoder turns a batch into points.
type decoder struct {
	rules   table
	resolve Resolve
	// latest is the newest time that a point may have.
	latest int64
	out    []point
	counts Counts

	// What follows belongs to the metric that is being read.
	sums map[sumKey]int
}

type sumKey struct {
	rule     *rule
	instance string
}

// metrics reads a batch into d.out.
func (d *decoder) metrics(md pmetric.Metrics) {
	for _, rm := range md.ResourceMetrics().All() {
		d.resource(rm)
	}
}

func (d *decoder) resource(rm pmetric.ResourceMetrics) {
	attrs := rm.Resource().Attributes()
	var src source
	begin := len(d.out)
	for _, sm := range rm.ScopeMetrics().All() {
		for _, m := range sm.Metrics().All() {
			rules := d.rules[m.Name()]
			if rules == nil {
				d.counts.Ignored += dataPoints(m)
				continue
			}
			if src.key == 0 {
				src = sourceOf(attrs)
			}
			d.metric(m, rules, src, attrs)
		}
	}
	if begin == len(d.out) {
		return
	}
	subject := d.resolve(attrs, d.out[begin].at)
	for i := begin; i < len(d.out); i++ {
		d.out[i].subject = subject
	}
}

func dataPoints(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeSum:
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().DataPoints().Len()
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().DataPoints().Len()
	case pmetric.MetricTypeSummary:
		return m.Summary().DataPoints().Len()
	case pmetric.MetricTypeEmpty:
	}
	return 0
}

// metric reads the points of one metric.
func (d *decoder) metric(m pmetric.Metric, rules []*rule, src source, resource pcommon.Map) {
	clear(d.sums)
	p := point{source: src}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		for _, dp := range m.Gauge().DataPoints().All() {
			d.number(dp, p, rules, resource)
		}
	case pmetric.MetricTypeSum:
		sum := m.Sum()
		p.temporality = temporalityOf(sum.AggregationTemporality())
		if !sum.IsMonotonic() && p.temporality == cumulative {
			p.temporality = level // what is in use, counted up and down
		}
		for _, dp := range sum.DataPoints().All() {
			d.number(dp, p, rules, resource)
		}
	case pmetric.MetricTypeHistogram:
		p.temporality = temporalityOf(m.Histogram().AggregationTemporality())
		for _, dp := range m.Histogram().DataPoints().All() {
			p.set(dp.Sum(), dp.Timestamp(), dp.StartTimestamp())
			d.take(dp.Attributes(), p, dp.HasSum() && !dp.Flags().NoRecordedValue(), rules, resource)
			d.count(dp.Attributes(), p, dp.Count(), rules, resource)
		}
	case pmetric.MetricTypeExponentialHistogram:
		p.temporality = temporalityOf(m.ExponentialHistogram().AggregationTemporality())
		for _, dp := range m.ExponentialHistogram().DataPoints().All() {
			p.set(dp.Sum(), dp.Timestamp(), dp.StartTimestamp())
			d.take(dp.Attributes(), p, dp.HasSum() && !dp.Flags().NoRecordedValue(), rules, resource)
			d.count(dp.Attributes(), p, dp.Count(), rules, resource)
		}
	case pmetric.MetricTypeSummary:
		p.temporality = cumulative
		for _, dp := range m.Summary().DataPoints().All() {
			if d.quantiles(dp, p, rules, resource) {
				continue
			}
			p.set(dp.Sum(), dp.Timestamp(), dp.StartTimestamp())
			d.take(dp.Attributes(), p, !dp.Flags().NoRecordedValue(), rules, resource)
			d.count(dp.Attributes(), p, dp.Count(), rules, resource)
		}
	case pmetric.MetricTypeEmpty:
	}
}

func temporalityOf(t pmetric.AggregationTemporality) temporality {
	if t == pmetric.AggregationTemporalityDelta {
		return delta
	}
	return cumulative
}

func (d *decoder) number(dp pmetric.NumberDataPoint, p point, rules []*rule, resource pcommon.Map) {
	value := math.NaN()
	switch dp.ValueType() {
	case pmetric.NumberDataPointValueTypeInt:
		value = float64(dp.IntValue())
	case pmetric.NumberDataPointValueTypeDouble:
		value = dp.DoubleValue()
	case pmetric.NumberDataPointValueTypeEmpty:
	}
	p.set(value, dp.Timestamp(), dp.StartTimestamp())
	d.take(dp.Attributes(), p, !dp.Flags().NoRecordedValue(), rules, resource)
}

func (p *point) set(value float64, at, start pcommon.Timestamp) {
	p.value, p.at, p.start = value, int64(at), int64(start)
}

// take adds a point under the first rule that takes it.
func (d *decoder) take(attrs pcommon.Map, p point, hasValue bool, rules []*rule, resource pcommon.Map) {
	i := slices.IndexFunc(rules, func(r *rule) bool { return r.take == takeSum && r.takes(attrs) })
	if i < 0 {
		d.counts.Ignored++
		return
	}
	p.rule = rules[i]
	if !hasValue || !d.valid(&p) {
		d.counts.Invalid++
		return
	}
	d.counts.Used++
	p.value *= p.rule.Scale
	p.instance = p.rule.instanceOf(attrs, resource)
	d.add(p)
}

// count adds the number of values of a data point, where a rule wants it. The data
// point itself was counted with its sum.
func (d *decoder) count(attrs pcommon.Map, p point, n uint64, rules []*rule, resource pcommon.Map) {
	for _, r := range rules {
		if r.take != takeCount || !r.takes(attrs) {
			continue
		}
		p.rule, p.value = r, float64(n)
		if d.valid(&p) {
			p.instance = r.instanceOf(attrs, resource)
			d.add(p)
		}
		return
	}
}

// quantiles adds the quantiles of a summary, each a resource of its own, where a rule
// wants them. It returns false when there are none.
func (d *decoder) quantiles(dp pmetric.SummaryDataPoint, p point, rules []*rule, resource pcommon.Map) (taken bool) {
	i := slices.IndexFunc(rules, func(r *rule) bool { return r.take == takeQuantiles && r.takes(dp.Attributes()) })
	if i < 0 || dp.Flags().NoRecordedValue() {
		return false
	}
	p.rule, p.temporality = rules[i], level
	for _, q := range dp.QuantileValues().All() {
		if q.Quantile() < 0.5 || q.Quantile() > 0.95 {
			continue
		}
		p.set(q.Value(), dp.Timestamp(), 0)
		if !d.valid(&p) {
			continue
		}
		taken = true
		p.value *= p.rule.Scale
		p.instance = strings.TrimSpace(p.rule.instanceOf(dp.Attributes(), resource) + " p" + strconv.FormatFloat(100*q.Quantile(), 'g', 3, 64))
		d.add(p)
	}
	if taken {
		d.counts.Used++
	}
	return taken
}

// valid tells whether a point has a usable time, value and type.
func (d *decoder) valid(p *point) bool {
	switch {
	case p.at <= 0 || p.at > d.latest || p.start > p.at || p.start < 0:
		return false
	case !(p.value >= 0 && p.value <= maxValue):
		return false
	case p.rule.Rate:
		return p.temporality == cumulative || p.temporality == delta && p.start > 0 && p.start < p.at
	}
	// The level of a delta sum is not known; a counter that is read as a level is
	// one, whatever it was declared to be.
	return p.temporality != delta
}

// add appends a point, or adds it to the one of the same metric that differs only
// in attributes that do not matter, such as the direction or the processor.
func (d *decoder) add(p point) {
	key := sumKey{p.rule, p.instance}
	if i, ok := d.sums[key]; ok && d.out[i].at == p.at {
		d.out[i].value += p.value
		d.out[i].n++
		return
	}
	if d.sums == nil {
		d.sums = map[sumKey]int{}
	}
	d.sums[key] = len(d.out)
	p.n = 1
	p.series = seriesKey(p.key, p.rule.Class, p.rule.part, p.instance)
	d.out = append(d.out, p)
}

// takes tells whether a point has the attributes that the rule asks for.
func (r *rule) takes(attrs pcommon.Map) bool {
	for _, m := range r.match {
		v, ok := attrs.Get(m.key)
		if !ok || !slices.Contains(m.values, v.AsString()) {
			return false
		}
	}
	return true
}

// instanceOf joins the values of the instance attributes that are there.
func (r *rule) instanceOf(attrs, resource pcommon.Map) string {
	if len(r.Instance) == 1 {
		return lookup(r.Instance[0], attrs, resource)
	}
	var parts []string
	for _, k := range r.Instance {
		if v := lookup(k, attrs, resource); v != "" {
			parts = append(parts, v)
		}
	}
	return strings.Join(parts, " ")
}

func lookup(key string, attrs, resource pcommon.Map) string {
	v, ok := attrs.Get(key)
	if !ok {
		if v, ok = resource.Get(key); !ok {
			return ""
		}
	}
	return v.AsString()
}
