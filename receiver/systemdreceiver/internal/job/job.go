// Package job follows systemd's jobs from queue to end and finds out which of
// them belong together. It does no I/O.
package job

import (
	"slices"
	"time"
)

// Job is a start, stop, restart or reload of a unit.
type Job struct {
	ID   uint32 `json:"id"`
	Unit string `json:"unit"`
	// Type is start, stop, restart, reload, ...; "" when the job ended before
	// systemd could be asked.
	Type string `json:"type,omitempty"`
	// Queued, Running and Ended are when this was seen; Running is zero for a job
	// that never ran, or so briefly that systemd did not say so.
	Queued  time.Time `json:"queued"`
	Running time.Time `json:"running,omitzero"`
	Ended   time.Time `json:"-"`
	// Result is how it ended: done, failed, timeout, canceled, dependency, ...; ""
	// when it ended while nobody was watching.
	Result string `json:"-"`
	// Snapshot: the job was there already when it was first seen.
	Snapshot bool `json:"snapshot,omitempty"`
	// InBoot: it is one of the boot's own, which were queued before anybody watched.
	InBoot bool `json:"in_boot,omitempty"`
	// Anchor is the job that somebody asked for, of which this one is a part; its
	// own id when it is that job.
	Anchor uint32 `json:"anchor"`
	// Parent is the job whose unit pulled this one in, or the next one before that
	// has a span, 0 for an anchor or where none has.
	Parent uint32 `json:"parent,omitempty"`
	// After are the jobs that this one had to wait for, at most maxAfter.
	After []uint32 `json:"after,omitempty"`

	// Moved is how its unit had moved when it ended, Reason why it failed.
	Moved  Moves  `json:"-"`
	Reason string `json:"-"`

	isSettled bool
	// before is when the unit last moved before the job ran.
	before Moves
}

// Moves is when a unit last left and reached a state, zero for never.
type Moves struct {
	InactiveExit, ActiveEnter, ActiveExit, InactiveEnter, StateChange time.Time
	// Tested is when its conditions or assertions were.
	Tested time.Time
}

// IsFailed tells whether the job did not do what it was queued for. A job that
// was canceled or found nothing to do has not failed.
func (j *Job) IsFailed() bool {
	switch j.Result {
	case "failed", "timeout", "dependency", "assert", "invalid", "unsupported":
		return true
	}
	return false
}

// IsStill tells whether a unit whose state changed last at change has not moved since the
// job was queued.
func (j *Job) IsStill(change time.Time) bool { return change.Equal(j.before.StateChange) }

// Relations are the other units that a unit names, by their effect on jobs.
type Relations struct {
	// Starts are started with this unit: what it requires and wants.
	Starts []string
	// Conflicts are stopped when this unit is started.
	Conflicts []string
	// Stops are stopped and restarted with this unit: what requires it, is bound to it
	// or is part of it.
	Stops []string
	// Reloads are reloaded with this unit.
	Reloads []string
	// After are units for which this one waits when it is started, and which wait for
	// this one when it is stopped.
	After []string
}

// Mirror adds to each unit what others say of their relation to it. What a unit names
// itself is in its file; what others name is forgotten with those others.
func Mirror(all map[string]Relations, namedBy map[string]Named) {
	for name, named := range namedBy {
		add := func(others []string, field func(*Relations) *[]string) {
			for _, other := range others {
				r, ok := all[other]
				if !ok {
					continue
				}
				if list := field(&r); !slices.Contains(*list, name) {
					*list = append(*list, name)
				}
				all[other] = r
			}
		}
		add(named.StoppedBy, func(r *Relations) *[]string { return &r.Stops })
		add(named.Conflicts, func(r *Relations) *[]string { return &r.Conflicts })
		add(named.ReloadedBy, func(r *Relations) *[]string { return &r.Reloads })
		add(named.Before, func(r *Relations) *[]string { return &r.After })
	}
}

// Named are the units that a unit names itself, by what that means for them.
type Named struct{ StoppedBy, Conflicts, ReloadedBy, Before []string }

// rule says that a job of one of the types by queues one of the types to for each of
// the units.
type rule struct {
	by, to, units []string
}

// rules are what systemd does (transaction_add_job_and_dependencies in its source).
func (r *Relations) rules() []rule {
	return []rule{
		{[]string{"start", "restart"}, []string{"start", "verify-active"}, r.Starts},
		{[]string{"start", "restart"}, []string{"stop"}, r.Conflicts},
		{[]string{"stop"}, []string{"stop"}, r.Stops},
		{[]string{"restart"}, []string{"restart", "try-restart", "start"}, r.Stops},
		{[]string{"reload"}, []string{"reload", "try-reload"}, r.Reloads},
	}
}

