package ebpfreceiver

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/internal/cgroup"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// encoder makes log records of events. It is not safe for concurrent use.
type encoder struct {
	builder *metadata.LogsBuilder
	host    machine.Info
	clock   *linux.Clock
	// hasCommandLine says that exec events hold all arguments.
	hasCommandLine bool
	// enabled are the events of metadata.yaml, for those that rules make.
	enabled map[string]bool
	version string
	// services knows to which service a process belongs; nil when nobody does.
	services *services
	// descriptions are those of the run that is encoded.
	descriptions []description
}

func newEncoder(cfg *Config, set receiver.Settings, host machine.Info, c *linux.Clock) *encoder {
	return &encoder{
		builder:        metadata.NewLogsBuilder(cfg.LogsBuilderConfig, set),
		host:           host,
		clock:          c,
		hasCommandLine: cfg.CommandLine,
		enabled:        enabledEvents(&cfg.Events),
		version:        set.BuildInfo.Version,
	}
}

// encode makes one record of each event that is enabled, under one resource for
// each process, in the order of the events. seen is the time of observation.
func (e *encoder) encode(events []kernelEvent, seen time.Time) plog.Logs {
	all := plog.NewLogs()
	resources := make(map[processInfo]plog.LogRecordSlice)
	for len(events) > 0 {
		who := events[0].process()
		n := runLength(events)
		logs := e.logs(events[:n], seen)
		events = events[n:]
		if logs.LogRecordCount() == 0 { // the event is disabled
			continue
		}
		if records, ok := resources[who]; ok {
			recordsOf(logs.ResourceLogs().At(0)).MoveAndAppendTo(records)
			continue
		}
		logs.ResourceLogs().MoveAndAppendTo(all.ResourceLogs())
		last := all.ResourceLogs().At(all.ResourceLogs().Len() - 1)
		e.resource(who).MoveTo(last.Resource())
		resources[who] = recordsOf(last)
	}
	return all
}

// runLength is how many events, from the first on, are the same thing that happened to
// the same process: the builder takes them together. Messages do not go through it.
func runLength(events []kernelEvent) int {
	who, name := events[0].process(), events[0].name()
	n := 1
	for n < len(events) && !isMessage(events[n-1]) && !isMessage(events[n]) && events[n].name() == name && events[n].process() == who {
		n++
	}
	return n
}

func isMessage(ev kernelEvent) bool {
	_, ok := ev.(messageEvent)
	return ok
}

// logs makes one record of each event of a run, under a resource that is empty yet; or
// none when the event is disabled.
func (e *encoder) logs(run []kernelEvent, seen time.Time) plog.Logs {
	if m, ok := run[0].(messageEvent); ok {
		return e.message(m, seen)
	}
	e.descriptions = e.descriptions[:0]
	total := 0
	for _, ev := range run {
		if failed, ok := ev.(syscallEvent); ok {
			e.recordSyscall(failed, ev)
		} else {
			severity, body := e.record(ev)
			e.descriptions = append(e.descriptions, description{severity, body, ev})
		}
		total += weight(ev)
	}
	logs := e.builder.Emit()
	if logs.LogRecordCount() == 0 {
		return logs
	}
	records := recordsOf(logs.ResourceLogs().At(0))
	for i, record := range records.All() {
		describe(record, seen, e.descriptions[i])
		setTrace(record, e.descriptions[i].of)
	}
	if total > len(run) {
		e.repeat(records, run, total)
	}
	return logs
}

// repeat makes of a record for each call of the events of a run one for each failure.
func (e *encoder) repeat(records plog.LogRecordSlice, run []kernelEvent, total int) {
	calls := plog.NewLogRecordSlice()
	records.MoveAndAppendTo(calls)
	records.EnsureCapacity(total)
	next := 0
	for _, ev := range run {
		failed, _ := ev.(syscallEvent) // as all of the run are: others have a weight of 1
		calls.At(next).CopyTo(records.AppendEmpty())
		for _, again := range failed.again {
			record := records.AppendEmpty()
			calls.At(next + again.call).CopyTo(record)
			record.SetTimestamp(pcommon.NewTimestampFromTime(e.clock.Wall(again.at)))
		}
		next += len(failed.calls)
	}
}

