package nezha

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/benchmarks/rca/nezha/nezhatest"
	"github.com/yairfalse/tapio/internal/finding"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	is, err := Is(dir)
	require.NoError(t, err)
	assert.False(t, is)
	// The folders of a system may be one level down.
	require.NoError(t, nezhatest.Write(filepath.Join(dir, "system"), true))
	is, err = Is(dir)
	require.NoError(t, err)
	assert.True(t, is)
	set, err := Open(dir)
	require.NoError(t, err)
	require.Len(t, set.Cases, 1)
	c := set.Cases[0]
	assert.Equal(t, "one", c.ID)
	assert.Equal(t, nezhatest.Start, c.Start)
	assert.Equal(t, nezhatest.Onset, c.Onset)
	assert.Equal(t, "cpu_contention", c.Group)
	assert.Equal(t, nezhatest.Root, c.Truth.String())
	assert.Equal(t, []string{"svc-a", "svc-b", "svc-c"}, c.Services)
	require.Len(t, set.Baselines, 1)
	assert.Equal(t, "before", set.Baselines[0].ID)

	bare := t.TempDir()
	require.NoError(t, nezhatest.Write(bare, false))
	set, err = Open(bare)
	require.NoError(t, err)
	assert.Nil(t, set.Cases[0].Truth)
}

func TestBaselinesShareNoTrace(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, nezhatest.Write(dir, true))
	row := func(trace string) string {
		return trace + ",0000000000000001,,pod,svc,op,1000,2000\n"
	}
	const header = "trace_id,span_id,parent_span_id,pod,service,name,start_unix_nano,end_unix_nano\n"
	a, b := "000000000000000000000000000000aa", "000000000000000000000000000000bb"
	require.NoError(t, nezhatest.File(filepath.Join(dir, "baseline/x/spans.csv.gz"), []byte(header+row(a)+row(b))))
	require.NoError(t, nezhatest.File(filepath.Join(dir, "baseline/y/spans.csv.gz"), []byte(header+row(a))))
	require.NoError(t, nezhatest.File(filepath.Join(dir, "baseline/y/logs.csv.gz"), []byte(
		"time_unix_nano,node,pod,service,container,trace_id,span_id,severity,stream,body\n1500,n,pod,svc,c,"+a+",0000000000000001,INFO,stdout,hello\n")))
	set, err := Open(dir)
	require.NoError(t, err)
	spans := map[string]int{}
	for _, r := range set.Baselines {
		tel, err := r.Load(0)
		require.NoError(t, err)
		spans[r.ID] = tel.Traces[0].SpanCount()
	}
	assert.Equal(t, 1, spans["x"], "the trace of y is left out")
	assert.Equal(t, 1, spans["y"], "the one with logs keeps it")
	assert.Equal(t, "y", set.Baselines[0].ID)
	assert.Equal(t, 2, set.Baselines[0].Signals)
}

