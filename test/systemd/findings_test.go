package systemd

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// node is a machine on which the shop's services are units, with a collector that
// watches it and a load generator outside.
type node struct {
	*machine
	collector *rig.Collector
	load      *rig.Load
}

const nodeReceivers = `
receivers:
  tapio_systemd:
    host_name: %[1]s
    storage: file_storage
    units: {bus_address: "%[2]s", sample_interval: 1s}
    journal: {directories: [%[3]s], poll_interval: 50ms}
`

// startNode boots a machine and the shop in it, and waits until orders go well.
func startNode(t *testing.T, options ...func(*machine)) *node {
	t.Helper()
	n := bootNode(t, options...)
	n.systemctl("start", "ledger", "payment", "storefront")
	rig.WaitListening(t, n.netns, "127.0.0.1:8082", "127.0.0.1:8081")
	n.startLoad(t)
	return n
}

// startLoad sends orders to the storefront and waits until all go well: where tests share
// a busy machine, one of the first may find nobody who answers in time.
func (n *node) startLoad(t *testing.T) {
	t.Helper()
	for range 5 {
		n.load = rig.StartLoad(t, n.netns, "http://127.0.0.1:8080", "http://127.0.0.1:4317")
		n.load.WaitOK(t, 50)
		if n.load.Report(t).Failed == 0 {
			return
		}
		t.Logf("an order failed before anything was broken: %+v", n.load.Stop(t))
	}
	t.Fatal("orders fail, and nothing is broken")
}

// bootNode boots a machine with a collector that sees it.
func bootNode(t *testing.T, options ...func(*machine)) *node {
	t.Helper()
	requireMachine(t)
	probe := &machine{}
	for _, option := range options {
		option(probe)
	}
	if !probe.kernel { // which tells of all machines here, whose units have the same names
		t.Parallel() // most of the time each waits
	}
	n := &node{}
	netns := rig.Namespace(t)
	programs := t.TempDir()
	require.NoError(t, os.Chmod(programs, 0o755))
	data, err := os.ReadFile(rig.Program(t, "checkout"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(programs, "checkout"), data, 0o755))
	n.machine = boot(t, append(options, func(m *machine) {
		m.netns = netns
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind-ro="+programs+":/opt/tapio", "--bind="+m.journal()+":/var/log/journal")
	})...)
	receivers := rig.Receivers{
		YAML:   fmt.Sprintf(nodeReceivers, n.name, n.address(), n.journal()),
		Traces: []string{"tapio_systemd"}, Logs: []string{"tapio_systemd"},
	}
	if n.kernel {
		receivers.YAML += fmt.Sprintf("  tapio_ebpf: {host_name: %s}\n", n.name)
		receivers.Logs = append(receivers.Logs, "tapio_ebpf")
	}
	n.collector = rig.StartCollector(t, netns, receivers)
	started := []string{"tapio.systemd.started"}
	if n.kernel {
		started = append(started, "tapio.ebpf.started")
	}
	for _, name := range started { // so that it sees the shop start
		require.Eventually(t, func() bool { return n.collector.Has(name) }, time.Minute, 50*time.Millisecond, "no %s", name)
	}
	return n
}

// journal is where the machine keeps its journal, as seen from here.
func (m *machine) journal() string { return filepath.Join(m.base, "journal") }

// only ends the load and returns the one finding, when it has counted what the load
// generator counted.
func (n *node) only(t *testing.T, pattern string, ready func(*finding.Finding) bool) *finding.Finding {
	t.Helper()
	n.load.WaitFailed(t, 5)
	r := n.load.Stop(t)
	defer func() {
		if t.Failed() {
			rig.Missing(t, n.collector, r)
			for _, text := range []string{"ENOSPC", `"tapio.dns.failed"`, `"tapio.udp.listen"`} {
				n.collector.Dump(t, text)
			}
		}
	}()
	f := n.collector.Only(t, pattern, func(f *finding.Finding) bool { return r.Counts(f) && (ready == nil || ready(f)) })
	rig.Check(t, f, r)
	return f
}

