package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

func TestOOMKillIsTheRoot(t *testing.T) {
	s := newScenario(t)
	s.healthy(10 * time.Second)
	require.Empty(t, s.findings)
	s.oom(payment)
	died := s.clock
	s.wait(20 * time.Millisecond)
	s.exit(payment, killed)
	s.wait(time.Millisecond)
	s.send(broken("lost", 7, eof))
	for n := range 20 {
		s.wait(100 * time.Millisecond)
		s.connectFailed(storefront, payment)
		s.wait(time.Millisecond)
		s.send(broken("user-"+string(rune('a'+n%5)), 1.5, refused))
	}
	s.wait(5 * time.Second)

	f := s.one()
	assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
	assert.Equal(t, event.OOMKill, f.RootCause.Event)
	assert.Equal(t, "payment", f.RootCause.Entity.Name)
	assert.Equal(t, died, f.StartedAt)
	assert.EqualValues(t, 21, f.Impact.FailedRequests)
	require.NotNil(t, f.Impact.Users)
	assert.EqualValues(t, 6, *f.Impact.Users)
	require.NotNil(t, f.Impact.Value)
	assert.InDelta(t, 37, *f.Impact.Value, 1e-9)
	assertCausal(t, f)
}

// assertCausal checks that links are in order of time and follow their parents.
func assertCausal(t *testing.T, f *finding.Finding) {
	t.Helper()
	seen := map[string]time.Time{}
	for i, l := range f.Chain {
		if i == 0 {
			assert.Empty(t, l.Parent)
		} else {
			at, ok := seen[l.Parent]
			assert.True(t, ok, "link %q comes before its parent %q", l.Key, l.Parent)
			assert.False(t, l.Time.Before(at), "link %q happened before its parent", l.Key)
			if l.Layer != finding.LayerBusiness { // the sum of it all comes last
				assert.False(t, l.Time.Before(f.Chain[i-1].Time), "link %q is out of order", l.Key)
			}
			assert.NotEmpty(t, l.LinkedBy)
			assert.NotEmpty(t, l.LinkedOn)
		}
		seen[l.Key] = l.Time
	}
}
