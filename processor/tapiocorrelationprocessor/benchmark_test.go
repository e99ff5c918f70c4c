//go:build unix

package tapiocorrelationprocessor

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/yairfalse/tapio/internal/event"
)

// The batches of the benchmarks: what an SDK's batch span processor and the batch
// processor make of a busy service. 15 attributes a span, as an instrumented HTTP
// server or client writes them.
const (
	benchServices = 10
	benchSpans    = 1000
	perTrace      = 10
)

// benchTraces is a batch of spans of benchServices services: server and client
// spans in turn, one in failEvery failed (0: none).
func benchTraces(failEvery int) ptrace.Traces {
	td := ptrace.NewTraces()
	now := time.Now()
	for service := range benchServices {
		rs := td.ResourceSpans().AppendEmpty()
		a := rs.Resource().Attributes()
		a.PutStr("service.name", fmt.Sprintf("service-%d", service))
		a.PutStr("service.version", "1.2.3")
		a.PutStr("service.instance.id", fmt.Sprintf("instance-%d", service))
		a.PutStr("host.name", "node-1")
		a.PutInt("process.pid", int64(1000+service))
		a.PutStr("telemetry.sdk.name", "opentelemetry")
		a.PutStr("telemetry.sdk.language", "go")
		a.PutStr("deployment.environment.name", "production")
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
		for i := range benchSpans / benchServices {
			n := service*benchSpans/benchServices + i
			s := ss.Spans().AppendEmpty()
			benchSpan(s, n, now)
			if failEvery > 0 && n%failEvery == 0 {
				s.Status().SetCode(ptrace.StatusCodeError)
				s.Status().SetMessage("dial tcp 10.0.0.1:8080: connect: connection refused")
			}
		}
	}
	return td
}

func benchSpan(s ptrace.Span, n int, now time.Time) {
	var trace pcommon.TraceID
	var id pcommon.SpanID
	binary.BigEndian.PutUint64(trace[:], uint64(n/perTrace)*0x9e3779b97f4a7c15+1)
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15+1)
	s.SetTraceID(trace)
	s.SetSpanID(id)
	if n%perTrace != 0 {
		var parent pcommon.SpanID
		binary.BigEndian.PutUint64(parent[:], uint64(n-1)*0x9e3779b97f4a7c15+1)
		s.SetParentSpanID(parent)
	}
	s.SetName([]string{"GET /orders/{id}", "POST /orders", "GET /health", "POST /charge"}[n%4])
	s.SetKind(ptrace.SpanKindServer)
	if n%2 == 1 {
		s.SetKind(ptrace.SpanKindClient)
	}
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Duration(5+n%20) * time.Millisecond)))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
	a := s.Attributes()
	a.PutStr("http.request.method", "GET")
	a.PutStr("url.scheme", "http")
	a.PutStr("url.path", "/orders/1234567")
	a.PutStr("http.route", "/orders/{id}")
	a.PutStr("network.protocol.name", "http")
	a.PutStr("network.protocol.version", "1.1")
	a.PutStr("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
	a.PutStr("client.address", "10.1.2.3")
	a.PutInt("client.port", 54321)
	a.PutInt("http.response.status_code", 200)
	a.PutInt("http.request.body.size", 1234)
	a.PutStr("server.address", "10.0.0.1")
	a.PutInt("server.port", 8080)
	a.PutStr("user.id", "user-17")
	a.PutInt("thread.id", 17)
}

// benchLogs is a batch of log records without event names, as applications write
// them; one in eventEvery is a named event (0: none).
func benchLogs(eventEvery int) plog.Logs {
	ld := plog.NewLogs()
	now := time.Now()
	for service := range benchServices {
		rl := ld.ResourceLogs().AppendEmpty()
		a := rl.Resource().Attributes()
		a.PutStr("service.name", fmt.Sprintf("service-%d", service))
		a.PutStr("host.name", "node-1")
		a.PutInt("process.pid", int64(1000+service))
		sl := rl.ScopeLogs().AppendEmpty()
		for i := range benchSpans / benchServices {
			r := sl.LogRecords().AppendEmpty()
			r.SetTimestamp(pcommon.NewTimestampFromTime(now))
			r.SetSeverityNumber(plog.SeverityNumberInfo)
			r.Body().SetStr("order 1234567 of user-17 was accepted in 12 ms")
			if eventEvery > 0 && i%eventEvery == 0 {
				r.SetEventName("tapio.process.exit")
				r.Attributes().PutInt("process.exit.code", 0)
			}
		}
	}
	return ld
}

func benchSettings() processor.Settings {
	set := processortest.NewNopSettings(NewFactory().Type())
	set.TelemetrySettings = componenttest.NewNopTelemetrySettings()
	return set
}

// restamp makes the batch's spans end now, as new data would: the engine ignores
// what is older than its window.
func restamp(td ptrace.Traces) {
	now := pcommon.NewTimestampFromTime(time.Now())
	for _, rs := range td.ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			s.SetStartTimestamp(now - (s.EndTimestamp() - s.StartTimestamp()))
			s.SetEndTimestamp(now)
		}
	}
}

