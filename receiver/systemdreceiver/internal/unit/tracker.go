package unit

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// settle is how long a state that systemd often only passes through must
	// last. A service that is to be restarted is first failed or inactive and
	// then, at once, in auto-restart.
	settle = time.Second
	// stable is how long a unit that was in a restart loop must be active before
	// it counts as active again.
	stable = 10 * time.Second
)

// Memory is what is remembered of a unit, also across restarts of the collector.
type Memory struct {
	ActiveState string    `json:"active_state"`
	SubState    string    `json:"sub_state"`
	StateChange time.Time `json:"state_change"`
	// Active says that the last thing that was told is that it is active.
	Active bool `json:"active,omitempty"`
	// FailedRun is the run whose failure was seen, LimitRun the run after whose
	// failure the start limit was told.
	FailedRun string `json:"failed_run,omitempty"`
	LimitRun  string `json:"limit_run,omitempty"`
	// Skipped is when a condition or assertion was last told to be unmet.
	Skipped   time.Time `json:"skipped,omitzero"`
	NRestarts uint64    `json:"n_restarts,omitempty"`
	// Counted says that NRestarts was read. A list of units leaves it out; then the
	// first that is read is what there was before.
	Counted bool `json:"counted,omitempty"`
	Loop    Loop `json:"loop,omitzero"`
}

// Loop is a series of automatic restarts.
type Loop struct {
	// Base is NRestarts before the loop, Told the count that was told last.
	Base uint64    `json:"base,omitempty"`
	Told uint64    `json:"told,omitempty"`
	From time.Time `json:"from,omitzero"`
	Last time.Time `json:"last,omitzero"`
	// Results are the failures that were told in this loop; each is told once.
	Results []string `json:"results,omitempty"`
}

// Tracker follows units. It is not safe for concurrent use.
type Tracker struct {
	// window is how close two restarts must be to belong to one loop.
	window time.Duration
	// max is how many units may be known.
	max   int
	units map[string]*tracked
	// waiting are those with something pending.
	waiting map[*tracked]struct{}
	// since is the latest state of any unit that was known before the snapshot
	// that is being read, zero when none was.
	since time.Time
	// listed is when the last snapshot was read; what was sent before is in it.
	listed time.Time
	// untracked counts what was not looked at because max was reached.
	untracked atomic.Int64
}

type tracked struct {
	Memory
	unit *Unit
	// found is when the unit was last read as a whole; what was sent before is
	// known already.
	found time.Time
	// told is the Memory without what pending holds back: after a restart that is
	// found again.
	told Memory
	// held is the Memory before what is pending.
	held Memory
	// pending waits until due, and is forgotten when the unit moves on.
	pending *Event
	due     time.Time
}

// NewTracker returns a tracker of at most limit units, which counts restarts as
// one loop when each came within window of the one before.
func NewTracker(window time.Duration, limit int) *Tracker {
	return &Tracker{window: window, max: limit, units: map[string]*tracked{}, waiting: map[*tracked]struct{}{}}
}

// Untracked is how many changes were passed over because the tracker knows as
// many units as it may. It is safe for concurrent use.
func (t *Tracker) Untracked() int64 { return t.untracked.Load() }

// Restore takes what was remembered of a unit before the collector restarted.
func (t *Tracker) Restore(name string, m Memory) {
	t.units[name] = &tracked{Memory: m, told: m, unit: New(name)}
}

// Memory returns what to remember of a unit, and false when it is not known.
func (t *Tracker) Memory(name string) (Memory, bool) {
	k, ok := t.units[name]
	if !ok {
		return Memory{}, false
	}
	return k.told, true
}

// IsLimited tells whether the last that happened to a unit is that it was not let run.
func (t *Tracker) IsLimited(name string) bool {
	k, ok := t.units[name]
	return ok && k.LimitRun != "" && k.LimitRun == run(k.unit)
}

// FailedRuns returns the invocation ids of the runs whose failure is known.
func (t *Tracker) FailedRuns() []string {
	var runs []string
	for _, k := range t.units {
		if k.FailedRun != "" {
			runs = append(runs, k.FailedRun)
		}
	}
	return runs
}

// Names returns the units that are known, in no particular order.
func (t *Tracker) Names() []string {
	names := make([]string, 0, len(t.units))
	for name := range t.units {
		names = append(names, name)
	}
	return names
}

// Len is how many units are known.
func (t *Tracker) Len() int { return len(t.units) }

// Get returns the last known state of a unit, nil when it is not known. The
// caller must not change it.
func (t *Tracker) Get(name string) *Unit {
	if k, ok := t.units[name]; ok {
		return k.unit
	}
	return nil
}

