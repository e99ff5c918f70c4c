package visit

import "github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"

// tornMemory halves the spans that are counted for Torn when there are so many: those of
// the last some hundred traces.
const tornMemory = 20_000

// torn counts spans whose parent must be there and is not.
type torn struct{ spans, orphans float64 }

// add counts the spans of a trace, as they were linked. The parent of a span that
// nobody else's request began is of the same service, which exports both: where it is
// missing, spans get lost. Whoever sent a request may have no telemetry at all.
func (t *torn) add(spans []Span, parents []int32) {
	for i := range spans {
		s := &spans[i]
		if s.Parent == (record.SpanID{}) || s.Kind == record.SpanServer {
			continue
		}
		t.spans++
		if parents[i] < 0 {
			t.orphans++
		}
	}
	if t.spans > tornMemory {
		t.spans, t.orphans = t.spans/2, t.orphans/2
	}
}

// Torn returns the share of spans that get lost on the way here, as far as the holes in
// traces show it, in [0, 1].
func (a *Analyzer) Torn() float64 { return share(a.torn.orphans, a.torn.spans) }
