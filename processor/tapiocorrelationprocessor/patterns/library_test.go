package patterns

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/replay"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// played are the patterns whose cause is told by spans, metrics or processes with
// telemetry around it; tests of the engine play them.
var played = []string{
	"memory-limit-oom-kill", "node-out-of-memory", "process-killed", "process-crashed", "process-stopped",
	"connection-refused", "callee-failing", "callee-slow",
	"call-delayed", "calls-multiplied", "limit-predicted", "operation-failing", "operation-slow", "resource-abnormal",
	"step-appeared", "step-slow", "step-vanished", "callee-unanswered",
	"unit-failed", "unit-stopped", "unit-dependency-failed", "unit-out-of-space", "node-rebooted", "node-restarted",
	"name-unresolved",
}

func defaults() (*tapiocorrelationprocessor.Config, error) { return replay.LoadConfig("") }

// TestLibrary plays the two scenarios of every pattern.
func TestLibrary(t *testing.T) {
	all, err := pattern.Library()
	require.NoError(t, err)
	known := map[string]bool{}
	for _, p := range all {
		known[p.ID] = true
	}
	for _, id := range played {
		known[id] = false
	}
	files := os.DirFS("../internal/pattern")
	folders, err := os.ReadDir("../internal/pattern/testdata")
	require.NoError(t, err)
	for _, f := range folders {
		assert.Contains(t, known, f.Name(), "scenarios of a pattern that is not there")
	}
	for id, here := range known {
		if !here {
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			for _, r := range Test(t.Context(), files, []string{id}, defaults) {
				assert.NoError(t, r.Err, r.Scenario)
			}
		})
	}
}
