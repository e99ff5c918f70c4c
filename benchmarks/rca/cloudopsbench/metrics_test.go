package cloudopsbench

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "metrics.csv.gz"))
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	_, err = z.Write([]byte("time,pay-cpu,pay-cpu_cfs,pay-rps,pay-p50latency,pay-p95latency,node-1-cpu\n" +
		"2026-01-02 08:00:00,0.1,0.5,3,2.5,40,7\n2026-01-02 08:00:05,0.2,0.5,0,0,,8\n"))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
	c := &cluster{workloads: []*workload{{kind: "deployment", namespace: "shop", name: "pay"}}}
	got, err := c.metrics(dir, time.Hour)
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, 1, got[0].ResourceMetrics().Len(), "a node's columns are not read")
	rm := got[0].ResourceMetrics().At(0)
	assert.Equal(t, map[string]any{"k8s.namespace.name": "shop", "k8s.deployment.name": "pay", "service.name": "pay"}, rm.Resource().Attributes().AsRaw())
	list := rm.ScopeMetrics().At(0).Metrics()
	require.Equal(t, 3, list.Len())
	assert.Equal(t, "k8s.pod.cpu.usage", list.At(0).Name())
	assert.InDelta(t, 0.1, list.At(0).Gauge().DataPoints().At(0).DoubleValue(), 1e-9)
	assert.Equal(t, "2026-01-02T01:00:00Z", list.At(0).Gauge().DataPoints().At(0).Timestamp().AsTime().Format(time.RFC3339), "local time, shifted")
	q := list.At(2).Summary().DataPoints().At(0).QuantileValues()
	require.Equal(t, 2, q.Len())
	assert.InDelta(t, 0.95, q.At(1).Quantile(), 1e-9)
	assert.InDelta(t, 0.04, q.At(1).Value(), 1e-9)
	list = got[1].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	require.Equal(t, 2, list.Len(), "no latency of no request")
	assert.Equal(t, int64(2.5e9), list.At(1).Sum().DataPoints().At(0).IntValue(), "half of five seconds")
	none, err := c.metrics(t.TempDir(), 0)
	require.NoError(t, err)
	assert.Empty(t, none)
}
