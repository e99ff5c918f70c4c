package systemd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// badRelease says why it cannot run, in colour, and ends.
const badRelease = `[Service]
ExecStart=
ExecStart=/bin/sh -c "echo reading configuration; printf '\\033[31mFATAL: cannot read /etc/ledger/tls.key: permission denied\\033[0m\\n' >&2; sleep 0.3; exit 78"
Restart=on-failure
RestartSec=300ms
[Unit]
`

// rollOut makes a running machine read a drop-in of a unit, and restarts that: the error of
// the restart is that of a release that fails at once.
func (n *node) rollOut(t *testing.T, unit, dropIn string) error {
	t.Helper()
	dir := filepath.Join(n.base, "units", unit+".service.d")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "release.conf"), []byte(dropIn), 0o644))
	n.systemctl("daemon-reload")
	return n.command("systemctl", "restart", unit).Run()
}

// TestBadRelease: a new release of ledger is rolled out, says why it cannot run and ends,
// again and again, until systemd gives it up or for ever. The finding has what it said.
func TestBadRelease(t *testing.T) {
	t.Run("given up", func(t *testing.T) { badReleaseOf(t, badRelease+"StartLimitIntervalSec=60\nStartLimitBurst=5\n") })
	t.Run("for ever", func(t *testing.T) { badReleaseOf(t, badRelease+"StartLimitIntervalSec=0\n") })
}

func badReleaseOf(t *testing.T, dropIn string) {
	t.Helper()
	n := startNode(t)
	require.NoError(t, n.rollOut(t, "ledger", dropIn))
	said := func(f *finding.Finding) bool {
		return slices.ContainsFunc(f.RootCause.LastLines, func(l finding.LogLine) bool {
			return strings.Contains(l.Text, "FATAL: cannot read /etc/ledger/tls.key: permission denied")
		})
	}
	var f *finding.Finding
	n.load.WaitFailed(t, 60) // until it was restarted several times
	require.Eventually(t, func() bool {
		all := n.collector.Findings(t)
		i := slices.IndexFunc(all, func(f *finding.Finding) bool { return f.RootCause.Entity.Name == "ledger.service" && said(f) })
		if i >= 0 {
			f = all[i]
		}
		return i >= 0
	}, 30*time.Second, 200*time.Millisecond, "no finding has what the release said")
	assert.NotContains(t, strings.Join(f.Missing, " "), "What ledger.service logged")
	assert.EqualValues(t, 78, f.RootCause.Evidence["process.exit.code"])
	for _, l := range f.RootCause.LastLines {
		assert.NotContains(t, l.Text, "Failed with result", "what systemd says is not what the release said")
	}
	rig.Log(t, f)
	shown := n.collector.Show(t, f.ID.String())
	assert.Contains(t, shown, "LAST LOG LINES\n")
	assert.Contains(t, shown, "FATAL: cannot read /etc/ledger/tls.key: permission denied")
	assert.NotContains(t, shown, "\x1b", "what it printed must not reach the terminal as it is")
}

// TestUnitThatFailedUnwatched: payment fails while no collector runs. Afterwards nobody
// knows where it listened; the finding says that it is failed.
func TestUnitThatFailedUnwatched(t *testing.T) {
	n := startNode(t)
	n.collector.Restart(t, func() {
		n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "payment")
		require.Eventually(t, func() bool { return n.show("payment", "ActiveState") == "failed" }, 10*time.Second, 20*time.Millisecond)
	})
	n.load.WaitFailed(t, 30)
	f := n.collector.Only(t, "connection-refused", func(f *finding.Finding) bool {
		return strings.Contains(strings.Join(f.Missing, " "), "these units are or were failed")
	})
	assert.NotEqual(t, "unit", f.RootCause.Entity.Kind, "nothing says that it was payment that listened there")
	assert.Regexp(t, "these units are or were failed on "+n.name+": payment.service since 20[0-9-]+ [0-9:]+ UTC", strings.Join(f.Missing, " "))
}
