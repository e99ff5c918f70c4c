package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// TestTroubleBeforeTheCause: what went wrong at a unit that served others well after that is
// no effect of its end later; what went wrong at one that served nobody since is.
func TestTroubleBeforeTheCause(t *testing.T) {
	for name, tc := range map[string]struct {
		between func(*scenario)
		failed  int
	}{
		"it served others since": {func(s *scenario) { s.calls(20*time.Second, false) }, 20},
		"it served nobody since": {func(s *scenario) { s.wait(20 * time.Second) }, 21},
		"it served some since": {func(s *scenario) {
			for range 10 {
				s.calls(time.Second, false)
				s.calls(time.Second, true)
			}
		}, 41},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.runs(201, 0)
			s.calls(30*time.Second, false)
			s.calls(500*time.Millisecond, true)
			s.wait(2 * time.Second)
			tc.between(s)
			broken := s.clock
			s.about("tapio.systemd.unit.failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 3}, map[string]any{event.KeySystemdUnit: api})
			s.calls(10*time.Second, true)
			s.wait(3 * time.Second)
			all := s.latest()
			require.Len(t, all, 1)
			assert.Equal(t, "unit-failed", all[0].Pattern)
			assert.EqualValues(t, tc.failed, all[0].Impact.FailedRequests)
			if tc.failed == 20 {
				assert.WithinDuration(t, broken, all[0].StartedAt, time.Second)
			}
		})
	}
}
