package systemd

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// nobody is the user that owns nothing, by convention.
const nobody = 65534

// TestUnits: units fail in every way, and each way is told once, by its name,
// with what explains it.
func TestUnits(t *testing.T) {
	m := boot(t)
	c := newCollector(t, m, 0)
	c.start(t)
	m.systemctl("start", "fails", "good")
	m.systemctl("start", "--no-block", "loops", "timeout", "watchdog", "jobtimeout", "hungry")
	m.systemctl("start", "needs")
	m.systemctl("start", "condition")
	m.systemctl("start", "assertion")
	m.systemctl("start", "execcondition")
	m.systemctl("reload", "good")
	m.systemctl("restart", "good")
	c.await(t, "hungry.service", "activated")
	m.oomKill(t, "hungry.service")

	c.await(t, "fails.service", "activated", "failed")
	c.await(t, "broken.service", "failed")
	c.await(t, "needs.service", "dependency_failed")
	c.await(t, "condition.service", "skipped")
	c.await(t, "assertion.service", "skipped")
	c.await(t, "execcondition.service", "skipped")
	c.await(t, "timeout.service", "failed")
	c.await(t, "watchdog.service", "activated", "watchdog")
	c.await(t, "jobtimeout.service", "job.timed_out")
	c.await(t, "hungry.service", "activated", "oom_killed")
	c.await(t, "good.service", "activated", "reloaded", "deactivated", "activated")
	c.await(t, "loops.service", "activated", "failed", "restarting 1", "restarting 2", "restarting 4", "start_limit_hit")
	c.await(t, "slow.service", "deactivated")
	t.Run("facts", func(t *testing.T) { checkFacts(t, m, c) })
	t.Run("jobs", func(t *testing.T) { checkJobs(t, c) })
	t.Run("boot", func(t *testing.T) { checkBoot(t, c) })

	// Reading all unit files again, and systemd executing itself again, change
	// nothing; what is running is not told anew.
	before := len(c.all(t))
	m.systemctl("daemon-reload")
	m.systemctl("daemon-reexec")
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.systemd.manager.reexecuted")) == 1 }, 20*time.Second, 50*time.Millisecond)
	m.systemctl("stop", "good")
	c.await(t, "good.service", "activated", "reloaded", "deactivated", "activated", "deactivated")
	assert.Len(t, c.events(t, "", "tapio.systemd.manager.reloaded"), 1)
	assert.Len(t, c.all(t), before+3, "reloaded, reexecuted, deactivated")
	c.checkNoMore(t)
	checkOrder(t, c)
}

// only returns the one event of this name.
func only(t *testing.T, c *collector, unit, name string) record {
	t.Helper()
	found := c.events(t, unit, "tapio.systemd."+name)
	require.Len(t, found, 1, "%s of %s", name, unit)
	return found[0]
}

// mainPID is the process of a service, as the machine numbers them.
func (m *machine) mainPID(t *testing.T, unit string) int64 {
	t.Helper()
	out, err := m.command("systemctl", "show", "--property=MainPID", "--value", unit).Output()
	require.NoError(t, err)
	pid, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	require.NoError(t, err)
	require.Positive(t, pid)
	return pid
}

