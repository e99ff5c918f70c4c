package systemd

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// again are units that fail, are started again, and fail again: by a signal, in each way
// in which a start fails, and started by a timer, a socket and a path.
var again = map[string]string{
	"again.service":      "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\n",
	"executable.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/nonexistent\n",
	"control.service":    "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=/bin/false\nExecStart=/bin/sleep infinity\n",
	"mnt-again.mount":    "[Unit]\nStartLimitIntervalSec=0\n[Mount]\nWhat=/dev/nonexistent\nWhere=/mnt/again\nType=ext4\n",
	"ticks.service":      "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/false\n",
	"ticks.timer":        "[Timer]\nOnActiveSec=100ms\nOnUnitInactiveSec=300ms\nAccuracySec=1ms\n",
	"called.service":     "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n[Service]\nExecStart=/bin/false\n",
	"called.socket":      "[Socket]\nListenStream=127.0.0.1:7999\nTriggerLimitIntervalSec=0\n",
	"there.service":      "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n[Service]\nType=oneshot\nExecStart=/bin/false\n",
	"there.path":         "[Path]\nPathExists=/run/there\n",
	"killed.service":     "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=10ms\nExecStart=/bin/sleep infinity\nExecReload=/bin/true\n",
}

// show is a property of a unit of the machine.
func (m *machine) show(unit, property string) string {
	out, _ := m.command("systemctl", "show", "--property="+property, "--value", unit).Output()
	return strings.TrimSpace(string(out))
}

// awaitUnit waits until what was told of a unit, apart from its jobs and its journal, is
// this.
func (c *collector) awaitUnit(t *testing.T, unit string, want ...string) {
	t.Helper()
	var told []string
	ok := assert.Eventually(t, func() bool {
		told = nil
		for _, r := range c.events(t, unit, "") {
			if name, is := strings.CutPrefix(r.name, "tapio.systemd.unit."); is {
				told = append(told, name)
			}
		}
		return slices.Equal(told, want)
	}, 20*time.Second, 50*time.Millisecond)
	require.True(t, ok, "%s: %v instead of %v", unit, told, want)
}

// TestFailsAgain: a unit that has failed and is started has not failed anew, and when it
// does, that is told as what it is.
func TestFailsAgain(t *testing.T) {
	for _, journal := range []bool{false, true} {
		t.Run(fmt.Sprintf("journal %t", journal), func(t *testing.T) { failAgain(t, journal) })
	}
}

func failAgain(t *testing.T, journal bool) {
	m := boot(t, func(m *machine) {
		m.units = again
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
	})
	await := func(what string, is func() bool) {
		t.Helper()
		require.Eventually(t, is, 20*time.Second, 20*time.Millisecond, what)
	}
	// abort kills the main process of a service and waits until it has failed.
	abort := func(unit string) {
		t.Helper()
		m.systemctl("kill", "--kill-whom=main", "--signal=ABRT", unit)
		await("failed", func() bool { return m.show(unit, "ActiveState") == "failed" })
	}
	// What was restarted before the collector came is no loop that begins now.
	m.systemctl("start", "killed")
	for n := range 3 {
		m.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "killed")
		await("restarted", func() bool {
			return m.show("killed", "NRestarts") == fmt.Sprint(n+1) && m.show("killed", "SubState") == "running"
		})
	}
	var options []func(*collector)
	if journal {
		options = append(options, func(c *collector) {
			c.journal = fmt.Sprintf("{directories: [%s], poll_interval: 50ms}", m.journal())
		})
	}
	c := newCollector(t, m, 0, options...)
	c.start(t)
	m.systemctl("reload", "killed")
	c.awaitUnit(t, "killed.service", "running", "reloaded")
	m.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "killed")
	c.awaitUnit(t, "killed.service", "running", "reloaded", "failed", "restarting")
	assert.Equal(t, int64(1), only(t, c, "killed.service", "unit.restarting").attributes["tapio.systemd.restart.count"])

	m.systemctl("start", "again")
	abort("again")
	c.awaitUnit(t, "again.service", "activated", "failed")
	m.systemctl("start", "again")
	c.awaitUnit(t, "again.service", "activated", "failed", "activated")
	abort("again")
	c.awaitUnit(t, "again.service", "activated", "failed", "activated", "failed")
	m.systemctl("stop", "dbus.socket", "dbus.service")
	await("lost", func() bool { return len(c.events(t, "", "tapio.systemd.bus.lost")) == 1 })
	m.systemctl("restart", "again")
	abort("again")
	m.systemctl("start", "dbus.socket", "dbus.service")
	c.awaitUnit(t, "again.service", "activated", "failed", "activated", "failed", "failed")
	m.systemctl("start", "again")
	c.awaitUnit(t, "again.service", "activated", "failed", "activated", "failed", "failed", "activated")
	pids := map[any]bool{}
	for _, r := range c.events(t, "again.service", "tapio.systemd.unit.failed") {
		pids[r.attributes["process.pid"]] = true
		assert.Contains(t, []any{"signal", "core-dump"}, r.attributes["error.type"])
	}
	assert.Len(t, pids, 3, "each of the run that failed")

	for _, unit := range []string{"executable.service", "control.service", "mnt-again.mount"} {
		for n := 1; n <= 2; n++ {
			m.systemctl("start", unit)
			await("told", func() bool { return len(c.events(t, unit, "tapio.systemd.unit.failed")) == n })
		}
	}
	m.systemctl("start", "ticks.timer")
	await("three ticks", func() bool { return len(c.events(t, "ticks.service", "tapio.systemd.unit.failed")) >= 3 })
	m.systemctl("stop", "ticks.timer")
	require.NoError(t, m.command("touch", "/run/there").Run())
	m.systemctl("start", "called.socket", "there.path")
	_ = m.command("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/7999").Run()
	limited := map[string]int{"called.service": 1, "there.service": 1}
	for unit := range limited {
		await(unit+" is given up", func() bool { return len(c.events(t, unit, "tapio.systemd.unit.start_limit_hit")) == 1 })
	}
	runs := map[any]bool{}
	for _, r := range c.all(t) {
		switch r.name {
		case "tapio.systemd.unit.failed":
			run := r.attributes["tapio.systemd.invocation_id"]
			assert.False(t, runs[run], "%s failed twice in one run", r.unit)
			assert.NotEqual(t, "success", r.attributes["error.type"], r.unit)
			runs[run] = true
		case "tapio.systemd.unit.start_limit_hit":
			assert.Equal(t, 1, limited[r.unit], r.unit)
		}
	}
	for unit := range limited {
		assert.Len(t, c.events(t, unit, "tapio.systemd.unit.failed"), 3, unit)
	}
}

