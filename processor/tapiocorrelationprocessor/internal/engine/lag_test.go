package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestLag: what waits to be judged is told, and where that takes long it is said.
func TestLag(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	var s *scenario
	step := time.Duration(0)
	s = newScenario(t, func(o *Options) {
		o.Logger = zap.New(core)
		o.Now = func() time.Time {
			s.clock = s.clock.Add(step)
			return s.clock
		}
	})
	assert.Zero(t, s.engine.Lag())
	s.engine.Drain()
	s.unit("a.service", service{}, "failed", failed3)
	s.clock = s.clock.Add(3 * time.Second)
	assert.Equal(t, 3*time.Second, s.engine.Lag(), "the unit waits")
	s.engine.Drain()
	assert.Zero(t, s.engine.Lag())
	assert.Empty(t, logs.All())

	step = 3 * time.Second // as if each question for the time were long work
	for range 20 {
		s.unit("a.service", service{}, "failed", failed3)
	}
	s.engine.Drain()
	all := logs.FilterMessageSnippet("More arrives than can be judged").All()
	require.Len(t, all, 1)
	assert.Contains(t, all[0].ContextMap(), "waiting")
	assert.Equal(t, 1, logs.FilterMessageSnippet("What had arrived is judged").Len())
}