// started makes the record that says what this receiver can see.
func (e *encoder) started(attached []string, failed []failure, at time.Time) plog.Logs {
	reasons := reasonsOf(failed, len(attached), len(failed))
	e.builder.RecordTapioEbpfStartedEvent(context.Background(), pcommon.NewTimestampFromTime(at),
		anySlice(attached), anySlice(reasons))
	severity, body := plog.SeverityNumberInfo, fmt.Sprintf("Kernel events of %s: all %d programs run", e.host.Name, len(attached))
	if len(failed) > 0 {
		severity = plog.SeverityNumberWarn
		body = fmt.Sprintf("Kernel events of %s: %d programs run, %d do not: %s",
			e.host.Name, len(attached), len(failed), strings.Join(reasonsOf(failed, len(attached), maxNamed), "; "))
	}
	logs := e.builder.Emit()
	for _, rl := range logs.ResourceLogs().All() { // none when the event is disabled
		e.resource(processInfo{}).MoveTo(rl.Resource())
		describe(recordsOf(rl).At(0), at, description{severity: severity, body: body})
	}
	return logs
}

// description is what the builder does not set.
type description struct {
	severity plog.SeverityNumber
	body     string
	of       kernelEvent
}

// describe sets what all records have.
func describe(record plog.LogRecord, seen time.Time, d description) {
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(seen))
	record.SetSeverityNumber(d.severity)
	record.SetSeverityText(d.severity.String())
	record.Body().SetStr(d.body)
}

// resource says where and to whom something happened. It is written by hand:
// mdatagen v0.159.0 generates a resource builder that does not compile for a
// component with events and no metrics.
func (e *encoder) resource(p processInfo) pcommon.Resource {
	res := pcommon.NewResource()
	attrs := res.Attributes()
	e.host.Describe(attrs)
	if p.started != 0 {
		putNumber(attrs, event.KeyProcessPID, p.pid)
		putNumber(attrs, event.KeyProcessVPID, p.vpid)
		putNumber(attrs, event.KeyProcessParentPID, p.parent)
		attrs.PutStr(event.KeyProcessCreationTime, e.clock.Creation(p.started).Format(time.RFC3339Nano))
		attrs.PutStr(event.KeyProcessExecutableName, p.name())
		putString(attrs, event.KeyProcessComm, p.comm)
		service := e.services.of(p)
		putString(attrs, event.KeyServiceName, service.name)
		putString(attrs, event.KeyServiceNamespace, service.namespace)
	}
	putString(attrs, event.KeyProcessCgroup, p.cgroup)
	id := cgroup.Parse(p.cgroup)
	putString(attrs, event.KeyContainerID, id.ContainerID)
	putString(attrs, event.KeyPodUID, id.PodUID)
	putString(attrs, event.KeySystemdUnit, id.Unit)
	return res
}

// record records an event in the builder and returns its severity and body.
func (e *encoder) record(ev kernelEvent) (plog.SeverityNumber, string) {
	at := pcommon.NewTimestampFromTime(e.clock.Wall(ev.time()))
	switch ev := ev.(type) {
	case execEvent:
		return e.recordExec(at, ev)
	case exitEvent:
		return e.recordExit(at, ev)
	case signalEvent:
		return e.recordSignal(at, ev)
	case syscallsEvent:
		return e.recordSyscalls(at, ev)
	case oomEvent:
		return e.recordOOM(at, ev)
	case connectEvent:
		return e.recordConnect(at, ev)
	case listenEvent:
		return e.recordListen(at, ev)
	case udpListenEvent:
		return e.recordUDPListen(at, ev)
	case resetEvent:
		return e.recordReset(at, ev)
	case retransmitEvent:
		return e.recordRetransmit(at, ev)
	case overflowEvent:
		return e.recordOverflow(at, ev)
	case connectionsEvent:
		return e.recordConnections(at, ev)
	case dropsEvent:
		return e.recordDrops(at, ev)
	case lookupEvent:
		return e.recordLookup(at, ev)
	case blockErrorEvent:
		return e.recordBlockError(at, ev)
	case blockLatencyEvent:
		return e.recordBlockLatency(at, ev)
	case blockSlowEvent:
		return e.recordBlockSlow(at, ev)
	case reclaimEvent:
		return e.recordReclaim(at, ev)
	case growthEvent:
		return e.recordGrowth(at, ev)
	case forksEvent:
		return e.recordForks(at, ev)
	case runQueueEvent:
		return e.recordRunQueue(at, ev)
	case throttledEvent:
		return e.recordThrottled(at, ev)
	default: // decode makes no other
		panic(fmt.Sprintf("event of unknown type %T", ev))
	}
}