// cpuTime is what the process has used on all cores: the engine works beside the
// goroutine that delivers.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// failedSpans returns the spans of a batch that failed.
func failedSpans(td ptrace.Traces) (failed []ptrace.Span) {
	for _, rs := range td.ResourceSpans().All() {
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			if s.Status().Code() == ptrace.StatusCodeError {
				failed = append(failed, s)
			}
		}
	}
	return failed
}

func perSpan(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchSpans), "ns/item")
	b.ReportMetric(float64(b.N*benchSpans)/b.Elapsed().Seconds(), "items/s")
}

// BenchmarkConsumeTraces passes a batch through the processor, engine running, and
// for comparison to a consumer that does nothing.
func BenchmarkConsumeTraces(b *testing.B) {
	b.Run("nop", func(b *testing.B) {
		td, next := benchTraces(0), consumertest.NewNop()
		b.ReportAllocs()
		for b.Loop() {
			_ = next.ConsumeTraces(context.Background(), td)
		}
		perSpan(b)
	})
	for name, failEvery := range map[string]int{"healthy": 0, "1%failed": 100} {
		b.Run(name, func(b *testing.B) {
			cfg := createDefaultConfig().(*Config)
			es := newEngines()
			p, err := es.createTraces(context.Background(), benchSettings(), cfg, consumertest.NewNop())
			require.NoError(b, err)
			require.NoError(b, p.Start(context.Background(), componenttest.NewNopHost()))
			engine := es.byConfig[cfg].engine
			cpu := cpuTime()
			td := benchTraces(failEvery)
			failed := failedSpans(td)
			var trace pcommon.TraceID
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%1000 == 999 {
					b.StopTimer()
					restamp(td)
					b.StartTimer()
				}
				for i, span := range failed { // each a request of its own
					binary.BigEndian.PutUint64(trace[:], uint64(n*len(failed)+i+1)*0x9e3779b97f4a7c15)
					span.SetTraceID(trace)
				}
				if err := p.ConsumeTraces(context.Background(), td); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N*benchSpans), "cpu-ns/item")
			b.ReportMetric(float64(engine.Counters.Lost.Load()), "lost")
			perSpan(b)
			require.NoError(b, p.Shutdown(context.Background()))
		})
	}
}

// BenchmarkConsumeLogs is the same for log records.
func BenchmarkConsumeLogs(b *testing.B) {
	b.Run("nop", func(b *testing.B) {
		ld, next := benchLogs(0), consumertest.NewNop()
		b.ReportAllocs()
		for b.Loop() {
			_ = next.ConsumeLogs(context.Background(), ld)
		}
		perSpan(b)
	})
	for name, eventEvery := range map[string]int{"records": 0, "1%events": 100} {
		b.Run(name, func(b *testing.B) {
			p, err := NewFactory().CreateLogs(context.Background(), benchSettings(), createDefaultConfig(), consumertest.NewNop())
			require.NoError(b, err)
			require.NoError(b, p.Start(context.Background(), componenttest.NewNopHost()))
			ld := benchLogs(eventEvery)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.ConsumeLogs(context.Background(), ld); err != nil {
					b.Fatal(err)
				}
			}
			perSpan(b)
			require.NoError(b, p.Shutdown(context.Background()))
		})
	}
}

// BenchmarkLatency measures the time from the last evidence (the exit of a killed
// process, after its OOM kill) to the finding at the next component, with an
// engine that holds a full ring and is otherwise idle.
func BenchmarkLatency(b *testing.B) {
	sink := &notifier{found: make(chan struct{}, 1)}
	cfg := createDefaultConfig().(*Config)
	cfg.Limits.Incidents = 1 << 20
	p, err := NewFactory().CreateLogs(context.Background(), benchSettings(), cfg, sink)
	require.NoError(b, err)
	require.NoError(b, p.Start(context.Background(), componenttest.NewNopHost()))
	for range cfg.Ring.Capacity / benchSpans {
		require.NoError(b, p.ConsumeLogs(context.Background(), benchLogs(0)))
	}
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		at := time.Now()
		require.NoError(b, p.ConsumeLogs(context.Background(), death("tapio.oom.kill", n, at)))
		time.Sleep(time.Millisecond)
		at = time.Now()
		require.NoError(b, p.ConsumeLogs(context.Background(), death("tapio.process.exit", n, at)))
		<-sink.found
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	require.NoError(b, p.Shutdown(context.Background()))
}

// death is the kernel's event of the end of a process of its own service.
func death(name string, n int, at time.Time) plog.Logs {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	a := rl.Resource().Attributes()
	a.PutStr("host.name", "node-1")
	a.PutStr("service.name", fmt.Sprintf("victim-%d", n))
	a.PutInt("process.pid", int64(100_000+n))
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(name)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	r.Attributes().PutStr("tapio.oom.scope", "cgroup")
	r.Attributes().PutInt("tapio.process.exit.signal", 9)
	return ld
}

// notifier tells when a finding arrives.
type notifier struct {
	consumertest.LogsSink
	found chan struct{}
}

func (s *notifier) ConsumeLogs(_ context.Context, ld plog.Logs) error {
	if ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).EventName() == event.Finding {
		s.found <- struct{}{}
	}
	return nil
}
