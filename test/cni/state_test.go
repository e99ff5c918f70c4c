package cni

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/version"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPodsInterfaceIsAFact(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.0.0/24")
	before := n.newPod("before")
	_, err := before.add()
	require.NoError(t, err)
	w := n.watch(nil)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "before", "k8s.pod.ip": "10.96.0.2"})

	p := n.newPod("late")
	_, err = p.add()
	require.NoError(t, err)
	got := w.expect("tapio.cni.interface", map[string]any{
		"container.id": "late", "k8s.pod.name": "payment-late", "k8s.namespace.name": "shop", "k8s.pod.uid": "uid-late",
		"k8s.pod.ip": "10.96.0.3", "tapio.cni.address": "10.96.0.3", "tapio.cni.network": "pods",
		"network.interface.name": "eth0", "tapio.cni.mtu": 1400, "tapio.cni.addresses": `["10.96.0.3/24"]`,
	})
	host, ok := got.Attributes().Get("tapio.cni.host_interface")
	require.True(t, ok, w.dump())
	n.hostRun("ip", "link", "show", host.Str())

	p.end()
	w.expect("tapio.cni.interface.removed", map[string]any{"container.id": "late", "tapio.cni.address": "10.96.0.3"})
	time.Sleep(3 * time.Second)
	assert.Empty(t, w.problems(), "nothing was wrong")
	assert.Len(t, w.find("tapio.cni.interface", map[string]any{"container.id": "before"}), 1, "told once")
}

func TestPoolFillsAndRecovers(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.1.0/28") // 13 addresses
	w := n.watch(nil)
	var pods []*pod
	for i := range 13 {
		p := n.newPod(fmt.Sprintf("p%d", i))
		_, err := p.add()
		require.NoError(t, err)
		pods = append(pods, p)
		if i == 11 {
			w.expect("tapio.cni.pool.high", map[string]any{"tapio.cni.network": "pods", "tapio.cni.pool.used": 12, "tapio.cni.pool.size": 13})
			assert.Empty(t, w.records("tapio.cni.pool.exhausted"))
		}
	}
	w.expect("tapio.cni.pool.exhausted", map[string]any{"tapio.cni.network": "pods", "tapio.cni.pool.used": 13, "tapio.cni.plugin": "host-local"})
	_, err := n.newPod("tooMany").add()
	require.ErrorContains(t, err, "no IP addresses available", "host-local sees it as we do")

	pods[0].end()
	w.expectOver("tapio.cni.pool.exhausted", map[string]any{"tapio.cni.network": "pods"})
	for _, p := range pods[1:] {
		p.end()
	}
	w.expectOver("tapio.cni.pool.high", map[string]any{"tapio.cni.network": "pods"})
}

// After dataDir was moved, the old store is still there, under the network's name.
func TestPoolBesideRestsOfAnotherStore(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.19.0/29") // 5 addresses
	rests := n.path("rests", "pods")
	require.NoError(t, os.MkdirAll(rests, 0o755))
	for i := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(rests, fmt.Sprintf("10.96.19.%d", 2+i)), []byte("long-ago\r\neth0"), 0o644))
	}
	w := n.watch(map[string]any{"ipam::data_dirs": []string{n.path("rests")}})
	for i := range 5 {
		assert.Empty(t, w.records("tapio.cni.pool.exhausted"))
		_, err := n.newPod(fmt.Sprintf("p%d", i)).add()
		require.NoError(t, err)
		// Its fact is of a picture with its address.
		w.expect("tapio.cni.interface", map[string]any{"container.id": fmt.Sprintf("p%d", i)})
	}
	w.expect("tapio.cni.pool.exhausted", map[string]any{"tapio.cni.pool.used": 5, "tapio.cni.pool.size": 5, "file.path": n.path("networks", "pods")})
}

