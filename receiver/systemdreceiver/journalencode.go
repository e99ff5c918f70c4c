package systemdreceiver

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/cgroup"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/internal/kmsg"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

// Keys that only this receiver writes; metadata.yaml says what they are.
const (
	keyRecordUID     = "log.record.uid"
	keyBootID        = "tapio.journal.boot_id"
	keyMessageID     = "tapio.journal.message_id"
	keyIdentifier    = "tapio.journal.identifier"
	keyTransport     = "tapio.journal.transport"
	keyFieldPrefix   = "tapio.journal.field."
	keyMessages      = "tapio.journal.messages"
	keyRealtime      = "tapio.system.realtime"
	keyBootKernel    = "tapio.system.boot.kernel_duration"
	keyBootInitrd    = "tapio.system.boot.initrd_duration"
	keyBootUserspace = "tapio.system.boot.userspace_duration"
	keyResult        = "tapio.systemd.unit.result"
	keyRestarts      = "tapio.systemd.restart.count"
)

// maxCgroups bounds the cache of parsed control groups.
const maxCgroups = 4096

// severityOf are the severities of syslog's priorities, as the log data model
// of OpenTelemetry maps them.
var severityOf = [...]plog.SeverityNumber{
	plog.SeverityNumberFatal, plog.SeverityNumberError3, plog.SeverityNumberError2, plog.SeverityNumberError,
	plog.SeverityNumberWarn, plog.SeverityNumberInfo2, plog.SeverityNumberInfo, plog.SeverityNumberDebug,
}

// journalEncoder makes log records of entries. It is not safe for concurrent use.
type journalEncoder struct {
	cfg     *JournalConfig
	units   *UnitsConfig
	host    *hostInfo
	filter  *journalFilter
	rules   kmsg.Rules
	enabled map[string]bool
	// busTells says that the bus tells what an entry says of a unit.
	busTells func(*entry) bool
	version  string

	cgroups map[string]cgroup.Identity
	// runs are the runs of units that failed last.
	runs   map[machineUnit]failedRun
	batch  plog.Logs
	groups map[journalResource]plog.LogRecordSlice
	count  int
	// size is how many bytes the fields of its entries have.
	size int
}

// containerName is the attribute of the name that a container runtime gave, which is
// not that of Kubernetes' container.
const containerName = "container.name"

// journalResource is what the records of one resource have in common.
type journalResource struct {
	machine, host, unit, cgroup, container, containerName string
}

func newJournalEncoder(cfg *Config, version string, host *hostInfo, rules kmsg.Rules, busTells func(*entry) bool) *journalEncoder {
	e := &journalEncoder{
		cfg: &cfg.Journal, units: &cfg.Units, host: host, filter: newJournalFilter(&cfg.Journal), rules: rules,
		enabled: enabledEvents(&cfg.Events), busTells: busTells, version: version, cgroups: map[string]cgroup.Identity{}, runs: map[machineUnit]failedRun{},
	}
	e.reset()
	return e
}

func (e *journalEncoder) reset() {
	e.batch, e.groups, e.count, e.size = plog.NewLogs(), map[journalResource]plog.LogRecordSlice{}, 0, 0
}

// take returns what was added since the last call.
func (e *journalEncoder) take() plog.Logs {
	batch := e.batch
	e.reset()
	return batch
}

// add makes a record of an entry, unless it is filtered. seen is the time of
// observation.
func (e *journalEncoder) add(je *journal.Entry, seen time.Time) bool {
	e.host.wrote(je)
	r := readEntry(je)
	if e.filter.excluded(&r) {
		return false
	}
	ev, isEvent := e.event(&r)
	if !isEvent && !e.filter.wants(&r) {
		return false
	}
	record := e.group(&r, isEvent && strings.HasPrefix(ev.name, machineEvents)).AppendEmpty()
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(seen))
	record.SetTimestamp(timestampOf(je))
	severity := severityOf[r.priority]
	if isEvent {
		record.SetEventName(ev.name)
		severity = ev.severity
		if severity == plog.SeverityNumberError && ev.ofUnit && matches(e.units.Critical, r.unit) {
			severity = severities[e.units.CriticalSeverity]
		}
	}
	record.SetSeverityNumber(severity)
	record.SetSeverityText(severity.String())
	record.Body().SetStr(valid(r.message))
	e.describe(&r, record)
	if isEvent && ev.attributes != nil {
		ev.attributes(je, record.Attributes())
	}
	e.count++
	for i := range je.Fields {
		e.size += len(je.Fields[i].Name) + len(je.Fields[i].Value)
	}
	return true
}

