package unit

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)

// service plays one service for a tracker, with the signals that systemd 252
// sends: recorded from a real one.
type service struct {
	t *testing.T
	*Tracker
	name string
	now  time.Time
	run  int
	n    uint64
	told []string
	all  []Event
}

func newService(t *testing.T, tracker *Tracker) *service {
	t.Helper()
	return &service{t: t, Tracker: tracker, name: "a.service", now: epoch}
}

func newTracker() *Tracker { return NewTracker(10*time.Minute, 100) }

func (s *service) hear(events []Event) {
	for _, e := range events {
		s.told = append(s.told, kindName(&e))
		s.all = append(s.all, e)
	}
}

// kindName names an event in short.
func kindName(e *Event) string {
	name := map[Kind]string{
		Failed: "failed", OOMKilled: "oom", Watchdog: "watchdog", StartLimitHit: "limit", Restarting: "restarting",
		Activated: "activated", Deactivated: "deactivated", Reloaded: "reloaded", ReloadFailed: "reload failed", Skipped: "skipped",
	}[e.Kind]
	if e.Kind == Restarting {
		name = fmt.Sprint(name, " ", e.Count)
	}
	if e.Snapshot {
		name += " (snapshot)"
	}
	return name
}

// later lets time pass, and with it what was held back.
func (s *service) later(d time.Duration) {
	s.now = s.now.Add(d)
	s.hear(s.Tick(s.now))
}

func (s *service) invocation() []byte { return []byte{byte(s.run)} }

func us(t time.Time) uint64 { return uint64(t.UnixMicro()) }

// properties are those of the service in a state that it entered now.
func (s *service) properties(active, sub, result string) map[string]any {
	p := map[string]any{
		"ActiveState": active, "SubState": sub, "Result": result, "NRestarts": s.n, "InvocationID": s.invocation(),
		"StateChangeTimestamp": us(s.now),
	}
	switch {
	case active == "active":
		p["ActiveEnterTimestamp"] = us(s.now)
	case active == "failed" || sub == "auto-restart":
		p["ExecMainCode"], p["ExecMainStatus"] = int32(CodeExited), int32(3)
	}
	return p
}

// is tells the tracker that the service has come into a state.
func (s *service) is(active, sub, result string) {
	s.now = s.now.Add(time.Millisecond)
	s.hear(s.Changed(s.name, s.properties(active, sub, result), s.now))
}

// found is what a snapshot reads.
func (s *service) found(active, sub, result string) {
	p := s.properties(active, sub, result)
	s.Snapshot(s.now)
	if s.Listed(s.name, active, sub, Time(p["StateChangeTimestamp"].(uint64)), s.now) {
		s.hear(s.Found(s.name, p, s.now))
	}
}

func (s *service) starts() {
	s.run++
	s.is("active", "running", "success")
}

func (s *service) failsAndWaits() {
	s.is("failed", "failed", "exit-code")
	s.is("activating", "auto-restart", "exit-code")
}

// restarts is what systemd does when the time to wait is over.
func (s *service) restarts() {
	s.n++
	s.later(300 * time.Millisecond)
	s.is("activating", "auto-restart", "exit-code")
	s.starts()
}

func (s *service) heard(want ...string) {
	s.t.Helper()
	assert.Equal(s.t, want, s.told)
	s.told = nil
}

func TestFailure(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		"exit-code": "failed", "signal": "failed", "timeout": "failed", "core-dump": "failed", "resources": "failed",
		"oom-kill": "oom", "watchdog": "watchdog", "start-limit-hit": "limit",
	} {
		s := newService(t, newTracker())
		s.starts()
		s.is("deactivating", "stop-sigterm", result)
		s.is("failed", "failed", result)
		s.hear(s.Changed(s.name, s.properties("failed", "failed", result), s.now)) // systemd says everything twice
		s.later(time.Hour)
		s.heard("activated", want)
	}
}

// The result of a reload comes with the state after it.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	for _, result := range []string{"success", "exit-code", "success"} {
		s.is("reloading", "reload", "success")
		s.Changed(s.name, map[string]any{"ReloadResult": result}, s.now)
		s.is("active", "running", "success")
	}
	s.heard("activated", "reloaded", "reload failed", "reloaded")
}

func TestLoopIsOneEventWithACount(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	for range 20 {
		s.failsAndWaits()
		s.restarts()
	}
	s.heard("activated", "failed", "restarting 1", "restarting 2", "restarting 4", "restarting 8", "restarting 16")
	s.later(stable)
	s.heard("activated")
}

func TestLoopEndsInTheStartLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.failsAndWaits()
	s.restarts()
	s.failsAndWaits()
	s.n++
	s.is("activating", "auto-restart", "exit-code")
	s.is("inactive", "dead", "exit-code")
	s.is("failed", "failed", "exit-code")
	s.later(time.Hour)
	s.heard("activated", "failed", "restarting 1", "restarting 2", "limit")
	// Somebody tries again, too soon: the state does not change, only its time.
	s.is("failed", "failed", "exit-code")
	s.later(time.Hour)
	s.heard()
	// And later with success.
	s.n = 0
	s.starts()
	s.heard("activated")
}

func TestManualStartsHitTheLimit(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.is("failed", "failed", "exit-code")
	s.is("failed", "failed", "exit-code")
	s.heard("activated", "failed", "limit")
}

func TestLastFailureOfALoopIsTold(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.failsAndWaits()
	s.restarts()
	s.is("failed", "failed", "exit-code") // and RestartPreventExitStatus
	s.heard("activated", "failed", "restarting 1")
	s.later(settle)
	s.heard("failed")
}

func TestAnotherFailureInALoopIsTold(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.failsAndWaits()
	s.restarts()
	s.is("failed", "failed", "oom-kill")
	s.is("activating", "auto-restart", "oom-kill")
	s.heard("activated", "failed", "restarting 1", "oom")
}

func TestLoopsFarApartAreTwo(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	for range 2 {
		s.failsAndWaits()
		s.restarts()
		s.later(time.Hour)
	}
	s.heard("activated", "failed", "restarting 1", "activated", "failed", "restarting 1", "activated")
	assert.NotEqual(t, s.all[2].Since, s.all[5].Since)
}

func TestServiceThatEndsWellAndIsRestarted(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.is("inactive", "dead", "success")
	s.is("activating", "auto-restart", "success")
	s.n++
	s.is("activating", "auto-restart", "success")
	s.starts()
	s.later(time.Hour)
	s.heard("activated", "restarting 1")
}

func TestStopAndRestart(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.is("deactivating", "stop-sigterm", "success")
	s.is("inactive", "dead", "success")
	s.starts() // at once
	s.heard("activated", "deactivated", "activated")
	s.is("reloading", "reload", "success")
	s.is("active", "running", "success")
	s.heard("reloaded")
	s.is("inactive", "dead", "success")
	s.hear(s.Gone(s.name, s.now, false))
	s.heard("deactivated")
	assert.Zero(t, s.Len())
}

func TestOneshot(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.run++
	s.is("activating", "start", "success")
	s.is("inactive", "dead", "success")
	s.later(settle)
	s.heard("deactivated")
}

func TestSkipped(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	p := s.properties("inactive", "dead", "success")
	p["ConditionResult"], p["ConditionTimestamp"] = false, us(s.now)
	s.hear(s.Changed(s.name, p, s.now))
	s.hear(s.Changed(s.name, p, s.now))
	s.heard("skipped")
	assert.False(t, s.all[0].IsAssert)
	s.now = s.now.Add(time.Second)
	p["ConditionResult"], p["ConditionTimestamp"] = true, us(s.now)
	p["AssertResult"], p["AssertTimestamp"] = false, us(s.now)
	p["Asserts"] = [][]any{{"AssertPathExists", false, true, "/x", int32(-1)}}
	s.hear(s.Changed(s.name, p, s.now))
	s.heard("skipped")
	assert.True(t, s.all[1].IsAssert)
	assert.Equal(t, "AssertPathExists=!/x", s.all[1].Unmet.String())
}

// A service that its own ExecCondition keeps from starting never was active.
func TestSkippedByCommand(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	row := func(path string, ended time.Time, status int32) []any {
		return []any{path, []string{path}, false, us(s.now), uint64(0), us(ended), uint64(0), uint32(7), int32(CodeExited), status}
	}
	for n := range 2 {
		s.run++
		s.is("activating", "condition", "success")
		p := s.properties("inactive", "dead", "exec-condition")
		p["ExecCondition"] = [][]any{row("/bin/true", s.now, 0), row("/bin/false", s.now, 1), row("/bin/test", time.Time{}, 0)}
		s.hear(s.Changed(s.name, p, s.now))
		s.later(settle)
		s.heard("skipped")
		assert.Equal(t, "ExecCondition=/bin/false", s.all[n].Unmet.String())
		s.now = s.now.Add(time.Second)
	}
	// One that ran before and is not let again was told to be inactive then.
	s.is("activating", "start", "success")
	s.is("active", "running", "success")
	s.is("inactive", "dead", "success")
	s.later(settle)
	s.heard("activated", "deactivated")
	s.is("activating", "condition", "success")
	s.is("inactive", "dead", "exec-condition")
	s.later(settle)
	s.heard("skipped")
}

