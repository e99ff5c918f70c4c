package decode

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/ring"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// BenchmarkTraces decodes a batch of 1000 spans with 15 attributes each.
func BenchmarkTraces(b *testing.B) {
	for name, kind := range map[string]ptrace.SpanKind{"server": ptrace.SpanKindServer, "client": ptrace.SpanKindClient} {
		b.Run(name, func(b *testing.B) {
			const spans = 1000
			td := ptrace.NewTraces()
			rs := td.ResourceSpans().AppendEmpty()
			rs.Resource().Attributes().PutStr("service.name", "orders")
			rs.Resource().Attributes().PutStr("host.name", "node-1")
			rs.Resource().Attributes().PutInt("process.pid", 4711)
			now := time.Now()
			ss := rs.ScopeSpans().AppendEmpty()
			for i := range spans {
				s := ss.Spans().AppendEmpty()
				s.SetSpanID(pcommon.SpanID{byte(i), byte(i >> 8), 1, 2, 3, byte(i), byte(i >> 8), 1})
				s.SetParentSpanID(pcommon.SpanID{byte(i), 7, 1, 2, 3, byte(i), byte(i >> 8), 9})
				s.SetName("GET /orders/{id}")
				s.SetKind(kind)
				s.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Millisecond)))
				s.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
				for k := range 13 {
					s.Attributes().PutStr(fmt.Sprintf("http.attribute.%d", k), "value")
				}
				s.Attributes().PutStr("server.address", "10.0.0.1")
				s.Attributes().PutInt("server.port", 8080)
			}
			d := New(topology.New(topology.Limits{Entities: 1000, OperationsPerService: 100}),
				ring.NewDetails(ring.New(1024), 100), Options{UserAttributes: []string{"user.id"}}, noVisits, time.Now)
			var out Batch
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				d.Traces(td, &out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*spans), "ns/span")
		})
	}
}
