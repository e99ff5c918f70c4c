// Package unit decides, from what systemd says of a unit, what has happened to
// it. It does no I/O: the same states in the same order give the same events.
package unit

import (
	"encoding/hex"
	"math"
	"slices"
	"time"
)

// Unit is what systemd says of one unit: those of its D-Bus properties that
// matter here (org.freedesktop.systemd1(5)), by their names there. What a unit
// of its type does not have is zero.
type Unit struct {
	Name                  string
	ActiveState, SubState string
	// InvocationID is the id of this run in hexadecimal, "" before the first.
	InvocationID string

	// Wall clock, zero for never.
	StateChange, InactiveExit, ActiveEnter, ActiveExit, InactiveEnter time.Time

	ConditionResult, AssertResult bool
	ConditionTime, AssertTime     time.Time
	Conditions, Asserts           []Condition
	// ExecConditions are the commands of ExecCondition=, each by its executable.
	ExecConditions []Condition

	// Result is why the last run ended, "success" when it did not fail; ReloadResult
	// is the same of the last reload.
	Result, ReloadResult string
	// MainPID is 0 when there is no main process; ExecMainPID is the last one.
	MainPID, ExecMainPID         int64
	ExecMainStart, ExecMainExit  time.Time
	ExecMainCode, ExecMainStatus int64
	// Type is when a service has started: simple, oneshot, notify, ...; of others it
	// is another thing. SuccessCodes and SuccessSignals are ends of its main process
	// that count as good beside the usual ones.
	Type                         string
	SuccessCodes, SuccessSignals []int32
	// RemainAfterExit: a service is active, too, when its processes have ended well.
	RemainAfterExit bool
	// TriggeredBy are the units that start it, such as timers and sockets.
	TriggeredBy []string
	// Failed are the other processes that failed, also those of earlier runs.
	Failed       []Process
	NRestarts    uint64
	StatusText   string
	ControlGroup string

	// Absent (no limit, no accounting, no control group) is None.
	MemoryCurrent, MemoryPeak, MemoryMax, TasksCurrent, TasksMax uint64
	StartLimitBurst                                              uint64
	StartLimitInterval                                           time.Duration
}

// None is how systemd writes a number that it does not have, and "no limit".
const None = math.MaxUint64

// Values of ExecMainCode: how the main process ended (CLD_* of sigaction(2)).
const (
	CodeExited = 1
	CodeKilled = 2
	CodeDumped = 3
)

// Condition is one ConditionX= or AssertX= of a unit file.
type Condition struct {
	// Type is the key, such as ConditionPathExists.
	Type, Parameter string
	Trigger, Negate bool
	// State is above 0 when met, below 0 when not, 0 when not tested.
	State int64
}

// String writes it as in the unit file.
func (c Condition) String() string {
	s := c.Type + "="
	if c.Trigger {
		s += "|"
	}
	if c.Negate {
		s += "!"
	}
	return s + c.Parameter
}

// New returns a unit of which nothing is known yet.
func New(name string) *Unit {
	return &Unit{Name: name, MemoryCurrent: None, MemoryPeak: None, MemoryMax: None, TasksCurrent: None, TasksMax: None}
}

// Apply takes over the properties that are in p; a value of an unexpected type
// is passed over.
func (u *Unit) Apply(p map[string]any) {
	for key, value := range p {
		if set, ok := setters[key]; ok {
			set(u, value)
		} else if slices.Contains(commands, key) {
			u.failed(key, value)
		}
	}
}

var setters = map[string]func(*Unit, any){
	"ActiveState":            text(func(u *Unit) *string { return &u.ActiveState }),
	"SubState":               text(func(u *Unit) *string { return &u.SubState }),
	"InvocationID":           func(u *Unit, v any) { u.InvocationID = invocation(v, u.InvocationID) },
	"StateChangeTimestamp":   at(func(u *Unit) *time.Time { return &u.StateChange }),
	"InactiveExitTimestamp":  at(func(u *Unit) *time.Time { return &u.InactiveExit }),
	"ActiveEnterTimestamp":   at(func(u *Unit) *time.Time { return &u.ActiveEnter }),
	"ActiveExitTimestamp":    at(func(u *Unit) *time.Time { return &u.ActiveExit }),
	"InactiveEnterTimestamp": at(func(u *Unit) *time.Time { return &u.InactiveEnter }),
	"ConditionResult":        truth(func(u *Unit) *bool { return &u.ConditionResult }),
	"ConditionTimestamp":     at(func(u *Unit) *time.Time { return &u.ConditionTime }),
	"AssertResult":           truth(func(u *Unit) *bool { return &u.AssertResult }),
	"AssertTimestamp":        at(func(u *Unit) *time.Time { return &u.AssertTime }),
	"Conditions":             func(u *Unit, v any) { u.Conditions = conditions(v) },
	"Asserts":                func(u *Unit, v any) { u.Asserts = conditions(v) },
	keyExecCondition: func(u *Unit, v any) {
		u.failed(keyExecCondition, v)
		u.ExecConditions = execConditions(v)
	},
	"Result":                 text(func(u *Unit) *string { return &u.Result }),
	"ReloadResult":           text(func(u *Unit) *string { return &u.ReloadResult }),
	"MainPID":                signed(func(u *Unit) *int64 { return &u.MainPID }),
	"ExecMainPID":            signed(func(u *Unit) *int64 { return &u.ExecMainPID }),
	"ExecMainStartTimestamp": at(func(u *Unit) *time.Time { return &u.ExecMainStart }),
	"ExecMainExitTimestamp":  at(func(u *Unit) *time.Time { return &u.ExecMainExit }),
	"ExecMainCode":           signed(func(u *Unit) *int64 { return &u.ExecMainCode }),
	"ExecMainStatus":         signed(func(u *Unit) *int64 { return &u.ExecMainStatus }),
	"Type":                   text(func(u *Unit) *string { return &u.Type }),
	"RemainAfterExit":        truth(func(u *Unit) *bool { return &u.RemainAfterExit }),
	"TriggeredBy":            func(u *Unit, v any) { u.TriggeredBy, _ = v.([]string) },
	"SuccessExitStatus":      func(u *Unit, v any) { u.SuccessCodes, u.SuccessSignals = successes(v) },
	"NRestarts":              unsigned(func(u *Unit) *uint64 { return &u.NRestarts }),
	"StatusText":             text(func(u *Unit) *string { return &u.StatusText }),
	"ControlGroup":           text(func(u *Unit) *string { return &u.ControlGroup }),
	"MemoryCurrent":          unsigned(func(u *Unit) *uint64 { return &u.MemoryCurrent }),
	"MemoryPeak":             unsigned(func(u *Unit) *uint64 { return &u.MemoryPeak }),
	"MemoryMax":              unsigned(func(u *Unit) *uint64 { return &u.MemoryMax }),
	"TasksCurrent":           unsigned(func(u *Unit) *uint64 { return &u.TasksCurrent }),
	"TasksMax":               unsigned(func(u *Unit) *uint64 { return &u.TasksMax }),
	"StartLimitBurst":        unsigned(func(u *Unit) *uint64 { return &u.StartLimitBurst }),
	"StartLimitIntervalUSec": func(u *Unit, v any) { u.StartLimitInterval = microseconds(v, u.StartLimitInterval) },
}