// pulled returns those of the jobs of a burst that a job queued. A type that is not
// known may be any.
func (r *Relations) pulled(by *Job, byUnit map[string][]*Job) []*Job {
	is := func(kind string, kinds []string) bool { return kind == "" || slices.Contains(kinds, kind) }
	var all []*Job
	for _, rule := range r.rules() {
		if !is(by.Type, rule.by) {
			continue
		}
		for _, unit := range rule.units {
			for _, j := range byUnit[unit] {
				if !j.isSettled && is(j.Type, rule.to) && !slices.Contains(all, j) {
					all = append(all, j)
				}
			}
		}
	}
	return all
}

const (
	// maxAfter bounds the links of one span.
	maxAfter = 32
	// quiet is how long no job must be queued before those that were belong to
	// one request; systemd tells all jobs of a request within a few ms.
	quiet = 50 * time.Millisecond
	// longest is how long one burst may last.
	longest = time.Second
)

// Tracker follows jobs. It is not safe for concurrent use.
type Tracker struct {
	max  int
	jobs map[uint32]*Job
	// burst are jobs of which it is not known yet to what they belong.
	burst       []*Job
	first, last time.Time
	// failed are units whose jobs failed lately, in the order of their failure.
	failed []failure
	// untracked counts jobs that were passed over because max was reached.
	untracked int64
}

type failure struct {
	unit string
	at   time.Time
}

// Failures older than this, or more than that many, are forgotten.
const (
	failuresFor = time.Minute
	maxFailures = 256
)

// NewTracker returns a tracker of at most limit jobs at a time.
func NewTracker(limit int) *Tracker { return &Tracker{max: limit, jobs: map[uint32]*Job{}} }

// Len is how many jobs are followed.
func (t *Tracker) Len() int { return len(t.jobs) }

// Untracked is how many jobs were passed over.
func (t *Tracker) Untracked() int64 { return t.untracked }

// New takes a job that was queued at now; before is how its unit has moved until
// then.
func (t *Tracker) New(id uint32, unit string, before Moves, now time.Time) {
	t.add(&Job{ID: id, Unit: unit, Queued: now, Anchor: id, before: before}, now)
}

// Found takes a job that was there already at now, inBoot while the boot was not over.
func (t *Tracker) Found(id uint32, unit, kind string, running, inBoot bool, now time.Time) {
	if j, ok := t.jobs[id]; ok {
		j.Type = kind
		if running && j.Running.IsZero() {
			j.Running = now
		}
		return
	}
	j := &Job{ID: id, Unit: unit, Type: kind, Queued: now, Snapshot: true, InBoot: inBoot, Anchor: id}
	if running {
		j.Running = now
	}
	t.add(j, now)
}

func (t *Tracker) add(j *Job, now time.Time) {
	if _, ok := t.jobs[j.ID]; ok {
		return
	}
	if len(t.jobs) >= t.max {
		t.untracked++
		return
	}
	t.jobs[j.ID] = j
	if len(t.burst) == 0 {
		t.first = now
	}
	t.last = now
	t.burst = append(t.burst, j)
}

// Restore takes a job that was followed before the collector restarted.
func (t *Tracker) Restore(j Job) {
	j.isSettled = true
	t.jobs[j.ID] = &j
}

// Typed takes the type of a job, when it is followed.
func (t *Tracker) Typed(id uint32, kind string) {
	if j, ok := t.jobs[id]; ok {
		j.Type = kind
	}
}

// State takes the state of a job, waiting or running.
func (t *Tracker) State(id uint32, state string, now time.Time) {
	if j, ok := t.jobs[id]; ok && state == "running" && j.Running.IsZero() {
		j.Running = now
	}
}

// Removed takes the end of a job; after is how its unit has moved until then. It
// returns the job, nil when it is not known.
func (t *Tracker) Removed(id uint32, result string, after Moves, now time.Time) *Job {
	j, ok := t.jobs[id]
	if !ok {
		return nil
	}
	j.Ended, j.Result, j.Moved = now, result, after
	// A restart that has come to its second half is a start by then.
	if moved := infer(j.before, after, result); !j.Snapshot && (j.Type == "" || j.Type == "start" && moved == "restart") {
		j.Type = moved
	}
	if j.IsFailed() {
		t.failed = append(t.failed, failure{j.Unit, now})
		if len(t.failed) > maxFailures {
			t.failed = t.failed[1:]
		}
	}
	return j
}

// infer tells from how a unit has moved during a job, and how that ended, what
// the job did; "" when neither tells.
func infer(before, after Moves, result string) string {
	started := !after.InactiveExit.Equal(before.InactiveExit)
	stopped := !after.ActiveExit.Equal(before.ActiveExit) || !after.InactiveEnter.Equal(before.InactiveEnter)
	switch {
	case started && stopped && after.InactiveExit.Before(after.InactiveEnter): // a oneshot
		return "start"
	case started && stopped:
		return "restart"
	case started, !after.Tested.Equal(before.Tested): // conditions are tested before a start
		return "start"
	case result == "failed" && !stopped && after.ActiveEnter.After(after.ActiveExit) && !after.StateChange.Equal(before.StateChange):
		return "reload" // it runs on
	case result == "failed" || result == "dependency" || result == "assert": // it was not let
		return "start"
	case stopped:
		return "stop"
	case !after.StateChange.Equal(before.StateChange):
		return "reload"
	}
	return ""
}

