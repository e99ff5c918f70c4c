package systemdreceiver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.yaml.in/yaml/v3"

	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/internal/kmsg"
)

// newEntry makes an entry of "NAME=value".
func newEntry(fields ...string) *journal.Entry {
	e := &journal.Entry{Seqnum: 1, Realtime: 1_790_000_000_000_000, Monotonic: 5, Hash: 6, Sequence: journal.ID{1}, Boot: journal.ID{2}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		e.Fields = append(e.Fields, journal.Field{Name: name, Value: value})
	}
	return e
}

// testEncoder is one of the host node-7, whose bus tells of units.
func testEncoder(t *testing.T, change func(*Config)) *journalEncoder {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	if change != nil {
		change(cfg)
	}
	require.NoError(t, cfg.Validate())
	rules, err := cfg.Journal.rules()
	require.NoError(t, err)
	return newJournalEncoder(cfg, "1", &hostInfo{name: "node-7", machine: "aa"}, rules, func(*entry) bool { return cfg.Units.Enabled })
}

func withoutUnits(c *Config) { c.Units.Enabled = false }

// only returns the one record of an entry and its resource.
func only(t *testing.T, e *journalEncoder, entry *journal.Entry) (map[string]any, plog.LogRecord) {
	t.Helper()
	require.True(t, e.add(entry, time.Unix(1_790_000_001, 0)))
	logs := e.take()
	require.Equal(t, 1, logs.LogRecordCount())
	rl := logs.ResourceLogs().At(0)
	return rl.Resource().Attributes().AsRaw(), rl.ScopeLogs().At(0).LogRecords().At(0)
}

func TestJournalRecord(t *testing.T) {
	e := testEncoder(t, func(c *Config) { c.Journal.Fields = []string{"ORDER_*"} })
	pod := "12345678-1234-1234-1234-123456789abc"
	container := strings.Repeat("c", 64)
	resource, r := only(t, e, newEntry("MESSAGE=an \xff order", "PRIORITY=4", "_MACHINE_ID=aa", "_HOSTNAME=other-name", "_PID=7", "_UID=1000",
		"_COMM=shop", "_EXE=/bin/shop", "_CMDLINE=/bin/shop --password=x", "_TRANSPORT=stdout", "SYSLOG_IDENTIFIER=shop",
		"_SYSTEMD_UNIT=shop.service", "_SYSTEMD_CGROUP=/kubepods/burstable/pod"+pod+"/"+container, "_SYSTEMD_INVOCATION_ID=ee",
		"CODE_FILE=a.c", "CODE_LINE=12", "CODE_FUNC=main", "TID=8", "ORDER_ID=99", "SECRET=1",
		"TRACE_ID=0af7651916cd43dd8448eb211c80319c", "SPAN_ID=b7ad6b7169203331", "_SOURCE_REALTIME_TIMESTAMP=1789999999999000"))

	assert.Equal(t, map[string]any{
		"host.name": "node-7", "host.id": "aa", "systemd.unit.name": "shop.service", "container.id": container, "k8s.pod.uid": pod,
	}, resource)
	assert.Equal(t, map[string]any{
		"log.record.uid":          "s=01000000000000000000000000000000;i=1;b=02000000000000000000000000000000;m=5;t=65bfeda25e000;x=6",
		"tapio.journal.boot_id":   "02000000000000000000000000000000",
		"tapio.journal.transport": "stdout", "tapio.journal.identifier": "shop",
		"process.pid": int64(7), "process.user.id": int64(1000), "tapio.process.comm": "shop", "process.executable.path": "/bin/shop",
		"process.linux.cgroup": "/kubepods/burstable/pod" + pod + "/" + container, "tapio.systemd.invocation_id": "ee",
		"code.file.path": "a.c", "code.line.number": int64(12), "code.function.name": "main", "thread.id": int64(8),
		"tapio.journal.field.ORDER_ID": "99",
	}, r.Attributes().AsRaw())
	assert.Equal(t, "an � order", r.Body().Str())
	assert.Empty(t, r.EventName())
	assert.Equal(t, plog.SeverityNumberWarn, r.SeverityNumber())
	assert.Equal(t, "0af7651916cd43dd8448eb211c80319c", r.TraceID().String())
	assert.Equal(t, "b7ad6b7169203331", r.SpanID().String())
	assert.Equal(t, int64(1789999999999000), r.Timestamp().AsTime().UnixMicro(), "when it was sent")
	assert.Equal(t, int64(1_790_000_001), r.ObservedTimestamp().AsTime().Unix())
}

