package visit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// TestVanishedWhereSpansGetLost: a statement that is missing in a visit of fourteen is
// one that some visits do without, unless as much gets lost on the way.
func TestVanishedWhereSpansGetLost(t *testing.T) {
	for name, lossy := range map[string]bool{"lossy": true, "whole": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(Options{})
			r.run(5*time.Minute, func(i int, q *request) {
				q.orphan = lossy && i%8 == 3
				if i%14 == 0 {
					q.mute = map[uint32]bool{logDone + 30: true}
				}
			})
			r.run(40*time.Second, func(i int, q *request) {
				q.orphan = lossy && i%8 == 3
				q.mute = map[uint32]bool{logDone + 30: true}
			})
			if !lossy {
				assert.Zero(t, r.Torn())
				assert.Empty(t, r.suspect)
				return
			}
			assert.InDelta(t, 1.0/24, r.Torn(), 0.005)
			require.NotEmpty(t, r.suspect)
			assert.Equal(t, back, r.suspect[0].Service)
			assert.Equal(t, Vanished, r.suspect[0].Signals[0].Kind)
			assert.Equal(t, logDone+30, r.suspect[0].Signals[0].Template)
		})
	}
}