func (e *encoder) recordExec(at pcommon.Timestamp, ev execEvent) (plog.SeverityNumber, string) {
	var options []metadata.EventAttributeOption
	if strings.HasPrefix(ev.path, "/") {
		options = append(options, metadata.WithProcessExecutablePathEventAttribute(ev.path))
	}
	if len(ev.args) > 0 && ev.args[0] != "" {
		options = append(options, metadata.WithProcessCommandEventAttribute(ev.args[0]))
	}
	if e.hasCommandLine {
		line := strings.Join(ev.args, " ")
		if ev.isCut {
			line += " ..."
		}
		options = append(options, metadata.WithProcessCommandLineEventAttribute(line))
	}
	e.builder.RecordTapioProcessExecEvent(context.Background(), at, options...)
	return plog.SeverityNumberInfo, fmt.Sprintf("%s began to run %s", title(ev.who), ev.path)
}

func (e *encoder) recordExit(at pcommon.Timestamp, ev exitEvent) (plog.SeverityNumber, string) {
	signal := ev.signal()
	if signal == 0 {
		code := ev.code()
		e.builder.RecordTapioProcessExitEvent(context.Background(), at,
			metadata.WithProcessExitCodeEventAttribute(int64(code)))
		severity := plog.SeverityNumberInfo
		if code != 0 {
			severity = plog.SeverityNumberWarn
		}
		return severity, fmt.Sprintf("%s exited with code %d", title(ev.who), code)
	}
	e.builder.RecordTapioProcessExitEvent(context.Background(), at,
		metadata.WithTapioProcessExitSignalEventAttribute(int64(signal)),
		metadata.WithTapioProcessExitSignalNameEventAttribute(signalName(signal)),
		metadata.WithTapioProcessExitCoreDumpedEventAttribute(ev.isCoreDumped()))
	severity := plog.SeverityNumberError
	if isRequestToEnd(signal) {
		severity = plog.SeverityNumberInfo
	}
	return severity, fmt.Sprintf("%s was ended by %s", title(ev.who), signalName(signal))
}

func (e *encoder) recordSignal(at pcommon.Timestamp, ev signalEvent) (plog.SeverityNumber, string) {
	origin, sender := "user", title(ev.sender)
	var options []metadata.EventAttributeOption
	if ev.isKernels() {
		origin, sender = "kernel", "the kernel"
	} else {
		options = senderOptions(ev.sender)
	}
	number := int(ev.number)
	e.builder.RecordTapioProcessSignalEvent(context.Background(), at, int64(number), signalName(number), origin, options...)
	return plog.SeverityNumberInfo, fmt.Sprintf("%s was sent %s by %s", title(ev.who), signalName(number), sender)
}

func senderOptions(p processInfo) []metadata.EventAttributeOption {
	options := []metadata.EventAttributeOption{metadata.WithTapioProcessSignalSenderNameEventAttribute(p.name())}
	if p.pid != 0 {
		options = append(options, metadata.WithTapioProcessSignalSenderPidEventAttribute(int64(p.pid)))
	}
	id := cgroup.Parse(p.cgroup)
	for _, o := range []struct {
		value string
		with  func(string) metadata.EventAttributeOption
	}{
		{p.cgroup, metadata.WithTapioProcessSignalSenderCgroupEventAttribute},
		{id.Unit, metadata.WithTapioProcessSignalSenderUnitEventAttribute},
		{id.ContainerID, metadata.WithTapioProcessSignalSenderContainerIDEventAttribute},
	} {
		if o.value != "" {
			options = append(options, o.with(o.value))
		}
	}
	return options
}

// recordSyscall records and describes each of the calls that failed, once. of is ev.
func (e *encoder) recordSyscall(ev syscallEvent, of kernelEvent) {
	at, in := pcommon.NewTimestampFromTime(e.clock.Wall(ev.at)), " failed in "+title(ev.who)+": "
	for _, failed := range ev.calls {
		e.builder.RecordTapioSyscallFailedEvent(context.Background(), at, failed.call, failed.errno)
		e.descriptions = append(e.descriptions, description{plog.SeverityNumberError, failed.call + in + failed.errno, of})
	}
}

func (e *encoder) recordSyscalls(at pcommon.Timestamp, ev syscallsEvent) (plog.SeverityNumber, string) {
	e.builder.RecordTapioSyscallFailuresEvent(context.Background(), at, ev.call, ev.errno, int64(ev.count), ev.interval.Seconds())
	return plog.SeverityNumberDebug, fmt.Sprintf("%s failed %d times in %v in cgroup %s: %s", ev.call, ev.count, ev.interval, ev.who.cgroup, ev.errno)
}

