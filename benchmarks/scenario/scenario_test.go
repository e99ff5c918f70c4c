package scenario

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.yaml.in/yaml/v3"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

func TestParse(t *testing.T) {
	o, err := Parse("services=100,cases=3,seed=7,noise=0.5,missing=logs+kernel,skew=500ms,loss=0.1,minutes=20,faults=all")
	require.NoError(t, err)
	assert.Equal(t, Options{
		Services: 100, Cases: 3, Seed: 7, Noise: 0.5, Missing: []string{LayerLogs, LayerKernel}, Skew: 500 * time.Millisecond, Loss: 0.1, Minutes: 20, Faults: FaultsAll,
	}, o)
	o, err = Parse("")
	require.NoError(t, err)
	assert.Equal(t, DefaultOptions(), o)
	for text, want := range map[string]string{
		"service=5":     `service: "5": unknown: want services, cases`,
		"services=many": `services: "many"`,
		"services=5":    "services: 5: want 10 to 1000",
		"cases=0":       "cases: 0: want 1 to 100",
		"minutes=1":     "minutes: 1: want 5 to 120",
		"noise=-1":      "noise: -1: want 0 to 4",
		"noise=NaN":     "noise: NaN: want 0 to 4",
		"loss=1":        "loss: 1: want 0 to below 1",
		"skew=2m":       "skew: 2m0s: want 0 to 1m",
		"faults=some":   `faults: "some": want core or all`,
		"missing=disks": `missing: "disks": want some of traces, logs, metrics, kernel, kubernetes`,
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want)
	}
}

func TestWorlds(t *testing.T) {
	for _, n := range []int{10, 50, 1000} {
		o := DefaultOptions()
		o.Services = n
		w := newWorld(o)
		assert.Len(t, w.services, n)
		assert.NotEmpty(t, w.entries)
		names := map[string]bool{}
		reached := 0
		for _, s := range w.services {
			assert.False(t, names[s.name])
			names[s.name] = true
			if s.visits() > 0 {
				reached++
			}
			for _, op := range s.operations {
				for _, step := range op.steps {
					if step.call != nil {
						assert.Equal(t, s.tier+1, step.call.service.tier, "calls go down, never in circles")
					}
				}
			}
		}
		assert.Greater(t, reached, n*9/10)
	}
}

// load returns the telemetry of a case of the kind.
func load(t *testing.T, o Options, kind string) (dataset.Telemetry, *fault) {
	t.Helper()
	set, err := New(o)
	require.NoError(t, err)
	i := slices.IndexFunc(set.Cases, func(c *dataset.Case) bool { return c.Group == kind })
	require.GreaterOrEqual(t, i, 0)
	tel, err := set.Cases[i].Load(0)
	require.NoError(t, err)
	return tel, set.Cases[i].Truth.(truth).fault
}

// events counts the records with a name.
func events(tel dataset.Telemetry) map[string]int {
	out := map[string]int{}
	for _, ld := range tel.Logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, l := range rl.ScopeLogs().At(0).LogRecords().All() {
				out[l.EventName()]++
			}
		}
	}
	return out
}

// failed counts the spans that failed, before a fault and in it.
func failed(tel dataset.Telemetry, f *fault) (before, during int) {
	for _, rs := range tel.Traces[0].ResourceSpans().All() {
		for _, span := range rs.ScopeSpans().At(0).Spans().All() {
			switch {
			case span.Status().Code() != ptrace.StatusCodeError:
			case int64(span.EndTimestamp()) < f.from:
				before++
			default:
				during++
			}
		}
	}
	return before, during
}

// slow are the kinds that fail no request: they are slow, leave something out or do too much.
var slow = []string{
	"cpu starvation", "slow code", "network delay", "wrong result", "thundering herd", "cascading failure", "cpu throttled", "cpu starved", "processes begin",
	"memory short", "volume slow", "node disk slow", "disk busy", "collections of garbage", "dns slow", "accept queue full", "packets lost", "slow query",
	"calls multiplied", "done without", "processor busy", "control plane down",
}