// TestUnitThatOthersNeedFails: a unit fails by its own doing, nobody restarts it, and
// those who call it fail.
func TestUnitThatOthersNeedFails(t *testing.T) {
	n := startNode(t)
	n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "ledger")
	n.load.WaitFailed(t, 30)
	f := n.only(t, "unit-failed", func(f *finding.Finding) bool { return len(f.RootCause.LastLines) > 0 }) // the journal is read a little later
	assert.Equal(t, "SIGABRT: abort", f.RootCause.LastLines[0].Text, "what the crash printed first, not the registers after it")
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.Equal(t, n.name, f.RootCause.Entity.Attributes["host.name"])
	assert.EqualValues(t, 2, f.RootCause.Evidence["process.exit.code"])
	assert.Contains(t, f.Actions.Immediate[0], "systemctl restart ledger.service")
	call := rig.Link(t, f, "tapio.call.failed", "")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
	assert.Equal(t, "cause", call.Parent)
}

// TestUnitStaysFailed: of units that fail and nobody is seen to need, those are findings that
// should run: no task, and none that was stopped.
func TestUnitStaysFailed(t *testing.T) {
	n := bootNode(t, withUnits(map[string]string{
		"lonely.service":  "[Service]\nExecStart=/bin/sleep infinity\n",
		"stopped.service": "[Service]\nExecStart=/bin/sh -c \"trap 'exit 143' TERM; touch /run/trapped; while :; do sleep 0.1; done\"\n",
		"nightly.service": "[Service]\nExecStart=/bin/false\n",
		"nightly.timer":   "[Timer]\nOnActiveSec=10ms\nAccuracySec=1ms\n",
		"task.service":    "[Service]\nType=oneshot\nExecStart=/bin/false\n",
	}))
	n.systemctl("start", "lonely", "stopped")
	n.systemctl("kill", "--kill-whom=main", "--signal=KILL", "lonely")
	require.Eventually(t, func() bool { return n.command("test", "-e", "/run/trapped").Run() == nil }, time.Minute, 50*time.Millisecond)
	n.systemctl("stop", "stopped")
	n.systemctl("start", "nightly.timer", "--no-block")
	n.systemctl("start", "task")
	for _, unit := range []string{"stopped.service", "nightly.service", "task.service"} {
		assert.NotContains(t, n.collector.Record(t, "tapio.systemd.unit.failed", unit), "tapio.systemd.unit.should_run", unit)
	}
	state := func(want finding.State) *finding.Finding {
		var all []*finding.Finding
		require.Eventually(t, func() bool {
			all = n.collector.Findings(t)
			return len(all) == 1 && all[0].State == want
		}, 2*time.Minute, 200*time.Millisecond, "no single finding that is %s", want)
		rig.Log(t, all[0])
		return all[0]
	}
	f := state(finding.StateOpen)
	assert.Equal(t, "unit-failed", f.Pattern)
	assert.Equal(t, "lonely.service", f.RootCause.Entity.Name)
	assert.Contains(t, f.Summary, "no request was seen to be hurt")
	n.collector.Restart(t, func() {})
	assert.Equal(t, f.ID, state(finding.StateOpen).ID, "a restart of the collector changes nothing")
	n.systemctl("restart", "lonely")
	assert.Equal(t, f.ID, state(finding.StateMended).ID)
}

// withUnits adds unit files and drop-ins.
func withUnits(units map[string]string) func(*machine) {
	return func(m *machine) {
		all := maps.Clone(m.units)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, units)
		m.units = all
	}
}

// touch makes an empty file in the machine.
func (n *node) touch(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, n.command("touch", path).Run())
}

