package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// growth hands over what the kernel's receiver says of payment's memory.
func (s *scenario) growth(used, left float64) {
	s.kernel(payment, event.MemoryGrowth, s.clock, map[string]any{
		event.KeyMemoryRSS: 300 << 20, event.KeyMemoryGrowth: 60 << 20, event.KeyMemorySlope: 209715.2, event.KeyInterval: 300.0,
		event.KeyMemoryLimit: 400 << 20, event.KeyMemoryUsage: int(used * (400 << 20)), "tapio.memory.used_share": used,
		event.KeyMemoryTimeToLimit: left, event.KeyMemoryCgroup: "/shop/payment",
	})
}

// TestGrowthIsAWarning: told before the kernel kills; the kill makes an incident of it.
func TestGrowthIsAWarning(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	full := s.clock.Add(450 * time.Second)
	s.growth(0.78, 450)
	s.healthy(5 * time.Second)
	f := s.one()
	assert.Equal(t, "memory-leak", f.Pattern)
	assert.Equal(t, finding.StatePredicted, f.State)
	assert.Contains(t, f.Title, "payment runs out of memory at about "+full.UTC().Format("15:04 MST"))
	assertComplete(t, f)

	s.healthy(5 * time.Minute) // longer than an incident goes on without an effect
	full = s.clock.Add(100 * time.Second)
	s.growth(0.95, 100)
	s.healthy(5 * time.Second)
	require.Equal(t, finding.StatePredicted, s.one().State)
	assert.Contains(t, s.one().Title, "at about "+full.UTC().Format("15:04 MST"))

	s.oom(payment)
	s.wait(10 * time.Millisecond)
	s.exit(payment, killed)
	s.refusals(10, "u")
	s.wait(5 * time.Second)
	g := s.one()
	assert.Equal(t, f.ID, g.ID, "the same finding")
	assert.Equal(t, finding.StateOpen, g.State)
	assert.Equal(t, "payment grew until it was out of memory", g.Title)
	assert.EqualValues(t, 10, g.Impact.FailedRequests)
	assertCausal(t, g)
	assertComplete(t, g)
}

// TestGrowthThatEnds: the warning is taken back when the process grows no more.
func TestGrowthThatEnds(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.growth(0.78, 450)
	s.healthy(5 * time.Second)
	require.Equal(t, finding.StatePredicted, s.one().State)
	s.healthy(13 * time.Minute)
	f := s.one()
	assert.Equal(t, finding.StateWithdrawn, f.State)
	assert.NotNil(t, f.ResolvedAt)
}

// TestGrowthThatIsNoWarning: far from the limit, or with all the time of the world.
func TestGrowthThatIsNoWarning(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.growth(0.5, 450)
	s.growth(0.9, 3000)
	s.healthy(time.Minute)
	assert.Empty(t, titles(s.latest()))
}
