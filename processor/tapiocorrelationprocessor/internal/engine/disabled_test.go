package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// TestEndOfAUnitsProcessAlone: where no pattern names the failure of a unit, the end of its
// process is named.
func TestEndOfAUnitsProcessAlone(t *testing.T) {
	for without, want := range map[string]string{"": "unit-failed", "unit-failed": "process-crashed"} {
		t.Run("without "+without, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t, func(o *Options) {
				o.Patterns = slices.DeleteFunc(slices.Clone(o.Patterns), func(p *pattern.Pattern) bool { return p.ID == without })
			})
			s.runs(201, 0)
			s.calls(30*time.Second, false)
			s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 3}, s.process(201))
			s.about(event.SystemdUnitFailed, map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 3, event.KeyProcessPID: 201}, map[string]any{event.KeySystemdUnit: api})
			s.calls(10*time.Second, true)
			s.wait(3 * time.Second)
			all := s.latest()
			require.Len(t, all, 1)
			assert.Equal(t, want, all[0].Pattern)
			assert.EqualValues(t, 20, all[0].Impact.FailedRequests)
		})
	}
}
