package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// TestDependencyHasItsOwnPast: a unit to which the failure of another one comes had failed
// before for reasons of its own, and does so again after: neither is the other one's.
func TestDependencyHasItsOwnPast(t *testing.T) {
	const store = "store.service"
	s := newScenario(t)
	of := map[string]any{event.KeySystemdUnit: api}
	s.runs(201, 0)
	s.calls(30*time.Second, false)

	// api loops until systemd gives it up, and is repaired.
	s.about("tapio.systemd.unit.failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 78}, of)
	for n := range 4 {
		s.about("tapio.systemd.unit.restarting", map[string]any{"tapio.systemd.unit.restarts": n + 1}, of)
		s.calls(time.Second, true)
	}
	s.about("tapio.systemd.unit.start_limit_hit", map[string]any{"tapio.systemd.unit.restarts": 4, event.KeyErrorType: "start-limit-hit"}, of)
	s.calls(10*time.Second, true)
	s.runs(202, 0)
	s.calls(2*time.Minute, false)

	// store fails, and takes api with it.
	storeFailed := s.clock
	s.unit(store, service{}, "failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 32})
	s.about("tapio.systemd.unit.dependency_failed", map[string]any{"tapio.systemd.dependencies": []any{store}}, of)
	s.calls(10*time.Second, true)
	s.unit(store, service{}, "activated", nil)
	s.runs(203, 0)
	s.calls(25*time.Second, false)

	// api hangs, and its watchdog bites.
	timeout := s.clock
	s.calls(5*time.Second, true)
	s.about("tapio.systemd.unit.failed", map[string]any{event.KeyErrorType: "timeout"}, of)
	s.calls(10*time.Second, true)
	s.wait(3 * time.Second)

	all := s.latest()
	require.Len(t, all, 3)
	assert.Equal(t, "unit-start-limit", all[0].Pattern)
	assert.Equal(t, "unit-failed", all[1].Pattern)
	assert.Contains(t, all[1].RootCause.Entity.Name, store)
	assert.WithinDuration(t, storeFailed, all[1].StartedAt, time.Second)
	assert.EqualValues(t, 20, all[1].Impact.FailedRequests)
	assert.Equal(t, "unit-failed", all[2].Pattern)
	assert.Contains(t, all[2].RootCause.Entity.Name, api)
	assert.WithinDuration(t, timeout, all[2].StartedAt, 6*time.Second)
	assert.EqualValues(t, 30, all[2].Impact.FailedRequests)
}
