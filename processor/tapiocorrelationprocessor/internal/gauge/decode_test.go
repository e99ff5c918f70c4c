package gauge

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// decoded runs one metric of one resource through a decoder.
func decoded(t *testing.T, resource map[string]any, fill func(pmetric.Metric)) ([]point, Counts) {
	t.Helper()
	rules, err := newTable(nil)
	require.NoError(t, err)
	d := &decoder{rules: rules, latest: noon.UnixNano() + maxAhead, resolve: func(pcommon.Map, int64) record.EntityID { return 3 }}
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	require.NoError(t, rm.Resource().Attributes().FromRaw(resource))
	fill(rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty())
	d.metrics(md)
	return d.out, d.counts
}

func at(d time.Duration) pcommon.Timestamp { return pcommon.NewTimestampFromTime(noon.Add(d)) }

func TestPointsThatDifferInOtherAttributesAreAddedUp(t *testing.T) {
	out, counts := decoded(t, map[string]any{"host.name": "n1"}, func(m pmetric.Metric) {
		m.SetName("system.cpu.time")
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for _, cpu := range []string{"cpu0", "cpu1"} {
			for i, state := range []string{"user", "system", "idle", "wait", "unheard-of"} {
				dp := s.DataPoints().AppendEmpty()
				dp.SetTimestamp(at(0))
				dp.SetDoubleValue(float64(int(1) << i))
				dp.Attributes().PutStr("cpu", cpu)
				dp.Attributes().PutStr("state", state)
			}
		}
	})
	require.Len(t, out, 2)
	assert.Equal(t, RoleUse, out[0].rule.Role)
	assert.InDelta(t, 2*(1+2), out[0].value, 1e-9)
	assert.Equal(t, RoleFree, out[1].rule.Role)
	assert.InDelta(t, 2*(4+8), out[1].value, 1e-9)
	assert.Equal(t, cumulative, out[0].temporality)
	assert.Equal(t, out[0].series, out[1].series)
	assert.Equal(t, record.EntityID(3), out[0].subject)
	assert.Equal(t, Counts{Used: 8, Ignored: 2}, counts)
}

func TestInstancesAreKeptApart(t *testing.T) {
	out, counts := decoded(t, map[string]any{"host.name": "n1"}, func(m pmetric.Metric) {
		m.SetName("system.filesystem.usage")
		s := m.SetEmptySum()
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for _, mount := range []string{"/", "/var"} {
			for _, mode := range []string{"rw", "ro"} {
				dp := s.DataPoints().AppendEmpty()
				dp.SetTimestamp(at(0))
				dp.SetIntValue(7)
				require.NoError(t, dp.Attributes().FromRaw(map[string]any{"mountpoint": mount, "state": "used", "mode": mode, "device": "sda"}))
			}
		}
	})
	require.Len(t, out, 2)
	assert.Equal(t, "/", out[0].instance)
	assert.Equal(t, "/var", out[1].instance)
	assert.NotEqual(t, out[0].series, out[1].series)
	assert.Equal(t, level, out[0].temporality, "a sum that goes up and down is a level")
	assert.Equal(t, Counts{Used: 2, Ignored: 2}, counts, "a read-only file system is as full as it was made")
}

func TestInstanceOfSeveralAttributesAndOfTheResource(t *testing.T) {
	out, _ := decoded(t, map[string]any{"host.name": "n1"}, func(m pmetric.Metric) {
		m.SetName("kafka.consumer_group.lag")
		g := m.SetEmptyGauge()
		for partition := range 3 {
			dp := g.DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetIntValue(5)
			require.NoError(t, dp.Attributes().FromRaw(map[string]any{"group": "g", "topic": "t", "partition": partition}))
		}
	})
	require.Len(t, out, 1)
	assert.Equal(t, "g t", out[0].instance)
	assert.InDelta(t, 15, out[0].value, 0)
	out, _ = decoded(t, map[string]any{"k8s.pod.uid": "u", "k8s.volume.name": "data"}, func(m pmetric.Metric) {
		m.SetName("k8s.volume.available")
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(at(0))
		dp.SetIntValue(5)
	})
	require.Len(t, out, 1)
	assert.Equal(t, "data", out[0].instance)
}

