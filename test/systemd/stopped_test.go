package systemd

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// healthy says to systemd that ledger is alive, for as long as it answers. It gives up
// with its parent, the main process.
const healthy = `while exec 3<>/dev/tcp/127.0.0.1/8082 && printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3 && read -t 30 -u 3; do
	exec 3>&-
	systemd-notify WATCHDOG=1
	sleep 0.2
done
`

// TestUnitHangs: ledger answers no more, those who call it wait in vain, and then systemd
// ends it, because it has not said for too long that it is alive.
func TestUnitHangs(t *testing.T) {
	n := startNode(t, func(m *machine) { m.files = map[string]string{"usr/lib/healthy": healthy} }, withUnits(map[string]string{
		"ledger.service.d/watchdog.conf": "[Service]\nWatchdogSec=5s\nNotifyAccess=all\nExecStart=\n" +
			"ExecStart=sh -c 'sleep 1 && bash /usr/lib/healthy & exec /opt/tapio/checkout ledger'\n",
	}))
	n.systemctl("kill", "--kill-whom=main", "--signal=STOP", "ledger")
	n.collector.Record(t, "tapio.systemd.unit.watchdog", "ledger.service")
	n.load.WaitFailed(t, 60)
	f := n.only(t, "unit-watchdog", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.Equal(t, "unit", f.RootCause.Entity.Kind)
	assert.Equal(t, n.name, f.RootCause.Entity.Attributes["host.name"])
	call := rig.Link(t, f, "tapio.call.failed", "")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
}

// TestUnitIsGivenUp: ledger does not come up again after it was killed, and systemd tries
// no more.
func TestUnitIsGivenUp(t *testing.T) {
	n := startNode(t, withUnits(map[string]string{
		"ledger.service.d/limit.conf": "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=4\n[Service]\nRestart=always\nRestartSec=200ms\n",
	}))
	n.touch(t, "/run/broken")
	n.systemctl("kill", "--kill-whom=main", "--signal=KILL", "ledger")
	n.collector.Record(t, "tapio.systemd.unit.start_limit_hit", "ledger.service")
	n.load.WaitFailed(t, 30)
	f := n.only(t, "unit-start-limit", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.Equal(t, "tapio.systemd.unit.failed", f.RootCause.Event, "the first failure leads")
	assert.False(t, rig.Link(t, f, "tapio.systemd.unit.start_limit_hit", "").Time.Before(f.Chain[0].Time))
	assert.Contains(t, f.Actions.Immediate[0], "systemctl reset-failed ledger.service")
	assert.Equal(t, finding.LinkedByOwner, rig.Link(t, f, "tapio.systemd.unit.restarting", "").LinkedBy)
	call := rig.Link(t, f, "tapio.call.failed", "")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
}

// TestUnitIsStopped: somebody stops ledger in good order while payment calls it.
func TestUnitIsStopped(t *testing.T) {
	n := startNode(t)
	n.systemctl("stop", "ledger")
	n.load.WaitFailed(t, 30)
	f := n.only(t, "unit-stopped", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.Equal(t, n.name, f.RootCause.Entity.Attributes["host.name"])
	assert.Contains(t, f.Actions.Immediate[0], "systemctl start ledger.service")
	call := rig.Link(t, f, "tapio.call.failed", "")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
}

// TestUnitWhoseDependencyIsNotFailed: payment is started again and requires the book, which is
// not there: an assertion of that unit says so, which is no failure of its own.
func TestUnitWhoseDependencyIsNotFailed(t *testing.T) {
	n := startNode(t, withUnits(map[string]string{
		"payment.service.d/book.conf": "[Unit]\nRequires=book.service\nAfter=book.service\n",
		"book.service":                "[Unit]\nAssertPathExists=!/run/broken\n[Service]\nType=oneshot\nExecStart=true\n",
	}))
	n.touch(t, "/run/broken")
	n.systemctl("restart", "payment")
	n.load.WaitFailed(t, 30)
	f := n.only(t, "unit-dependency-failed", nil)
	assert.Equal(t, "payment.service", f.RootCause.Entity.Name)
	assert.Contains(t, f.RootCause.Description, "because book.service")
	assert.Contains(t, f.Actions.Immediate[0], "systemctl start book.service")
	call := rig.Link(t, f, "tapio.call.failed", "")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
}