// TestStartLimitByTheJournal: while the bus is away a unit is given up, and then started by
// hand: each run has failed once, and the limit is one event.
func TestStartLimitByTheJournal(t *testing.T) {
	m := boot(t, func(m *machine) {
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
	})
	c := newCollector(t, m, 0, withJournal(m))
	c.start(t)
	m.systemctl("stop", "dbus.socket", "dbus.service")
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.systemd.bus.lost")) == 1 }, 20*time.Second, 50*time.Millisecond)
	m.systemctl("start", "--no-block", "loops")
	require.Eventually(t, func() bool { return len(c.events(t, "loops.service", "tapio.systemd.unit.start_limit_hit")) > 0 }, 30*time.Second, 50*time.Millisecond)
	m.systemctl("start", "loops") // it is not let
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(c.events(t, "loops.service", ""), func(r record) bool {
			return r.name == "" && strings.Contains(r.body, "Failed with result")
		})
	}, 30*time.Second, 50*time.Millisecond, "the second refusal is a plain entry")
	assert.Len(t, c.events(t, "loops.service", "tapio.systemd.unit.start_limit_hit"), 1)
	runs := map[any]bool{}
	for _, r := range c.events(t, "loops.service", "tapio.systemd.unit.failed") {
		run := r.attributes["tapio.systemd.invocation_id"]
		assert.False(t, runs[run], "a run has failed twice")
		runs[run] = true
	}
	assert.Len(t, runs, 5, "as many as StartLimitBurst allows")
}

// TestRepairedUnitFailsAgain: who follows the advice of a finding and restarts the unit
// is told that it failed again, not that it was started too often.
func TestRepairedUnitFailsAgain(t *testing.T) {
	n := startNode(t)
	abort := func() {
		before := n.load.Report(t).Failed
		n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "ledger")
		n.load.WaitFailed(t, before+20)
	}
	abort()
	n.systemctl("restart", "ledger")
	n.load.WaitOK(t, 50)
	abort()
	r := n.load.Stop(t)
	var all []*finding.Finding
	ok := assert.Eventually(t, func() bool {
		all = n.collector.Findings(t)
		var failed int64
		for _, f := range all {
			failed += f.Impact.FailedRequests
		}
		return failed == r.Failed
	}, 30*time.Second, 200*time.Millisecond)
	for _, f := range all {
		rig.Log(t, f)
		assert.Equal(t, "unit-failed", f.Pattern)
		assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	}
	require.True(t, ok, "all %d orders that failed are in a finding", r.Failed)
}