func TestSmallestRangeAndWhatAFailedAddLeaves(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.2.0/30") // one address
	w := n.watch(nil)
	_, err := n.newPod("first").add()
	require.NoError(t, err)
	w.expect("tapio.cni.pool.exhausted", map[string]any{"tapio.cni.pool.used": 1, "tapio.cni.pool.size": 1})
	second := n.newPod("second")
	_, err = second.add()
	require.ErrorContains(t, err, "no IP addresses available")
	// The bridge plugin leaves its veth, on the bridge and without an address.
	leaked := w.expect("tapio.cni.interface.leaked", nil)
	name, _ := leaked.Attributes().Get("network.interface.name")
	n.hostRun("ip", "link", "del", name.Str())
	w.expectOver("tapio.cni.interface.leaked", map[string]any{"network.interface.name": name.Str()})
	assert.Len(t, w.records("tapio.cni.interface.leaked"), 1, "the first pod's is not leaked")
	assert.Empty(t, w.records("tapio.cni.address.leaked"))
}

// host-local cannot make its file where a directory has the address's name.
func TestAddressThatSomethingElseTakes(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.23.0/30") // one address
	require.NoError(t, os.MkdirAll(n.path("networks", "pods", "10.96.23.2"), 0o755))
	_, err := n.newPod("none").add()
	require.ErrorContains(t, err, "no IP addresses available")
	w := n.watch(nil)
	w.expect("tapio.cni.pool.exhausted", map[string]any{"tapio.cni.pool.used": 1, "tapio.cni.pool.size": 1})
	w.expect("tapio.cni.address.leaked", map[string]any{"file.path": n.path("networks", "pods", "10.96.23.2")})
}

func TestDeadPodLeavesAddressNamespaceAndVeth(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.3.0/24")
	w := n.watch(nil)
	alive, dead := n.newPod("alive"), n.newPod("dead")
	for _, p := range []*pod{alive, dead} {
		_, err := p.add()
		require.NoError(t, err)
	}
	w.expect("tapio.cni.interface", map[string]any{"container.id": "dead"})
	dead.kill() // the runtime was killed too: nobody calls DEL
	w.expect("tapio.cni.namespace.leaked", map[string]any{"tapio.cni.netns": dead.netns})
	w.expect("tapio.cni.address.leaked", map[string]any{"tapio.cni.address": "10.96.3.3", "container.id": "dead", "file.path": n.path("networks", "pods", "10.96.3.3")})
	w.expect("tapio.cni.interface.leaked", nil)
	require.NoError(t, dead.del())
	n.removeNamespace(dead.netns)
	w.expectOver("tapio.cni.address.leaked", map[string]any{"tapio.cni.address": "10.96.3.3"})
	w.expectOver("tapio.cni.namespace.leaked", map[string]any{"tapio.cni.netns": dead.netns})
	assert.Len(t, w.records("tapio.cni.address.leaked"), 1)
	assert.Len(t, w.records("tapio.cni.interface.leaked"), 1)
	assert.Len(t, w.records("tapio.cni.namespace.leaked"), 1)
}

func TestNamespaceGoneWithoutDEL(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.4.0/24")
	w := n.watch(nil)
	p := n.newPod("gone")
	_, err := p.add()
	require.NoError(t, err)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "gone"})
	p.kill()
	n.removeNamespace(p.netns) // as after a reboot: result and address are still in their files
	w.expect("tapio.cni.interface.removed", map[string]any{"container.id": "gone"})
	w.expect("tapio.cni.address.leaked", map[string]any{"tapio.cni.address": "10.96.4.2", "container.id": "gone"})
	require.NoError(t, os.Remove(n.path("networks", "pods", "10.96.4.2")))
	w.expectOver("tapio.cni.address.leaked", map[string]any{"tapio.cni.address": "10.96.4.2"})
}