func text(field func(*Unit) *string) func(*Unit, any) {
	return func(u *Unit, v any) {
		if s, ok := v.(string); ok {
			*field(u) = s
		}
	}
}

func truth(field func(*Unit) *bool) func(*Unit, any) {
	return func(u *Unit, v any) {
		if b, ok := v.(bool); ok {
			*field(u) = b
		}
	}
}

func signed(field func(*Unit) *int64) func(*Unit, any) {
	return func(u *Unit, v any) {
		if n, ok := number(v); ok {
			*field(u) = int64(n)
		}
	}
}

func unsigned(field func(*Unit) *uint64) func(*Unit, any) {
	return func(u *Unit, v any) {
		if n, ok := number(v); ok {
			*field(u) = n
		}
	}
}

func at(field func(*Unit) *time.Time) func(*Unit, any) {
	return func(u *Unit, v any) {
		if n, ok := number(v); ok {
			*field(u) = Time(n)
		}
	}
}

// Time reads a time of systemd: microseconds since 1970, 0 and None for never.
func Time(microseconds uint64) time.Time {
	if microseconds == 0 || microseconds > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMicro(int64(microseconds)).UTC()
}

// successes reads a pair of arrays, of exit codes and of signals.
func successes(v any) (codes, signals []int32) {
	if pair, ok := v.([]any); ok && len(pair) == 2 {
		codes, _ = pair[0].([]int32)
		signals, _ = pair[1].([]int32)
	}
	return codes, signals
}

func microseconds(v any, before time.Duration) time.Duration {
	n, ok := number(v)
	if !ok || n > uint64(math.MaxInt64/time.Microsecond) {
		return before
	}
	return time.Duration(n) * time.Microsecond
}

// number reads any integer of D-Bus. A negative one keeps its bits.
func number(v any) (uint64, bool) {
	switch n := v.(type) {
	case uint64:
		return n, true
	case uint32:
		return uint64(n), true
	case uint16:
		return uint64(n), true
	case byte:
		return uint64(n), true
	case int64:
		return uint64(n), true
	case int32:
		return uint64(int64(n)), true
	case int16:
		return uint64(int64(n)), true
	}
	return 0, false
}

func invocation(v any, before string) string {
	if id, ok := v.([]byte); ok {
		return hex.EncodeToString(id)
	}
	return before
}

// conditions reads an array of (type, trigger, negate, parameter, state).
func conditions(v any) []Condition {
	rows, ok := v.([][]any)
	if !ok {
		return nil
	}
	var all []Condition
	for _, row := range rows {
		if len(row) != 5 {
			continue
		}
		var c Condition
		c.Type, _ = row[0].(string)
		c.Trigger, _ = row[1].(bool)
		c.Negate, _ = row[2].(bool)
		c.Parameter, _ = row[3].(string)
		state, _ := number(row[4])
		c.State = int64(state)
		all = append(all, c)
	}
	return all
}

const keyExecCondition = "ExecCondition"

// execConditions reads the commands of ExecCondition.
func execConditions(v any) []Condition {
	var all []Condition
	for _, r := range commandRuns(keyExecCondition, v) {
		c := Condition{Type: keyExecCondition, Parameter: r.path}
		switch {
		case r.hasFailed():
			c.State = -1
		case !r.Exit.IsZero():
			c.State = 1
		}
		all = append(all, c)
	}
	return all
}

// Unmet returns the first condition that was tested and not met, of conditions
// of which at least one is not. systemd forgets a unit that was not started, and
// with it which condition it was; then it is known only where there is but one.
func Unmet(conditions []Condition) Condition {
	for _, c := range conditions {
		if c.State < 0 {
			return c
		}
	}
	if len(conditions) == 1 {
		return conditions[0]
	}
	return Condition{}
}
