package decode

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// A database's span without a port has called the default one of its system; any other's
// has called nobody knows whom.
func TestPortThatIsLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		attrs map[string]any
		want  string
	}{
		"default":      {map[string]any{event.KeyServerAddress: "10.0.0.7", "db.system.name": "postgresql"}, "10.0.0.7:5432"},
		"older name":   {map[string]any{event.KeyServerAddress: "10.0.0.7", "db.system": "redis"}, "10.0.0.7:6379"},
		"another port": {map[string]any{event.KeyServerAddress: "10.0.0.7", event.KeyServerPort: 7000, "db.system.name": "redis"}, "10.0.0.7:7000"},
		"dialled":      {map[string]any{event.KeyServerAddress: "db", event.KeyPeerAddress: "10.0.0.7", event.KeyPeerPort: 5432, "db.system.name": "postgresql"}, "10.0.0.7:5432"},
		"no database":  {map[string]any{event.KeyServerAddress: "10.0.0.7"}, ""},
		"unknown":      {map[string]any{event.KeyServerAddress: "10.0.0.7", "db.system.name": "other_sql"}, ""},
		"no address":   {map[string]any{"db.system.name": "redis"}, ""},
		"no text":      {map[string]any{event.KeyServerAddress: "10.0.0.7", "db.system.name": 7}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, td := newRig(), ptrace.NewTraces()
			rs := td.ResourceSpans().AppendEmpty()
			rs.Resource().Attributes().PutStr(event.KeyServiceName, "shop")
			s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			s.SetTraceID(pcommon.TraceID{1})
			s.SetKind(ptrace.SpanKindClient)
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(noon))
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(noon))
			require.NoError(t, s.Attributes().FromRaw(c.attrs))
			events, _ := r.decodeTraces(td)
			require.Len(t, events, 1)
			if c.want == "" {
				assert.Equal(t, record.KindSpan, events[0].Kind)
				return
			}
			assert.Equal(t, record.KindReached, events[0].Kind)
			peer, _ := r.graph.Entity(events[0].Subject)
			assert.Equal(t, c.want, peer.Name)
		})
	}
}