// Changed takes over properties that have changed at now, and returns what has
// happened, oldest first.
func (t *Tracker) Changed(name string, properties map[string]any, now time.Time) []Event {
	if now.Before(t.listed) {
		return nil
	}
	k := t.get(name)
	if k == nil || now.Before(k.found) {
		return nil
	}
	next := *k.unit
	next.Apply(properties)
	k.unit = &next
	k.count(properties)
	// The properties of a service come in a signal of their own, before those of
	// the unit; together they are one state.
	if _, complete := properties["ActiveState"]; !complete {
		return nil
	}
	return t.observe(k, now, false)
}

// Snapshot says that a list of all units was read at now: Listed follows for
// each in it, Gone for each other.
func (t *Tracker) Snapshot(now time.Time) {
	t.listed = now
	for _, k := range t.units {
		t.since = latest(t.since, k.StateChange)
	}
}

// Listed takes the state of a unit out of a list that was read at now, and when
// it last changed. It returns true when something may have happened, so that
// Found must follow with all properties.
func (t *Tracker) Listed(name, activeState, subState string, change, now time.Time) bool {
	u := New(name)
	u.ActiveState, u.SubState, u.StateChange = activeState, subState, change
	if k, ok := t.units[name]; ok {
		if !k.StateChange.Equal(change) || k.ActiveState != activeState || k.SubState != subState {
			return true
		}
		if k.unit.ActiveState == "" { // restored
			k.unit = u
		}
		k.found = now
		return false
	}
	if activeState == "failed" || isAutoRestart(u) || t.isNew(u) {
		return true
	}
	if k := t.get(name); k != nil {
		k.adopt(u, now)
		k.Counted = false
		k.unit, k.found, k.told = u, now, k.Memory
	}
	return false
}

// isNew: all that was active until since is known; what is not became so later.
func (t *Tracker) isNew(u *Unit) bool {
	return !t.since.IsZero() && isActive(u) && u.StateChange.After(t.since)
}

// Found takes over all properties of a unit that were read at now because
// nobody was watching before, and returns what has happened meanwhile.
func (t *Tracker) Found(name string, properties map[string]any, now time.Time) []Event {
	_, known := t.units[name]
	k := t.get(name)
	if k == nil {
		return nil
	}
	u := New(name)
	u.Apply(properties)
	if !known && !t.isNew(u) {
		k.adopt(u, now)
	}
	k.unit, k.found = u, now
	k.count(properties)
	return t.observe(k, now, true)
}

// count makes the number of restarts that is read first the one from which they are
// counted: when those were, nobody knows.
func (k *tracked) count(properties map[string]any) {
	if _, ok := properties["NRestarts"]; ok && !k.Counted {
		k.NRestarts, k.Counted = k.unit.NRestarts, true
	}
}

func (t *Tracker) get(name string) *tracked {
	k, ok := t.units[name]
	if ok {
		return k
	}
	if len(t.units) >= t.max {
		t.untracked.Add(1)
		return nil
	}
	k = &tracked{Memory: Memory{ActiveState: "inactive", Counted: true}, unit: New(name)}
	k.told = k.Memory
	t.units[name] = k
	return k
}

// adopt makes what is there now the beginning: nothing is told of it, but that
// it has failed or is in a restart loop.
func (k *tracked) adopt(u *Unit, now time.Time) {
	k.Skipped = now
	if !isAutoRestart(u) {
		k.NRestarts = u.NRestarts
	}
	if u.ActiveState == "failed" || isAutoRestart(u) {
		return
	}
	k.ActiveState, k.SubState, k.StateChange = u.ActiveState, u.SubState, u.StateChange
	k.Active = isActive(u)
}

// Gone takes note that systemd has forgotten a unit. It returns the event that
// it was left inactive when that was not told yet.
func (t *Tracker) Gone(name string, now time.Time, snapshot bool) []Event {
	k, ok := t.units[name]
	if !ok || now.Before(k.found) {
		return nil
	}
	delete(t.units, name)
	events := t.flush(k, nil)
	if k.Active && snapshot {
		u := *k.unit
		u.Name, u.ActiveState, u.SubState = name, "inactive", "dead"
		events = append(events, Event{Kind: Deactivated, At: now, Unit: u, Snapshot: true})
	}
	return events
}

// IsWaiting tells whether something is held back, so that Tick must be called.
func (t *Tracker) IsWaiting() bool { return len(t.waiting) > 0 }

// Tick returns what was held back and has come true by now.
func (t *Tracker) Tick(now time.Time) []Event {
	var events []Event
	for k := range t.waiting {
		if !now.Before(k.due) {
			events = t.flush(k, events)
		}
	}
	slices.SortStableFunc(events, func(a, b Event) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Unit.Name, b.Unit.Name))
	})
	return events
}

