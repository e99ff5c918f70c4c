package e2e

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// TestExport: finding log, finding trace and cause spans reach a second
// collector over OTLP, complete.
func TestExport(t *testing.T) {
	requireKernel(t)
	second := startSecond(t)
	s := startShop(t, []string{"TAPIO_EXPORT_ENDPOINT=http://" + second.endpoint, "TAPIO_EXPORT_INSECURE=true"},
		"--fault", "leak", "--leak", "2MiB", "--keep-running", "--config", "yaml:processors::tapiocorrelation::resolve_after: 3s")
	poll(t, runLimit, "finding", func() bool { return s.exists("finding.json") })
	final := waitResolved(t, s)
	s.signal(t, syscall.SIGINT)
	require.Zero(t, s.wait(t, 30*time.Second), "Ctrl-C is how --keep-running ends")
	second.stop(10 * time.Second)
	require.Zero(t, second.cmd.ProcessState.ExitCode())

	r := s.report(t)
	checkFinding(t, final, r)
	checkLogs(t, second.logs(t, s.state(t)), final)
	spans := second.spans(t)
	checkFindingTrace(t, spans, final)
	checkCauseSpans(t, spans, final, r)
}

// waitResolved returns the finding once it is resolved.
func waitResolved(t *testing.T, s *shop) *finding.Finding {
	t.Helper()
	var all []*finding.Finding
	poll(t, time.Minute, "resolved finding", func() bool {
		var err error
		all, err = listed(t, s.state(t).Collector.API)
		all = ofShop(t, all, s.state(t))
		return err == nil && len(all) == 1 && all[0].State == finding.StateResolved
	})
	return all[0]
}

// second is a collector behind Tapio.
type second struct {
	*program
	endpoint, dir string
}

func startSecond(t *testing.T) *second {
	t.Helper()
	config, err := filepath.Abs(filepath.Join("testdata", "second.yaml"))
	require.NoError(t, err)
	a, dir := freeAddresses(t, 2), t.TempDir()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin(t, collectorName), "--config", config)
	cmd.Env = environ("SECOND_OTLP_ENDPOINT="+a[0], "SECOND_HEALTH_ENDPOINT="+a[1], "SECOND_DIR="+dir)
	s := &second{program: start(t, cmd), endpoint: a[0], dir: dir}
	s.waitHealthy(t, a[1])
	return s
}

// lines calls f for each line of a file that the second collector wrote.
func (s *second) lines(t *testing.T, name string, f func([]byte) error) {
	t.Helper()
	file, err := os.Open(filepath.Join(s.dir, name))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		require.NoError(t, f(scanner.Bytes()))
	}
	require.NoError(t, scanner.Err())
}

// logs are the findings that arrived, in the order of their revisions: OTLP over
// several connections does not keep the order in which they were sent.
func (s *second) logs(t *testing.T, st state) []*finding.Finding {
	t.Helper()
	var all []*finding.Finding
	s.lines(t, "logs.json", func(b []byte) error {
		ld, err := (&plog.JSONUnmarshaler{}).UnmarshalLogs(b)
		if err != nil {
			return err
		}
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					f, err := finding.FromLog(rl.Resource(), record)
					if errors.Is(err, finding.ErrNotFinding) {
						continue
					}
					if err != nil {
						return err
					}
					all = append(all, f)
				}
			}
		}
		return nil
	})
	all = ofShop(t, all, st)
	slices.SortFunc(all, func(a, b *finding.Finding) int { return cmp.Compare(a.Revision, b.Revision) })
	return all
}

// arrived is a span that arrived, with its service and scope.
type arrived struct {
	ptrace.Span
	service, scope string
}

func (a arrived) str(key string) string { return str(a.Attributes(), key) }

// str returns an attribute as text, "" when it is absent.
func str(m pcommon.Map, key string) string {
	if v, ok := m.Get(key); ok {
		return v.AsString()
	}
	return ""
}

func (s *second) spans(t *testing.T) map[pcommon.TraceID][]arrived {
	t.Helper()
	traces := map[pcommon.TraceID][]arrived{}
	s.lines(t, "traces.json", func(b []byte) error {
		td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(b)
		if err != nil {
			return err
		}
		for _, rs := range td.ResourceSpans().All() {
			service := str(rs.Resource().Attributes(), event.KeyServiceName)
			for _, ss := range rs.ScopeSpans().All() {
				for _, span := range ss.Spans().All() {
					traces[span.TraceID()] = append(traces[span.TraceID()], arrived{span, service, ss.Scope().Name()})
				}
			}
		}
		return nil
	})
	return traces
}