func (e *encoder) recordOOM(at pcommon.Timestamp, ev oomEvent) (plog.SeverityNumber, string) {
	scope, where := "node", "the machine was out of memory"
	var options []metadata.EventAttributeOption
	if ev.limit != 0 {
		scope = "cgroup"
		where = fmt.Sprintf("memory cgroup %s was at its limit of %s", ev.limitCgroup, bytesText(ev.limit))
		options = []metadata.EventAttributeOption{
			metadata.WithTapioMemoryCgroupEventAttribute(ev.limitCgroup),
			metadata.WithTapioMemoryLimitEventAttribute(int64(ev.limit)),
			metadata.WithTapioMemoryUsageEventAttribute(int64(ev.usage)),
			metadata.WithTapioMemoryPeakEventAttribute(int64(ev.peak)),
		}
	}
	options = append(options, triggerOptions(ev.trigger)...)
	lives, fate := "", ev.fate
	if cgroup.Parse(ev.who.cgroup).ContainerID == "" {
		fate = 0 // a namespace alone makes no container
	}
	switch fate {
	case containerLives:
		lives = "; its container lives on"
		options = append(options, metadata.WithTapioOomContainerSurvivesEventAttribute(true))
	case containerEnds:
		options = append(options, metadata.WithTapioOomContainerSurvivesEventAttribute(false))
	}
	e.builder.RecordTapioOomKillEvent(context.Background(), at, scope, int64(ev.rss), int64(ev.scoreAdj), options...)
	return plog.SeverityNumberError, fmt.Sprintf("The kernel killed %s, which held %s: %s%s", title(ev.who), bytesText(ev.rss), where, lives)
}

// triggerOptions say who asked for the memory that was not there.
func triggerOptions(p processInfo) []metadata.EventAttributeOption {
	if p.started == 0 {
		return nil
	}
	options := []metadata.EventAttributeOption{metadata.WithTapioOomTriggerNameEventAttribute(p.name())}
	if p.pid != 0 {
		options = append(options, metadata.WithTapioOomTriggerPidEventAttribute(int64(p.pid)))
	}
	if p.cgroup != "" {
		options = append(options, metadata.WithTapioOomTriggerCgroupEventAttribute(p.cgroup))
	}
	return options
}

func (e *encoder) recordConnect(at pcommon.Timestamp, ev connectEvent) (plog.SeverityNumber, string) {
	socket := endpoints{peer: ev.peer}
	if ev.local.Port() != 0 {
		socket.local = ev.local
	}
	options := socket.options()
	if ev.begun != 0 {
		seconds := time.Duration(ev.at - ev.begun).Seconds()
		options = append(options, metadata.WithTapioTCPConnectDurationEventAttribute(seconds))
	}
	network := "ipv4"
	if ev.peer.Addr().Is6() {
		network = "ipv6"
	}
	errorType := ev.errorType()
	e.builder.RecordTapioTCPConnectFailedEvent(context.Background(), at, errorType, "tcp", network,
		int64(ev.netns), options...)
	severity := plog.SeverityNumberWarn
	if ev.isAborted() {
		severity = plog.SeverityNumberInfo
	}
	return severity, fmt.Sprintf("%s could not connect to %s: %s", title(ev.who), hostPort(ev.peer), strings.ReplaceAll(errorType, "_", " "))
}

// title names a process in a sentence.
func title(p processInfo) string {
	if p.pid == 0 {
		return p.name()
	}
	return p.name() + " (pid " + strconv.FormatUint(uint64(p.pid), 10) + ")"
}

// bytesText writes a size for people, such as 64.0 MiB.
func bytesText(n uint64) string {
	const kib = 1 << 10
	if n < kib {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/kib, 0
	for value >= kib && unit < len("KMGTPE")-1 {
		value /= kib
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}

func recordsOf(rl plog.ResourceLogs) plog.LogRecordSlice { return rl.ScopeLogs().At(0).LogRecords() }

func putString(attrs pcommon.Map, key, value string) {
	if value != "" {
		attrs.PutStr(key, value)
	}
}

func putNumber(attrs pcommon.Map, key string, value uint32) {
	if value != 0 {
		attrs.PutInt(key, int64(value))
	}
}

func anySlice(in []string) []any {
	out := make([]any, len(in))
	for i, s := range in {
		out[i] = s
	}
	return out
}