// flush appends what is held back of a unit.
func (t *Tracker) flush(k *tracked, events []Event) []Event {
	if k.pending == nil {
		return events
	}
	e := *k.pending
	t.drop(k)
	k.Active = e.Kind == Activated
	if k.Active {
		k.Loop.Results = nil
	}
	k.told = k.Memory
	return append(events, e)
}

func (t *Tracker) hold(k *tracked, e Event, due time.Time) {
	k.pending, k.due = &e, due
	t.waiting[k] = struct{}{}
}

func (t *Tracker) drop(k *tracked) {
	k.pending = nil
	delete(t.waiting, k)
}

// observe compares the unit with what is remembered of it.
func (t *Tracker) observe(k *tracked, now time.Time, snapshot bool) []Event {
	u := k.unit
	var events []Event
	before, pending := k.Memory, k.pending
	tell := func(kind Kind, at time.Time) *Event {
		if at.IsZero() {
			at = now
		}
		events = append(events, Event{Kind: kind, At: at, Unit: *u, Snapshot: snapshot})
		return &events[len(events)-1]
	}
	changed := !u.StateChange.Equal(k.StateChange) || u.ActiveState != k.ActiveState || u.SubState != k.SubState
	if changed && k.pending != nil {
		if passes(k.pending, u) {
			t.drop(k)
		} else {
			events = t.flush(k, events)
		}
	}
	t.skipped(k, u, tell)
	t.failure(k, u, changed, now, snapshot, tell)
	t.restarts(k, u, now, tell)
	if changed {
		t.moved(k, u, now, snapshot, tell)
	}
	k.ActiveState, k.SubState, k.StateChange, k.NRestarts = u.ActiveState, u.SubState, u.StateChange, u.NRestarts
	if k.pending == nil {
		k.told = k.Memory
		return events
	}
	if k.pending != pending { // held back just now
		k.held = before
	}
	k.told = k.Memory
	k.told.ActiveState, k.told.SubState, k.told.FailedRun = k.held.ActiveState, k.held.SubState, k.held.FailedRun
	k.told.StateChange = time.Time{}
	return events
}

// passes tells whether a state that was held back was only passed through.
func passes(pending *Event, now *Unit) bool {
	if pending.Kind == Activated { // a loop goes on, unless it is the same run still
		return !now.ActiveEnter.Equal(pending.Unit.ActiveEnter) || !isActive(now) && now.ActiveState != "reloading"
	}
	return isAutoRestart(now) || now.NRestarts > pending.Unit.NRestarts
}

// failure tells that a run has failed, once for each run. A unit that has failed and is
// started again says so first by the id of the new run and the result "success", while
// its state is still the one that it came into when the run before failed.
func (t *Tracker) failure(k *tracked, u *Unit, changed bool, now time.Time, snapshot bool, tell func(Kind, time.Time) *Event) {
	if !changed || u.Result == "success" || u.ActiveState != "failed" && (!isAutoRestart(u) || u.Result == "") {
		return
	}
	run := run(u)
	if run == k.FailedRun {
		// Failed again without having run: it was not let.
		if u.ActiveState == "failed" && k.LimitRun != run {
			k.LimitRun = run
			k.Active = false
			tell(StartLimitHit, u.StateChange)
		}
		return
	}
	k.FailedRun = run
	k.Active = false
	kind := kindOf(u, snapshot)
	if kind == StartLimitHit {
		k.LimitRun = run
	}
	if !t.inLoop(k, now) {
		k.Loop.Results = nil
	}
	if kind == StartLimitHit || !slices.Contains(k.Loop.Results, u.Result) {
		k.Loop.Results = append(k.Loop.Results, u.Result)
		tell(kind, u.FailedAt())
		return
	}
	// One more of the same in a loop, unless nothing follows.
	if u.ActiveState == "failed" {
		t.hold(k, Event{Kind: kind, At: u.FailedAt(), Unit: *u, Snapshot: snapshot}, now.Add(settle))
	}
}

// kindOf names a failure after its result. In a snapshot nobody has seen whether
// it was the last of too many starts; as many restarts as are allowed say so.
func kindOf(u *Unit, snapshot bool) Kind {
	switch {
	case u.Result == "start-limit-hit":
		return StartLimitHit
	case snapshot && u.ActiveState == "failed" && u.StartLimitBurst > 0 && u.NRestarts >= u.StartLimitBurst && wasShort(u):
		return StartLimitHit
	case u.Result == "oom-kill":
		return OOMKilled
	case u.Result == "watchdog":
		return Watchdog
	}
	return Failed
}