// checkLogs: every revision of one finding arrived once, and the last says what
// the store says.
func checkLogs(t *testing.T, logs []*finding.Finding, final *finding.Finding) {
	t.Helper()
	require.NotEmpty(t, logs)
	for i, f := range logs {
		assert.Equal(t, final.ID, f.ID)
		assert.Equal(t, i+1, f.Revision, "every revision once")
	}
	last := logs[len(logs)-1]
	assert.Equal(t, final.Revision, last.Revision)
	assert.Equal(t, final.State, last.State)
	assert.Equal(t, final.Impact, last.Impact)
	assert.Equal(t, final.RootCause, last.RootCause)
	assert.Equal(t, final.Chain, last.Chain)
	assert.Equal(t, final.Actions, last.Actions)
	assert.Equal(t, final.HurtTraces, last.HurtTraces)
}

// checkFindingTrace: a root span, one span per link with the parent that the
// link has, a closing span; each under the service of its entity.
func checkFindingTrace(t *testing.T, traces map[pcommon.TraceID][]arrived, f *finding.Finding) {
	t.Helper()
	byID := map[pcommon.SpanID]arrived{}
	var root, closing []arrived
	var links []string
	for _, s := range traces[pcommon.TraceID(f.ID)] {
		assert.NotContains(t, byID, s.SpanID(), "every span is sent once")
		byID[s.SpanID()] = s
		switch {
		case s.ParentSpanID().IsEmpty():
			root = append(root, s)
		case s.str("tapio.link.event") != "":
			links = append(links, s.str("tapio.link.layer")+" "+s.str("tapio.link.event"))
		default:
			closing = append(closing, s)
		}
		assert.NotEmpty(t, s.service, s.Name())
		assert.Equal(t, event.FindingScope, s.scope)
	}
	require.Len(t, root, 1)
	require.Len(t, closing, 1)
	assert.Equal(t, "payment", root[0].service)
	// The root is sent when the finding opens, before any request is known to have
	// failed for certain: the closing span has the links.
	assert.Equal(t, min(20, len(f.HurtTraces)), closing[0].Links().Len(), "the closing span links to failed requests")
	for i, l := range closing[0].Links().All() {
		assert.Equal(t, f.HurtTraces[i].TraceID, l.TraceID().String())
	}
	assert.Equal(t, string(finding.StateResolved), closing[0].str(finding.KeyState))
	want := make([]string, 0, len(f.Chain))
	for _, l := range f.Chain {
		want = append(want, string(l.Layer)+" "+l.Event)
	}
	assert.ElementsMatch(t, want, links, "one span per link")
	for id, s := range byID {
		if !s.ParentSpanID().IsEmpty() {
			assert.Contains(t, byID, s.ParentSpanID(), "the parent of %q is missing", s.Name())
			assert.NotEqual(t, id, s.ParentSpanID())
		}
	}
}

// checkCauseSpans: in failed traces there is one span more, below the span that
// failed, which links to the finding; in no other trace.
func checkCauseSpans(t *testing.T, traces map[pcommon.TraceID][]arrived, f *finding.Finding, r report) {
	t.Helper()
	failed := map[string]bool{}
	for _, id := range r.FailedTraceIDs {
		failed[id] = true
	}
	found := 0
	for id, spans := range traces {
		if id == pcommon.TraceID(f.ID) {
			continue
		}
		byID := map[pcommon.SpanID]arrived{}
		for _, s := range spans {
			byID[s.SpanID()] = s
		}
		causes := 0
		for _, s := range spans {
			if s.scope != event.FindingScope {
				continue
			}
			causes++
			checkCauseSpan(t, s, byID[s.ParentSpanID()], f)
			assert.True(t, failed[id.String()], "trace %s did not fail", id)
		}
		assert.LessOrEqual(t, causes, 1, "trace %s", id)
		found += causes
	}
	assert.Equal(t, min(20, len(r.FailedTraceIDs)), found, "limits::cause_spans is 20 unless configured")
}

func checkCauseSpan(t *testing.T, s, parent arrived, f *finding.Finding) {
	t.Helper()
	require.NotZero(t, parent.Span, "the parent arrived")
	assert.Equal(t, ptrace.StatusCodeError, parent.Status().Code(), "the parent is a span that failed")
	assert.Equal(t, "storefront POST /charge", parent.service+" "+parent.Name(), "the one that failed first")
	assert.Equal(t, "payment", s.service)
	assert.Equal(t, f.ID.String(), s.str(finding.KeyID))
	require.Equal(t, 1, s.Links().Len())
	assert.Equal(t, pcommon.TraceID(f.ID), s.Links().At(0).TraceID())
}