func TestConfigurationBreaks(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.5.0/24")
	w := n.watch(nil)
	file := n.path("config", "10-pods.conflist")

	n.writeConfig("10-pods.conflist", "{\n  \"name\": \"pods\",\n  \"plugins\": [\n    {\"type\": \"bridge\"},\n  ]\n}")
	w.expect("tapio.cni.config.invalid", map[string]any{
		"file.path": file, "tapio.cni.config.line": 5, "error.type": "syntax", "tapio.cni.config.in_use": true,
	})
	_, err := n.newPod("broken").add()
	require.Error(t, err, "libcni refuses it too")

	n.writeConfig("10-pods.conflist", `{"name": "pods", "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.96.5.1/24"}}]}`)
	w.expect("tapio.cni.config.invalid", map[string]any{"error.type": "schema", "tapio.cni.config.line": 1})

	// libcni hands any version on, and every plugin refuses it.
	n.writeConfig("10-pods.conflist", `{"cniVersion": "9.9.9", "name": "pods", "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.96.5.0/24"}}]}`)
	got := w.expect("tapio.cni.config.invalid", map[string]any{
		"file.path": file, "tapio.cni.reason": `cniVersion: "9.9.9" is not a version of the CNI specification; there are ` + strings.Join(version.All.SupportedVersions(), ", "),
	})
	assert.Equal(t, "Error", got.SeverityText())
	_, err = n.newPod("version").add()
	require.ErrorContains(t, err, "incompatible CNI versions")

	n.configure("10.96.5.0/24")
	w.expectOver("tapio.cni.config.invalid", map[string]any{"file.path": file})
	assert.Len(t, w.records("tapio.cni.config.changed"), 4)
	assert.Len(t, w.records("tapio.cni.recovered"), 1, "another mistake is no recovery")

	require.NoError(t, os.Remove(file))
	w.expect("tapio.cni.config.missing", map[string]any{"file.path": n.path("config")})
	n.configure("10.96.5.0/24")
	w.expectOver("tapio.cni.config.missing", nil)
}

// What is broken behind the configuration that works hurts nobody, until that goes:
// libcni, as a runtime calls it, then takes the broken one, or none.
func TestBrokenConfigurationComesIntoUse(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.18.0/24")
	n.writeConfig("20-old.conflist", `{"cniVersion": "1.0.0", "name": "old", "plugins": [{"type": "nosuch"}]}`)
	n.writeConfig("30-bad.conflist", `{"cniVersion": "1.0.0", "name": "bad", "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.96.18.1/24"}}]}`)
	w := n.watch(nil)
	plugin := map[string]any{"tapio.cni.plugin": "nosuch", "file.path": n.path("config", "20-old.conflist")}
	invalid := map[string]any{"file.path": n.path("config", "30-bad.conflist")}
	told := func(name string, want map[string]any, inUse bool, severity string) {
		t.Helper()
		got := w.expect(name, with(want, "tapio.cni.config.in_use", inUse))
		assert.Equal(t, severity, got.SeverityText())
	}
	told("tapio.cni.plugin.missing", plugin, false, "Warn")
	told("tapio.cni.config.invalid", invalid, false, "Warn")

	first := n.path("config", "10-pods.conflist")
	require.NoError(t, os.Remove(first))
	told("tapio.cni.plugin.missing", plugin, true, "Error")
	w.expect("tapio.cni.config.changed", map[string]any{"file.path": first, "tapio.cni.reason": "was removed", "tapio.cni.config.in_use": true})
	n.name = "old"
	_, err := n.newPod("old").add()
	require.ErrorContains(t, err, "failed to find plugin")

	require.NoError(t, os.Remove(n.path("config", "20-old.conflist")))
	told("tapio.cni.config.invalid", invalid, true, "Error")
	n.name = "bad"
	_, err = n.newPod("bad").add()
	require.Error(t, err)

	n.configure("10.96.18.0/24")
	w.eventually("tapio.cni.config.invalid", with(invalid, "tapio.cni.config.in_use", false), 2)
	n.name = "pods"
	_, err = n.newPod("good").add()
	require.NoError(t, err)
}