// HasFailed tells whether a job of the unit failed in the last minute.
func (t *Tracker) HasFailed(unit string, now time.Time) bool {
	for _, f := range t.failed {
		if f.unit == unit && now.Sub(f.at) <= failuresFor {
			return true
		}
	}
	return false
}

// Missing returns the jobs that are followed and not in ids: they ended while
// nobody was watching. They are taken to have ended at now, with no result.
func (t *Tracker) Missing(ids []uint32, now time.Time) []*Job {
	var missing []*Job
	for id, j := range t.jobs {
		if j.Ended.IsZero() && !slices.Contains(ids, id) {
			j.Ended, j.Snapshot = now, true
			missing = append(missing, j)
		}
	}
	return missing
}

// IsWaiting tells whether there is a burst, so that Burst must be called.
func (t *Tracker) IsWaiting() bool { return len(t.burst) > 0 }

// Burst returns the units of the jobs that were queued together once no more
// come, and nil before. Settle is to follow.
func (t *Tracker) Burst(now time.Time) []string {
	if len(t.burst) == 0 || now.Sub(t.last) < quiet && now.Sub(t.first) < longest {
		return nil
	}
	units := make([]string, len(t.burst))
	for i, j := range t.burst {
		units[i] = j.Unit
	}
	return units
}

// Settle says how the units of the last burst relate to each other, by name; a
// unit that is not in it has no relations. It gives each job of the burst its
// anchor, and as parent and as links those whose units have spans.
func (t *Tracker) Settle(relations map[string]Relations, hasSpan func(unit string) bool) {
	burst := t.burst
	t.burst = nil
	slices.SortFunc(burst, func(a, b *Job) int { return int(int64(a.ID) - int64(b.ID)) })
	byUnit := make(map[string][]*Job, len(burst))
	for _, j := range burst {
		byUnit[j.Unit] = append(byUnit[j.Unit], j)
	}
	// systemd numbers the job that was asked for before those that it pulls in,
	// so the lowest number that nothing has reached yet is the next anchor.
	for _, j := range burst {
		if !j.isSettled {
			spread(j, byUnit, relations, hasSpan)
		}
	}
	for _, j := range burst {
		for _, unit := range relations[j.Unit].After {
			for _, other := range byUnit[unit] {
				order(j, other, hasSpan)
			}
		}
	}
}

// order links two jobs, the first of a unit that comes after that of the other.
func order(j, other *Job, hasSpan func(unit string) bool) {
	if other.Anchor != j.Anchor || other == j {
		return
	}
	switch j.Type {
	case "": // nobody knows who waited
	case "stop": // what is stopped goes first, whatever becomes of what it came after
		other.waitsFor(j, hasSpan)
	default:
		j.waitsFor(other, hasSpan)
	}
}

func (j *Job) waitsFor(other *Job, hasSpan func(unit string) bool) {
	if len(j.After) < maxAfter && hasSpan(other.Unit) && !slices.Contains(j.After, other.ID) {
		j.After = append(j.After, other.ID)
	}
}

// spread walks from an anchor to what it pulls in, nearest first.
func spread(anchor *Job, byUnit map[string][]*Job, relations map[string]Relations, hasSpan func(unit string) bool) {
	anchor.Anchor, anchor.isSettled = anchor.ID, true
	for next := []*Job{anchor}; len(next) > 0; next = next[1:] {
		by := next[0]
		parent := by.ID
		if !hasSpan(by.Unit) {
			parent = by.Parent
		}
		r := relations[by.Unit]
		for _, j := range r.pulled(by, byUnit) {
			j.Anchor, j.Parent, j.isSettled = anchor.ID, parent, true
			next = append(next, j)
		}
	}
}

// Done takes out the jobs that have ended and of which it is known to what they
// belong, in the order of their end.
func (t *Tracker) Done() []*Job {
	var done []*Job
	for id, j := range t.jobs {
		if !j.Ended.IsZero() && j.isSettled {
			done = append(done, j)
			delete(t.jobs, id)
		}
	}
	slices.SortFunc(done, func(a, b *Job) int {
		if c := a.Ended.Compare(b.Ended); c != 0 {
			return c
		}
		return int(int64(a.ID) - int64(b.ID))
	})
	return done
}

// Open returns the jobs to remember: those that have not been taken out.
func (t *Tracker) Open() []Job {
	open := make([]Job, 0, len(t.jobs))
	for _, j := range t.jobs {
		open = append(open, *j)
	}
	slices.SortFunc(open, func(a, b Job) int { return int(int64(a.ID) - int64(b.ID)) })
	return open
}