func checkFacts(t *testing.T, m *machine, c *collector) {
	r := only(t, c, "dbus.service", "unit.running")
	assert.Equal(t, m.mainPID(t, "dbus.service"), r.attributes["process.pid"], "it ran before the collector")
	assert.Contains(t, r.attributes, "process.creation.time")
	assert.Contains(t, r.attributes["process.linux.cgroup"], "/dbus.service")
	r = only(t, c, "fails.service", "unit.failed")
	assert.Equal(t, "Error", r.severity)
	assert.Equal(t, "exit-code", r.attributes["error.type"])
	assert.Equal(t, int64(3), r.attributes["process.exit.code"])
	assert.NotContains(t, r.attributes, "tapio.systemd.snapshot")
	assert.Contains(t, r.attributes, "process.pid")
	assert.Contains(t, r.attributes, "tapio.systemd.invocation_id")
	started, err := time.Parse(time.RFC3339Nano, r.attributes["process.creation.time"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, r.at, started, 5*time.Second)

	r = only(t, c, "hungry.service", "unit.oom_killed")
	assert.Equal(t, "Fatal", r.severity, "it is critical")
	assert.Equal(t, "oom-kill", r.attributes["error.type"])
	assert.Equal(t, "SIGKILL", r.attributes["tapio.process.exit.signal_name"])
	assert.Equal(t, int64(64<<20), r.attributes["tapio.memory.limit"])
	assert.Equal(t, int64(20), r.attributes["tapio.systemd.tasks.max"])
	r = only(t, c, "hungry.service", "unit.activated")
	assert.Contains(t, r.attributes["process.linux.cgroup"], "/hungry.service")

	assert.Equal(t, "timeout", only(t, c, "timeout.service", "unit.failed").attributes["error.type"])
	assert.Equal(t, "watchdog", only(t, c, "watchdog.service", "unit.watchdog").attributes["error.type"])
	assert.Equal(t, []any{"broken.service"}, only(t, c, "needs.service", "unit.dependency_failed").attributes["tapio.systemd.dependencies"])
	r = only(t, c, "condition.service", "unit.skipped")
	assert.Equal(t, "ConditionPathExists=/nowhere", r.attributes["tapio.systemd.condition"])
	assert.Equal(t, "Info", r.severity)
	r = only(t, c, "assertion.service", "unit.skipped")
	assert.Equal(t, "AssertPathExists=/nowhere", r.attributes["tapio.systemd.condition"])
	assert.Equal(t, "Error", r.severity)
	r = only(t, c, "execcondition.service", "unit.skipped")
	assert.Contains(t, []any{nil, "ExecCondition=/bin/false"}, r.attributes["tapio.systemd.condition"], "which it was systemd forgets with the unit")
	assert.Equal(t, "Info", r.severity)

	r = only(t, c, "loops.service", "unit.start_limit_hit")
	assert.Equal(t, "start-limit-hit", r.attributes["error.type"])
	assert.Equal(t, int64(5), r.attributes["tapio.systemd.unit.restarts"])
	assert.Equal(t, int64(5), r.attributes["tapio.systemd.start_limit.burst"])
	assert.InDelta(t, 60.0, r.attributes["tapio.systemd.start_limit.interval"], 0)
}

// job returns the one span of this name.
func job(t *testing.T, c *collector, service, name string) span {
	t.Helper()
	var found []span
	require.Eventually(t, func() bool {
		found = nil
		for _, s := range c.spans(t, service) {
			if s.Name() == name+" "+service || s.Name() == name {
				found = append(found, s)
			}
		}
		return len(found) > 0
	}, 10*time.Second, 50*time.Millisecond, "no span %s of %s", name, service)
	require.Len(t, found, 1, "%s %s", name, service)
	return found[0]
}

func checkJobs(t *testing.T, c *collector) {
	// One request, one trace; who pulled in is the parent of who was pulled in,
	// and links to whom it waited for.
	good, first := job(t, c, "good.service", "start"), job(t, c, "first.service", "start")
	assert.Equal(t, good.TraceID(), first.TraceID())
	assert.True(t, good.ParentSpanID().IsEmpty())
	assert.Equal(t, good.SpanID(), first.ParentSpanID())
	require.Equal(t, 1, good.Links().Len())
	assert.Equal(t, first.SpanID(), good.Links().At(0).SpanID())
	assert.InDelta(t, 0.5, first.EndTimestamp().AsTime().Sub(first.StartTimestamp().AsTime()).Seconds(), 0.4)
	queued, _ := good.Attributes().Get("tapio.systemd.job.queued_duration")
	assert.InDelta(t, 0.5, queued.Double(), 0.4, "it waited for the first")
	require.Equal(t, 1, good.Events().Len())
	assert.Equal(t, "running", good.Events().At(0).Name())
	assert.NotEqual(t, good.TraceID(), job(t, c, "fails.service", "start").TraceID(), "another request")

	needs, broken := job(t, c, "needs.service", "start"), job(t, c, "broken.service", "start")
	assert.Equal(t, needs.SpanID(), broken.ParentSpanID())
	for _, want := range []struct {
		job    span
		result string
		status ptrace.StatusCode
	}{
		{good, "done", ptrace.StatusCodeUnset},
		{broken, "failed", ptrace.StatusCodeError},
		{needs, "dependency", ptrace.StatusCodeError},
		{job(t, c, "timeout.service", "start"), "failed", ptrace.StatusCodeError},
		{job(t, c, "jobtimeout.service", "start"), "timeout", ptrace.StatusCodeError},
		{job(t, c, "assertion.service", "start"), "assert", ptrace.StatusCodeError},
		{job(t, c, "condition.service", "start"), "done", ptrace.StatusCodeUnset},
		{job(t, c, "good.service", "restart"), "done", ptrace.StatusCodeUnset},
		{job(t, c, "good.service", "reload"), "done", ptrace.StatusCodeUnset},
	} {
		assert.Equal(t, want.result, text(want.job.Attributes(), "tapio.systemd.job.result"), want.job.Name())
		assert.Equal(t, want.status, want.job.Status().Code(), want.job.Name())
	}
	checkUnique(t, c)
}

// checkUnique: no span was told twice, and all times make sense.
func checkUnique(t *testing.T, c *collector) {
	t.Helper()
	seen := map[string]string{}
	for _, s := range c.spans(t, "") {
		id := s.SpanID().String()
		assert.NotContains(t, seen, id, "%s has the id of %s", s.Name(), seen[id])
		seen[id] = s.Name()
		assert.LessOrEqual(t, s.StartTimestamp(), s.EndTimestamp(), s.Name())
	}
}

func checkBoot(t *testing.T, c *collector) {
	spans := map[string]span{}
	for _, s := range c.spans(t, "") {
		spans[s.Name()] = s
	}
	root, ok := spans["boot"]
	require.True(t, ok)
	userspace, ok := spans["userspace"]
	require.True(t, ok)
	assert.Equal(t, root.SpanID(), userspace.ParentSpanID())
	bus, ok := spans["start dbus.service"]
	require.True(t, ok)
	assert.Equal(t, root.TraceID(), bus.TraceID())
	assert.Equal(t, userspace.SpanID(), bus.ParentSpanID())
	require.Equal(t, 1, bus.Links().Len())
	assert.Equal(t, spans["start basic.target"].SpanID(), bus.Links().At(0).SpanID(), "what it waited for")
}

// checkOrder: the events of each unit left in the order in which they happened, none twice.
func checkOrder(t *testing.T, c *collector) {
	t.Helper()
	last := map[string]record{}
	for _, r := range c.all(t) {
		assert.False(t, r.at.Before(last[r.unit].at), "%s of %s came after %s", r.name, r.unit, last[r.unit].name)
		assert.False(t, r.name == last[r.unit].name && r.at.Equal(last[r.unit].at), "%s of %s came twice", r.name, r.unit)
		last[r.unit] = r
	}
}

// TestRestarts: whatever restarts in the middle, nothing is told twice and
// nothing is missed.
func TestRestarts(t *testing.T) {
	m := boot(t)
	c := newCollector(t, m, 0)
	c.start(t)
	m.systemctl("start", "before", "endless", "good")
	m.systemctl("start", "--no-block", "long")
	m.systemctl("start", "condition") // told after that job was seen
	c.await(t, "condition.service", "skipped")
	c.await(t, "before.service", "activated", "failed")
	require.Eventually(t, func() bool { return len(c.events(t, "endless.service", "tapio.systemd.unit.restarting")) >= 2 },
		20*time.Second, 50*time.Millisecond)
	c.await(t, "good.service", "activated")
	killed := time.Now()
	c.kill()
	m.systemctl("start", "meanwhile")
	m.systemctl("stop", "good")
	c.start(t)
	c.await(t, "meanwhile.service", "failed")
	assert.Equal(t, true, only(t, c, "meanwhile.service", "unit.failed").attributes["tapio.systemd.snapshot"])
	c.await(t, "good.service", "activated", "deactivated")

	// The bus goes away; systemd goes on.
	m.systemctl("stop", "dbus.socket", "dbus.service")
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.systemd.bus.lost")) == 1 }, 20*time.Second, 50*time.Millisecond)
	m.systemctl("start", "without-bus")
	m.systemctl("start", "dbus.socket", "dbus.service")
	c.await(t, "without-bus.service", "failed")
	assert.Equal(t, true, only(t, c, "without-bus.service", "unit.failed").attributes["tapio.systemd.snapshot"])
	assert.Len(t, c.events(t, "", "tapio.systemd.bus.recovered"), 1)

	// The job that was queued before all that is one span.
	require.NoError(t, m.command("touch", "/run/end-long").Run())
	long := job(t, c, "long.service", "start")
	assert.Equal(t, "done", text(long.Attributes(), "tapio.systemd.job.result"))
	assert.True(t, long.StartTimestamp().AsTime().Before(killed), "it is known when it was queued: %s, before %s: %v", long.StartTimestamp().AsTime(), killed.UTC(), long.Attributes().AsRaw())
	assert.True(t, long.EndTimestamp().AsTime().After(only(t, c, "", "bus.recovered").at), "and that it has ended since")

	c.stop(t)
	c.start(t)
	m.systemctl("start", "fails")
	c.await(t, "fails.service", "activated", "failed")
	require.Eventually(t, func() bool {
		told := c.events(t, "endless.service", "tapio.systemd.unit.restarting")
		return told[len(told)-1].attributes["tapio.systemd.restart.count"].(int64) > 8
	}, 30*time.Second, 50*time.Millisecond, "the loop goes on")
	m.systemctl("stop", "endless")
	assert.Len(t, c.events(t, "", "tapio.systemd.started"), 3, "once for each start of the collector")
	assert.Len(t, c.events(t, "systemd-journald.service", "tapio.systemd.unit.running"), 3, "likewise")
	c.checkNoMore(t)
	checkUnique(t, c)

	var told int64
	for _, r := range c.events(t, "endless.service", "tapio.systemd.unit.restarting") {
		count := r.attributes["tapio.systemd.restart.count"].(int64)
		assert.Greater(t, count, told, "one loop, with a count that grows")
		told = count
	}
	assert.Greater(t, told, int64(8))
	assert.Less(t, len(c.events(t, "endless.service", "tapio.systemd.unit.restarting")), 12, "1, 2, 4, ..., and once after each gap")
	assert.Len(t, c.events(t, "endless.service", "tapio.systemd.unit.failed"), 1, "further failures are counted by the loop")
}

// TestBoot: a boot that is watched while it lasts is one trace, in which each
// start is told once, by its job.
func TestBoot(t *testing.T) {
	m := begin(t, "slowboot.target")
	c := newCollector(t, m, 0)
	c.start(t)
	m.systemctl("start", "timeout")
	asked := job(t, c, "timeout.service", "start")
	assert.True(t, asked.ParentSpanID().IsEmpty(), "it is no part of the boot")
	require.NoError(t, m.command("touch", "/run/end-boot").Run())
	c.await(t, "slowboot.service", "activated")
	c.await(t, "late.service", "activated")
	require.Eventually(t, func() bool {
		for _, s := range c.spans(t, "systemd") {
			if s.Name() == "boot" {
				return true
			}
		}
		return false
	}, 20*time.Second, 50*time.Millisecond, "no trace of the boot")
	checkBoot(t, c)
	checkUnique(t, c)
	userspace, slow, late := job(t, c, "systemd", "userspace"), job(t, c, "slowboot.service", "start"), job(t, c, "late.service", "start")
	for _, s := range []span{slow, late} {
		assert.Equal(t, userspace.TraceID(), s.TraceID(), s.Name())
		assert.Equal(t, "done", text(s.Attributes(), "tapio.systemd.job.result"), "%s was told by its job", s.Name())
	}
	assert.False(t, userspace.EndTimestamp().AsTime().Before(slow.EndTimestamp().AsTime()), "the boot has waited for it")
	assert.NotEqual(t, userspace.TraceID(), asked.TraceID())
	m.systemctl("start", "fails")
	assert.NotEqual(t, userspace.TraceID(), job(t, c, "fails.service", "start").TraceID(), "the boot is over")
}

// TestBootThatIsNotTold: jobs of a boot of which no trace is wanted have no parent in it.
func TestBootThatIsNotTold(t *testing.T) {
	m := begin(t, "slowboot.target")
	c := newCollector(t, m, 0, func(c *collector) { c.units = "      boot: false\n" })
	c.start(t)
	require.NoError(t, m.command("touch", "/run/end-boot").Run())
	for _, unit := range []string{"slowboot.service", "late.service", "slowboot.target"} {
		job(t, c, unit, "start")
	}
	sent := map[string]bool{}
	for _, s := range c.spans(t, "") {
		sent[s.SpanID().String()] = true
	}
	for _, s := range c.spans(t, "") {
		assert.True(t, s.ParentSpanID().IsEmpty() || sent[s.ParentSpanID().String()], "the parent of %s was sent", s.Name())
	}
}

// TestUnprivileged: a user without rights sees the same.
func TestUnprivileged(t *testing.T) {
	m := boot(t)
	c := newCollector(t, m, nobody)
	c.start(t)
	m.systemctl("start", "good")
	m.systemctl("start", "needs")
	m.systemctl("start", "fails")
	c.await(t, "good.service", "activated")
	c.await(t, "needs.service", "dependency_failed")
	c.await(t, "fails.service", "activated", "failed")
	assert.Equal(t, "exit-code", only(t, c, "fails.service", "unit.failed").attributes["error.type"])
	assert.Equal(t, "start", text(job(t, c, "good.service", "start").Attributes(), "tapio.systemd.job.type"))
	info, err := os.Stat(filepath.Join(c.dir, "logs.json"))
	require.NoError(t, err)
	assert.NotZero(t, info.Size())
}

// withJournal reads the journal of a machine, as a member of groups.
func withJournal(m *machine, groups ...uint32) func(*collector) {
	return func(c *collector) {
		c.groups = groups
		c.journal = fmt.Sprintf("{directories: [%s], start_at: beginning, poll_interval: 50ms}", m.journal())
	}
}

// TestUnprivilegedJournal: the group systemd-journal is all that a user needs in order to
// read the journal. One without it sees units as others do, and says that the journal is
// what he cannot see.
func TestUnprivilegedJournal(t *testing.T) {
	m := boot(t, func(m *machine) {
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
	})
	group, err := user.LookupGroup("systemd-journal")
	require.NoError(t, err)
	gid, err := strconv.ParseUint(group.Gid, 10, 32)
	require.NoError(t, err)
	reader, other := newCollector(t, m, nobody, withJournal(m, uint32(gid))), newCollector(t, m, nobody, withJournal(m))
	for _, c := range []*collector{reader, other} {
		c.start(t)
	}
	m.systemctl("start", "fails")
	// entries are what the journal says of the failure.
	entries := func(c *collector) int {
		n := 0
		for _, r := range c.events(t, "fails.service", "") {
			if strings.Contains(r.body, "Failed with result 'exit-code'") && r.attributes["log.record.uid"] != nil {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return entries(reader) == 1 }, 30*time.Second, 50*time.Millisecond, "the journal is not read")
	for _, c := range []*collector{reader, other} {
		require.Eventually(t, func() bool { return len(c.events(t, "fails.service", "tapio.systemd.unit.failed")) == 1 }, 30*time.Second, 50*time.Millisecond)
		c.stop(t)
	}
	const denied = "permission denied"
	assert.NotContains(t, only(t, reader, "", "started").body, denied)
	assert.NotContains(t, reader.out.String(), denied)

	assert.Zero(t, entries(other))
	assert.Contains(t, only(t, other, "", "started").body, "; not seen: the journal: ")
	assert.Contains(t, only(t, other, "", "started").body, "system.journal: "+denied)
	assert.Contains(t, other.out.String(), "some of the journal cannot be read; everything else works on")
}

// TestRepairedMeanwhile: a unit that failed and was repaired while the collector or the
// bus was away is told by the journal; one that the snapshot finds is told once.
func TestRepairedMeanwhile(t *testing.T) {
	m := boot(t, func(m *machine) {
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
	})
	c := newCollector(t, m, 0, withJournal(m))
	c.start(t)
	breakUnits := func() {
		m.systemctl("start", "fails", "meanwhile")
		for _, unit := range []string{"fails", "meanwhile"} {
			require.Eventually(t, func() bool { return m.command("systemctl", "is-failed", "--quiet", unit).Run() == nil }, 20*time.Second, 50*time.Millisecond)
		}
		m.systemctl("reset-failed", "meanwhile")
	}
	told := func(unit string, want int) {
		t.Helper()
		require.Eventually(t, func() bool { return len(c.events(t, unit, "tapio.systemd.unit.failed")) == want }, 20*time.Second, 50*time.Millisecond, "%s", unit)
	}
	c.stop(t)
	breakUnits()
	c.start(t)
	told("meanwhile.service", 1)
	told("fails.service", 1)
	m.systemctl("stop", "dbus.socket", "dbus.service")
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.systemd.bus.lost")) == 1 }, 20*time.Second, 50*time.Millisecond)
	breakUnits()
	m.systemctl("start", "dbus.socket", "dbus.service")
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.systemd.bus.recovered")) == 1 }, 20*time.Second, 50*time.Millisecond)
	told("meanwhile.service", 2)
	told("fails.service", 2)
	for _, r := range c.events(t, "fails.service", "tapio.systemd.unit.failed") {
		assert.Equal(t, true, r.attributes["tapio.systemd.snapshot"])
	}
	m.systemctl("start", "good")
	require.Eventually(t, func() bool { return len(c.events(t, "good.service", "tapio.systemd.unit.activated")) == 1 }, 20*time.Second, 50*time.Millisecond)
	told("meanwhile.service", 2)
	told("fails.service", 2)
}
