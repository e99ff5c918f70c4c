package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
)

// TestSlowRequestsAreCounted: whoever waited for a service whose visits are slow was hurt,
// whether its query is a span of its own, a call of an address that sends no spans, or one
// of two that are slow at once; and what was as fast as ever was not.
func TestSlowRequestsAreCounted(t *testing.T) {
	const n = 80
	direct := func(change func(*stay)) func(int) stay {
		return func(int) stay {
			v := usual()
			v.remote, v.direct, v.calls = true, true, 0
			if change != nil {
				change(&v)
			}
			return v
		}
	}
	query := func(v *stay) { v.query = 300 * time.Millisecond }
	answer := func(v *stay) { v.answer = 500 * time.Millisecond }
	for name, tc := range map[string]struct {
		now  func(*stay)
		slow map[string]int // requests by whom is named
	}{
		"a query of an address": {query, map[string]int{"payment": n}},
		"another service":       {answer, map[string]int{"ledger": n}},
		"both at once":          {func(v *stay) { query(v); answer(v) }, map[string]int{"payment": n, "ledger": n}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.stays(4*time.Minute, direct(nil))
			s.stays(n/2*time.Second, direct(tc.now))
			s.wait(15 * time.Second)
			found := map[string]int{}
			for _, f := range s.latest() {
				require.Equal(t, finding.StateOpen, f.State, f.Summary)
				found[f.RootCause.Entity.Name] = int(f.Impact.SlowRequests)
				assert.Zero(t, f.Impact.FailedRequests, f.Summary)
				assertCausal(t, f)
			}
			assert.Equal(t, tc.slow, found, titles(s.latest()))
		})
	}
}

// TestSlowBesideFailures: a service that is slow in another branch of requests that fail
// has a finding of its own, and one that fails because it calls the slow one has not.
func TestSlowBesideFailures(t *testing.T) {
	s := newScenario(t)
	now := func(fails bool, slow time.Duration) func(int) stay {
		return func(int) stay {
			v := usual()
			v.remote, v.direct, v.calls, v.gives, v.denies, v.answer = true, true, 0, fails, fails, slow
			return v
		}
	}
	s.stays(4*time.Minute, now(false, 0))
	s.stays(time.Minute, now(true, 500*time.Millisecond))
	s.wait(15 * time.Second)
	found := map[string]finding.Impact{}
	for _, f := range s.latest() {
		found[f.Pattern+" "+f.RootCause.Entity.Name] = f.Impact
	}
	require.Len(t, found, 2, titles(s.latest()))
	slow, ok := found["operation-slow ledger"]
	require.True(t, ok, titles(s.latest()))
	assert.EqualValues(t, 120, slow.SlowRequests)
	assert.Zero(t, slow.FailedRequests, "it made them slower; why they failed, the other finding says")
}