func TestSnapshotOfTheFirstStart(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		active, sub, result string
		restarts            uint64
		lasted              time.Duration
		want                []string
	}{
		"runs":             {"active", "running", "success", 0, 0, nil},
		"inactive":         {"inactive", "dead", "success", 0, 0, nil},
		"failed":           {"failed", "failed", "signal", 0, time.Second, []string{"failed (snapshot)"}},
		"given up":         {"failed", "failed", "signal", 5, time.Second, []string{"limit (snapshot)"}},
		"after a long run": {"failed", "failed", "signal", 7, 99 * time.Hour, []string{"failed (snapshot)"}},
		"without a run":    {"failed", "failed", "signal", 7, 0, []string{"failed (snapshot)"}},
		"in a loop":        {"activating", "auto-restart", "signal", 3, time.Second, []string{"failed (snapshot)", "restarting 3 (snapshot)"}},
		"was in one":       {"active", "running", "success", 3, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, newTracker())
			s.n = tt.restarts
			p := s.properties(tt.active, tt.sub, tt.result)
			p["StartLimitBurst"], p["StartLimitIntervalUSec"] = uint32(5), uint64(10_000_000)
			if tt.lasted > 0 {
				p["ExecMainStartTimestamp"], p["ExecMainExitTimestamp"] = us(s.now.Add(-tt.lasted)), us(s.now)
			}
			s.Snapshot(s.now)
			if s.Listed(s.name, tt.active, tt.sub, s.now, s.now) {
				s.hear(s.Found(s.name, p, s.now))
			}
			s.heard(tt.want...)
			s.found(tt.active, tt.sub, tt.result)
			s.later(time.Hour)
			s.heard()
		})
	}
}

// Restarts from before the collector's first start are no loop that begins now.
func TestRestartsFromBefore(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.run, s.n = 7, 6
	s.found("active", "running", "success")
	s.restarted() // it has not been read since, either
	s.found("active", "running", "success")
	s.is("reloading", "reload", "success")
	s.is("active", "running", "success")
	s.heard("reloaded")
	s.failsAndWaits()
	s.restarts()
	s.heard("failed", "restarting 1")

	// Nor are those that a later snapshot is the first to read.
	s = newService(t, newTracker())
	s.n = 6
	s.found("active", "running", "success")
	s.run++
	s.now = s.now.Add(time.Minute)
	s.found("active", "running", "success")
	s.heard("activated (snapshot)")
	s.failsAndWaits()
	s.restarts()
	s.heard("failed", "restarting 1")
}

// A start of a failed unit while the collector starts.
func TestSnapshotOfAStart(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.found("failed", "failed", "success")
	s.heard()
	s.is("active", "running", "success")
	s.is("failed", "failed", "signal")
	s.heard("activated", "failed")
}

// A unit that has failed is started, and fails again, while the bus is away.
func TestFailedAgainWhileNobodyWatched(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.is("failed", "failed", "signal")
	s.heard("activated", "failed")
	s.restarted()
	s.run++
	s.now = s.now.Add(time.Minute)
	s.found("failed", "failed", "signal")
	s.heard("failed (snapshot)")
	failed := s.properties("failed", "failed", "success")
	s.run++
	failed["InvocationID"] = s.invocation()
	s.Snapshot(s.now)
	assert.False(t, s.Listed(s.name, "failed", "failed", s.now, s.now))
	s.hear(s.Changed(s.name, failed, s.now.Add(time.Second)))
	s.is("active", "running", "success")
	s.is("failed", "failed", "signal")
	s.heard("activated", "failed")
}

// restarted is a service that goes on with a new collector, which remembers.
func (s *service) restarted() {
	s.t.Helper()
	next := newTracker()
	for _, name := range s.Names() {
		m, ok := s.Memory(name)
		require.True(s.t, ok)
		data, err := json.Marshal(m)
		require.NoError(s.t, err)
		var restored Memory
		require.NoError(s.t, json.Unmarshal(data, &restored))
		next.Restore(name, restored)
	}
	s.Tracker = next
}