// event says which event an entry is, if it is one that is enabled.
func (e *journalEncoder) event(r *entry) (journalEvent, bool) {
	ev, ok := journalEvent{}, false
	switch {
	case r.kernel:
		ev, ok = e.kernelEvent(r.message)
	case r.messageID != "" && fromSystemd(r):
		ev, ok = byMessageID(r)
		if r.messageID == messageUnitFailed {
			ok = e.failed(r, &ev)
		}
		if ok && ev.ofUnit && e.isLocal(r) && e.busTells(r) {
			return journalEvent{}, false
		}
	}
	if enabled, declared := e.enabled[ev.name]; !ok || declared && !enabled {
		return journalEvent{}, false
	}
	return ev, true
}

// maxRuns bounds the runs that are remembered, as many as units are followed.
const maxRuns = 1 << 14

type machineUnit struct{ machine, unit string }

type failedRun struct {
	invocation string
	// limited says that systemd did not let it run again.
	limited bool
}

// failed makes the second failure of one run what it is: the unit was not let run again, of
// which systemd says the same as of the failure before. It returns false for further ones,
// of somebody who tries on.
func (e *journalEncoder) failed(r *entry, ev *journalEvent) bool {
	key, run := machineUnit{r.Get("_MACHINE_ID"), r.unit}, failedRun{invocation: r.Get("INVOCATION_ID")}
	if run.invocation == "" {
		return true
	}
	before, known := e.runs[key]
	again := known && before.invocation == run.invocation
	if again && before.limited {
		return false
	}
	if again {
		ev.name = event.SystemdUnitStartLimitHit
	}
	run.limited = ev.name == event.SystemdUnitStartLimitHit
	if !known && len(e.runs) >= maxRuns {
		clear(e.runs)
	}
	e.runs[key] = run
	return true
}

// kernelEvent applies the rules for messages of the kernel.
func (e *journalEncoder) kernelEvent(message string) (journalEvent, bool) {
	found, ok := e.rules.Match(message)
	if !ok {
		return journalEvent{}, false
	}
	return journalEvent{name: found.Name, severity: found.Severity, attributes: func(_ *journal.Entry, to pcommon.Map) {
		for _, a := range found.Attributes {
			if a.IsInt {
				to.PutInt(a.Key, a.Int)
			} else {
				to.PutStr(a.Key, a.Text)
			}
		}
	}}, true
}

// isLocal says that this machine wrote an entry. While the id of this machine is not
// known, its name has to do.
func (e *journalEncoder) isLocal(r *entry) bool {
	if id := e.host.id(); id != "" {
		return id == r.Get("_MACHINE_ID")
	}
	return r.Get("_HOSTNAME") == e.host.name
}

// machineEvents begins the names of events that happen to the whole machine, whoever
// wrote them down.
const machineEvents = "tapio.system."

// group returns the records of the resource to which an entry belongs.
func (e *journalEncoder) group(r *entry, ofMachine bool) plog.LogRecordSlice {
	key := journalResource{unit: r.unit, cgroup: r.sender.cgroup}
	for i := range r.Fields {
		value := r.Fields[i].Value
		switch r.Fields[i].Name {
		case "_MACHINE_ID":
			key.machine = value
		case "_HOSTNAME":
			key.host = value
		case "COREDUMP_CGROUP": // of who crashed
			if r.isCoreDump() {
				key.cgroup = value
			}
		case "CONTAINER_ID_FULL": // the log drivers of Docker and Podman
			key.container = value
		case "CONTAINER_NAME":
			key.containerName = value
		}
	}
	if (key.container != "" || key.containerName != "") && !r.sender.isLogDriver(e.identity(r.sender.cgroup).ContainerID) {
		key.container, key.containerName = "", ""
	}
	if ofMachine {
		key = journalResource{machine: key.machine, host: key.host}
	}
	if records, ok := e.groups[key]; ok {
		return records
	}
	rl := e.batch.ResourceLogs().AppendEmpty()
	e.resource(key, rl.Resource().Attributes())
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(metadata.ScopeName)
	sl.Scope().SetVersion(e.version)
	e.groups[key] = sl.LogRecords()
	return sl.LogRecords()
}