// wasShort tells whether the last run ended within the interval in which systemd
// counts starts; false when that is not known.
func wasShort(u *Unit) bool {
	return !u.ExecMainStart.IsZero() && !u.ExecMainExit.Before(u.ExecMainStart) && u.ExecMainExit.Sub(u.ExecMainStart) < u.StartLimitInterval
}

// restarts counts a loop. It is told at 1, 2, 4, 8, ... restarts.
func (t *Tracker) restarts(k *tracked, u *Unit, now time.Time, tell func(Kind, time.Time) *Event) {
	if u.NRestarts < k.NRestarts { // started by hand, or the counter was reset
		k.Loop = Loop{Base: u.NRestarts}
		return
	}
	if u.NRestarts == k.NRestarts {
		return
	}
	if !t.inLoop(k, now) {
		k.Loop = Loop{Base: k.NRestarts, From: now, Results: k.Loop.Results}
	}
	k.Loop.Last = now
	count := u.NRestarts - k.Loop.Base
	if count < max(1, 2*k.Loop.Told) {
		return
	}
	k.Loop.Told = largestPower(count)
	e := tell(Restarting, now)
	e.Count, e.Since = count, k.Loop.From
}

// largestPower is the largest power of two that is not above n, for n above 0.
func largestPower(n uint64) uint64 {
	p := uint64(1)
	for p <= n/2 {
		p *= 2
	}
	return p
}

func (t *Tracker) inLoop(k *tracked, now time.Time) bool {
	return !k.Loop.Last.IsZero() && now.Sub(k.Loop.Last) <= t.window
}

// skipped tells a condition or an assertion that was tested anew and is not met.
func (t *Tracker) skipped(k *tracked, u *Unit, tell func(Kind, time.Time) *Event) {
	at := latest(u.ConditionTime, u.AssertTime)
	if !at.After(k.Skipped) {
		return
	}
	k.Skipped = at
	// Conditions are tested first; assertions only when those are met.
	if !u.ConditionTime.IsZero() && !u.ConditionResult {
		e := tell(Skipped, u.ConditionTime)
		e.Unmet = Unmet(u.Conditions)
		return
	}
	if !u.AssertTime.IsZero() && !u.AssertResult {
		e := tell(Skipped, u.AssertTime)
		e.Unmet = Unmet(u.Asserts)
		e.IsAssert = true
	}
}

// moved tells that the unit was entered, left or reloaded.
func (t *Tracker) moved(k *tracked, u *Unit, now time.Time, snapshot bool, tell func(Kind, time.Time) *Event) {
	switch {
	case isActive(u) && k.ActiveState == "reloading":
		kind := Reloaded
		if u.ReloadResult != "" && u.ReloadResult != "success" {
			kind = ReloadFailed
		}
		tell(kind, u.StateChange)
	case isActive(u) && (!k.Active || snapshot && u.ActiveEnter.After(k.StateChange)):
		if t.inLoop(k, now) {
			t.hold(k, Event{Kind: Activated, At: u.ActiveEnter, Unit: *u, Snapshot: snapshot}, now.Add(stable))
			return
		}
		k.Active = true
		tell(Activated, u.ActiveEnter)
	case u.ActiveState == "inactive" && u.Result == resultExecCondition:
		if k.Active { // nobody saw it end
			k.Active = false
			tell(Deactivated, u.ActiveExit)
		}
		e := tell(Skipped, u.StateChange)
		e.Unmet, e.IsExec = Unmet(u.ExecConditions), true
	case u.ActiveState == "inactive" && hasRun(k, u):
		if snapshot {
			k.Active = false
			tell(Deactivated, u.StateChange)
			return
		}
		t.hold(k, Event{Kind: Deactivated, At: u.StateChange, Unit: *u}, now.Add(settle))
	}
}

// hasRun tells whether a unit that is inactive now has just ended, and did not
// only wait for a restart or pass from failed to inactive.
func hasRun(k *tracked, u *Unit) bool {
	if k.ActiveState == "failed" || k.ActiveState == "inactive" || strings.HasPrefix(k.SubState, "auto-restart") {
		return false
	}
	return u.Result == "" || u.Result == "success"
}

// resultExecCondition is systemd's result of a service whose ExecCondition= is not met.
const resultExecCondition = "exec-condition"

func isActive(u *Unit) bool { return u.ActiveState == "active" }

// isAutoRestart: auto-restart, and since systemd 254 auto-restart-queued.
func isAutoRestart(u *Unit) bool { return strings.HasPrefix(u.SubState, "auto-restart") }

// run identifies one run of a unit.
func run(u *Unit) string {
	if u.InvocationID != "" {
		return u.InvocationID
	}
	return u.StateChange.Format(time.RFC3339Nano)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
