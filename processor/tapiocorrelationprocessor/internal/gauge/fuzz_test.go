package gauge

import (
	"math"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// FuzzMetrics feeds a tracker whatever the collector's own decoder lets pass.
func FuzzMetrics(f *testing.F) {
	marshal := &pmetric.ProtoMarshaler{}
	for _, md := range []pmetric.Metrics{pmetric.NewMetrics(), containers(f, 2)} {
		stamp(md, noon, 1)
		b, err := marshal.MarshalMetrics(md)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, int64(time.Second))
	}
	for _, g := range []gauge{
		{name: "container.memory.working_set", value: math.MaxFloat64},
		{name: "container.cpu.time", value: math.SmallestNonzeroFloat64, sum: true},
		{name: "jvm.gc.duration", value: 1, hist: true},
	} {
		md := pmetric.NewMetrics()
		g.append(&testing.T{}, md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics(), noon)
		b, err := marshal.MarshalMetrics(md)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, int64(-1))
	}
	f.Fuzz(func(t *testing.T, b []byte, step int64) {
		md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(b)
		if err != nil {
			return
		}
		tr, err := New(Options{MaxSeries: 4, Horizon: DefaultHorizon})
		if err != nil {
			t.Fatal(err)
		}
		now := noon.UnixNano()
		for range 12 {
			points := md.DataPointCount()
			c := tr.Metrics(md, func(pcommon.Map, int64) record.EntityID { return 1 }, now)
			if c.Used+c.Ignored+c.Invalid+c.Late+c.Refused != points {
				t.Fatalf("%d points: %+v", points, c)
			}
			check(t, tr.Judge(now))
			if n := tr.Sizes().Series; n > 4 {
				t.Fatalf("%d series", n)
			}
			now += step
			shift(md, step)
		}
	})
}

// check fails for numbers that no finding can carry.
func check(t *testing.T, r Report) {
	for _, a := range r.Anomalies {
		for _, v := range []float64{a.Z, a.Score, a.Value, a.Before, a.Limit} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%+v", a)
			}
		}
	}
	for _, p := range r.Predictions {
		for _, v := range []float64{p.Value, p.Limit, p.Slope, p.Consistency} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("%+v", p)
			}
		}
	}
}

// shift moves the times of number points.
func shift(md pmetric.Metrics, d int64) {
	move := func(dps pmetric.NumberDataPointSlice) {
		for _, dp := range dps.All() {
			dp.SetTimestamp(dp.Timestamp() + pcommon.Timestamp(d))
			dp.SetDoubleValue(dp.DoubleValue() * 1.5)
		}
	}
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				switch m.Type() {
				case pmetric.MetricTypeGauge:
					move(m.Gauge().DataPoints())
				case pmetric.MetricTypeSum:
					move(m.Sum().DataPoints())
				default:
				}
			}
		}
	}
}