// Every kind of failure is there, does something that telemetry shows, and is what somebody
// says of it where that is the cause of a pattern by which it is named.
func TestKinds(t *testing.T) {
	o := DefaultOptions()
	o.Services, o.Noise, o.Faults = 15, 0, FaultsAll
	set, err := New(o)
	require.NoError(t, err)
	causes := causesOfLibrary(t)
	said, names := map[string]bool{}, map[string]bool{}
	for _, k := range o.kinds() {
		assert.False(t, names[k.name], k.name)
		names[k.name] = true
		i := slices.IndexFunc(set.Cases, func(c *dataset.Case) bool { return c.Group == k.name })
		if k.two {
			require.Equal(t, -1, i, "so few services have no two that no request visits together")
			continue
		}
		tel, err := set.Cases[i].Load(0)
		require.NoError(t, err)
		seen := events(tel)
		for _, id := range accepted[k.name] {
			said[id] = said[id] || slices.ContainsFunc(causes[id], func(name string) bool { return isDerived(name) || seen[name] > 0 })
		}
		assert.NotEmpty(t, accepted[k.name], k.name)
		if k.ofWorker {
			continue // TestErrorsWithoutRequests
		}
		f := set.Cases[i].Truth.(truth).fault
		before, during := failed(tel, f)
		assert.Zero(t, before, k.name)
		assert.Equal(t, !slices.Contains(slow, k.name), during > 0, k.name)
		assert.Greater(t, f.service.visits(), minVisits/2, k.name)
	}
	assert.Len(t, accepted, len(names), "accepted patterns are of a kind that there is")
	for id := range causes {
		_, excepted := unreached[id]
		assert.NotEqual(t, said[id], excepted, "pattern %s: want a kind that is named by it and in which its cause is said, or a reason in unreached, and not both", id)
	}
	for id := range unreached {
		assert.Contains(t, causes, id, "unreached")
	}
	for kind, ids := range accepted {
		for _, id := range ids {
			assert.Contains(t, causes, id, kind)
		}
	}
}

