package perturb

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/finding"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	traces  = 400
	perCase = 2 * traces // spans
)

// telemetry is a trace of two services each second, with a log record and a data point.
func telemetry(shift time.Duration) (dataset.Telemetry, error) {
	td, ld, md := ptrace.NewTraces(), plog.NewLogs(), pmetric.NewMetrics()
	for n, name := range []string{"cart-service", "card-store"} {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", name)
		rs.Resource().Attributes().PutStr("k8s.pod.name", name+"-7d5f")
		spans := rs.ScopeSpans().AppendEmpty().Spans()
		rl := ld.ResourceLogs().AppendEmpty()
		rl.Resource().Attributes().PutStr("service.name", name)
		records := rl.ScopeLogs().AppendEmpty().LogRecords()
		rm := md.ResourceMetrics().AppendEmpty()
		rm.Resource().Attributes().PutStr("service.name", name)
		points := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptyGauge().DataPoints()
		for i := range traces {
			at := start.Add(shift + time.Duration(i)*time.Second)
			id := pcommon.TraceID{byte(i), byte(i >> 8), 1}
			s := spans.AppendEmpty()
			s.SetTraceID(id)
			s.SetSpanID(pcommon.SpanID{byte(n + 1)})
			s.SetName("POST /cart-service/items")
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(at.Add(100 * time.Millisecond)))
			l := records.AppendEmpty()
			l.SetTraceID(id)
			l.SetTimestamp(pcommon.NewTimestampFromTime(at))
			l.Body().SetStr("ERROR card-store refused order 17: CardDeniedException")
			points.AppendEmpty().SetTimestamp(pcommon.NewTimestampFromTime(at))
		}
	}
	return dataset.Telemetry{Traces: []ptrace.Traces{td}, Logs: []plog.Logs{ld}, Metrics: []pmetric.Metrics{md}}, nil
}

// named is right when the root cause has the name.
type named string

func (n named) String() string                { return string(n) }
func (n named) Right(f *finding.Finding) bool { return f.RootCause.Entity.Name == string(n) }
func (n named) Judge(f []*finding.Finding) dataset.Verdict {
	return dataset.Verdict{Exact: n.Right(f[0])}
}

func changed(t *testing.T, text string) (*dataset.Set, dataset.Telemetry) {
	t.Helper()
	o, err := Parse(text)
	require.NoError(t, err)
	recording := func(id string) dataset.Recording {
		return dataset.Recording{
			ID: id, Start: start, End: start.Add(traces * time.Second), Load: telemetry, Services: []string{"card-store", "cart-service"},
		}
	}
	first, second := recording("first"), recording("second")
	set := &dataset.Set{
		Cases:     []*dataset.Case{{Recording: recording("case"), Service: "card-store", Truth: named("card-store")}},
		Baselines: []*dataset.Recording{&first, &second},
	}
	require.NoError(t, Set(set, o))
	got, err := set.Cases[0].Load(time.Hour)
	require.NoError(t, err)
	return set, got
}

func TestPermutedNamesStayTogether(t *testing.T) {
	set, got := changed(t, "permute")
	assert.Equal(t, "cart-service", set.Cases[0].Service, "there are two")
	assert.Equal(t, []string{"card-store", "cart-service"}, set.Cases[0].Services)
	for i, want := range []string{"card-store", "cart-service"} { // they were the other way round
		attributes := got.Traces[0].ResourceSpans().At(i).Resource().Attributes()
		name, _ := attributes.Get("service.name")
		pod, _ := attributes.Get("k8s.pod.name")
		assert.Equal(t, want, name.Str())
		assert.Equal(t, want+"-7d5f", pod.Str())
	}
	assert.Equal(t, "POST /card-store/items", got.Traces[0].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Name())
	assert.Equal(t, "ERROR cart-service refused order 17: CardDeniedException", got.Logs[0].ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Body().Str())
	f := &finding.Finding{}
	f.RootCause.Entity.Name = "cart-service"
	assert.True(t, set.Cases[0].Truth.Right(f), "the label changes with the names")
	_, err := Parse("permute,names")
	assert.ErrorContains(t, err, "permute")
}

func TestNothingIsChangedByDefault(t *testing.T) {
	_, got := changed(t, "")
	assert.Equal(t, perCase, got.Traces[0].SpanCount())
	assert.Equal(t, perCase, got.Logs[0].LogRecordCount())
	assert.Equal(t, perCase, got.Metrics[0].DataPointCount())
}

