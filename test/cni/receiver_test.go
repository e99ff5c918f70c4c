package cni

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap/zaptest"

	"github.com/yairfalse/tapio/receiver/cnireceiver"
)

// deadline is how long a test waits for what must come.
const deadline = 20 * time.Second

// watch is a running receiver, and what it emitted.
type watch struct {
	t    *testing.T
	logs *consumertest.LogsSink
	tel  *componenttest.Telemetry
	stop func()
}

// record is a log record with its resource.
type record struct {
	plog.LogRecord
	resource pcommon.Map
}

// watch starts a receiver on the node. settings change its configuration.
func (n *node) watch(settings map[string]any) *watch {
	n.t.Helper()
	return n.watchOn(componenttest.NewNopHost(), settings)
}

// watchOn is watch in a collector with extensions.
func (n *node) watchOn(host component.Host, settings map[string]any) *watch {
	n.t.Helper()
	factory := cnireceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	all := map[string]any{
		"config_dirs": []string{n.path("config")}, "plugin_dirs": []string{n.path("plugins")},
		"result_dirs": []string{n.path("cache", "results")}, "namespace_dirs": []string{n.path("netns")},
		"host_namespace":        n.host,
		"ipam::data_dirs":       []string{n.path("networks")},
		"interfaces::hold":      "500ms",
		"leaks::grace_period":   "1s",
		"operations::enabled":   false,
		"interval":              "2s",
		"debounce":              "50ms",
		"conntrack::enabled":    true,
		"conntrack::high_water": 0.85,
	}
	for key, value := range settings {
		all[key] = value
	}
	require.NoError(n.t, confmap.NewFromStringMap(expand(all)).Unmarshal(cfg))
	w := &watch{t: n.t, logs: new(consumertest.LogsSink), tel: componenttest.NewTelemetry()}
	set := receiver.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: w.tel.NewTelemetrySettings()}
	set.Logger = zaptest.NewLogger(n.t)
	r, err := factory.CreateLogs(context.Background(), set, cfg, w.logs)
	require.NoError(n.t, err)
	require.NoError(n.t, r.Start(context.Background(), host))
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		assert.NoError(n.t, r.Shutdown(context.Background()))
		assert.NoError(n.t, w.tel.Shutdown(context.Background()))
	}
	n.t.Cleanup(w.stop)
	w.expect("tapio.cni.started", nil)
	return w
}

// expand makes maps of keys with "::".
func expand(flat map[string]any) map[string]any {
	conf := confmap.New()
	for key, value := range flat {
		part := confmap.NewFromStringMap(map[string]any{key: value})
		if err := conf.Merge(part); err != nil {
			panic(err)
		}
	}
	return conf.ToStringMap()
}

// records returns all so far of that name.
func (w *watch) records(name string) []record {
	var out []record
	for _, logs := range w.logs.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, lr := range sl.LogRecords().All() {
					if lr.EventName() == name {
						out = append(out, record{LogRecord: lr, resource: rl.Resource().Attributes()})
					}
				}
			}
		}
	}
	return out
}

// has says whether the record has the attributes, on itself or its resource.
func (r record) has(want map[string]any) bool {
	for key, value := range want {
		got, ok := r.Attributes().Get(key)
		if !ok {
			got, ok = r.resource.Get(key)
		}
		if !ok || got.AsString() != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

// find returns the records of that name with those attributes.
func (w *watch) find(name string, want map[string]any) []record {
	var out []record
	for _, r := range w.records(name) {
		if r.has(want) {
			out = append(out, r)
		}
	}
	return out
}

// expect waits for a record of that name with those attributes.
func (w *watch) expect(name string, want map[string]any) record {
	w.t.Helper()
	return w.eventually(name, want, 1)
}

// eventually waits for that many of them and returns the last.
func (w *watch) eventually(name string, want map[string]any, count int) record {
	w.t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if found := w.find(name, want); len(found) >= count {
			return found[count-1]
		}
	}
	w.t.Fatalf("no %d %s with %v; there is:\n%s", count, name, want, w.dump())
	return record{}
}

// expectOver waits until what a record said is said to be over.
func (w *watch) expectOver(name string, want map[string]any) {
	w.t.Helper()
	all := map[string]any{"tapio.cni.recovered": name}
	for key, value := range want {
		all[key] = value
	}
	w.expect("tapio.cni.recovered", all)
}

// problems are all records above INFO.
func (w *watch) problems() []string {
	var out []string
	for _, logs := range w.logs.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, lr := range rl.ScopeLogs().At(0).LogRecords().All() {
				if lr.SeverityNumber() > plog.SeverityNumberInfo4 {
					out = append(out, lr.EventName()+": "+lr.Body().Str())
				}
			}
		}
	}
	return out
}

func (w *watch) dump() string {
	text := ""
	for _, logs := range w.logs.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, lr := range rl.ScopeLogs().At(0).LogRecords().All() {
				text += fmt.Sprintf("  %s %s %v\n", lr.EventName(), lr.Body().Str(), lr.Attributes().AsRaw())
			}
		}
	}
	return text
}

// held is the receiver's own gauge of that kind.
func (w *watch) held(kind string) int64 {
	m, err := w.tel.GetMetric("otelcol_receiver_tapio_cni_held")
	require.NoError(w.t, err)
	for _, p := range m.Data.(metricdata.Gauge[int64]).DataPoints {
		if v, ok := p.Attributes.Value("kind"); ok && v.AsString() == kind {
			return p.Value
		}
	}
	w.t.Fatalf("no kind %s", kind)
	return 0
}
