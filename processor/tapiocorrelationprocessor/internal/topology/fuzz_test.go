package topology

import (
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// FuzzReadResource resolves whatever resources an OTLP message holds, twice: each
// is somebody, and the same one again.
func FuzzReadResource(f *testing.F) {
	td := ptrace.NewTraces()
	a := td.ResourceSpans().AppendEmpty().Resource().Attributes()
	a.PutStr("service.name", "payment")
	a.PutStr("host.name", "node1")
	a.PutInt("process.pid", 42)
	a.PutStr("process.creation.time", "2026-11-23T12:00:00.5Z")
	a.PutStr("container.id", "c")
	a.PutStr("k8s.pod.uid", "u")
	a.PutStr("k8s.pod.name", "p")
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
		if err != nil {
			return
		}
		g := newGraph()
		for _, rs := range td.ResourceSpans().All() {
			r := ReadResource(rs.Resource().Attributes())
			ref := g.Resolve(&r, base)
			e, ok := g.Entity(ref.Subject)
			if !ok || e.Key == "" || !utf8.ValidString(e.Name) {
				t.Fatalf("%+v resolved to %+v", r, e)
			}
			if again := g.Resolve(&r, base); again != ref {
				t.Fatalf("%+v is %+v, then %+v", r, ref, again)
			}
		}
	})
}