func TestDistributionsCountBySum(t *testing.T) {
	for name, fill := range map[string]func(pmetric.Metric){
		"histogram": func(m pmetric.Metric) {
			h := m.SetEmptyHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			for range 2 { // two collectors, of young and old generation
				dp := h.DataPoints().AppendEmpty()
				dp.SetTimestamp(at(0))
				dp.SetSum(1.5)
			}
		},
		"exponential": func(m pmetric.Metric) {
			h := m.SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			dp := h.DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetSum(3)
		},
		"summary": func(m pmetric.Metric) {
			dp := m.SetEmptySummary().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetSum(3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, counts := decoded(t, map[string]any{"service.name": "s"}, func(m pmetric.Metric) {
				m.SetName("jvm.gc.duration")
				fill(m)
			})
			require.Len(t, out, 1)
			assert.InDelta(t, 3, out[0].value, 1e-9)
			assert.Equal(t, cumulative, out[0].temporality)
			assert.Zero(t, counts.Invalid)
		})
	}
}

func TestInvalidPointsAreCounted(t *testing.T) {
	for name, test := range map[string]struct {
		metric string
		fill   func(pmetric.Metric)
	}{
		"no value": {"container.cpu.usage", func(m pmetric.Metric) {
			m.SetEmptyGauge().DataPoints().AppendEmpty().SetTimestamp(at(0))
		}},
		"no time": {"container.cpu.usage", func(m pmetric.Metric) {
			m.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(1)
		}},
		"not a number": {"container.cpu.usage", func(m pmetric.Metric) {
			dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetDoubleValue(math.NaN())
		}},
		"infinite": {"container.cpu.usage", func(m pmetric.Metric) {
			dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetDoubleValue(math.Inf(1))
		}},
		"negative": {"container.cpu.usage", func(m pmetric.Metric) {
			dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetIntValue(-1)
		}},
		"stale marker": {"container.cpu.usage", func(m pmetric.Metric) {
			dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetDoubleValue(1)
			dp.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
		}},
		"far in the future": {"container.cpu.usage", func(m pmetric.Metric) {
			dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(6 * time.Minute))
			dp.SetDoubleValue(1)
		}},
		"start after end": {"container.cpu.time", func(m pmetric.Metric) {
			s := m.SetEmptySum()
			s.SetIsMonotonic(true)
			dp := s.DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetStartTimestamp(at(time.Second))
			dp.SetDoubleValue(1)
		}},
		"a level where a counter is expected": {"container.cpu.time", func(m pmetric.Metric) {
			dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetDoubleValue(1)
		}},
		"a delta without a start": {"container.cpu.time", func(m pmetric.Metric) {
			s := m.SetEmptySum()
			s.SetIsMonotonic(true)
			s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			dp := s.DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetDoubleValue(1)
		}},
		"a delta of a level": {"db.client.connection.max", func(m pmetric.Metric) {
			s := m.SetEmptySum()
			s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			dp := s.DataPoints().AppendEmpty()
			dp.SetTimestamp(at(0))
			dp.SetDoubleValue(1)
		}},
		"a histogram without a sum": {"jvm.gc.duration", func(m pmetric.Metric) {
			m.SetEmptyHistogram().DataPoints().AppendEmpty().SetTimestamp(at(0))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			out, counts := decoded(t, map[string]any{"service.name": "s"}, func(m pmetric.Metric) {
				m.SetName(test.metric)
				test.fill(m)
			})
			assert.Empty(t, out)
			assert.Equal(t, Counts{Invalid: 1}, counts)
		})
	}
}

