package operations

import (
	"context"
	"fmt"
	"strings"
	"sync"
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
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver"
)

// watch is a running receiver and what it emitted.
type watch struct {
	t         *testing.T
	logs      *consumertest.LogsSink
	traces    *consumertest.TracesSink
	telemetry *componenttest.Telemetry
	// stop ends the receiver, which then has told all that it has seen.
	stop func()
}

// startReceiver starts one with the paths of h; settings come on top.
func startReceiver(t *testing.T, h *host, settings map[string]any) *watch {
	t.Helper()
	w := &watch{t: t, logs: new(consumertest.LogsSink), traces: new(consumertest.TracesSink), telemetry: componenttest.NewTelemetry()}
	f := cnireceiver.NewFactory()
	cfg := f.CreateDefaultConfig()
	all := confmap.NewFromStringMap(map[string]any{
		"config_dirs": []any{h.path("net.d")}, "plugin_dirs": []any{pluginDir}, "ipam": map[string]any{"data_dirs": []any{h.path("networks")}},
		"result_dirs": []any{h.path("cni", "results")},
	})
	require.NoError(t, all.Merge(confmap.NewFromStringMap(settings)))
	require.NoError(t, all.Unmarshal(cfg))
	set := receiver.Settings{ID: component.NewID(f.Type()), TelemetrySettings: w.telemetry.NewTelemetrySettings(), BuildInfo: component.NewDefaultBuildInfo()}
	logs, err := f.CreateLogs(context.Background(), set, cfg, w.logs)
	require.NoError(t, err)
	traces, err := f.CreateTraces(context.Background(), set, cfg, w.traces)
	require.NoError(t, err)
	for _, r := range []component.Component{logs, traces} {
		require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
	}
	w.stop = sync.OnceFunc(func() {
		for _, r := range []component.Component{logs, traces} {
			assert.NoError(t, r.Shutdown(context.Background()))
		}
	})
	t.Cleanup(w.stop)
	return w
}

// spans are those that match.
func (w *watch) spans(matches func(ptrace.Span) bool) []ptrace.Span {
	var all []ptrace.Span
	for _, td := range w.traces.AllTraces() {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					if matches(s) {
						all = append(all, s)
					}
				}
			}
		}
	}
	return all
}

func is(key, value string) func(ptrace.Span) bool {
	return func(s ptrace.Span) bool { return text(s.Attributes(), key) == value }
}

func text(attrs pcommon.Map, key string) string {
	v, ok := attrs.Get(key)
	if !ok {
		return ""
	}
	return v.AsString()
}

// trees writes the operations of which all spans match, in order, as text.
func (w *watch) trees(matches func(ptrace.Span) bool) string {
	spans := w.spans(matches)
	var b strings.Builder
	var write func(parent pcommon.SpanID, indent string)
	write = func(parent pcommon.SpanID, indent string) {
		for _, s := range spans {
			if s.ParentSpanID() == parent {
				outcome := "ok"
				if s.Status().Code() == ptrace.StatusCodeError {
					outcome = text(s.Attributes(), event.KeyErrorType)
				}
				fmt.Fprintf(&b, "%s%s %s\n", indent, s.Name(), outcome)
				write(s.SpanID(), indent+"  ")
			}
		}
	}
	write(pcommon.SpanID{}, "")
	return b.String()
}

// eventually waits for the operations that match to be these.
func (w *watch) eventually(matches func(ptrace.Span) bool, want string) {
	w.t.Helper()
	got := ""
	for range 300 {
		if got = w.trees(matches); got == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	require.Equal(w.t, want, got)
}

// failures are the records tapio.cni.operation with an attribute, on themselves or
// on their resource.
func (w *watch) failures(key, value string) []plog.LogRecord {
	var all []plog.LogRecord
	for _, r := range w.named(event.CNIOperation) {
		if text(r.Attributes(), key) == value || text(r.resource, key) == value {
			all = append(all, r.LogRecord)
		}
	}
	return all
}

// record is a log record with its resource.
type record struct {
	plog.LogRecord
	resource pcommon.Map
}

// named are all records of an event.
func (w *watch) named(name string) []record {
	var all []record
	for _, ld := range w.logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, r := range sl.LogRecords().All() {
					if r.EventName() == name {
						all = append(all, record{r, rl.Resource().Attributes()})
					}
				}
			}
		}
	}
	return all
}

// held is the gauge otelcol_receiver_tapio_cni_held, by kind.
func (w *watch) held() map[string]int64 {
	w.t.Helper()
	m, err := w.telemetry.GetMetric("otelcol_receiver_tapio_cni_held")
	require.NoError(w.t, err)
	all := map[string]int64{}
	for _, p := range m.Data.(metricdata.Gauge[int64]).DataPoints {
		kind, _ := p.Attributes.Value("kind")
		all[kind.AsString()] = p.Value
	}
	return all
}

// sum is a counter of the receiver over all its attributes.
func (w *watch) sum(name string) int64 {
	w.t.Helper()
	m, err := w.telemetry.GetMetric(name)
	require.NoError(w.t, err)
	var total int64
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		total += p.Value
	}
	return total
}