func TestJournalRecordOfAnotherMachine(t *testing.T) {
	resource, r := only(t, testEncoder(t, nil), newEntry("MESSAGE=m", "_MACHINE_ID=bb", "_HOSTNAME=db-1", "TRACE_ID=00000000000000000000000000000000",
		"SPAN_ID=x", "_SOURCE_REALTIME_TIMESTAMP=1790000000000001", "PRIORITY=9", "_PID=none"))
	assert.Equal(t, map[string]any{"host.name": "db-1", "host.id": "bb"}, resource)
	assert.True(t, r.TraceID().IsEmpty())
	assert.True(t, r.SpanID().IsEmpty())
	assert.Equal(t, int64(1_790_000_000_000_000), r.Timestamp().AsTime().UnixMicro(), "a sender whose clock is ahead")
	assert.Equal(t, plog.SeverityNumberInfo, r.SeverityNumber())
}

func TestJournalEvents(t *testing.T) {
	const init = "_SYSTEMD_UNIT=init.scope"
	for name, c := range map[string]struct {
		fields     []string
		event      string
		severity   plog.SeverityNumber
		unit       string
		attributes map[string]any
	}{
		"unit failed": {
			[]string{"MESSAGE_ID=" + messageUnitFailed, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=db.service", "UNIT_RESULT=exit-code", "INVOCATION_ID=ff"},
			"tapio.systemd.unit.failed", plog.SeverityNumberError, "db.service",
			map[string]any{"error.type": "exit-code", "tapio.systemd.invocation_id": "ff"},
		},
		"critical unit": {
			[]string{"MESSAGE_ID=" + messageUnitFailed, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=kubelet.service", "UNIT_RESULT=watchdog"},
			"tapio.systemd.unit.watchdog", plog.SeverityNumberFatal, "kubelet.service", nil,
		},
		"OOM": {
			[]string{"MESSAGE_ID=" + messageUnitFailed, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=db.service", "UNIT_RESULT=oom-kill"},
			"tapio.systemd.unit.oom_killed", plog.SeverityNumberError, "db.service", nil,
		},
		"start limit": {
			[]string{"MESSAGE_ID=" + messageUnitFailed, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=db.service", "UNIT_RESULT=start-limit-hit"},
			"tapio.systemd.unit.start_limit_hit", plog.SeverityNumberError, "db.service", nil,
		},
		"dependency": {
			[]string{"MESSAGE_ID=" + messageUnitStartFailed, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=a.service", "JOB_RESULT=dependency", "JOB_ID=7", "JOB_TYPE=start"},
			"tapio.systemd.unit.dependency_failed", plog.SeverityNumberError, "a.service",
			map[string]any{"tapio.systemd.job.id": int64(7)},
		},
		"start job failed": { // the unit's own entry says why
			[]string{"MESSAGE_ID=" + messageUnitStartFailed, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=a.service", "JOB_RESULT=failed"},
			"", plog.SeverityNumberInfo, "a.service", nil,
		},
		"restart": {
			[]string{"MESSAGE_ID=" + messageUnitRestart, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=a.service", "N_RESTARTS=8"},
			"tapio.systemd.unit.restarting", plog.SeverityNumberWarn, "a.service",
			map[string]any{"tapio.systemd.restart.count": int64(8)},
		},
		"restart in between": {
			[]string{"MESSAGE_ID=" + messageUnitRestart, init, "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=a.service", "N_RESTARTS=7"},
			"", plog.SeverityNumberInfo, "a.service", nil,
		},
		"forged": {
			[]string{"MESSAGE_ID=" + messageUnitFailed, "_SYSTEMD_UNIT=evil.service", "_COMM=systemd", "_UID=1000", "UNIT=db.service", "UNIT_RESULT=exit-code"},
			"", plog.SeverityNumberInfo, "evil.service", nil,
		},
		"core dump": {
			[]string{
				"MESSAGE_ID=" + messageCoredump, "_SYSTEMD_UNIT=systemd-coredump@1.service", "_COMM=systemd-coredum", "_UID=0", "COREDUMP_UNIT=web.service",
				"COREDUMP_PID=77", "COREDUMP_COMM=web", "COREDUMP_SIGNAL=11", "COREDUMP_SIGNAL_NAME=SIGSEGV", "_PID=99", "_EXE=/usr/lib/systemd/systemd-coredump", "COREDUMP_EXE=/bin/web",
			},
			"tapio.process.core_dumped", plog.SeverityNumberError, "web.service",
			map[string]any{"process.pid": int64(77), "tapio.process.comm": "web", "process.executable.path": "/bin/web", "tapio.process.exit.signal": int64(11), "tapio.process.exit.signal_name": "SIGSEGV"},
		},
		"exec": {
			[]string{
				"MESSAGE_ID=" + messageSpawnFailed, "_UID=0", "UNIT=web.service", "EXECUTABLE=/bin/none", "ERRNO=2",
				"MESSAGE=web.service: Failed at step EXEC spawning /bin/none: No such file or directory",
			},
			"tapio.systemd.unit.exec_failed", plog.SeverityNumberError, "web.service",
			map[string]any{"process.executable.path": "/bin/none", "error.type": "ENOENT"},
		},
		"exec, told before as the reason": {
			[]string{
				"MESSAGE_ID=" + messageSpawnFailed, "_SYSTEMD_UNIT=web.service", "_SYSTEMD_CGROUP=/system.slice/web.service", "_UID=0", "UNIT=web.service",
				"EXECUTABLE=/bin/none", "ERRNO=2", "MESSAGE=web.service: Unable to locate executable '/bin/none': No such file or directory",
			},
			"", plog.SeverityNumberInfo, "web.service", nil,
		},
		"suppressed": {
			[]string{"MESSAGE_ID=" + messageJournalDropped, "_TRANSPORT=driver", "N_DROPPED=12"},
			"tapio.journal.messages_suppressed", plog.SeverityNumberWarn, "",
			map[string]any{"tapio.journal.messages": int64(12)},
		},
		"boot": {
			[]string{"MESSAGE_ID=" + messageStartupFinished, init, "_COMM=systemd", "_PID=1", "_UID=0", "KERNEL_USEC=1500000", "USERSPACE_USEC=2500000"},
			"tapio.system.boot_completed", plog.SeverityNumberInfo, "",
			map[string]any{"tapio.system.boot.kernel_duration": 1.5, "tapio.system.boot.userspace_duration": 2.5},
		},
		"boot of a container": {
			[]string{"MESSAGE_ID=" + messageContainerStarted, init, "_PID=1", "_COMM=systemd", "_UID=0", "USERSPACE_USEC=2500000"},
			"tapio.system.boot_completed", plog.SeverityNumberInfo, "",
			map[string]any{"tapio.system.boot.userspace_duration": 2.5},
		},
		"start of a user's manager": {
			[]string{"MESSAGE_ID=" + messageContainerStarted, "_SYSTEMD_UNIT=user@0.service", "_PID=900", "_COMM=systemd", "_UID=0", "USERSPACE_USEC=25"},
			"", plog.SeverityNumberInfo, "user@0.service", nil,
		},
		"kernel": {
			[]string{"_TRANSPORT=kernel", "SYSLOG_FACILITY=0", "MESSAGE=I/O error, dev sda, sector 8 op 0x0:(READ) flags 0x0"},
			"tapio.block_io.error", plog.SeverityNumberError, "",
			map[string]any{"tapio.block.device": "sda", "tapio.block.sector": int64(8), "tapio.block.operation": "READ"},
		},
		"not the kernel": {
			[]string{"_TRANSPORT=kernel", "SYSLOG_FACILITY=1", "MESSAGE=I/O error, dev sda, sector 8"},
			"", plog.SeverityNumberInfo, "", nil,
		},
		"disabled": {
			[]string{"_TRANSPORT=kernel", "SYSLOG_FACILITY=0", "MESSAGE=Out of memory: Killed process 5 (x) total-vm:1kB"},
			"", plog.SeverityNumberInfo, "", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			resource, r := only(t, testEncoder(t, withoutUnits), newEntry(c.fields...))
			assert.Equal(t, c.event, r.EventName())
			assert.Equal(t, c.severity, r.SeverityNumber())
			switch {
			case c.unit != "":
				assert.Equal(t, c.unit, resource["systemd.unit.name"])
			case strings.HasPrefix(c.event, "tapio.system."):
				assert.NotContains(t, resource, "systemd.unit.name", "it happened to the machine")
			}
			assert.Subset(t, r.Attributes().AsRaw(), c.attributes)
		})
	}
}

// Nobody but the part of systemd that writes a message is believed it.
func TestForgedEvents(t *testing.T) {
	id := strings.Repeat("c", 64)
	coredump := []string{"MESSAGE_ID=" + messageCoredump, "COREDUMP_UNIT=kubelet.service", "COREDUMP_CGROUP=/docker/" + id, "COREDUMP_PID=1"}
	spawn := []string{"MESSAGE_ID=" + messageSpawnFailed, "UNIT=kubelet.service", "MESSAGE=kubelet.service: Failed at step EXEC spawning /x: none"}
	oomd := []string{"_UID=1000", "_COMM=systemd-oomd", "_SYSTEMD_UNIT=user@1000.service", "_SYSTEMD_CGROUP=/user.slice/user@1000.service/app.slice/x", "UNIT=kubelet.service"}
	as := func(fields []string, more ...string) []string { return append(append([]string{}, fields...), more...) }
	for name, c := range map[string]struct {
		fields []string
		event  string
		unit   string
	}{
		"core dump by a user":              {as(coredump, oomd...), "", "user@1000.service"},
		"core dump by root in a container": {as(coredump, "_UID=0", "_COMM=systemd-coredum", "_SYSTEMD_UNIT=docker.scope", "_SYSTEMD_CGROUP=/docker.scope"), "", "docker.scope"},
		"core dump by its service":         {as(coredump, "_UID=997", "_SYSTEMD_UNIT=systemd-coredump@3-9-0.service"), "tapio.process.core_dumped", "kubelet.service"},
		"core dump of systemd":             {as(coredump, "_UID=0", "_COMM=systemd-coredum", "_SYSTEMD_CGROUP=/"), "tapio.process.core_dumped", "kubelet.service"},
		"time by a user":                   {as(oomd, "MESSAGE_ID="+messageTimeChange), "", "user@1000.service"},
		"time by its service": {
			[]string{"MESSAGE_ID=" + messageTimeChange, "_UID=0", "_SYSTEMD_UNIT=systemd-timedated.service", "_SYSTEMD_CGROUP=/system.slice/systemd-timedated.service"},
			"tapio.system.time_changed", "",
		},
		"suspended by a user":       {as(oomd, "MESSAGE_ID="+messageSleepStart), "", "user@1000.service"},
		"suspended by its service":  {[]string{"MESSAGE_ID=" + messageSleepStart, "_UID=0", "_SYSTEMD_UNIT=systemd-suspend.service", "_SYSTEMD_CGROUP=/system.slice/systemd-suspend.service"}, "tapio.system.suspended", ""},
		"shutdown by a user":        {as(oomd, "MESSAGE_ID="+messageShutdown), "", "user@1000.service"},
		"shutdown by another root":  {[]string{"MESSAGE_ID=" + messageShutdown, "_UID=0", "_COMM=systemd-logind", "_SYSTEMD_UNIT=x.service", "_SYSTEMD_CGROUP=/system.slice/x.service"}, "", "x.service"},
		"shutdown by logind":        {[]string{"MESSAGE_ID=" + messageShutdown, "_UID=0", "_SYSTEMD_UNIT=systemd-logind.service", "_SYSTEMD_CGROUP=/system.slice/systemd-logind.service"}, "tapio.system.shutdown", ""},
		"OOM kill by a user":        {as(oomd, "MESSAGE_ID="+messageUnitOomd), "", "user@1000.service"},
		"OOM kill by the manager":   {[]string{"MESSAGE_ID=" + messageUnitOomd, "_UID=0", "_PID=1", "_SYSTEMD_UNIT=init.scope", "UNIT=a.service"}, "tapio.systemd.unit.process_oom_killed", "a.service"},
		"failure by a user":         {as(oomd, "MESSAGE_ID="+messageUnitFailed, "UNIT_RESULT=exit-code"), "", "user@1000.service"},
		"failure by root":           {[]string{"MESSAGE_ID=" + messageUnitFailed, "_UID=0", "_PID=77", "_COMM=systemd", "UNIT=a.service"}, "", ""},
		"spawn by a user":           {as(spawn, "_UID=1000"), "", ""},
		"spawn by root of a scope":  {as(spawn, "_UID=0", "_SYSTEMD_UNIT=docker-"+id+".scope", "_SYSTEMD_CGROUP=/system.slice/docker-"+id+".scope"), "", "docker-" + id + ".scope"},
		"spawn by root of cgroupfs": {as(spawn, "_UID=0", "_SYSTEMD_CGROUP=/docker/"+id), "", ""},
		"spawn below the unit":      {as(spawn, "_UID=0", "_SYSTEMD_UNIT=kubelet.service", "_SYSTEMD_CGROUP=/system.slice/kubelet.service/payload"), "", "kubelet.service"},
		"spawn of the unit":         {as(spawn, "_UID=0", "_SYSTEMD_UNIT=kubelet.service", "_SYSTEMD_CGROUP=/system.slice/kubelet.service/.control"), "tapio.systemd.unit.exec_failed", "kubelet.service"},
		"spawn before it is in one": {as(spawn, "_UID=0", "_SYSTEMD_UNIT=init.scope", "_SYSTEMD_CGROUP=/init.scope"), "tapio.systemd.unit.exec_failed", "kubelet.service"},
	} {
		t.Run(name, func(t *testing.T) {
			resource, r := only(t, testEncoder(t, withoutUnits), newEntry(c.fields...))
			assert.Equal(t, c.event, r.EventName())
			unit, _ := resource["systemd.unit.name"].(string)
			assert.Equal(t, c.unit, unit)
			if c.event == "" && strings.HasPrefix(name, "core dump") {
				assert.NotContains(t, fmt.Sprint(resource["container.id"]), "ccc", "of who crashed")
			}
		})
	}
}

// Whose log it is says the log driver of a container runtime, and nobody else.
func TestContainerOfALogDriver(t *testing.T) {
	id, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	claim := []string{"CONTAINER_ID_FULL=" + id, "CONTAINER_NAME=shop", "MESSAGE=m"}
	for name, c := range map[string]struct {
		sender []string
		want   any
	}{
		"dockerd":      {[]string{"_UID=0", "_SYSTEMD_UNIT=docker.service", "_SYSTEMD_CGROUP=/system.slice/docker.service"}, id},
		"conmon":       {[]string{"_UID=0", "_SYSTEMD_CGROUP=/machine.slice/libpod-conmon-" + id + ".scope"}, id},
		"a user":       {[]string{"_UID=1000", "_SYSTEMD_CGROUP=/user.slice/x.scope"}, nil},
		"root in one":  {[]string{"_UID=0", "_SYSTEMD_CGROUP=/docker/" + other}, other},
		"root unknown": {[]string{"_UID=0"}, nil},
	} {
		resource, _ := only(t, testEncoder(t, nil), newEntry(append(c.sender, claim...)...))
		assert.Equal(t, c.want, resource["container.id"], name)
		assert.Equal(t, c.want == id, resource["container.name"] == "shop", name)
	}
}

// A core dump is of the container of who crashed, in whatever order the fields are.
func TestContainerOfACoreDump(t *testing.T) {
	id := strings.Repeat("d", 64)
	fields := []string{
		"COREDUMP_CGROUP=/kubepods/pod12345678-1234-1234-1234-123456789abc/" + id,
		"_SYSTEMD_CGROUP=/system.slice/system-systemd.slice/systemd-coredump@1.service", "_SYSTEMD_UNIT=systemd-coredump@1.service", "_UID=0", "MESSAGE_ID=" + messageCoredump,
	}
	for range fields {
		fields = append(fields[1:], fields[0])
		resource, _ := only(t, testEncoder(t, nil), newEntry(fields...))
		assert.Equal(t, id, resource["container.id"])
		assert.Equal(t, "12345678-1234-1234-1234-123456789abc", resource["k8s.pod.uid"])
	}
}

// What the bus tells of units of this machine is no event of the journal too.
func TestUnitsAreToldOnce(t *testing.T) {
	failed := []string{"MESSAGE_ID=" + messageUnitFailed, "_SYSTEMD_UNIT=init.scope", "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=db.service", "UNIT_RESULT=exit-code"}
	e := testEncoder(t, nil)
	_, r := only(t, e, newEntry(append(failed, "_MACHINE_ID=aa")...))
	assert.Empty(t, r.EventName(), "still a record, but no event")
	_, r = only(t, e, newEntry(append(failed, "_MACHINE_ID=bb", "_HOSTNAME=other")...))
	assert.Equal(t, "tapio.systemd.unit.failed", r.EventName(), "the bus does not tell of other machines")
}

// TestStartLimitByTheJournal: of a unit that is not let run again systemd says the same as of
// the failure before, of the same run.
func TestStartLimitByTheJournal(t *testing.T) {
	e := testEncoder(t, nil)
	var told []string
	fails := func(machine, unit, invocation, result string) {
		e.add(newEntry("MESSAGE_ID="+messageUnitFailed, "_SYSTEMD_UNIT=init.scope", "_COMM=systemd", "_PID=1", "_UID=0", "_MACHINE_ID="+machine, "UNIT="+unit,
			"UNIT_RESULT="+result, "INVOCATION_ID="+invocation), time.Now())
		for _, rl := range e.take().ResourceLogs().All() {
			for _, r := range rl.ScopeLogs().At(0).LogRecords().All() {
				told = append(told, strings.TrimPrefix(r.EventName(), "tapio.systemd.unit."))
			}
		}
	}
	fails("bb", "db.service", "1", "exit-code")
	fails("bb", "web.service", "2", "exit-code")
	fails("cc", "db.service", "1", "exit-code")
	fails("bb", "db.service", "3", "exit-code")
	fails("bb", "db.service", "3", "exit-code")
	fails("bb", "db.service", "3", "exit-code") // somebody starts it by hand
	fails("bb", "db.service", "4", "exit-code")
	fails("bb", "db.service", "5", "start-limit-hit") // it never failed before
	fails("bb", "db.service", "5", "start-limit-hit")
	assert.Equal(t, []string{"failed", "failed", "failed", "failed", "start_limit_hit", "", "failed", "start_limit_hit", ""}, told)
	for n := range 2 * maxRuns {
		fails("bb", "db.service", fmt.Sprint("x", n), "exit-code")
		e.failed(&entry{Entry: newEntry("INVOCATION_ID=1"), unit: fmt.Sprint(n)}, &journalEvent{})
	}
	assert.LessOrEqual(t, len(e.runs), maxRuns)
}

// In a container /etc/machine-id is missing or that of the image, and the host's
// name was given: the machine is known by what systemd tells, or by the boot of the
// kernel in which an entry was written.
func TestMachineOfAContainer(t *testing.T) {
	entry := newEntry("MESSAGE_ID="+messageUnitFailed, "_SYSTEMD_UNIT=init.scope", "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=db.service", "UNIT_RESULT=exit-code",
		"_MACHINE_ID=bb", "_HOSTNAME=node-7")
	for _, file := range []string{"", "aa"} {
		e := testEncoder(t, nil)
		e.host = &hostInfo{name: "node-7.example", machine: file}
		resource, r := only(t, e, entry)
		assert.Equal(t, "tapio.systemd.unit.failed", r.EventName(), "nothing says that it is this machine")
		assert.Equal(t, "node-7", resource["host.name"])
		for name, learn := range map[string]func(){
			"bus":  func() { e.host.told("bb") },
			"boot": func() { e.host.boot = entry.Boot },
		} {
			e.host = &hostInfo{name: "node-7.example", machine: file}
			learn()
			resource, r = only(t, e, entry)
			assert.Empty(t, r.EventName(), name)
			assert.Equal(t, "node-7.example", resource["host.name"], name)
			assert.Equal(t, "bb", resource["host.id"], name)
		}
		e.host = &hostInfo{name: "node-7.example", machine: file, boot: entry.Boot}
		e.host.told("cc")
		resource, _ = only(t, e, entry)
		assert.Equal(t, "node-7", resource["host.name"], "a container of this kernel, as systemd has told another id")
	}
}

// A machine that has the name of this one is another one.
func TestMachineOfTheSameName(t *testing.T) {
	e := testEncoder(t, nil)
	_, r := only(t, e, newEntry("MESSAGE_ID="+messageUnitFailed, "_SYSTEMD_UNIT=init.scope", "_COMM=systemd", "_PID=1", "_UID=0", "UNIT=db.service",
		"UNIT_RESULT=exit-code", "_MACHINE_ID=bb", "_HOSTNAME=node-7"))
	assert.Equal(t, "tapio.systemd.unit.failed", r.EventName())
}

func TestJournalFilter(t *testing.T) {
	entry := newEntry("MESSAGE=m", "PRIORITY=6", "_SYSTEMD_UNIT=web.service", "SYSLOG_IDENTIFIER=web", "A=1", "A=2", "B=3")
	fact := newEntry("_TRANSPORT=kernel", "PRIORITY=7", "MESSAGE=nf_conntrack: nf_conntrack: table full, dropping packet")
	for name, c := range map[string]struct {
		change func(*JournalConfig)
		want   bool
	}{
		"default":             {func(*JournalConfig) {}, true},
		"events only":         {func(c *JournalConfig) { c.EventsOnly = true }, false},
		"priority":            {func(c *JournalConfig) { c.Priority = "notice" }, false},
		"unit":                {func(c *JournalConfig) { c.Units = []string{"db*", "web.*"} }, true},
		"other unit":          {func(c *JournalConfig) { c.Units = []string{"db*"} }, false},
		"identifier":          {func(c *JournalConfig) { c.Identifiers = []string{"we?"} }, true},
		"other identifier":    {func(c *JournalConfig) { c.Identifiers = []string{"db"} }, false},
		"excluded":            {func(c *JournalConfig) { c.ExcludeUnits = []string{"web*"} }, false},
		"match":               {func(c *JournalConfig) { c.Matches = []map[string]string{{"A": "9"}, {"A": "2", "B": "3"}} }, true},
		"no match":            {func(c *JournalConfig) { c.Matches = []map[string]string{{"A": "2", "B": "4"}} }, false},
		"match without field": {func(c *JournalConfig) { c.Matches = []map[string]string{{"C": ""}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEncoder(t, func(cfg *Config) { c.change(&cfg.Journal) })
			assert.Equal(t, c.want, e.add(entry, time.Now()))
			assert.True(t, e.add(fact, time.Now()), "an event passes whatever the filters")
		})
	}
}

// Every event of the rules is declared in metadata.yaml with all its attributes,
// and so is every event by message id.
func TestEventsAreDeclared(t *testing.T) {
	text, err := os.ReadFile("metadata.yaml")
	require.NoError(t, err)
	var declared struct {
		Events map[string]struct {
			Attributes []string
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &declared))
	rules := kmsg.BuiltIn()
	for _, name := range rules.Events() {
		assert.Contains(t, declared.Events, name)
		assert.Subset(t, declared.Events[name].Attributes, rules.Keys(name), name)
	}
	for _, ev := range knownMessages {
		assert.Contains(t, declared.Events, ev.name)
	}
	enabled := enabledEvents(&createDefaultConfig().(*Config).Events)
	assert.Len(t, enabled, len(declared.Events))
	assert.False(t, enabled["tapio.oom.kill"])
	assert.True(t, enabled["tapio.kernel.soft_lockup"])
}

func TestJournalConfigErrors(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("rules: [{event: X}]"), 0o600))
	for want, change := range map[string]func(*JournalConfig){
		`journal::directories: [] is no directory`:                              func(c *JournalConfig) { c.Directories = nil },
		`journal::directories[0]: "log" is not an absolute path`:                func(c *JournalConfig) { c.Directories = []string{"log"} },
		`journal::start_at: "middle" is not end or beginning`:                   func(c *JournalConfig) { c.StartAt = "middle" },
		`journal::priority: "loud" is not one of emerg, alert`:                  func(c *JournalConfig) { c.Priority = "loud" },
		`journal::units[1]: "[" is not a pattern`:                               func(c *JournalConfig) { c.Units = []string{"a.service", "["} },
		`journal::exclude_units[0]: "" is not a pattern`:                        func(c *JournalConfig) { c.ExcludeUnits = []string{""} },
		`journal::matches[0]: {} names no field`:                                func(c *JournalConfig) { c.Matches = []map[string]string{{}} },
		`journal::matches[0]: "unit" is not the name of a field`:                func(c *JournalConfig) { c.Matches = []map[string]string{{"unit": "x"}} },
		`journal::kernel_rules: open /does/not/exist`:                           func(c *JournalConfig) { c.KernelRules = "/does/not/exist" },
		fmt.Sprintf(`journal::kernel_rules: %s: rules[0] (X): event: "X"`, bad): func(c *JournalConfig) { c.KernelRules = bad },
		`journal::poll_interval: 1ms is not in 10ms to 1m0s`:                    func(c *JournalConfig) { c.PollInterval = time.Millisecond },
		`journal::max_batch_size: 0 is not in 1 to 65536`:                       func(c *JournalConfig) { c.MaxBatchSize = 0 },
		`journal::max_field_size: 1 is not in 256 to 16777216`:                  func(c *JournalConfig) { c.MaxFieldSize = 1 },
		`journal::max_open_files: 5000 is not in 1 to 4096`:                     func(c *JournalConfig) { c.MaxOpenFiles = 5000 },
	} {
		cfg := createDefaultConfig().(*Config)
		change(&cfg.Journal)
		assert.ErrorContains(t, cfg.Validate(), want)
	}
	cfg := createDefaultConfig().(*Config)
	cfg.Units.Enabled, cfg.Journal.Enabled = false, false
	assert.ErrorContains(t, cfg.Validate(), "leaves nothing to watch")
}