// resource describes who wrote the entries: the machine and what runs on it.
func (e *journalEncoder) resource(key journalResource, attrs pcommon.Map) {
	if key.machine == e.host.id() || key.machine == "" {
		e.host.describe(attrs)
	} else {
		putValid(attrs, event.KeyHostName, key.host)
		putValid(attrs, event.KeyHostID, key.machine)
	}
	putValid(attrs, event.KeySystemdUnit, key.unit)
	id := e.identity(key.cgroup)
	if key.container == "" {
		key.container = id.ContainerID
	}
	putValid(attrs, event.KeyContainerID, key.container)
	putValid(attrs, containerName, key.containerName)
	putValid(attrs, event.KeyPodUID, id.PodUID)
}

// identity parses the path of a control group.
func (e *journalEncoder) identity(path string) cgroup.Identity {
	id, ok := e.cgroups[path]
	if !ok {
		if len(e.cgroups) >= maxCgroups {
			clear(e.cgroups)
		}
		id = cgroup.Parse(path)
		e.cgroups[path] = id
	}
	return id
}

// describe adds what the fields say of an entry.
func (e *journalEncoder) describe(r *entry, record plog.LogRecord) {
	attrs := record.Attributes()
	attrs.EnsureCapacity(16)
	attrs.PutStr(keyRecordUID, r.Cursor())
	attrs.PutStr(keyBootID, r.Boot.String())
	for i := range r.Fields {
		name, value := r.Fields[i].Name, r.Fields[i].Value
		switch name {
		case "MESSAGE_ID":
			putValid(attrs, keyMessageID, value)
		case "SYSLOG_IDENTIFIER":
			putValid(attrs, keyIdentifier, value)
		case "_TRANSPORT":
			putValid(attrs, keyTransport, value)
		case "_PID":
			putDigits(attrs, event.KeyProcessPID, value)
		case "_COMM":
			putValid(attrs, event.KeyProcessComm, value)
		case "_EXE":
			putValid(attrs, event.KeyProcessExecutablePath, value)
		case "_CMDLINE":
			if e.cfg.CommandLine {
				putValid(attrs, event.KeyProcessCommandLine, value)
			}
		case "_SYSTEMD_CGROUP":
			putValid(attrs, event.KeyProcessCgroup, value)
		case "_SYSTEMD_INVOCATION_ID":
			putValid(attrs, event.KeySystemdInvocation, value)
		case "_UID":
			putDigits(attrs, "process.user.id", value)
		case "CODE_FILE":
			putValid(attrs, "code.file.path", value)
		case "CODE_LINE":
			putDigits(attrs, "code.line.number", value)
		case "CODE_FUNC":
			putValid(attrs, "code.function.name", value)
		case "TID":
			putDigits(attrs, "thread.id", value)
		case "TRACE_ID":
			var id pcommon.TraceID
			if decodeHex(id[:], value) {
				record.SetTraceID(id)
			}
		case "SPAN_ID":
			var id pcommon.SpanID
			if decodeHex(id[:], value) {
				record.SetSpanID(id)
			}
		}
		if len(e.cfg.Fields) > 0 && matches(e.cfg.Fields, name) {
			attrs.PutStr(keyFieldPrefix+name, valid(value))
		}
	}
}

// decodeHex reads an identifier of the right length that is not all zeros.
func decodeHex(to []byte, text string) bool {
	if len(text) != hex.EncodedLen(len(to)) {
		return false
	}
	if _, err := hex.Decode(to, []byte(text)); err != nil {
		return false
	}
	for _, b := range to {
		if b != 0 {
			return true
		}
	}
	return false
}

// timestampOf is when it happened: what the sender says, when that is no later
// than what journald says and no more than a day earlier, else when journald
// received it. For the kernel's own messages journald is the only clock.
func timestampOf(e *journal.Entry) pcommon.Timestamp {
	const day = uint64(24 * time.Hour / time.Microsecond)
	at := e.Realtime
	if n, err := strconv.ParseUint(e.Get("_SOURCE_REALTIME_TIMESTAMP"), 10, 64); err == nil && n <= at && at-n <= day {
		at = n
	}
	return pcommon.Timestamp(min(at, math.MaxInt64/1000) * 1000)
}

// valid makes a text of any bytes.
func valid(s string) string { return strings.ToValidUTF8(s, "�") }
