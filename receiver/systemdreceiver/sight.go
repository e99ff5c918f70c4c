package systemdreceiver

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/yairfalse/tapio/internal/journal"
)

const (
	// busPatience is for how long the journal waits for a bus that is away, before
	// what it says of units counts as an event.
	busPatience = 10 * time.Second
	// maxSessions is of how many sessions with the bus it is known when they were.
	maxSessions = 64
	// sameShutdown is how far apart the bus and the journal tell of one shutdown.
	sameShutdown = time.Minute
	// maxDelay is how long an entry may be on its way to journald. Where its two times
	// are further apart, the clock was set between them.
	maxDelay = time.Minute
)

// sight is what the bus tells and has told of units, for the journal: it decides
// which of the two tells a fact. It is safe for concurrent use.
type sight struct {
	isWatched func(unit string) bool
	patience  time.Duration
	// boot is the id of the kernel's boot, zero when it is not known.
	boot journal.ID

	mu sync.Mutex
	// sessions are when the bus told what happened, oldest first.
	sessions []session
	// away is since when it does not, zero while it does.
	away time.Time
	// runs are those whose failure was remembered, or found by the last snapshot.
	runs map[string]struct{}
	// shutdown is when the bus last told that the machine goes down.
	shutdown time.Time
	// returned is closed as soon as the bus tells of units again.
	returned chan struct{}
}

// session is a time in which the bus told all that happened to units; to is zero
// while it lasts.
type session struct{ from, to time.Time }

// newSight returns the sight of one who sees nothing yet; now is the time.
func newSight(isWatched func(string) bool, now time.Time) *sight {
	return &sight{isWatched: isWatched, patience: busPatience, away: now, runs: map[string]struct{}{}, returned: make(chan struct{})}
}

// began says that all units were read at from, and that the bus tells what has
// happened since. failed are the runs whose failure is known.
func (s *sight) began(from time.Time, failed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(failed)
	if s.away.IsZero() {
		return
	}
	if len(s.sessions) == maxSessions {
		s.sessions = slices.Delete(s.sessions, 0, 1)
	}
	s.sessions = append(s.sessions, session{from: from})
	s.away = time.Time{}
	close(s.returned)
}

// remembered takes what was known before the collector restarted.
func (s *sight) remembered(failed []string, shutdown time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(failed)
	s.shutdown = shutdown
}

func (s *sight) remember(failed []string) {
	if len(s.runs)+len(failed) > 2*maxUnits {
		clear(s.runs)
	}
	for _, run := range failed {
		s.runs[run] = struct{}{}
	}
}

// ended says that the bus tells nothing since at.
func (s *sight) ended(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.away.IsZero() {
		return
	}
	s.away, s.returned = at, make(chan struct{})
	s.sessions[len(s.sessions)-1].to = at
}

// goesDown says that the bus has told a shutdown.
func (s *sight) goesDown(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutdown = at
}

// tells says that the bus tells what an entry of this machine says of a unit, or
// has told it. While the bus is away it waits for the snapshot that follows, as
// long as its patience or ctx lasts.
func (s *sight) tells(ctx context.Context, e *entry) bool {
	at := s.when(e)
	if e.messageID == messageShutdown {
		s.await(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.covers(at) || at.Sub(s.shutdown).Abs() < sameShutdown
	}
	if !s.isWatched(e.unit) {
		return true // left out by the configuration
	}
	if s.covered(at) {
		return true
	}
	s.await(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.messageID {
	case messageUnitRestart: // a snapshot tells how many there were
		return s.away.IsZero()
	case messageUnitFailed:
		_, known := s.runs[e.Get("INVOCATION_ID")]
		return known
	}
	return false
}

// when is the time of an entry: of this boot by the clock that nobody sets, which the times
// of sessions have, too.
func (s *sight) when(e *entry) time.Time {
	at := timestampOf(e.Entry).AsTime()
	clock, ok := sinceBoot()
	if !ok || s.boot.IsZero() || e.Boot != s.boot || e.Monotonic == 0 || e.Monotonic > uint64(clock/time.Microsecond) {
		return at
	}
	age := clock - time.Duration(e.Monotonic)*time.Microsecond
	if delay := time.UnixMicro(int64(e.Realtime)).Sub(at); delay <= maxDelay {
		age += delay
	}
	return time.Now().Add(-age)
}

func (s *sight) covered(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.covers(at)
}

// covers tells whether at is in a session.
func (s *sight) covers(at time.Time) bool {
	return slices.ContainsFunc(s.sessions, func(one session) bool {
		return !at.Before(one.from) && (one.to.IsZero() || at.Before(one.to))
	})
}

// await waits for a bus that has not been away for long.
func (s *sight) await(ctx context.Context) {
	s.mu.Lock()
	away, returned, left := !s.away.IsZero(), s.returned, s.patience-time.Since(s.away)
	s.mu.Unlock()
	if !away || left <= 0 {
		return
	}
	patience := time.NewTimer(left)
	defer patience.Stop()
	select {
	case <-returned:
	case <-patience.C:
	case <-ctx.Done():
	}
}