// TestUnitInARestartLoop: a unit does not come up again after it was killed, however
// often systemd tries.
func TestUnitInARestartLoop(t *testing.T) {
	n := startNode(t, withUnits(map[string]string{"ledger.service.d/loop.conf": "[Service]\nRestart=always\nRestartSec=200ms\n"}))
	n.touch(t, "/run/broken")
	n.systemctl("kill", "--kill-whom=main", "--signal=KILL", "ledger")
	f := n.only(t, "unit-restart-loop", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.Contains(t, f.Actions.Immediate[0], "systemctl stop ledger.service")
	assert.Equal(t, "tapio.systemd.unit.failed", f.RootCause.Event, "the first failure leads")
	assert.Equal(t, finding.LinkedByOwner, rig.Link(t, f, "tapio.systemd.unit.restarting", "").LinkedBy)
	rig.Link(t, f, "tapio.call.failed", "")
}

// TestUnitKilledForWantOfMemory does to a unit what systemd-oomd does.
func TestUnitKilledForWantOfMemory(t *testing.T) {
	n := startNode(t, withUnits(map[string]string{"ledger.service.d/memory.conf": "[Service]\nMemoryMax=64M\n"}))
	n.oomKill(t, "ledger.service")
	f := n.only(t, "unit-out-of-memory", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.EqualValues(t, 64<<20, f.RootCause.Evidence["tapio.memory.limit"])
	assert.Contains(t, f.Actions.Immediate[1], "from 64.0 MiB to 96.0 MiB")
	rig.Link(t, f, "tapio.call.failed", "")
}

// TestUnitThatIsBoundToAnother: payment must not run without ledger. ledger fails,
// systemd stops payment, and storefront fails.
func TestUnitThatIsBoundToAnother(t *testing.T) {
	n := startNode(t, withUnits(map[string]string{"payment.service.d/bound.conf": "[Unit]\nBindsTo=ledger.service\n"}))
	n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "ledger")
	f := n.only(t, "unit-failed", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	rig.Link(t, f, "tapio.systemd.unit.deactivated", "payment.service")
	rig.Link(t, f, "tapio.call.failed", "")
}

// TestUnitWhoseDependencyCannotStart: payment is started anew, ledger, which it
// requires, fails to, so payment is not started at all.
func TestUnitWhoseDependencyCannotStart(t *testing.T) {
	n := startNode(t, withUnits(map[string]string{"payment.service.d/needs.conf": "[Unit]\nRequires=ledger.service\n"}))
	n.touch(t, "/run/broken")
	n.systemctl("restart", "ledger", "payment")
	f := n.only(t, "unit-failed", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	rig.Link(t, f, "tapio.systemd.unit.dependency_failed", "payment.service")
	rig.Link(t, f, "tapio.call.failed", "")
}

// TestNodeReboots: a node is rebooted in good order; its services are away and come
// back with it.
func TestNodeReboots(t *testing.T) {
	n := startNode(t, withUnits(startedAtBoot))
	n.systemctl("reboot")
	n.restart(t)
	n.load.WaitOK(t, 20)
	booted := func(f *finding.Finding) bool { // it may come after the last request that failed
		return slices.ContainsFunc(f.Chain, func(l finding.Link) bool { return l.Event == "tapio.system.boot_completed" })
	}
	f := n.only(t, "node-rebooted", booted)
	assert.Equal(t, n.name, f.RootCause.Entity.Name)
	assert.Equal(t, "host", f.RootCause.Entity.Kind)
	assert.Equal(t, "reboot", f.RootCause.Evidence["tapio.system.shutdown.kind"])
	rig.Link(t, f, "tapio.system.boot_completed", "")
	rig.Link(t, f, "tapio.call.failed", "")
}

// TestNodeLosesPower: a node stops without a word and comes up again.
func TestNodeLosesPower(t *testing.T) {
	n := startNode(t, withUnits(startedAtBoot))
	require.NoError(t, syscall.Kill(n.leader, syscall.SIGKILL))
	n.restart(t)
	n.load.WaitOK(t, 20)
	f := n.only(t, "node-restarted", nil)
	assert.Equal(t, n.name, f.RootCause.Entity.Name)
	assert.Equal(t, "tapio.system.boot_completed", f.RootCause.Event)
	rig.Link(t, f, "tapio.call.failed", "")
}

// startedAtBoot makes the shop a part of what the machine boots into.
var startedAtBoot = map[string]string{
	"test.target.d/shop.conf": "[Unit]\nWants=ledger.service payment.service storefront.service\nAfter=ledger.service payment.service storefront.service\n",
}

// restart starts the machine again when it has gone down and somebody has missed it.
func (n *node) restart(t *testing.T) {
	t.Helper()
	_ = n.nspawn.Wait()
	n.load.WaitFailed(t, 10)
	n.start(t)
	n.waitUp(t)
}

// TestUnitRunsOutOfSpace: the file system on which ledger keeps its book is full.
func TestUnitRunsOutOfSpace(t *testing.T) {
	requireKernel(t)
	n := startNode(t, withKernel, withAccounting, withUnits(map[string]string{
		"ledger.service.d/book.conf": "[Service]\nTemporaryFileSystem=/var/lib/ledger:size=64k\nExecStart=\nExecStart=/opt/tapio/checkout ledger --book /var/lib/ledger/book\n",
	}))
	require.NoError(t, n.command("sh", "-c", "P=$(systemctl show -P MainPID ledger); nsenter -t $P -m -- dd if=/dev/zero of=/var/lib/ledger/core bs=4k || true").Run())
	f := n.only(t, "unit-out-of-space", nil)
	assert.Equal(t, "ledger.service", f.RootCause.Entity.Name)
	assert.Equal(t, "unit", f.RootCause.Entity.Kind)
	assert.Equal(t, "ENOSPC", f.RootCause.Evidence["error.type"])
	assert.Contains(t, f.Actions.Immediate[0], "systemctl restart ledger.service")
	failed := rig.Link(t, f, "tapio.systemd.unit.failed", "ledger.service")
	assert.Equal(t, finding.LinkedByOwner, failed.LinkedBy)
	rig.Link(t, f, "tapio.call.failed", "")
}

// TestUnitLeaks: payment keeps 1 MiB of every order until the kernel kills it at the
// limit of its unit. What it used is known from before, as systemd removes the
// control group with the run.
func TestUnitLeaks(t *testing.T) {
	requireKernel(t)
	n := startNode(t, withKernel, withAccounting, withUnits(map[string]string{
		"payment.service.d/leak.conf": "[Service]\nMemoryMax=100M\nExecStart=\nExecStart=/opt/tapio/checkout payment --version v2.1.0\n",
	}))
	f := n.only(t, "memory-limit-oom-kill", nil)
	assert.EqualValues(t, 100<<20, f.RootCause.Evidence["tapio.memory.limit"])
	failed := rig.Link(t, f, "tapio.systemd.unit."+map[bool]string{true: "oom_killed", false: "failed"}[isUnified()], "payment.service")
	assert.Equal(t, finding.LinkedByOwner, failed.LinkedBy)
	rig.Link(t, f, "tapio.call.failed", "")
	unit := n.collector.Record(t, failed.Event, "payment.service")
	assert.EqualValues(t, 100<<20, unit["tapio.memory.limit"])
	assert.Greater(t, unit["tapio.memory.usage"], int64(30<<20), "payment had used most of it when it was looked at last")
	assert.LessOrEqual(t, unit["tapio.memory.usage"], unit["tapio.memory.peak"])
	assert.Positive(t, unit["tapio.systemd.tasks.current"])
	assert.InDelta(t, 0.5, unit["tapio.systemd.sample_age"], 1.5)
}

// TestResolverFails: storefront looks up payment for every order, asking the resolver of
// the node, dnsmasq, which is a unit. That fails, so do the lookups, and then the orders.
func TestResolverFails(t *testing.T) {
	requireKernel(t)
	if _, err := exec.LookPath("dnsmasq"); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	n := startNode(t, withKernel, withAccounting, func(m *machine) {
		m.files = map[string]string{"etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"}
		m.binds = append(m.binds, "--resolv-conf=off")
	}, withUnits(map[string]string{
		"resolver.service": "[Service]\nExecStart=dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --no-resolv --no-hosts " +
			"--listen-address=127.0.0.1 --bind-interfaces --local=/shop.test/ --host-record=payment.shop.test,127.0.0.1\n" +
			"ExecStartPost=/bin/sh -c 'until grep -q \":0035 \" /proc/net/udp; do sleep 0.05; done'\n", // it does not say when it is ready
		"storefront.service.d/name.conf": "[Unit]\nWants=resolver.service\nAfter=resolver.service\n" +
			"[Service]\nExecStart=\nExecStart=/opt/tapio/checkout storefront --payment-url http://payment.shop.test:8081\n",
	}))
	n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "resolver")
	n.load.WaitFailed(t, 20)
	f := n.only(t, "unit-failed", nil)
	assert.Equal(t, "resolver.service", f.RootCause.Entity.Name)
	assert.Equal(t, "unit", f.RootCause.Entity.Kind)
	assert.Contains(t, f.Actions.Immediate[0], "systemctl restart resolver.service")
	lookup := rig.Link(t, f, "tapio.dns.failed", "")
	assert.Equal(t, finding.LinkedByAddress, lookup.LinkedBy)
	assert.Contains(t, lookup.LinkedOn, "127.0.0.1:53")
	assert.Equal(t, rig.Link(t, f, "tapio.process.exit", "").Key, lookup.Parent)
	call := rig.Link(t, f, "tapio.call.failed", "")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
	assert.Contains(t, call.LinkedOn, "payment.shop.test:8081")
}

// requireKernel skips the test where the kernel's events cannot be had.
func requireKernel(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// withKernel makes the collector hear of the kernel's events, too.
func withKernel(m *machine) { m.kernel = true }
