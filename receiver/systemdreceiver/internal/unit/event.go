package unit

import "time"

// Kind is what happened to a unit.
type Kind int

// The kinds of events.
const (
	// Failed: for a reason that has no kind of its own.
	Failed Kind = iota + 1
	OOMKilled
	Watchdog
	// StartLimitHit: it was started too often; systemd gives up.
	StartLimitHit
	// Restarting: systemd restarts it by itself; Count says how often so far.
	Restarting
	Activated
	Deactivated
	Reloaded
	// ReloadFailed: it runs on with the configuration that it had.
	ReloadFailed
	// Skipped: a condition or an assertion is not met, or an ExecCondition of a service.
	Skipped
)

// Event is something that happened to a unit.
type Event struct {
	Kind Kind
	// At is when it happened, by systemd's clock where it says so.
	At time.Time
	// Unit is the state that shows it; a copy.
	Unit Unit
	// Snapshot: it was not seen happening, but found afterwards.
	Snapshot bool
	// Count and Since belong to Restarting: restarts in this loop, and its begin.
	Count uint64
	Since time.Time
	// Unmet belongs to Skipped: what is not met, zero when systemd does not say.
	// IsAssert tells an assertion, which is an error, from a condition.
	Unmet    Condition
	IsAssert bool
	// IsExec tells a condition that a command of the service tests.
	IsExec bool
	// Dependencies belongs to Deactivated: the units that took this one with them.
	Dependencies []string
	// SampleAge is how old memory and tasks are, 0 when they were read afterwards.
	SampleAge time.Duration
}
