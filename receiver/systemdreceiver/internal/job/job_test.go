package job

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)

func after(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

// settle ends a burst and relates its units.
func settle(t *testing.T, tracker *Tracker, now time.Time, relations map[string]Relations) {
	t.Helper()
	require.NotNil(t, tracker.Burst(now))
	tracker.Settle(relations, func(unit string) bool { return !strings.HasSuffix(unit, ".slice") })
	assert.False(t, tracker.IsWaiting())
}

func TestTransaction(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(100)
	// As systemd says it: last queued, first told.
	tracker.New(12, "c.service", Moves{}, after(0))
	tracker.New(11, "b.service", Moves{}, after(1))
	tracker.New(10, "a.service", Moves{}, after(2))
	tracker.New(20, "other.service", Moves{}, after(3))
	tracker.Typed(10, "start")
	tracker.State(10, "running", after(5))
	assert.Nil(t, tracker.Burst(after(10)), "more may come")
	require.NotNil(t, tracker.Removed(12, "done", Moves{}, after(20)))
	assert.Empty(t, tracker.Done(), "it is not known yet to what it belongs")
	settle(t, tracker, after(60), map[string]Relations{
		"a.service": {Starts: []string{"b.service"}, After: []string{"b.service", "c.service", "gone.service"}},
		"b.service": {Starts: []string{"c.service", "a.service"}, After: []string{"other.service"}},
	})
	done := tracker.Done()
	require.Len(t, done, 1)
	assert.Equal(t, "c.service", done[0].Unit)
	assert.Equal(t, uint32(10), done[0].Anchor)
	assert.Equal(t, uint32(11), done[0].Parent)

	tracker.Removed(20, "canceled", Moves{}, after(70))
	tracker.Removed(11, "failed", Moves{}, after(80))
	tracker.Removed(10, "dependency", Moves{}, after(80))
	done = tracker.Done()
	require.Len(t, done, 3)
	other, a, b := done[0], done[1], done[2]
	assert.Equal(t, uint32(20), other.Anchor)
	assert.Zero(t, other.Parent)
	assert.False(t, other.IsFailed())
	assert.Equal(t, []uint32{11, 12}, a.After)
	assert.Equal(t, after(5), a.Running)
	assert.Zero(t, a.Parent)
	assert.True(t, a.IsFailed())
	assert.Empty(t, b.After, "other.service is of another request")
	assert.True(t, tracker.HasFailed("b.service", after(90)))
	assert.False(t, tracker.HasFailed("b.service", after(80).Add(2*failuresFor)))
	assert.False(t, tracker.HasFailed("other.service", after(90)))
	assert.Zero(t, tracker.Len())
}

// burst settles jobs that were queued together, in the order of their numbers.
func burst(t *testing.T, relations map[string]Relations, jobs ...[2]string) []*Job {
	t.Helper()
	tracker := NewTracker(100)
	for i, j := range jobs {
		tracker.New(uint32(i+1), j[1], Moves{}, after(i))
		tracker.Typed(uint32(i+1), j[0])
	}
	settle(t, tracker, after(100), relations)
	for i := range jobs {
		tracker.Removed(uint32(i+1), "done", Moves{}, after(200+i))
	}
	return tracker.Done()
}

// One request stops a unit and what is bound to it and a part of it. Nobody but these
// say so: the unit is not loaded any more when systemd is asked, and they are loaded anew.
func TestStopOfWhatOthersNeed(t *testing.T) {
	t.Parallel()
	relations := map[string]Relations{"good": {}, "part": {}, "bound": {Starts: []string{"good"}, After: []string{"good"}}}
	Mirror(relations, map[string]Named{"part": {StoppedBy: []string{"good"}}, "bound": {StoppedBy: []string{"good", "gone"}}})
	done := burst(t, relations, [2]string{"stop", "good"}, [2]string{"stop", "part"}, [2]string{"stop", "bound"})
	for _, j := range done {
		assert.Equal(t, uint32(1), j.Anchor, j.Unit)
	}
	assert.Equal(t, uint32(1), done[1].Parent)
	assert.Equal(t, uint32(1), done[2].Parent)
	assert.Equal(t, []uint32{3}, done[0].After, "the stop of who comes after is first")
	assert.Empty(t, done[2].After)

	done = burst(t, relations, [2]string{"restart", "good"}, [2]string{"restart", "bound"})
	assert.Equal(t, uint32(1), done[1].Parent)
	assert.Equal(t, []uint32{1}, done[1].After)
	done = burst(t, relations, [2]string{"", "good"}, [2]string{"", "bound"})
	assert.Empty(t, append(done[0].After, done[1].After...), "of what they did nothing is known")
}

// A start stops what conflicts with it; the start of that, shortly before, was asked for
// by somebody else.
func TestConflict(t *testing.T) {
	t.Parallel()
	relations := map[string]Relations{"a": {}, "b": {Conflicts: []string{"a"}}}
	Mirror(relations, map[string]Named{"b": {Conflicts: []string{"a"}}})
	done := burst(t, relations, [2]string{"start", "a"}, [2]string{"start", "b"}, [2]string{"stop", "a"})
	assert.Equal(t, []uint32{1, 2, 2}, []uint32{done[0].Anchor, done[1].Anchor, done[2].Anchor})
	assert.Equal(t, []uint32{0, 0, 2}, []uint32{done[0].Parent, done[1].Parent, done[2].Parent})
}

// A job of a unit that has no span is nobody's parent, and nobody links to it.
func TestUnitWithoutSpans(t *testing.T) {
	t.Parallel()
	relations := map[string]Relations{
		"a":       {Starts: []string{"b.slice"}, After: []string{"b.slice"}},
		"b.slice": {Starts: []string{"c", "d.slice"}},
		"d.slice": {Starts: []string{"e"}},
	}
	done := burst(t, relations, [2]string{"start", "a"}, [2]string{"start", "b.slice"}, [2]string{"start", "c"}, [2]string{"start", "d.slice"}, [2]string{"start", "e"})
	assert.Empty(t, done[0].After)
	assert.Equal(t, uint32(1), done[2].Parent)
	assert.Equal(t, uint32(1), done[4].Parent)
	done = burst(t, relations, [2]string{"start", "b.slice"}, [2]string{"start", "c"})
	assert.Zero(t, done[1].Parent)
	assert.Equal(t, uint32(1), done[1].Anchor)
}

func TestBurstEndsAlsoWhenJobsKeepComing(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(100)
	for i := range 60 {
		tracker.New(uint32(i), "a.service", Moves{}, after(20*i))
	}
	assert.NotNil(t, tracker.Burst(after(20*59)))
}

func TestRestartOfTheCollector(t *testing.T) {
	t.Parallel()
	before := NewTracker(100)
	before.New(1, "stays.service", Moves{}, after(0))
	before.New(2, "ends.service", Moves{}, after(0))
	before.Typed(1, "start")
	settle(t, before, after(60), map[string]Relations{"stays.service": {Starts: []string{"ends.service"}}})
	data, err := json.Marshal(before.Open())
	require.NoError(t, err)

	var open []Job
	require.NoError(t, json.Unmarshal(data, &open))
	tracker := NewTracker(100)
	for _, j := range open {
		tracker.Restore(j)
	}
	tracker.Found(1, "stays.service", "start", true, true, after(5000))
	tracker.Found(3, "new.service", "stop", false, false, after(5000))
	missing := tracker.Missing([]uint32{1, 3}, after(5000))
	require.Len(t, missing, 1)
	assert.Equal(t, "ends.service", missing[0].Unit)
	done := tracker.Done()
	require.Len(t, done, 1)
	assert.Equal(t, uint32(1), done[0].Anchor)
	assert.Equal(t, uint32(1), done[0].Parent)
	assert.Empty(t, done[0].Result)
	assert.True(t, done[0].Snapshot)

	tracker.Removed(1, "done", Moves{}, after(6000))
	done = tracker.Done()
	require.Len(t, done, 1)
	assert.Equal(t, after(0), done[0].Queued)
	assert.False(t, done[0].Snapshot)
	assert.False(t, done[0].InBoot, "it was asked for")
	settle(t, tracker, after(6000), nil)
	tracker.Removed(3, "done", Moves{}, after(6000))
	done = tracker.Done()
	require.Len(t, done, 1)
	assert.True(t, done[0].Snapshot)
	assert.Nil(t, tracker.Removed(3, "done", Moves{}, after(7000)), "told twice by systemd")
}

func TestTypeOfAJobThatWasTooShort(t *testing.T) {
	t.Parallel()
	base := Moves{InactiveExit: after(1), ActiveEnter: after(2), ActiveExit: after(3), InactiveEnter: after(4), StateChange: after(4)}
	change := func(f func(*Moves)) Moves {
		m := base
		f(&m)
		return m
	}
	for name, tt := range map[string]struct {
		asked  string
		after  Moves
		result string
		want   string
	}{
		"nothing moved":   {"", base, "done", ""},
		"start":           {"", change(func(m *Moves) { m.InactiveExit, m.ActiveEnter = after(10), after(11) }), "done", "start"},
		"oneshot":         {"", change(func(m *Moves) { m.InactiveExit, m.InactiveEnter = after(10), after(11) }), "done", "start"},
		"stop":            {"", change(func(m *Moves) { m.ActiveExit, m.InactiveEnter = after(10), after(11) }), "done", "stop"},
		"restart":         {"", change(func(m *Moves) { m.ActiveExit, m.InactiveEnter, m.InactiveExit = after(10), after(11), after(12) }), "done", "restart"},
		"second half":     {"start", change(func(m *Moves) { m.ActiveExit, m.InactiveEnter, m.InactiveExit = after(10), after(11), after(12) }), "done", "restart"},
		"reload":          {"", change(func(m *Moves) { m.StateChange = after(10) }), "done", "reload"},
		"condition unmet": {"", change(func(m *Moves) { m.Tested = after(10) }), "done", "start"},
		"start limit":     {"", change(func(m *Moves) { m.InactiveEnter, m.StateChange = after(10), after(10) }), "failed", "start"},
		"dependency":      {"", base, "dependency", "start"},
		"asked":           {"verify-active", base, "done", "verify-active"},
	} {
		tracker := NewTracker(1)
		tracker.New(1, "a.service", base, after(5))
		tracker.Typed(1, tt.asked)
		j := tracker.Removed(1, tt.result, tt.after, after(20))
		assert.Equal(t, tt.want, j.Type, name)
		assert.Equal(t, tt.after, j.Moved, name)
	}
}

// A unit that runs on after a job that failed was to be reloaded; one that did not run
// was to be started.
func TestTypeOfAJobThatFailed(t *testing.T) {
	t.Parallel()
	for want, before := range map[string]Moves{
		"reload": {InactiveExit: after(1), ActiveEnter: after(2), StateChange: after(2)},
		"start":  {InactiveExit: after(1), ActiveEnter: after(2), ActiveExit: after(3), InactiveEnter: after(4), StateChange: after(4)},
	} {
		tracker := NewTracker(1)
		tracker.New(1, "a.service", before, after(5))
		moved := before
		moved.StateChange = after(10)
		assert.Equal(t, want, tracker.Removed(1, "failed", moved, after(20)).Type)
	}
}

func TestTrackerIsBounded(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(2)
	for i := range 5 {
		tracker.New(uint32(i), "a.service", Moves{}, after(i))
	}
	assert.Equal(t, 2, tracker.Len())
	assert.Equal(t, int64(3), tracker.Untracked())
	for i := range 2 * maxFailures {
		tracker = NewTracker(1)
		tracker.failed = make([]failure, maxFailures)
		tracker.New(uint32(i), "a.service", Moves{}, after(i))
		tracker.Removed(uint32(i), "failed", Moves{}, after(i))
		require.Len(t, tracker.failed, maxFailures)
	}
}

// A job of the boot is one of it also after a restart of the collector.
func TestJobOfTheBoot(t *testing.T) {
	t.Parallel()
	before := NewTracker(100)
	before.Found(1, "a.service", "start", false, true, after(0))
	data, err := json.Marshal(before.Open())
	require.NoError(t, err)
	var open []Job
	require.NoError(t, json.Unmarshal(data, &open))
	tracker := NewTracker(100)
	for _, j := range open {
		tracker.Restore(j)
	}
	tracker.Removed(1, "done", Moves{}, after(1))
	done := tracker.Done()
	require.Len(t, done, 1)
	assert.True(t, done[0].InBoot)
}