// isDerived tells whether the engine makes an event of spans, logs or metrics, which no
// record says.
func isDerived(name string) bool {
	return slices.ContainsFunc([]string{"tapio.visit.", "tapio.service.", "tapio.call.", "tapio.metric.", "tapio.log"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// causesOfLibrary are the events that are causes, by the id of the pattern.
func causesOfLibrary(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("../../processor/tapiocorrelationprocessor/internal/pattern/library/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := map[string][]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var p struct {
			ID    string `yaml:"id"`
			Cause struct {
				Event string   `yaml:"event"`
				Or    []string `yaml:"or"`
			} `yaml:"cause"`
		}
		require.NoError(t, yaml.Unmarshal(data, &p), file)
		require.NotEmpty(t, p.ID, file)
		out[p.ID] = append(p.Cause.Or, p.Cause.Event)
	}
	return out
}

func TestEvents(t *testing.T) {
	o := DefaultOptions()
	o.Noise, o.Faults = 0, FaultsAll
	tel, f := load(t, o, "out of memory")
	assert.Equal(t, 5, events(tel)[event.OOMKill])
	assert.Positive(t, events(tel)[event.TCPConnectFailed])
	assert.Equal(t, f.service.name, truth{fault: f}.String())
	tel, f = load(t, o, "node down")
	assert.Equal(t, 1, events(tel)[event.K8sNodeCondition])
	assert.Equal(t, "node "+f.node.name, truth{fault: f}.String())
	tel, f = load(t, o, "dns failing")
	assert.Positive(t, events(tel)[event.DNSFailed])
	assert.True(t, f.service.calls())
	tel, _ = load(t, o, "kubelet down")
	assert.Equal(t, 1, events(tel)["tapio.systemd.unit.deactivated"])
	tel, _ = load(t, o, "selector wrong")
	assert.Equal(t, 3, events(tel)[event.K8sServiceNoEndpoints])
	tel, f = load(t, o, "quota reached")
	assert.Positive(t, events(tel)[event.K8sEvent])
	assert.Equal(t, "namespace shop", truth{fault: f}.String())
	_, f = load(t, o, "two faults")
	require.NotNil(t, f.other)
	assert.False(t, newWorld(o).together(f.operation, f.other))
}

// What a pod says of how many requests it took is how many spans of them there are.
func TestRequestMetrics(t *testing.T) {
	o := DefaultOptions()
	o.Services = 10
	tel, f := load(t, o, "slow code")
	visits := map[string]int{}
	for _, rs := range tel.Traces[0].ResourceSpans().All() {
		id, _ := rs.Resource().Attributes().Get(event.KeyServiceInstanceID)
		for _, span := range rs.ScopeSpans().At(0).Spans().All() {
			if span.Kind() == ptrace.SpanKindServer {
				visits[id.Str()]++
			}
		}
	}
	counted := map[string]uint64{} // the last of each operation
	for _, rm := range tel.Metrics[0].ResourceMetrics().All() {
		id, _ := rm.Resource().Attributes().Get(event.KeyServiceInstanceID)
		for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
			if m.Name() == "http.server.request.duration" {
				dp := m.Histogram().DataPoints().At(0)
				route, _ := dp.Attributes().Get("http.route")
				assert.GreaterOrEqual(t, dp.Count(), counted[id.Str()+route.Str()])
				assert.Less(t, dp.Sum()/float64(dp.Count()), 3.0)
				counted[id.Str()+route.Str()] = dp.Count()
			}
		}
	}
	for _, p := range f.service.pods {
		var sum uint64
		for _, op := range f.service.operations {
			sum += counted[p.uid+strings.TrimPrefix(op.name, "GET ")]
		}
		assert.NotZero(t, sum)
		assert.InDelta(t, visits[p.uid], sum, 60, "but for those since the last scrape")
	}
}

// Services that take no requests say that they fail, without a trace.
func TestErrorsWithoutRequests(t *testing.T) {
	o := DefaultOptions()
	o.Noise = 0
	tel, f := load(t, o, "errors without requests")
	said := 0
	for _, rl := range tel.Logs[0].ResourceLogs().All() {
		for _, l := range rl.ScopeLogs().At(0).LogRecords().All() {
			if l.SeverityNumber() != plog.SeverityNumberError {
				continue
			}
			said++
			service, _ := rl.Resource().Attributes().Get(event.KeyServiceName)
			assert.Equal(t, f.service.name, service.Str())
			assert.True(t, l.TraceID().IsEmpty())
			assert.GreaterOrEqual(t, int64(l.Timestamp()), f.from)
		}
	}
	assert.Greater(t, said, 30*len(f.service.pods))
	assert.Zero(t, f.service.visits())
}

// What must be foretold counts only when it was named before it happened, and there is
// time for that.
func TestForetold(t *testing.T) {
	set, err := New(DefaultOptions())
	require.NoError(t, err)
	for _, c := range set.Cases {
		of := c.Truth.(truth)
		assert.GreaterOrEqual(t, c.Onset.Sub(c.Start), of.fault.lead+time.Minute, c.ID)
		if of.fault.foretold {
			f := &finding.Finding{Pattern: "limit-predicted", DetectedAt: c.Onset.Add(-time.Second), RootCause: finding.RootCause{Entity: finding.Entity{Kind: "service", Name: of.fault.service.name}}}
			assert.Equal(t, dataset.Verdict{Rank: 1, Exact: true}, of.Judge([]*finding.Finding{f}))
			f.DetectedAt = c.Onset
			assert.Equal(t, dataset.Verdict{}, of.Judge([]*finding.Finding{f}))
		}
	}
}

// Of two faults both must be named, each by a finding of its own.
func TestTwoFaults(t *testing.T) {
	w := newWorld(DefaultOptions())
	a, b, c := w.services[7], w.services[8], w.services[9]
	of := truth{w, &fault{kind: kind{name: "two faults", two: true}, service: a, other: b.main()}}
	found := func(names ...string) (out []*finding.Finding) {
		for _, n := range names {
			out = append(out, &finding.Finding{Pattern: "callee-failing", RootCause: finding.RootCause{Entity: finding.Entity{Kind: "service", Name: n}}})
		}
		return out
	}
	assert.Equal(t, dataset.Verdict{Rank: 1, Exact: true}, of.Judge(found(b.name, a.name)))
	assert.Equal(t, dataset.Verdict{Rank: 2}, of.Judge(found(a.name, c.name, b.name)))
	assert.Equal(t, dataset.Verdict{}, of.Judge(found(a.name)))
	assert.True(t, of.Right(found(b.name)[0]))
}

func TestMissingLayers(t *testing.T) {
	kernel := []string{event.OOMKill, event.ProcessExit, event.TCPConnectFailed}
	for _, layer := range Layers {
		o := DefaultOptions()
		o.Missing = []string{layer}
		tel, _ := load(t, o, "out of memory")
		seen := events(tel)
		assert.Equal(t, layer != LayerTraces, tel.Traces[0].SpanCount() > 0, layer)
		assert.Equal(t, layer != LayerLogs, seen[""] > 0, layer)
		assert.Equal(t, layer != LayerMetrics, tel.Metrics[0].DataPointCount() > 0, layer)
		assert.Equal(t, layer != LayerKubernetes, seen[event.K8sContainerTerminated] > 0, layer)
		for _, name := range kernel {
			assert.Equal(t, layer != LayerKernel, seen[name] > 0, layer)
		}
	}
}

func TestLossAndSkew(t *testing.T) {
	o := DefaultOptions()
	whole, _ := load(t, o, "exception")
	o.Loss = 0.5
	half, _ := load(t, o, "exception")
	assert.InEpsilon(t, whole.Traces[0].SpanCount()/2, half.Traces[0].SpanCount(), 0.1)
	assert.InEpsilon(t, whole.Logs[0].LogRecordCount()/2, half.Logs[0].LogRecordCount(), 0.1)
	assert.InEpsilon(t, whole.Metrics[0].DataPointCount()/2, half.Metrics[0].DataPointCount(), 0.1)

	o = DefaultOptions()
	o.Skew = time.Second
	most := int64(0)
	for _, n := range newWorld(o).nodes {
		most = max(most, n.skew, -n.skew)
	}
	assert.Greater(t, most, int64(time.Second)/4)
	assert.LessOrEqual(t, most, int64(time.Second))
}

// The same options make the same telemetry, however often it is loaded, and a shift
// moves it.
func TestReproducible(t *testing.T) {
	marshal := func(tel dataset.Telemetry) string {
		a, err := (&ptrace.JSONMarshaler{}).MarshalTraces(tel.Traces[0])
		require.NoError(t, err)
		b, err := (&plog.JSONMarshaler{}).MarshalLogs(tel.Logs[0])
		require.NoError(t, err)
		c, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(tel.Metrics[0])
		require.NoError(t, err)
		return string(a) + string(b) + string(c)
	}
	o := DefaultOptions()
	o.Services, o.Loss = 10, 0.1
	one, _ := load(t, o, "killed")
	two, _ := load(t, o, "killed")
	assert.Equal(t, marshal(one), marshal(two))
	o.Seed = 2
	other, _ := load(t, o, "killed")
	assert.NotEqual(t, marshal(one), marshal(other))

	set, err := New(o)
	require.NoError(t, err)
	a, err := set.Cases[0].Load(0)
	require.NoError(t, err)
	b, err := set.Cases[0].Load(time.Hour)
	require.NoError(t, err)
	first := func(tel dataset.Telemetry) time.Time {
		return tel.Traces[0].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).StartTimestamp().AsTime()
	}
	assert.Equal(t, time.Hour, first(b).Sub(first(a)))
}