func TestPluginRemovedAndReplaced(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.6.0/24")
	w := n.watch(nil)
	require.NoError(t, os.Remove(n.path("plugins", "host-local")))
	w.expect("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "host-local", "tapio.cni.network": "pods"})
	n.installPlugin("host-local")
	w.expectOver("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "host-local"})
	w.expect("tapio.cni.plugin.replaced", map[string]any{"tapio.cni.plugin": "host-local", "file.path": n.path("plugins", "host-local")})

	require.NoError(t, os.Chmod(n.path("plugins", "bridge"), 0o644))
	got := w.expect("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "bridge"})
	reason, _ := got.Attributes().Get("tapio.cni.reason")
	assert.Contains(t, reason.Str(), "not executable")

	// An installer that was interrupted, or a full disk: the kernel runs no half programs.
	require.NoError(t, os.Truncate(n.path("plugins", "host-local"), 200_000))
	_, err := n.newPod("half").add()
	require.Error(t, err)
	w.expect("tapio.cni.plugin.missing", map[string]any{
		"tapio.cni.plugin": "host-local", "tapio.cni.reason": n.path("plugins", "host-local") + ": it is cut short", "tapio.cni.config.in_use": true,
	})
}

// An empty directory of plugins, or a wrong one: the runtime finds none, and says so.
func TestNoPluginAtAll(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.15.0/24")
	plugins, err := os.ReadDir(n.path("plugins"))
	require.NoError(t, err)
	for _, plugin := range plugins {
		require.NoError(t, os.Remove(n.path("plugins", plugin.Name())))
	}
	w := n.watch(nil)
	got := w.expect("tapio.cni.plugins.missing", map[string]any{"tapio.cni.plugins": `["bridge","host-local"]`})
	assert.Equal(t, "Warn", got.SeverityText())
	assert.Contains(t, got.Body().Str(), "none is in "+n.path("plugins"))
	_, err = n.newPod("none").add()
	require.ErrorContains(t, err, "failed to find plugin")
	assert.Empty(t, w.records("tapio.cni.plugin.missing"), "told once")

	n.installPlugin("bridge")
	w.expectOver("tapio.cni.plugins.missing", nil)
	w.expect("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "host-local"})
	n.installPlugin("host-local")
	w.expectOver("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "host-local"})
	_, err = n.newPod("one").add()
	require.NoError(t, err)
	assert.Len(t, w.records("tapio.cni.plugins.missing"), 1)
}

// onePod is a node with one pod whose interface is known.
func onePod(t *testing.T, subnet string) (*node, *pod, *watch, string) {
	n := newNode(t)
	n.configure(subnet)
	p := n.newPod("one")
	_, err := p.add()
	require.NoError(t, err)
	w := n.watch(nil)
	fact := w.expect("tapio.cni.interface", map[string]any{"container.id": "one"})
	host, ok := fact.Attributes().Get("tapio.cni.host_interface")
	require.True(t, ok)
	return n, p, w, host.Str()
}

func TestInterfacesDown(t *testing.T) {
	n, p, w, host := onePod(t, "10.96.7.0/24")
	mine := map[string]any{"container.id": "one", "k8s.pod.name": "payment-one"}

	n.hostRun("ip", "link", "set", host, "down")
	w.expect("tapio.cni.interface.down", with(mine, "network.interface.name", host))
	n.hostRun("ip", "link", "set", host, "up")
	w.expectOver("tapio.cni.interface.down", with(mine, "network.interface.name", host))

	p.run("ip", "link", "set", "eth0", "down")
	w.expect("tapio.cni.interface.down", with(mine, "network.interface.name", "eth0"))
	p.run("ip", "link", "set", "eth0", "up")
	w.expectOver("tapio.cni.interface.down", with(mine, "network.interface.name", "eth0"))
	// Down took the pod's default route with it, and up does not bring it back.
	w.expect("tapio.cni.route.missing", with(mine, "tapio.cni.route", "0.0.0.0/0"))
	p.run("ip", "route", "add", "default", "via", "10.96.7.1")
	w.expectOver("tapio.cni.route.missing", with(mine, "tapio.cni.route", "0.0.0.0/0"))

	n.hostRun("ip", "link", "set", "cni0", "down")
	bridge := w.expect("tapio.cni.interface.down", map[string]any{"network.interface.name": "cni0", "tapio.cni.network": "pods"})
	_, ok := bridge.resource.Get("container.id")
	assert.False(t, ok, "it is about all pods")
}

func TestMTUMismatch(t *testing.T) {
	n, _, w, host := onePod(t, "10.96.8.0/24")
	n.hostRun("ip", "link", "set", host, "mtu", "1300")
	w.expect("tapio.cni.interface.mtu_mismatch", map[string]any{
		"container.id": "one", "tapio.cni.mtu": 1400, "tapio.cni.mtu.expected": 1300, "tapio.cni.other": host,
	})
	n.hostRun("ip", "link", "set", host, "mtu", "1400")
	w.expectOver("tapio.cni.interface.mtu_mismatch", map[string]any{"container.id": "one"})
}

func TestDuplicateAndLostAddress(t *testing.T) {
	n, p, w, _ := onePod(t, "10.96.9.0/24")
	two := n.newPod("two")
	_, err := two.add()
	require.NoError(t, err)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "two"})
	two.run("ip", "addr", "add", "10.96.9.2/24", "dev", "eth0")
	w.expect("tapio.cni.address.duplicate", map[string]any{"container.id": "one", "tapio.cni.address": "10.96.9.2", "tapio.cni.other": "pod shop/payment-two"})
	two.run("ip", "addr", "del", "10.96.9.2/24", "dev", "eth0")
	w.expectOver("tapio.cni.address.duplicate", map[string]any{"container.id": "one", "tapio.cni.address": "10.96.9.2"})
	assert.Len(t, w.records("tapio.cni.address.duplicate"), 1, "a collision is told once")

	p.run("ip", "addr", "del", "10.96.9.2/24", "dev", "eth0")
	w.expect("tapio.cni.address.missing", map[string]any{"container.id": "one", "tapio.cni.address": "10.96.9.2"})
}

func TestHostLosesRouteToPods(t *testing.T) {
	n, _, w, _ := onePod(t, "10.96.10.0/24")
	n.hostRun("ip", "addr", "flush", "dev", "cni0")
	w.expect("tapio.cni.route.missing", map[string]any{"container.id": "one", "tapio.cni.route": "10.96.10.2/32"})
	n.hostRun("ip", "addr", "add", "10.96.10.1/24", "dev", "cni0")
	w.expectOver("tapio.cni.route.missing", map[string]any{"container.id": "one", "tapio.cni.route": "10.96.10.2/32"})
}

// ptp gives each pod a route of its own on the host.
func TestHostLosesRouteToOnePod(t *testing.T) {
	n := newNode(t)
	n.writeConfig("10-pods.conf", fmt.Sprintf(
		`{"cniVersion": "0.4.0", "name": "pods", "type": "ptp", "ipam": {"type": "host-local", "dataDir": %q, "subnet": "10.96.12.0/24"}}`,
		n.path("networks")))
	for _, id := range []string{"one", "two"} {
		_, err := n.newPod(id).add()
		require.NoError(t, err)
	}
	w := n.watch(nil)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "two"})
	n.hostRun("ip", "route", "del", "10.96.12.2/32")
	w.expect("tapio.cni.route.missing", map[string]any{"container.id": "one", "tapio.cni.route": "10.96.12.2/32"})
	assert.Len(t, w.records("tapio.cni.route.missing"), 1, "the other pod's is there")
}

// TestConntrackFills: the node's table is filled with as many connections as the kernel
// allows, and flushed. Their number is that of a network namespace, their limit the machine's,
// which has its own table and does not notice.
func TestConntrackFills(t *testing.T) {
	_, err := exec.LookPath("iptables")
	required(t, err == nil, "connections are tracked for iptables, which is not here")
	n := newNode(t)
	n.configure("10.96.13.0/24")
	n.hostRun("iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")
	n.hostRun("iptables", "-A", "INPUT", "-p", "udp", "-j", "DROP") // no answer that nobody listens
	limit, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	require.NoError(t, err)
	size, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	require.NoError(t, err)
	if size > 1<<21 {
		t.Skipf("a table of %d connections would take more than half a GiB of the kernel's memory", size)
	}
	w := n.watch(map[string]any{"interval": "1s"})
	// connect makes connections until there are so many. Beyond the limit the kernel forgets
	// some that had no answer for each new one.
	made := 0
	connect := func(until int) {
		n.in(n.host, func() {
			// None may time out while others are made.
			assert.NoError(t, os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", []byte("3600"), 0o644))
			c, err := net.ListenPacket("udp4", "127.0.0.1:0")
			if !assert.NoError(t, err) {
				return
			}
			defer c.Close()
			for made < 2*size {
				_, _ = c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 1, byte(made>>23), byte(1+made>>15)), Port: 1 + made&0x7fff})
				if made++; made >= until {
					count, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
					if !assert.NoError(t, err) || strings.TrimSpace(string(count)) == strconv.Itoa(until) {
						return
					}
				}
			}
			t.Errorf("%d connections are not %d", made, until)
		})
	}
	connect(size * 9 / 10)
	got := w.expect("tapio.cni.conntrack.high", map[string]any{"tapio.cni.conntrack.max": size})
	count, _ := got.Attributes().Get("tapio.cni.conntrack.count")
	assert.Greater(t, count.Int(), int64(size)*85/100)
	assert.Empty(t, w.records("tapio.cni.conntrack.full"))
	connect(size)
	w.expect("tapio.cni.conntrack.full", map[string]any{"tapio.cni.conntrack.count": size, "tapio.cni.conntrack.max": size})
	n.in(n.host, func() { assert.NoError(t, flushConnections()) })
	w.expectOver("tapio.cni.conntrack.full", nil)
	w.expectOver("tapio.cni.conntrack.high", nil)
	assert.Len(t, w.records("tapio.cni.conntrack.high"), 1)
}

