package systemd

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// deploy gives ledger another release, as everybody does.
func (n *node) deploy(t *testing.T, service string) {
	t.Helper()
	_ = n.rollOut(t, "ledger", "[Service]\n"+service) // which fails where the release does at once
}

const (
	// loopingRelease ends soon after its start, and is given up after a few.
	loopingRelease = "Restart=on-failure\nRestartSec=300ms\nExecStart=\nExecStart=/bin/sh -c \"echo 'FATAL: cannot read /etc/ledger/tls.key' >&2; sleep 0.3; exit 78\"\n" +
		"[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=5\n"
	missingRelease = "ExecStart=\nExecStart=/opt/ledger/bin/ledgerd\n"
)

// lasting is longer than a unit must be well for its next failure to be another one.
const lasting = 11 * time.Second

// findings waits until the findings are these, in the order of their causes, and have
// counted all orders that failed, but for few: a restart stops the unit first, which can hurt,
// too. Such a finding is left out.
func (n *node) findings(t *testing.T, want ...string) []*finding.Finding {
	t.Helper()
	r := n.load.Stop(t)
	var all []*finding.Finding
	ok := assert.Eventually(t, func() bool {
		all = n.collector.Findings(t)
		var failed int64
		for _, f := range all {
			failed += f.Impact.FailedRequests
		}
		all = slices.DeleteFunc(all, func(f *finding.Finding) bool {
			return f.Pattern == "unit-stopped" && f.Impact.FailedRequests < 15 && !slices.Contains(want, f.Pattern)
		})
		slices.SortFunc(all, func(a, b *finding.Finding) int { return a.Chain[0].Time.Compare(b.Chain[0].Time) })
		var found []string
		for _, f := range all {
			found = append(found, f.Pattern)
		}
		return failed >= r.Failed-3 && failed <= r.Failed && slices.Equal(found, want)
	}, 30*time.Second, 200*time.Millisecond)
	for _, f := range n.collector.Findings(t) {
		rig.Log(t, f)
		t.Logf("  %s", f.RootCause.Description)
	}
	require.True(t, ok, "not the findings %v with all %d orders that failed", want, r.Failed)
	for _, f := range all {
		assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
		for _, l := range f.Chain[1:] {
			assert.False(t, l.Time.Before(f.Chain[0].Time.Add(-time.Second)), "%s: %q comes before its cause", f.Pattern, l.Title)
		}
	}
	return all
}

// TestReleaseIsGivenUp: a release that ends at once is rolled out. Its first failure leads, the
// loop and the limit follow, and what was done just before is told.
func TestReleaseIsGivenUp(t *testing.T) {
	n := startNode(t)
	n.deploy(t, loopingRelease)
	n.collector.Record(t, "tapio.systemd.unit.start_limit_hit", "ledger.service")
	n.load.WaitFailed(t, 60)
	f := n.findings(t, "unit-start-limit")[0]
	assert.Equal(t, "tapio.systemd.unit.failed", f.RootCause.Event)
	assert.EqualValues(t, 78, f.RootCause.Evidence["process.exit.code"])
	assert.Contains(t, f.RootCause.Description, "its main process ended with exit code 78")
	assert.Contains(t, f.RootCause.Description, "daemon-reload")
	assert.Equal(t, finding.StateOpen, f.State, "what was up between two restarts is not mended")
	assert.Contains(t, f.RootCause.Evidence, "tapio.systemd.manager.reloaded")
	assert.Contains(t, f.Actions.Immediate[0], "systemctl reset-failed ledger.service")
	for _, event := range []string{"tapio.systemd.unit.restarting", "tapio.systemd.unit.start_limit_hit"} {
		assert.False(t, rig.Link(t, f, event, "").Time.Before(f.Chain[0].Time), "%s comes before the first failure", event)
	}
	rig.Link(t, f, "tapio.call.failed", "")
	for _, c := range f.EarlierCauses {
		assert.NotEqual(t, f.RootCause.Event, c.Event, "it is the same cause all the time")
	}
}

// TestReleaseThatIsNotThere: the executable of a release is missing, which a restart does not mend.
func TestReleaseThatIsNotThere(t *testing.T) {
	n := startNode(t)
	n.deploy(t, missingRelease)
	n.load.WaitFailed(t, 30)
	f := n.findings(t, "unit-failed")[0]
	assert.Contains(t, f.RootCause.Description, "exit code 203 (EXEC: its executable could not be run)")
	assert.Contains(t, f.Actions.Immediate[0], "Failed at step EXEC spawning /opt/ledger/bin/ledgerd: No such file or directory")
	rig.Link(t, f, "tapio.systemd.unit.exec_failed", "")
}

// TestUnitBreaksAgain: a unit fails and is repaired, and within minutes, while that finding
// is still there, breaks again in each way. That is a finding of its own, and the first
// says what it said.
func TestUnitBreaksAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		want string
		play func(*testing.T, *node)
	}{
		"by a failure": {"unit-failed", func(_ *testing.T, n *node) {
			n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "ledger")
		}},
		"by the start limit": {"unit-start-limit", func(t *testing.T, n *node) {
			n.deploy(t, loopingRelease)
			n.collector.Record(t, "tapio.systemd.unit.start_limit_hit", "ledger.service")
		}},
		"by a stop":                  {"unit-stopped", func(_ *testing.T, n *node) { n.systemctl("stop", "ledger") }},
		"for want of its executable": {"unit-failed", func(t *testing.T, n *node) { n.deploy(t, missingRelease) }},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t)
			n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "ledger")
			n.load.WaitFailed(t, 20)
			n.systemctl("start", "ledger")
			started := time.Now()
			n.load.WaitOK(t, n.load.Report(t).OK+50)
			time.Sleep(time.Until(started.Add(lasting)))
			first := n.load.Report(t).Failed
			var mended *finding.Finding
			require.Eventually(t, func() bool {
				all := n.collector.Findings(t)
				if len(all) == 1 {
					mended = all[0]
				}
				return mended != nil && mended.State == finding.StateMended
			}, 20*time.Second, 200*time.Millisecond, "it is told that it is repaired")
			assert.Contains(t, mended.Actions.Immediate[0], "Nothing to do at once")
			tc.play(t, n)
			n.load.WaitFailed(t, first+30)
			all := n.findings(t, "unit-failed", tc.want)
			assert.Equal(t, first, all[0].Impact.FailedRequests, "the first is as it was")
			assert.EqualValues(t, 2, all[0].RootCause.Evidence["process.exit.code"])
			assert.Equal(t, int64(1), all[0].Chain[0].Count)
			assert.Equal(t, mended.MendedAt, all[0].MendedAt)
			assert.Equal(t, finding.StateOpen, all[1].State)
			assert.NotEqual(t, all[0].ID, all[1].ID)
			assert.True(t, all[1].Chain[0].Time.After(started))
		})
	}
}
