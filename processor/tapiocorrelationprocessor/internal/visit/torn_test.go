package visit

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func TestTorn(t *testing.T) {
	a := New(Options{})
	assert.Zero(t, a.Torn(), "nothing is known")
	a.torn.add([]Span{
		{ID: record.SpanID{1}, Kind: record.SpanServer, Parent: record.SpanID{9}}, // of a caller without telemetry
		{ID: record.SpanID{2}, Kind: record.SpanClient, Parent: record.SpanID{1}},
		{ID: record.SpanID{3}, Kind: record.SpanInternal, Parent: record.SpanID{8}}, // its parent was lost
		{ID: record.SpanID{4}, Kind: record.SpanInternal},                           // a root
	}, []int32{-1, 0, -1, -1})
	assert.InDelta(t, 0.5, a.Torn(), 1e-9)
	for range tornMemory {
		a.torn.add([]Span{{ID: record.SpanID{2}, Parent: record.SpanID{1}}}, []int32{0})
	}
	assert.Less(t, a.Torn(), 1e-3)
	assert.LessOrEqual(t, a.torn.spans, float64(tornMemory))
}