func TestUnknownMetricsOfEveryTypeAreIgnoredAndCounted(t *testing.T) {
	for _, fill := range []func(pmetric.Metric){
		func(m pmetric.Metric) { m.SetEmptyGauge().DataPoints().AppendEmpty() },
		func(m pmetric.Metric) { m.SetEmptySum().DataPoints().AppendEmpty() },
		func(m pmetric.Metric) { m.SetEmptyHistogram().DataPoints().AppendEmpty() },
		func(m pmetric.Metric) { m.SetEmptyExponentialHistogram().DataPoints().AppendEmpty() },
		func(m pmetric.Metric) { m.SetEmptySummary().DataPoints().AppendEmpty() },
	} {
		out, counts := decoded(t, nil, func(m pmetric.Metric) {
			m.SetName("orders.placed")
			fill(m)
		})
		assert.Empty(t, out)
		assert.Equal(t, Counts{Ignored: 1}, counts)
	}
	_, counts := decoded(t, nil, func(m pmetric.Metric) { m.SetName("container.cpu.usage") })
	assert.Equal(t, Counts{}, counts, "a metric without data")
}

func TestSources(t *testing.T) {
	key := func(raw map[string]any) source {
		m := pcommon.NewMap()
		require.NoError(t, m.FromRaw(raw))
		return sourceOf(m)
	}
	kubelet := key(map[string]any{"k8s.pod.uid": "u", "k8s.pod.name": "p", "k8s.namespace.name": "n", "k8s.container.name": "app", "k8s.node.name": "node"})
	cluster := key(map[string]any{"k8s.pod.uid": "u", "k8s.container.name": "app", "container.id": "c1"})
	assert.Equal(t, kubelet.key, cluster.key, "the use of kubelet and the limit of the API server belong together")
	assert.Equal(t, "app", kubelet.container)
	assert.NotEqual(t, kubelet.key, key(map[string]any{"k8s.pod.uid": "u", "k8s.container.name": "sidecar"}).key)
	assert.NotEqual(t, kubelet.key, key(map[string]any{"k8s.pod.uid": "u"}).key)
	assert.NotEqual(t, key(map[string]any{"host.name": "a", "process.pid": 1}).key, key(map[string]any{"host.name": "a", "process.pid": 2}).key)
	assert.NotEqual(t, key(map[string]any{"service.name": "a", "service.instance.id": "1"}).key, key(map[string]any{"service.name": "a", "service.instance.id": "2"}).key)
	assert.NotEqual(t, key(map[string]any{"k8s.pod.name": "p", "k8s.namespace.name": "a"}).key, key(map[string]any{"k8s.pod.name": "p", "k8s.namespace.name": "b"}).key)
	assert.NotEqual(t, key(map[string]any{"host.name": "a"}).key, key(map[string]any{"k8s.node.name": "a"}).key)

	one := key(map[string]any{"k8s.pod.uid": "u1", "k8s.deployment.name": "d", "k8s.replicaset.name": "d-1", "k8s.namespace.name": "n", "k8s.container.name": "app"})
	two := key(map[string]any{"k8s.pod.uid": "u2", "k8s.replicaset.name": "d-2", "k8s.deployment.name": "d", "k8s.namespace.name": "n", "k8s.container.name": "app"})
	assert.Equal(t, one.workload, two.workload, "a rollout is the same workload")
	assert.NotZero(t, one.workload)
	assert.NotEqual(t, one.workload, key(map[string]any{"k8s.replicaset.name": "d-1", "k8s.namespace.name": "n", "k8s.container.name": "app"}).workload)
	assert.Equal(t, key(map[string]any{"service.name": "s", "service.instance.id": "1"}).workload, key(map[string]any{"service.name": "s", "service.instance.id": "2"}).workload)
	assert.Zero(t, key(map[string]any{"host.name": "a"}).workload)
}
