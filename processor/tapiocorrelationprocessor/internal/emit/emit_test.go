package emit

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/golden"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/ptracetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

var writeGolden = flag.Bool("golden", false, "write the files of testdata anew")

// opened is a finding that has just been made.
func opened() *finding.Finding {
	f := findingtest.Full()
	f.Revision, f.State, f.ResolvedAt, f.Ending, f.EarlierCauses = 1, finding.StateOpen, nil, "", nil
	return f
}

func spansOf(td ptrace.Traces) (out []ptrace.Span) {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				out = append(out, s)
			}
		}
	}
	return out
}

func names(td ptrace.Traces) (out []string) {
	for _, s := range spansOf(td) {
		out = append(out, s.Name())
	}
	return out
}

func TestGolden(t *testing.T) {
	var e Emitted
	first := e.Traces(opened(), 10)
	last := e.Traces(findingtest.Full(), 10)
	for name, td := range map[string]ptrace.Traces{"opened.yaml": first, "resolved.yaml": last} {
		file := filepath.Join("testdata", name)
		if *writeGolden {
			require.NoError(t, golden.WriteTraces(t, file, td))
		}
		want, err := golden.ReadTraces(file)
		require.NoError(t, err)
		require.NoError(t, ptracetest.CompareTraces(want, td))
	}
	ld, err := Log(opened(), findingtest.Start.Add(time.Second))
	require.NoError(t, err)
	record := ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	assert.True(t, finding.Own(record))
	record.Attributes().Remove(finding.KeyOrigin) // another one in each process
	file := filepath.Join("testdata", "log.yaml")
	if *writeGolden {
		require.NoError(t, golden.WriteLogs(t, file, ld))
	}
	want, err := golden.ReadLogs(file)
	require.NoError(t, err)
	require.NoError(t, plogtest.CompareLogs(want, ld))
}

func TestTraceOfAFinding(t *testing.T) {
	f := opened()
	var e Emitted
	td := e.Traces(f, 10)
	id := pcommon.TraceID(f.ID)
	byName := map[string]ptrace.Span{}
	byID := map[pcommon.SpanID]string{}
	for _, s := range spansOf(td) {
		byName[s.Name()], byID[s.SpanID()] = s, s.Name()
		assert.False(t, s.EndTimestamp() < s.StartTimestamp(), s.Name())
	}
	root := byName[SpanIncident]
	assert.Equal(t, id, root.TraceID())
	assert.True(t, root.ParentSpanID().IsEmpty())
	assert.Equal(t, ptrace.StatusCodeError, root.Status().Code())
	require.Equal(t, 1, root.Links().Len(), "a hurt trace without a span id cannot be linked to")
	assert.Equal(t, f.HurtTraces[0].TraceID, root.Links().At(0).TraceID().String())

	parent := SpanIncident
	for _, l := range f.Chain { // in findingtest each link follows from the one before
		s, ok := byName[l.Title]
		require.True(t, ok, l.Title)
		assert.Equal(t, id, s.TraceID())
		assert.Equal(t, parent, byID[s.ParentSpanID()], l.Title)
		assert.Equal(t, l.Time, s.StartTimestamp().AsTime())
		assert.Equal(t, l.Last, s.EndTimestamp().AsTime())
		parent = l.Title
	}

	cause := byName[SpanCause+": "+f.Title]
	assert.Equal(t, f.HurtTraces[0].TraceID, cause.TraceID().String(), "in the trace that was hurt")
	assert.Equal(t, f.HurtTraces[0].SpanID, cause.ParentSpanID().String(), "below the span that failed first")
	require.Equal(t, 1, cause.Links().Len())
	assert.Equal(t, id, cause.Links().At(0).TraceID())
	assert.Equal(t, root.SpanID(), cause.Links().At(0).SpanID())
	got, _ := cause.Attributes().Get(finding.KeyCauseSentence)
	assert.Equal(t, f.RootCause.Description, got.Str())
	for _, rs := range td.ResourceSpans().All() {
		service, ok := rs.Resource().Attributes().Get(event.KeyServiceName)
		require.True(t, ok)
		assert.Contains(t, []string{"payment", "storefront"}, service.Str(), "each under its own service")
		assert.Equal(t, event.FindingScope, rs.ScopeSpans().At(0).Scope().Name())
	}
}

func TestEverySpanLeavesOnce(t *testing.T) {
	f := opened()
	f.Chain, f.HurtTraces = f.Chain[:2], nil
	var e Emitted
	assert.Len(t, names(e.Traces(f, 10)), 3, "the root and two links")
	assert.Empty(t, names(e.Traces(f, 10)), "nothing new")

	f = opened()
	assert.Len(t, names(e.Traces(f, 10)), len(f.Chain)-2+1, "the further links and the hurt trace")
	f = findingtest.Full()
	assert.Equal(t, []string{SpanResolved}, names(e.Traces(f, 10)))
	assert.Empty(t, names(e.Traces(f, 10)))
}

func TestCauseSpansAreBounded(t *testing.T) {
	f := opened()
	f.HurtTraces = nil
	for n := range 100 {
		f.HurtTraces = append(f.HurtTraces, finding.HurtTrace{TraceID: findingtest.TraceID(n + 1), SpanID: "00f067aa0ba902b7"})
	}
	count := func(td ptrace.Traces) (n int) {
		for _, name := range names(td) {
			if name == SpanCause+": "+f.Title {
				n++
			}
		}
		return n
	}
	var e, none Emitted
	td := e.Traces(f, 7)
	assert.Equal(t, 7, count(td))
	assert.Equal(t, maxSpanLinks, spansOf(td)[0].Links().Len())
	assert.Zero(t, count(e.Traces(f, 7)), "not again with the next revision")
	assert.Zero(t, count(none.Traces(f, 0)), "cause_spans: 0 turns them off")
}

func TestSpansOfAnEntityWithoutService(t *testing.T) {
	for want, e := range map[string]finding.Entity{
		"10.0.0.7:80": {Kind: "address", Name: "10.0.0.7:80"}, "node1": {Kind: "host", Name: "node1"}, fallbackService: {Kind: "process", Name: "x"},
	} {
		td := ptrace.NewTraces()
		s := add(td, e, "n", pcommon.TraceID{1}, pcommon.SpanID{1}, findingtest.Start, findingtest.Start.Add(-time.Second))
		got, _ := td.ResourceSpans().At(0).Resource().Attributes().Get(event.KeyServiceName)
		assert.Equal(t, want, got.Str())
		assert.Equal(t, s.StartTimestamp(), s.EndTimestamp(), "a span does not end before it starts")
	}
}

func TestSpanID(t *testing.T) {
	f := opened()
	seen := map[pcommon.SpanID]bool{}
	for n := range 1000 {
		id := SpanID(f.ID, fmt.Sprint(n))
		assert.Equal(t, id, SpanID(f.ID, fmt.Sprint(n)), "the same on every gateway")
		assert.False(t, id.IsEmpty())
		seen[id] = true
	}
	assert.Len(t, seen, 1000)
	assert.NotEqual(t, SpanID(f.ID, ""), SpanID(finding.ID{1}, ""))
}

func TestIDs(t *testing.T) {
	for _, bad := range []finding.HurtTrace{{}, {TraceID: "zz"}, {TraceID: findingtest.TraceID(1), SpanID: "xyz"}, {TraceID: findingtest.TraceID(1), SpanID: "zzzzzzzzzzzzzzzz"}} {
		_, _, ok := ids(bad)
		assert.False(t, ok, "%+v", bad)
	}
}