// flushConnections forgets all connections of the thread's network namespace, as conntrack -F
// does: IPCTNL_MSG_CT_DELETE of linux/netfilter/nfnetlink_conntrack.h without a tuple.
func flushConnections() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const (
		header   = unix.NLMSG_HDRLEN
		nfgenmsg = 4
		remove   = 1<<8 | 2 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
	)
	request := make([]byte, header+nfgenmsg)
	binary.NativeEndian.PutUint32(request[0:], uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], remove)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	got, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if got < header+4 {
		return fmt.Errorf("an answer of %d bytes", got)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[header:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func TestManySandboxesLeaveNothing(t *testing.T) {
	const sandboxes = 200
	n := newNode(t)
	n.configure("10.96.11.0/24")
	// A DEL takes its time on a busy machine; while it runs, an interface is missing.
	w := n.watch(map[string]any{"interfaces::hold": "1m", "leaks::grace_period": "1m"})
	conditions, interfaces := w.held("conditions"), w.held("interfaces")
	files := w.held("files")
	for i := range sandboxes {
		p := n.newPod(fmt.Sprintf("s%d", i))
		_, err := p.add()
		require.NoError(t, err)
		p.end()
	}
	entries, err := filepath.Glob(n.path("cache", "results", "*"))
	require.NoError(t, err)
	require.Empty(t, entries)
	assert.Eventually(t, func() bool {
		return w.held("conditions") == conditions && w.held("interfaces") == interfaces && w.held("files") == files && w.held("events") == 0
	}, deadline, 50*time.Millisecond, "held: %d conditions, %d interfaces, %d files", w.held("conditions"), w.held("interfaces"), w.held("files"))
	assert.Empty(t, w.problems())
	assert.NotEmpty(t, w.records("tapio.cni.interface"))
	assert.Len(t, w.records("tapio.cni.interface.removed"), len(w.records("tapio.cni.interface")))
}

// with adds a key to a copy.
func with(attrs map[string]any, key string, value any) map[string]any {
	out := map[string]any{key: value}
	for k, v := range attrs {
		out[k] = v
	}
	return out
}

func TestRoutesThatRefuse(t *testing.T) {
	n, p, w, _ := onePod(t, "10.96.16.0/24")
	toPod := map[string]any{"container.id": "one", "tapio.cni.route": "10.96.16.2/32"}
	count := 0
	refused := func(what ...string) {
		n.hostRun("ip", append([]string{what[0], "add"}, what[1:]...)...)
		count++
		w.eventually("tapio.cni.route.missing", toPod, count)
		n.hostRun("ip", append([]string{what[0], "del"}, what[1:]...)...)
		w.eventually("tapio.cni.recovered", toPod, count)
	}
	refused("route", "blackhole", "10.96.16.2/32")
	refused("route", "prohibit", "10.96.16.2/32")
	refused("rule", "to", "10.96.16.2", "blackhole")

	// bridge sends the default route by the gateway of the address.
	toAll := map[string]any{"container.id": "one", "tapio.cni.route": "0.0.0.0/0"}
	p.run("ip", "route", "replace", "default", "via", "10.96.16.9")
	got := w.expect("tapio.cni.route.missing", toAll)
	assert.Equal(t, "Pod shop/payment-one has no route to 0.0.0.0/0 by 10.96.16.1 any more: it goes by 10.96.16.9", got.Body().Str())
	p.run("ip", "route", "replace", "blackhole", "default")
	got = w.eventually("tapio.cni.route.missing", toAll, 2)
	assert.Contains(t, got.Body().Str(), "of type blackhole")
	p.run("ip", "route", "replace", "default", "via", "10.96.16.1")
	w.expectOver("tapio.cni.route.missing", toAll)
}

// What a plugin answers need not be one interface: a result may have none, or several.
func TestResultsOfOtherShapes(t *testing.T) {
	n := newNode(t)
	script := func(name, text string) {
		require.NoError(t, os.WriteFile(n.path("plugins", name), []byte("#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n"+text), 0o755))
		n.writeConfig(name+".conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{"type": %q}]}`, name, name))
	}
	script("none", `echo '{"cniVersion": "1.0.0"}'`)
	script("two", `set -e
		for i in eth0:10.96.21.2 net7:10.96.22.2; do
			ip link add "h${i%:*}" type veth peer name "${i%:*}" netns "$CNI_NETNS"
			ip link set "h${i%:*}" up
			nsenter --net="$CNI_NETNS" ip addr add "${i#*:}/24" dev "${i%:*}"
			nsenter --net="$CNI_NETNS" ip link set "${i%:*}" up
		done
		echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "heth0"}, {"name": "eth0", "sandbox": "'$CNI_NETNS'"}, {"name": "hnet7"}, {"name": "net7", "sandbox": "'$CNI_NETNS'"}],
			"ips": [{"address": "10.96.21.2/24", "interface": 1}, {"address": "10.96.22.2/24", "interface": 3}]}'`)
	one, two := n.newPod("one"), n.newPod("two")
	n.name = "none"
	_, err := one.add()
	require.NoError(t, err)
	n.name = "two"
	_, err = two.add()
	require.NoError(t, err)
	w := n.watch(nil)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "two", "tapio.cni.addresses": `["10.96.21.2/24"]`})
	two.run("ip", "link", "set", "net7", "down") // is nobody's business
	two.run("ip", "link", "set", "eth0", "mtu", "1300")
	w.expect("tapio.cni.interface.mtu_mismatch", map[string]any{"container.id": "two"})
	assert.Len(t, w.problems(), 1)
	assert.Empty(t, w.find("tapio.cni.interface", map[string]any{"container.id": "one"}))
}

// sbr moves the routes of a pod to a table of its own: the pod works, and its result is
// that of bridge.
func TestRoutesInAnotherTable(t *testing.T) {
	n := newNode(t)
	n.installPlugin("sbr")
	n.writeConfig("10-pods.conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "dataDir": %q, "subnet": "10.96.20.0/24", "routes": [{"dst": "0.0.0.0/0"}]}},
		{"type": "sbr"}]}`, n.path("networks")))
	p := n.newPod("one")
	_, err := p.add()
	require.NoError(t, err)
	w := n.watch(nil)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "one"})
	p.run("ip", "route", "get", "192.0.2.1", "from", "10.96.20.2")
	// What is wrong is still told, and must last as long as what must not be told.
	p.run("ip", "link", "set", "eth0", "mtu", "1300")
	w.expect("tapio.cni.interface.mtu_mismatch", map[string]any{"container.id": "one"})
	assert.Empty(t, w.records("tapio.cni.route.missing"))
}

// What a pod has lost is not back because something else is wrong too.
func TestLostRouteBehindBridgeThatIsDown(t *testing.T) {
	n, p, w, _ := onePod(t, "10.96.17.0/24")
	route := map[string]any{"container.id": "one", "tapio.cni.route": "0.0.0.0/0"}
	p.run("ip", "route", "del", "default")
	w.expect("tapio.cni.route.missing", route)
	bridge := map[string]any{"network.interface.name": "cni0"}
	n.hostRun("ip", "link", "set", "cni0", "down")
	w.expect("tapio.cni.interface.down", bridge)
	n.hostRun("ip", "link", "set", "cni0", "up")
	w.expectOver("tapio.cni.interface.down", bridge)
	assert.Len(t, w.records("tapio.cni.recovered"), 1)
	p.run("ip", "link", "set", "eth0", "name", "eth9")
	w.expect("tapio.cni.interface.down", map[string]any{"network.interface.name": "eth0", "tapio.cni.interface.state": "missing"})
	p.run("ip", "link", "set", "eth9", "name", "eth0")
	w.expectOver("tapio.cni.interface.down", map[string]any{"network.interface.name": "eth0"})
	assert.Len(t, w.records("tapio.cni.route.missing"), 1, "told once")
	assert.Len(t, w.records("tapio.cni.recovered"), 2)
	p.run("ip", "route", "add", "default", "via", "10.96.17.1")
	w.expectOver("tapio.cni.route.missing", route)
}

// The host end of one pod's veth is that pod's matter. Under another name it works.
func TestHostEndOfOnePod(t *testing.T) {
	n, _, w, host := onePod(t, "10.96.18.0/24")
	n.hostRun("ip", "link", "set", host, "name", "renamed0")
	w.expect("tapio.cni.interface", map[string]any{"container.id": "one", "tapio.cni.host_interface": "renamed0"})
	n.hostRun("ip", "link", "set", "renamed0", "name", host)
	other := n.newPod("other")
	n.hostRun("ip", "link", "set", host, "netns", other.netns)
	got := w.expect("tapio.cni.interface.down", map[string]any{
		"container.id": "one", "network.interface.name": host, "tapio.cni.interface.state": "missing",
	})
	assert.Equal(t, "Pod shop/payment-one cannot be reached: "+host+" is not there", got.Body().Str())
	assert.Len(t, w.records("tapio.cni.interface.down"), 1)
}

// TestCarrierLost: pods reach the network over an interface of the host whose other end, which
// stands for the port of a switch, goes down.
func TestCarrierLost(t *testing.T) {
	n := newNode(t)
	n.installPlugin("macvlan")
	n.hostRun("ip", "link", "add", "up0", "type", "veth", "peer", "name", "port0")
	n.hostRun("ip", "link", "set", "up0", "up")
	n.hostRun("ip", "link", "set", "port0", "up")
	n.writeConfig("10-pods.conflist", fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [
		{"type": "macvlan", "master": "up0", "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.96.19.0/24"}]]}}]}`, n.path("networks")))
	w := n.watch(nil)
	_, err := n.newPod("one").add()
	require.NoError(t, err)
	w.expect("tapio.cni.interface", map[string]any{"container.id": "one"})
	n.hostRun("ip", "link", "set", "port0", "down")
	lost := map[string]any{"container.id": "one", "network.interface.name": "eth0"}
	w.expect("tapio.cni.interface.carrier_lost", with(lost, "tapio.cni.interface.state", "no_carrier"))
	assert.Empty(t, w.records("tapio.cni.interface.down"), "nobody took it down")
	n.hostRun("ip", "link", "set", "port0", "up")
	w.expectOver("tapio.cni.interface.carrier_lost", lost)
}

func TestVethTakenOffItsBridge(t *testing.T) {
	n, _, w, host := onePod(t, "10.96.20.0/24")
	n.hostRun("ip", "link", "set", host, "nomaster")
	off := map[string]any{"container.id": "one", "network.interface.name": host}
	w.expect("tapio.cni.interface.down", with(off, "tapio.cni.interface.state", "detached"))
	n.hostRun("ip", "link", "set", host, "master", "cni0")
	w.expectOver("tapio.cni.interface.down", off)
}
