package systemdreceiver

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/journal"
)

// unitEntry is what systemd wrote at a time about db.service.
func unitEntry(at time.Time, fields ...string) *entry {
	e := newEntry(append(fields, "_PID=1", "_UID=0", "_COMM=systemd", "_SYSTEMD_UNIT=init.scope", "UNIT=db.service", "_MACHINE_ID=aa")...)
	e.Realtime = uint64(at.UnixMicro())
	r := readEntry(e)
	return &r
}

func failedEntry(at time.Time, run string) *entry {
	return unitEntry(at, "MESSAGE_ID="+messageUnitFailed, "UNIT_RESULT=exit-code", "INVOCATION_ID="+run)
}

func isDatabase(unit string) bool { return unit == "db.service" }

// What a snapshot cannot tell, as it was over by then, the journal tells; what was
// told before, or is told by the snapshot, it does not.
func TestFailuresWhileNobodyWatched(t *testing.T) {
	began := time.Now()
	before, since := began.Add(-time.Minute), began.Add(time.Second)
	s := newSight(isDatabase, began)
	s.remembered([]string{"remembered"}, before)
	s.began(began, []string{"remembered", "found"})
	for name, c := range map[string]struct {
		entry *entry
		bus   bool
	}{
		"repaired before the session": {failedEntry(before, "repaired"), false},
		"the snapshot found it":       {failedEntry(before, "found"), true},
		"told before the restart":     {failedEntry(before, "remembered"), true},
		"in the session":              {failedEntry(since, "new"), true},
		"restarts are counted":        {unitEntry(before, "MESSAGE_ID="+messageUnitRestart, "N_RESTARTS=4"), true},
		"a job that timed out before": {unitEntry(before, "MESSAGE_ID="+messageUnitStartFailed, "JOB_RESULT=timeout"), false},
		"a job that times out":        {unitEntry(since, "MESSAGE_ID="+messageUnitStartFailed, "JOB_RESULT=timeout"), true},
		"the shutdown that was told":  {unitEntry(before.Add(time.Second), "MESSAGE_ID="+messageShutdown), true},
		"a shutdown that nobody told": {unitEntry(before.Add(-time.Hour), "MESSAGE_ID="+messageShutdown), false},
	} {
		assert.Equal(t, c.bus, s.tells(t.Context(), c.entry), name)
	}
	other := failedEntry(before, "other")
	other.unit = "other.service"
	assert.True(t, s.tells(t.Context(), other), "the configuration leaves it out")
}

// What happened in a session is told by the bus, whatever the wall clock was set to; of an
// entry of another boot nothing else is known.
func TestClockThatIsSet(t *testing.T) {
	clock, ok := sinceBoot()
	if !ok {
		t.Skip("journald's clock is Linux's")
	}
	began := time.Now()
	s := newSight(isDatabase, began)
	s.boot = journal.ID{7}
	s.began(began, nil)
	failed := func(boot journal.ID, sinceBegan time.Duration, wall time.Time) *entry {
		e := failedEntry(wall, "new")
		e.Boot, e.Monotonic = boot, uint64((clock+sinceBegan)/time.Microsecond)
		return e
	}
	for name, c := range map[string]struct {
		entry *entry
		bus   bool
	}{
		"set back":                   {failed(s.boot, time.Millisecond, began.Add(-time.Hour)), true},
		"set forward before":         {failed(s.boot, -time.Second, began.Add(time.Hour)), false},
		"before, and not set":        {failed(s.boot, -time.Second, began.Add(-time.Second)), false},
		"another boot, before":       {failed(journal.ID{8}, time.Millisecond, began.Add(-time.Hour)), false},
		"no clock of the boot":       {failed(s.boot, -clock, began.Add(time.Second)), true},
		"a clock that cannot be yet": {failed(s.boot, time.Hour, began.Add(-time.Hour)), false},
	} {
		time.Sleep(time.Until(began.Add(2 * time.Millisecond))) // until the first has happened
		assert.Equal(t, c.bus, s.tells(t.Context(), c.entry), name)
	}
	late := failed(s.boot, time.Millisecond, began.Add(time.Second))
	late.Fields = append(late.Fields, journal.Field{Name: "_SOURCE_REALTIME_TIMESTAMP", Value: strconv.FormatInt(began.Add(-time.Second).UnixMicro(), 10)})
	assert.False(t, s.tells(t.Context(), late), "it was sent before the session, and came late")
}

// A bus that is away for a moment is waited for, however long nothing happened before.
func TestBusThatReturns(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	s := newSight(isDatabase, began)
	s.patience = time.Minute
	s.began(began, nil)
	lost := time.Now()
	s.ended(lost)
	told := make(chan [2]bool)
	go func() {
		told <- [2]bool{
			s.tells(t.Context(), failedEntry(lost.Add(time.Millisecond), "stays")),
			s.tells(t.Context(), failedEntry(lost.Add(time.Millisecond), "repaired")),
		}
	}()
	s.began(lost.Add(time.Second), []string{"stays"})
	assert.Equal(t, [2]bool{true, false}, <-told)
	assert.True(t, s.tells(t.Context(), failedEntry(began.Add(time.Minute), "old")), "it was told in the session before")
}

// A bus that stays away is not waited for after its time, and not by one who stops.
func TestBusThatStaysAway(t *testing.T) {
	lost := time.Now().Add(-time.Hour)
	s := newSight(isDatabase, lost)
	assert.False(t, s.tells(t.Context(), failedEntry(time.Now(), "a")))
	assert.False(t, s.tells(t.Context(), unitEntry(time.Now(), "MESSAGE_ID="+messageUnitRestart, "N_RESTARTS=4")))
	s.patience = 10 * time.Hour
	stopped, stop := context.WithCancel(t.Context())
	stop()
	assert.False(t, s.tells(stopped, failedEntry(time.Now(), "a")))
}

func TestSessionsAreBounded(t *testing.T) {
	at := time.Now()
	s := newSight(isDatabase, at)
	for range 2 * maxSessions {
		s.began(at, nil)
		s.ended(at.Add(time.Second))
	}
	assert.Len(t, s.sessions, maxSessions)
	s.ended(at.Add(time.Hour))
	assert.Equal(t, at.Add(time.Second), s.away, "it was away already")
	s.began(at, make([]string, 3*maxUnits))
	assert.LessOrEqual(t, len(s.runs), 2*maxUnits)
}