func TestTelemetryIsMovedAndMadeAnew(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, nezhatest.Write(dir, true))
	set, err := Open(dir)
	require.NoError(t, err)
	for range 2 {
		tel, err := set.Cases[0].Load(time.Hour)
		require.NoError(t, err)
		assert.Equal(t, 3*2*180, tel.Traces[0].SpanCount())
		rs := tel.Traces[0].ResourceSpans().At(0)
		assert.Equal(t, map[string]any{"service.name": "svc-a", "k8s.pod.name": "svc-a-7d5"}, rs.Resource().Attributes().AsRaw())
		s := rs.ScopeSpans().At(0).Spans().At(0)
		assert.Equal(t, nezhatest.Start.Add(time.Hour), s.StartTimestamp().AsTime())
		assert.Equal(t, "op-0", s.Name())
		rl := tel.Logs[0].ResourceLogs().At(2)
		assert.Equal(t, map[string]any{
			"service.name": "svc-c", "k8s.pod.name": "svc-c-7d5", "k8s.container.name": "server", "k8s.node.name": "node-1",
		}, rl.Resource().Attributes().AsRaw())
		r := rl.ScopeLogs().At(0).LogRecords().At(0)
		assert.Equal(t, nezhatest.Start.Add(time.Hour+time.Second), r.Timestamp().AsTime())
		assert.Equal(t, "hello, world", r.Body().Str())
		assert.Equal(t, "Warn", r.SeverityNumber().String())
		assert.False(t, r.TraceID().IsEmpty())
		assert.False(t, r.SpanID().IsEmpty())
	}
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, nezhatest.Write(dir, true))
	set, err := Open(dir)
	require.NoError(t, err)
	tel, err := set.Cases[0].Load(0)
	require.NoError(t, err)
	rm := tel.Metrics[0].ResourceMetrics().At(2)
	assert.Equal(t, map[string]any{"service.name": "svc-c", "k8s.pod.name": "svc-c-7d5", "k8s.node.name": "node-1"}, rm.Resource().Attributes().AsRaw())
	last := map[string]float64{}
	for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
		switch m.Type() {
		case pmetric.MetricTypeGauge:
			last[m.Name()+" "+m.Unit()] = m.Gauge().DataPoints().At(0).DoubleValue()
		case pmetric.MetricTypeSum:
			assert.True(t, m.Sum().IsMonotonic())
			p := m.Sum().DataPoints().At(0)
			assert.Equal(t, nezhatest.Start.Add(-20*time.Minute), p.StartTimestamp().AsTime())
			direction, _ := p.Attributes().Get("direction")
			last[m.Name()+" "+direction.Str()] = float64(p.IntValue())
		}
	}
	assert.InDeltaMapValues(t, map[string]float64{
		"k8s.pod.cpu.usage {cpu}": 0.95, "k8s.pod.cpu_limit_utilization 1": 0.95,
		"k8s.pod.memory.usage By": 200 << 20, "k8s.pod.memory_limit_utilization 1": 0.2,
		"k8s.pod.network.io receive": 22 * 60 * 1000, "k8s.pod.network.io transmit": 22 * 60 * 2000,
	}, last, 1e-9)
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	const columns = "trace_id,span_id,parent_span_id,pod,service,name,start_unix_nano,end_unix_nano\n"
	for contents, want := range map[string]string{
		"trace_id,span_id\n":         "spans.csv.gz: column parent_span_id is missing",
		"":                           "spans.csv.gz: EOF",
		columns + "12,,,p,s,n,1,2\n": `spans.csv.gz: line 2: column trace_id: "12": want 32 hexadecimal digits`,
		columns + ",,,p,s,n,x,2\n":   `spans.csv.gz: line 2: column start_unix_nano: "x": want a whole number from 0`,
		columns + ",,\n":             "wrong number of fields",
	} {
		dir := t.TempDir()
		require.NoError(t, nezhatest.File(filepath.Join(dir, "one", spansFile), []byte(contents)))
		_, err := Open(dir)
		require.ErrorContains(t, err, want)
	}
}

func TestServiceOfAnEntity(t *testing.T) {
	truth := truth{service: "svc", services: map[string]string{"svc-1": "svc"}}
	for want, entities := range map[bool][]finding.Entity{
		true: {
			{Kind: "service", Name: "svc"},
			{Kind: "pod", Name: "svc-1"},
			{Kind: "process", Name: "java", Attributes: map[string]any{"service.name": "svc"}},
			{Kind: "container", Name: "server", Attributes: map[string]any{"k8s.pod.name": "svc-1"}},
		},
		false: {
			{Kind: "service", Name: "other"},
			{Kind: "pod", Name: "svc"},
			{Kind: "node", Name: "svc"},
			{Kind: "address", Name: "10.0.0.1:80"},
			{Kind: "service", Name: "svc", Attributes: map[string]any{"service.name": "other"}},
		},
	} {
		for _, e := range entities {
			f := &finding.Finding{RootCause: finding.RootCause{Entity: e}}
			assert.Equal(t, want, truth.Right(f), e)
			verdict := dataset.Verdict{}
			if want {
				verdict = dataset.Verdict{Rank: 1, Exact: true}
			}
			assert.Equal(t, verdict, truth.Judge([]*finding.Finding{f}), e)
		}
	}
}
