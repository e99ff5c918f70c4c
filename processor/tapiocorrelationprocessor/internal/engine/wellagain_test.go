package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// TestCallsSucceedAgain: that nothing listens is over when calls succeed again; what is
// refused later is an incident of its own.
func TestCallsSucceedAgain(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.refusals(10, "u")
	s.wait(3 * time.Second)
	require.Equal(t, finding.StateOpen, s.one().State)

	over := s.clock
	s.healthy(14 * time.Second)
	first := s.one()
	require.Equal(t, "connection-refused", first.Pattern)
	require.Equal(t, finding.StateMended, first.State)
	assert.WithinDuration(t, over, *first.MendedAt, time.Second)
	assert.Contains(t, first.RootCause.Description, "; over since ")
	assert.Contains(t, first.Actions.Immediate[0], "Nothing to do at once")
	assertComplete(t, first)

	again := s.clock
	s.refusals(10, "u")
	s.wait(3 * time.Second)
	all := s.latest()
	require.Len(t, all, 2)
	assert.Equal(t, finding.StateMended, all[0].State)
	assert.EqualValues(t, 10, all[0].Impact.FailedRequests)
	assert.Equal(t, finding.StateOpen, all[1].State)
	assert.EqualValues(t, 10, all[1].Impact.FailedRequests)
	assert.WithinDuration(t, again, all[1].StartedAt, time.Second)

	s.healthy(75 * time.Second)
	all = s.latest()
	require.Len(t, all, 2)
	for _, f := range all {
		require.Equal(t, finding.StateResolved, f.State)
		assert.Equal(t, *f.MendedAt, *f.ResolvedAt)
		assert.Regexp(t, `^Calls succeed again since \S+ UTC, and none was refused: .*127\.0\.0\.1:8081.* \(in [1-9]\d seconds since\)\.$`, f.Ending)
	}
}

// TestOneOutage: what is not shown to be over goes on.
func TestOneOutage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		failed int64
		play   func(*scenario)
	}{
		"it comes and goes": {20, func(s *scenario) {
			s.refusals(10, "u")
			s.healthy(8 * time.Second)
			s.refusals(10, "u")
			s.healthy(8 * time.Second)
		}},
		"nobody calls": {10, func(s *scenario) {
			s.refusals(10, "u")
			s.wait(time.Minute)
		}},
		"few calls": {10, func(s *scenario) {
			s.refusals(10, "u")
			for range 4 {
				s.healthy(100 * time.Millisecond)
				s.wait(4 * time.Second)
			}
		}},
		"others are called": {10, func(s *scenario) {
			s.refusals(10, "u")
			for range 200 {
				s.send(order{"u", 1, &call{from: load, to: storefront, took: 5 * time.Millisecond, status: 200}})
				s.wait(100 * time.Millisecond)
			}
		}},
		"one call in forty": {30, func(s *scenario) {
			for range 30 {
				s.refusals(1, "u")
				s.healthy(4 * time.Second)
			}
			s.healthy(12 * time.Second)
		}},
		"refusals are told of late": {15, func(s *scenario) {
			s.refusals(10, "u")
			s.healthy(14 * time.Second)
			require.Equal(s.t, finding.StateMended, s.one().State)
			now := s.clock
			s.clock = now.Add(-7 * time.Second)
			for range 5 {
				s.send(broken("u", 10, refused))
			}
			s.clock = now
			s.wait(3 * time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			tc.play(s)
			f := s.one()
			assert.Equal(t, finding.StateOpen, f.State)
			assert.Nil(t, f.MendedAt)
			s.wait(40 * time.Second) // by which numbers may be late
			assert.Equal(t, tc.failed, s.one().Impact.FailedRequests)
		})
	}
}

// TestDialledAgain: calls that succeed tell the address that was dialled, refused ones the
// name alone. Who answers there says that it is over.
func TestDialledAgain(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	calls := func(n int, err string) {
		attrs := map[string]any{event.KeyServerAddress: "payment", event.KeyServerPort: 80}
		if err == "" {
			attrs[event.KeyPeerAddress], attrs[event.KeyPeerPort] = "10.0.0.7", 80
		}
		for range n {
			s.serial++
			trace := time.Duration(s.serial).String()
			if err == "" {
				s.spanOf(pay, trace, "s", "c", spanServer, time.Millisecond, "", nil)
			}
			s.spanOf(front, trace, "c", "r", spanClient, 2*time.Millisecond, err, attrs)
			s.spanOf(front, trace, "r", "", spanServer, 3*time.Millisecond, err, nil)
			s.wait(100 * time.Millisecond)
		}
	}
	calls(50, "")
	calls(10, "connect: connection refused")
	s.wait(3 * time.Second)
	require.Equal(t, finding.StateOpen, s.one().State)
	calls(140, "")
	assert.Equal(t, finding.StateMended, s.one().State)
}

// TestWellAgainOverARestart: what was over before the collector started again is over.
func TestWellAgainOverARestart(t *testing.T) {
	s := kept(t)
	s.healthy(5 * time.Second)
	s.refusals(10, "u")
	s.healthy(14 * time.Second)
	before := s.one()
	require.Equal(t, finding.StateMended, before.State)
	resumed, _ := s.restart(5 * time.Second)
	require.Equal(t, 1, resumed)
	s.refusals(10, "v")
	s.wait(3 * time.Second)
	all := s.latest()
	require.Len(t, all, 2)
	assert.Equal(t, finding.StateMended, all[0].State)
	assert.Equal(t, before.MendedAt, all[0].MendedAt)
	s.healthy(75 * time.Second)
	for _, f := range s.latest() {
		assert.Equal(t, finding.StateResolved, f.State)
	}
}

// TestWellSinceARestart: calls that succeed from then on say that it is over, too.
func TestWellSinceARestart(t *testing.T) {
	s := kept(t)
	s.healthy(5 * time.Second)
	s.refusals(10, "u")
	s.wait(3 * time.Second)
	resumed, _ := s.restart(time.Minute)
	require.Equal(t, 1, resumed)
	again := s.clock
	s.healthy(14 * time.Second)
	f := s.one()
	require.Equal(t, finding.StateMended, f.State)
	assert.WithinDuration(t, again, *f.MendedAt, time.Second)
}