func TestTruth(t *testing.T) {
	o := DefaultOptions()
	w := newWorld(o)
	s := w.services[7]
	p := s.pods[0]
	of := truth{w, &fault{kind: kind{name: "exception"}, service: s, node: w.nodes[0]}}
	for _, e := range []finding.Entity{
		{Kind: "service", Name: s.name},
		{Kind: "workload", Name: s.name},
		{Kind: "pod", Name: p.name, Attributes: map[string]any{event.KeyPodName: p.name}},
		{Kind: "process", Name: "app", Attributes: map[string]any{event.KeyPodUID: p.uid}},
		{Kind: "container", Name: "app", Attributes: map[string]any{event.KeyServiceName: s.name}},
		{Kind: "address", Name: p.ip},
		{Kind: "unit", Name: s.name + ".service"},
	} {
		f := &finding.Finding{Pattern: "operation-failing", RootCause: finding.RootCause{Entity: e}}
		assert.True(t, of.Right(f), e.Kind)
		assert.Equal(t, dataset.Verdict{Rank: 1, Exact: true}, of.Judge([]*finding.Finding{f}), e.Kind)
		f.Pattern = "operation-slow"
		assert.Equal(t, dataset.Verdict{Rank: 1}, of.Judge([]*finding.Finding{f}), "it is not slow")
	}
	wrong := &finding.Finding{RootCause: finding.RootCause{Entity: finding.Entity{Kind: "host", Name: p.node.name}}}
	assert.False(t, of.Right(wrong))
	assert.Equal(t, dataset.Verdict{}, of.Judge([]*finding.Finding{wrong}))
	ofNode := truth{w, &fault{kind: kind{ofNode: true}, service: s, node: p.node}}
	assert.True(t, ofNode.Right(wrong))
	unit := &finding.Finding{RootCause: finding.RootCause{Entity: finding.Entity{Kind: "unit", Name: "etcd.service", Attributes: map[string]any{event.KeyHostName: p.node.name}}}}
	assert.True(t, ofNode.Right(unit))
	ofNode.fault.victim = true
	assert.True(t, ofNode.Right(&finding.Finding{RootCause: finding.RootCause{Entity: finding.Entity{Kind: "service", Name: s.name}}}))
}
