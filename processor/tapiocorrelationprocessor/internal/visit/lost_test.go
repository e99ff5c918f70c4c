package visit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// TestLostSpansAreNoLostCalls: the spans of a service do not arrive, and the calls to it
// end well.
func TestLostSpansAreNoLostCalls(t *testing.T) {
	r := warmed(Options{})
	r.run(40*time.Second, func(_ int, q *request) { q.mutes = true })
	for _, s := range r.suspect {
		assert.Less(t, s.Score, Alarm, "%+v", s)
	}
	r.run(2*time.Minute, nil)
	require.Empty(t, r.suspect)

	// Calls that fail there are another matter.
	r.run(40*time.Second, func(_ int, q *request) { q.mutes, q.failed = true, true })
	require.NotEmpty(t, r.suspect)
	assert.GreaterOrEqual(t, r.suspect[0].Score, Alarm)
}

// TestCallsOfManyKinds: where the spans of one name are calls of whomever, nothing is
// known of one that has nothing at its other end.
func TestCallsOfManyKinds(t *testing.T) {
	a := New(Options{})
	call := Span{Operation: opMiddleCall, Kind: record.SpanClient}
	for range 10 {
		a.answer(&call, opBack)
	}
	require.True(t, a.answered(&call, 0))
	a.answer(&call, opFront)
	assert.False(t, a.answered(&call, 0))

	// Nor where it is so half of the time.
	b := New(Options{})
	b.answer(&call, opBack)
	for range 10 {
		b.answer(&call, opBack)
		b.answered(&call, 0)
	}
	assert.False(t, b.answered(&call, 0))
}
