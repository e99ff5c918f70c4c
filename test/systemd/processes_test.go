package systemd

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestProcessesBesideTheMainOne: what fails beside the main process of a unit is told with
// its exit code; a reload that fails is no success, and a program that does not exist is
// one event of its unit.
func TestProcessesBesideTheMainOne(t *testing.T) {
	m := boot(t, func(m *machine) {
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
		m.units = map[string]string{
			"unready.service":  "[Service]\nExecStartPre=/bin/sh -c 'exit 42'\nExecStart=/bin/sleep 1000\n",
			"mnt-none.mount":   "[Mount]\nWhat=/dev/none\nWhere=/mnt/none\nType=ext4\n",
			"stubborn.service": "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/false\n",
			"missing.service":  "[Service]\nExecStart=/nonexistent/binary\n",
		}
	})
	c := newCollector(t, m, 0, withJournal(m))
	c.start(t)
	for _, unit := range []string{"unready", "mnt-none.mount", "missing", "stubborn"} {
		m.systemctl("start", unit)
	}
	m.systemctl("reload", "stubborn")
	told := func(unit, name string) record {
		t.Helper()
		require.Eventually(t, func() bool { return len(c.events(t, unit, "tapio.systemd.unit."+name)) == 1 }, 20*time.Second, 50*time.Millisecond, "%s of %s", name, unit)
		return only(t, c, unit, "unit."+name)
	}
	unready := told("unready.service", "failed")
	assert.Equal(t, int64(42), unready.attributes["process.exit.code"])
	assert.Equal(t, "ExecStartPre", unready.attributes["tapio.systemd.unit.command"])
	mount := told("mnt-none.mount", "failed")
	assert.Equal(t, int64(32), mount.attributes["process.exit.code"], "mount(8): it failed")
	assert.Equal(t, "ExecMount", mount.attributes["tapio.systemd.unit.command"])
	assert.Equal(t, "exit-code", told("stubborn.service", "reload_failed").attributes["error.type"])
	assert.Empty(t, c.events(t, "stubborn.service", "tapio.systemd.unit.reloaded"))
	job(t, c, "stubborn.service", "reload")
	told("missing.service", "failed")
	assert.Equal(t, "/nonexistent/binary", told("missing.service", "exec_failed").attributes["process.executable.path"])
}

// TestEndsBesideTheMainProcess: a unit whose main process ended well is told with the time
// and the exit code of what failed instead, and the spans of jobs say the same, or that
// systemd did not let it start.
func TestEndsBesideTheMainProcess(t *testing.T) {
	m := boot(t, func(m *machine) {
		m.units = map[string]string{
			"remains.service":    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStop=/bin/sh -c 'exit 7'\n",
			"afterwards.service": "[Service]\nExecStart=/bin/sleep 1000\nExecStopPost=/bin/sh -c 'exit 8'\n",
			"unready.service":    "[Service]\nExecStartPre=/bin/sh -c 'exit 42'\nExecStart=/bin/sleep 1000\n",
			"unhappy.service":    "[Service]\nExecStart=/bin/sleep 1000\nExecStartPost=/bin/sh -c 'exit 6'\n",
			"mnt-none.mount":     "[Mount]\nWhat=/dev/none\nWhere=/mnt/none\nType=ext4\n",
			"alone.socket":       "[Socket]\nListenStream=/run/alone\n",
			"hasty.service":      "[Unit]\nStartLimitBurst=1\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'exit 3'\n",
		}
	})
	c := newCollector(t, m, 0)
	c.start(t)
	m.systemctl("start", "remains", "afterwards")
	job(t, c, "remains.service", "start")
	job(t, c, "afterwards.service", "start")
	stopping := time.Now()
	m.systemctl("stop", "remains", "afterwards")
	for unit, want := range map[string]struct {
		command string
		code    int64
	}{"remains.service": {"ExecStop", 7}, "afterwards.service": {"ExecStopPost", 8}} {
		require.Eventually(t, func() bool { return len(c.events(t, unit, "tapio.systemd.unit.failed")) == 1 }, 20*time.Second, 50*time.Millisecond, unit)
		failed := only(t, c, unit, "unit.failed")
		assert.Equal(t, want.command, failed.attributes["tapio.systemd.unit.command"], unit)
		assert.Equal(t, want.code, failed.attributes["process.exit.code"], unit)
		assert.NotContains(t, failed.attributes, "tapio.process.exit.signal", unit)
		assert.False(t, failed.at.Before(stopping), "%s failed at %s, and was stopped at %s", unit, failed.at, stopping)
	}
	for _, unit := range []string{"unready", "unhappy", "mnt-none.mount", "alone.socket", "hasty"} {
		m.systemctl("start", unit)
	}
	for unit, why := range map[string]string{
		"unready.service": "result exit-code, the process of its ExecStartPre exited with code 42",
		"unhappy.service": "result exit-code, the process of its ExecStartPost exited with code 6",
		"mnt-none.mount":  "result exit-code, the process of its ExecMount exited with code 32",
		"alone.socket":    "systemd refused to start it",
		"hasty.service":   "its main process exited with code 3",
	} {
		assert.Equal(t, why, job(t, c, unit, "start").Status().Message(), unit)
	}
	m.systemctl("start", "hasty")
	require.Eventually(t, func() bool { return len(c.spans(t, "hasty.service")) == 2 }, 20*time.Second, 50*time.Millisecond)
	spans := c.spans(t, "hasty.service")
	assert.Equal(t, "it was started too often (StartLimitBurst)", spans[1].Status().Message())
}

// TestUnitsThatAreChosen: which units are watched is said by globs, which instances of a
// template and names with escapes match like others, and one that is left out is told
// neither over the bus nor from the journal.
func TestUnitsThatAreChosen(t *testing.T) {
	fails := "[Service]\nExecStart=/bin/false\n"
	m := boot(t, func(m *machine) {
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
		m.units = map[string]string{
			"worker@.service": fails, "batch@.service": fails, `a\x2db.service`: fails, "mnt-none.mount": "[Mount]\nWhat=/dev/none\nWhere=/mnt/none\nType=ext4\n",
		}
	})
	c := newCollector(t, m, 0, withJournal(m), func(c *collector) {
		c.units = `      include: ["*.service"]
      exclude: ["batch@*.service"]
`
	})
	c.start(t)
	for _, unit := range []string{"batch@1", "mnt-none.mount", `a\x2db`, "worker@1"} {
		m.systemctl("start", unit)
	}
	for _, unit := range []string{"worker@1.service", `a\x2db.service`} {
		require.Eventually(t, func() bool { return len(c.events(t, unit, "tapio.systemd.unit.failed")) == 1 }, 20*time.Second, 50*time.Millisecond, "%s", unit)
		job(t, c, unit, "start")
	}
	told := func(unit, text string) bool { // by the journal, as a plain entry
		return slices.ContainsFunc(c.events(t, unit, ""), func(r record) bool { return strings.Contains(r.body, text) })
	}
	require.Eventually(t, func() bool {
		return told("batch@1.service", "Failed with result") && told("mnt-none.mount", "Failed with result")
	},
		20*time.Second, 50*time.Millisecond, "what the journal says of others is read all the same")
	for _, unit := range []string{"batch@1.service", "mnt-none.mount"} {
		for _, r := range c.events(t, unit, "") {
			assert.Empty(t, r.name, unit)
		}
		assert.Empty(t, c.spans(t, unit), unit)
	}
}
