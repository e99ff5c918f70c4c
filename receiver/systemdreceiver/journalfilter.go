package systemdreceiver

import (
	"slices"

	"github.com/yairfalse/tapio/internal/journal"
)

// journalFilter decides which entries to hand on.
type journalFilter struct {
	cfg *JournalConfig
	// priority is the number of the least important one.
	priority int
}

func newJournalFilter(cfg *JournalConfig) *journalFilter {
	return &journalFilter{cfg: cfg, priority: slices.Index(priorities, string(cfg.Priority))}
}

// entry is what is read of an entry once, for all who decide by it.
type entry struct {
	*journal.Entry
	// unit is the one it is about: for what systemd says of a unit that one, else
	// the unit of the process that wrote it.
	unit string
	// identifier is the name under which it was logged.
	identifier, message, messageID string
	// objectUnit is the unit that the sender says it is about.
	objectUnit string
	sender     sender
	// priority is 0 (emerg) to 7 (debug); 6 when it has none, as journald shows it.
	priority int
	// kernel says that the kernel itself wrote it.
	kernel bool
}

// readEntry goes through the fields once.
func readEntry(e *journal.Entry) entry {
	r := entry{Entry: e, priority: 6}
	var coredumpUnit, facility string
	for i := range e.Fields {
		value := e.Fields[i].Value
		switch e.Fields[i].Name {
		case "MESSAGE":
			r.message = value
		case "MESSAGE_ID":
			r.messageID = value
		case "PRIORITY":
			if len(value) == 1 && value[0] >= '0' && value[0] <= '7' {
				r.priority = int(value[0] - '0')
			}
		case "SYSLOG_IDENTIFIER":
			r.identifier = value
		case "SYSLOG_FACILITY":
			facility = value
		case "UNIT":
			r.objectUnit = value
		case "COREDUMP_UNIT":
			coredumpUnit = value
		default:
			r.sender.read(e.Fields[i].Name, value)
		}
	}
	// Only journald writes fields that begin with "_". Others may be claimed by
	// anyone, and count where systemd itself wrote the entry.
	r.unit = r.sender.unit
	switch {
	case r.objectUnit != "" && (r.sender.isManager() || r.messageID == messageSpawnFailed && r.sender.isExecuting(r.objectUnit)):
		r.unit = r.objectUnit
	case coredumpUnit != "" && r.isCoreDump():
		r.unit = coredumpUnit
	}
	// A program that writes to /dev/kmsg cannot choose the kernel's facility.
	r.kernel = r.sender.transport == "kernel" && (facility == "0" || facility == "")
	return r
}

// isCoreDump says that systemd-coredump tells of a core dump.
func (e *entry) isCoreDump() bool { return e.messageID == messageCoredump && e.sender.isCoredump() }

// excluded says that an entry must not be handed on, not even as an event.
func (f *journalFilter) excluded(e *entry) bool {
	return len(f.cfg.ExcludeUnits) > 0 && matches(f.cfg.ExcludeUnits, e.unit)
}

// wants says that an entry that is no event is to be handed on.
func (f *journalFilter) wants(e *entry) bool {
	switch {
	case f.cfg.EventsOnly, e.priority > f.priority,
		len(f.cfg.Units) > 0 && !matches(f.cfg.Units, e.unit),
		len(f.cfg.Identifiers) > 0 && !matches(f.cfg.Identifiers, e.identifier):
		return false
	}
	return len(f.cfg.Matches) == 0 || slices.ContainsFunc(f.cfg.Matches, func(m map[string]string) bool { return hasFields(e.Entry, m) })
}

// hasFields says that the entry has all these fields with these values.
func hasFields(e *journal.Entry, want map[string]string) bool {
	for name, value := range want {
		if !slices.ContainsFunc(e.Fields, func(f journal.Field) bool { return f.Name == name && f.Value == value }) {
			return false
		}
	}
	return true
}