func TestThinKeepsWholeTraces(t *testing.T) {
	_, got := changed(t, "thin=0.5")
	kept := map[pcommon.TraceID]int{}
	for _, rs := range got.Traces[0].ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			kept[s.TraceID()]++
		}
	}
	assert.InDelta(t, traces/2, len(kept), traces/8)
	for _, n := range kept {
		assert.Equal(t, 2, n)
	}
	assert.Equal(t, 2*len(kept), got.Logs[0].LogRecordCount())
	assert.Equal(t, perCase, got.Metrics[0].DataPointCount())
	_, again := changed(t, "thin=0.5")
	assert.Equal(t, got.Traces, again.Traces, "the same seed")
	_, other := changed(t, "thin=0.5,seed=2")
	assert.NotEqual(t, got.Traces, other.Traces)
}

func TestDropLosesRecords(t *testing.T) {
	_, got := changed(t, "drop=0.25")
	for _, n := range []int{got.Traces[0].SpanCount(), got.Logs[0].LogRecordCount(), got.Metrics[0].DataPointCount()} {
		assert.InDelta(t, perCase*3/4, n, perCase/16)
	}
}

func TestSkewMovesServicesApart(t *testing.T) {
	_, got := changed(t, "skew=5s")
	var at []time.Duration
	for n, rs := range got.Traces[0].ResourceSpans().All() {
		s := rs.ScopeSpans().At(0).Spans().At(0)
		moved := s.StartTimestamp().AsTime().Sub(start.Add(time.Hour))
		assert.Equal(t, 100*time.Millisecond, s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime()))
		l := got.Logs[0].ResourceLogs().At(n).ScopeLogs().At(0).LogRecords().At(0)
		assert.Equal(t, s.StartTimestamp(), l.Timestamp(), "a service has one clock")
		at = append(at, moved)
	}
	assert.NotEqual(t, at[0], at[1])
	assert.Less(t, max(at[0].Abs(), at[1].Abs()), 5*time.Second)
}

func TestJitterChangesDurations(t *testing.T) {
	_, got := changed(t, "jitter=0.3")
	lengths := map[time.Duration]bool{}
	for _, s := range got.Traces[0].ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		lengths[s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime())] = true
	}
	assert.Greater(t, len(lengths), traces/2)
}

func TestHeadAndTailAreCutOffCases(t *testing.T) {
	set, got := changed(t, "head=100s,tail=50s")
	assert.Equal(t, start.Add(100*time.Second), set.Cases[0].Start)
	assert.InDelta(t, 2*(traces-150), got.Traces[0].SpanCount(), 4)
	whole, err := set.Baselines[0].Load(0)
	require.NoError(t, err)
	assert.Equal(t, perCase, whole.Traces[0].SpanCount())
}

func TestBaseline(t *testing.T) {
	set, _ := changed(t, "baseline=2")
	require.Len(t, set.Baselines, 1)
	assert.Equal(t, "second", set.Baselines[0].ID)
	require.ErrorContains(t, Set(set, Options{Thin: 1, Baseline: 2}), "has 1 fault-free recordings")
}

func TestNamesAreReplacedAndUnderstood(t *testing.T) {
	for _, text := range []string{"names", "words"} {
		set, got := changed(t, text)
		rs := got.Traces[0].ResourceSpans()
		name := func(n int, key string) string {
			v, _ := rs.At(n).Resource().Attributes().Get(key)
			return v.Str()
		}
		store := name(1, "service.name")
		assert.NotContains(t, store, "card")
		assert.True(t, strings.HasPrefix(name(1, "k8s.pod.name"), store+"-7d5"), "what was part of a name stays part of it")
		assert.Equal(t, store, set.Cases[0].Service)
		assert.Contains(t, set.Cases[0].Services, store)
		assert.Contains(t, rs.At(0).ScopeSpans().At(0).Spans().At(0).Name(), "POST /"+name(0, "service.name")+"/")
		body := got.Logs[0].ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Body().Str()
		assert.Contains(t, body, "ERROR "+store+" refused ")
		assert.Contains(t, body, "17: ")
		if text == "words" {
			assert.NotContains(t, body, "order")
		} else {
			assert.Contains(t, body, " refused order 17: CardDeniedException")
		}
		f := &finding.Finding{RootCause: finding.RootCause{Entity: finding.Entity{Kind: "service", Name: store}}}
		assert.True(t, set.Cases[0].Truth.Right(f))
		assert.True(t, set.Cases[0].Truth.Judge([]*finding.Finding{f}).Exact)
		assert.Equal(t, store, f.RootCause.Entity.Name, "the finding itself stays as it is")
	}
}

func TestWrongOptions(t *testing.T) {
	for _, text := range []string{
		"thin=0", "thin=2", "thin=x", "drop=1", "late=5", "late=1h", "retry=1", "retry=-1", "jitter=-1", "skew=5", "skew=1h", "head=-1s", "tail=1h", "baseline=-1", "seed=-1", "colour=red",
	} {
		_, err := Parse(text)
		assert.Error(t, err, text)
	}
}
