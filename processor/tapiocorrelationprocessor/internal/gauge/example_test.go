package gauge_test

import (
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// The engine gives every batch to Metrics, calls Judge at every tick, adds Score to
// the score of the service, makes an occurrence of what is announced, and a finding
// of a prediction.
func Example() {
	tracker, err := gauge.New(gauge.Options{MaxSeries: gauge.DefaultMaxSeries, Horizon: gauge.DefaultHorizon})
	if err != nil {
		panic(err)
	}
	resolve := func(pcommon.Map, int64) record.EntityID { return 7 } // the topology does this
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for minute := range 30 {
		// A container with a limit of 1000 MB that, after a while, grows by 40 MB a minute.
		used := 450e6 + 40e6*max(float64(minute-18), 0)
		tracker.Metrics(memory(at, used, 1000e6-used), resolve, at.UnixNano())
		report := tracker.Judge(at.UnixNano())
		for _, p := range report.Predictions {
			fmt.Printf("%s: %s of entity %d: %.0f of %.0f MB, at the limit in %.0f minutes\n",
				p.State, p.Class, p.Subject, p.Value/1e6, p.Limit/1e6, time.Duration(p.ETA-p.Time).Minutes())
		}
		for _, a := range report.Anomalies {
			if a.Announce {
				fmt.Printf("%s of entity %d: %.0f of %.0f MB\n", a.Event, a.Subject, a.Value/1e6, a.Limit/1e6)
			}
		}
		at = at.Add(time.Minute)
	}
	if p, ok := tracker.Confirm(gauge.Key{Subject: 7, Class: gauge.ClassMemory}, at.UnixNano()); ok {
		fmt.Println(p.State)
	}
	// Output:
	// predicted: memory of entity 7: 770 of 1000 MB, at the limit in 6 minutes
	// confirmed
}

// memory is what the kubelet stats receiver reports of a container with a limit.
func memory(at time.Time, used, free float64) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("container.id", "c1")
	metrics := rm.ScopeMetrics().AppendEmpty().Metrics()
	for name, value := range map[string]float64{"container.memory.working_set": used, "container.memory.available": free} {
		m := metrics.AppendEmpty()
		m.SetName(name)
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(pcommon.NewTimestampFromTime(at))
		dp.SetDoubleValue(value)
	}
	return md
}