func TestRestartOfTheCollector(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.failsAndWaits()
	s.restarts()
	s.heard("activated", "failed", "restarting 1")
	runs := s.now
	s.restarted()
	s.now = runs
	s.found("active", "running", "success")
	s.heard()
	s.later(stable)
	s.heard("activated (snapshot)") // it was held back when the collector ended

	// Twice restarted while nobody watched: the loop goes on.
	s.now = s.now.Add(time.Minute)
	s.restarted()
	s.n, s.run = 3, 4
	s.found("active", "running", "success")
	s.heard("restarting 3 (snapshot)")
	s.later(stable)
	s.heard("activated (snapshot)")

	// Failed while nobody watched.
	s.restarted()
	s.now = s.now.Add(time.Hour)
	s.run++
	s.found("failed", "failed", "exit-code")
	s.heard("failed (snapshot)")
	s.restarted()
	s.found("failed", "failed", "exit-code")
	s.heard()
	s.is("failed", "failed", "exit-code")
	s.heard("limit") // somebody tried to start it
}

func TestStoppedWhileNobodyWatched(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.heard("activated")
	s.restarted()
	s.Snapshot(s.now)
	s.hear(s.Gone(s.name, s.now, true))
	s.heard("deactivated (snapshot)")

	s.starts()
	s.now = s.now.Add(time.Second)
	s.restarted()
	s.found("inactive", "dead", "success")
	s.heard("activated", "deactivated (snapshot)")

	s.run++
	s.now = s.now.Add(time.Second)
	s.restarted()
	s.found("active", "running", "success")
	s.heard("activated (snapshot)")
	s.run++
	s.now = s.now.Add(time.Second)
	s.restarted()
	s.found("active", "running", "success")
	s.heard("activated (snapshot)")
}

func TestSignalsFromBeforeTheSnapshot(t *testing.T) {
	t.Parallel()
	s := newService(t, newTracker())
	s.starts()
	s.heard("activated")
	old := s.now
	s.now = s.now.Add(time.Second)
	s.run++
	s.found("failed", "failed", "signal")
	s.heard("failed (snapshot)")
	s.now = old
	s.is("inactive", "dead", "success")
	s.hear(s.Gone(s.name, s.now, false))
	s.heard()
	assert.Equal(t, 1, s.Len())
}

func TestTrackerIsBounded(t *testing.T) {
	t.Parallel()
	tracker := NewTracker(time.Minute, 2)
	for i := range 5 {
		tracker.Changed(fmt.Sprint(i), map[string]any{"ActiveState": "inactive"}, epoch)
	}
	assert.Equal(t, 2, tracker.Len())
	assert.Equal(t, int64(3), tracker.Untracked())
}

// FuzzTracker: whatever states come in whatever order, nothing breaks, no run
// fails twice, and what is held back comes out in the end.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{0, 9, 18, 27, 36, 200, 3, 77})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := newService(t, newTracker())
		states := [][2]string{
			{"active", "running"},
			{"failed", "failed"},
			{"activating", "auto-restart"},
			{"inactive", "dead"},
			{"activating", "start"},
			{"deactivating", "stop"},
			{"reloading", "reload"},
		}
		results := []string{"success", "exit-code", "oom-kill", ""}
		for _, b := range script {
			state, result := states[int(b)%len(states)], results[int(b)/8%len(results)]
			switch {
			case b%5 == 0:
				s.run++
			case b%7 == 0:
				s.n++
			case b%11 == 0:
				s.restarted()
				s.found(state[0], state[1], result)
			case b%13 == 0:
				s.later(time.Duration(b) * time.Second)
			}
			s.is(state[0], state[1], result)
		}
		s.later(time.Hour)
		assert.False(t, s.IsWaiting())
		failed := map[string]int{}
		for _, e := range s.all {
			if e.Kind == Failed || e.Kind == OOMKilled {
				failed[e.Unit.InvocationID]++
				assert.LessOrEqual(t, failed[e.Unit.InvocationID], 1)
			}
		}
	})
}

func TestApplyPassesOverWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	u := New("a")
	before := *u
	u.Apply(map[string]any{
		"ActiveState": 7, "NRestarts": "x", "InvocationID": "x", "StateChangeTimestamp": true, "ConditionResult": 1,
		"Conditions": "x", "StartLimitIntervalUSec": uint64(None), "Nonsense": 1,
	})
	assert.Equal(t, before, *u)
	u.Apply(map[string]any{"NRestarts": uint32(7), "MainPID": int32(-1), "StateChangeTimestamp": uint64(None)})
	assert.Equal(t, uint64(7), u.NRestarts)
	assert.Equal(t, int64(-1), u.MainPID)
	assert.True(t, u.StateChange.IsZero())
	assert.Equal(t, Condition{}, Unmet(conditions([][]any{{"x"}, {"A", false, false, "1", int32(1)}, {"B", false, false, "2", int32(0)}})))
}
