package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// TestUnitHasSpaceAgain: a unit that failed for want of space is well once it runs again,
// and what it fails with later is told for itself.
func TestUnitHasSpaceAgain(t *testing.T) {
	fails := func(s *scenario, pid int64, code int) {
		s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: code}, s.process(pid))
		s.about(event.SystemdUnitFailed, map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: code, event.KeyProcessPID: pid}, map[string]any{event.KeySystemdUnit: api})
	}
	s := newScenario(t)
	s.runs(201, 0)
	s.calls(30*time.Second, false)
	s.about(event.SyscallFailed, map[string]any{event.KeyErrorType: "ENOSPC", event.KeySyscall: "write"}, s.process(201))
	s.wait(10 * time.Millisecond)
	fails(s, 201, 4)
	s.calls(10*time.Second, true)
	s.runs(202, 0)
	s.calls(40*time.Second, false)
	all := s.latest()
	require.Len(t, all, 1)
	assert.Equal(t, "unit-out-of-space", all[0].Pattern)
	assert.NotEqual(t, finding.StateOpen, all[0].State)

	fails(s, 202, 1)
	s.calls(10*time.Second, true)
	s.wait(3 * time.Second)
	all = s.latest()
	require.Len(t, all, 2)
	for _, f := range all {
		assert.EqualValues(t, 20, f.Impact.FailedRequests, f.Pattern)
	}
	assert.Equal(t, "unit-failed", all[1].Pattern)
}
