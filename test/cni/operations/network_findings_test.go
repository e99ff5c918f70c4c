package operations

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// waitFor waits until the receiver has told of an event with such texts.
func (c *cluster) waitFor(t *testing.T, texts ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return c.collector.Has(texts...) }, 30*time.Second, 50*time.Millisecond, "no %v", texts)
}

// ofPod returns the one finding, whose root must be the event about payment's pod, with
// storefront's calls behind it.
func (c *cluster) ofPod(t *testing.T, pattern, name string) *finding.Finding {
	t.Helper()
	f := c.finding(t, pattern)
	assert.Equal(t, name, f.RootCause.Event)
	assert.Equal(t, finding.LayerNetwork, f.Chain[0].Layer)
	assert.Contains(t, f.RootCause.Description, c.host.name+"/payment-1", "the pod")
	assert.Equal(t, finding.LayerApp, rig.Link(t, f, "tapio.call.failed", "storefront").Layer)
	return f
}

// TestMissingPluginHurtsCallers: an update takes host-local away; what runs goes on, but
// the next pod of payment gets no address.
func TestMissingPluginHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	c.rollOut(t)
	t.Cleanup(func() { c.installPlugin("host-local") }) // what is left can be deleted only with it
	require.NoError(t, os.Remove(filepath.Join(c.plugins, "host-local")))
	c.waitFor(t, "tapio.cni.plugin.missing")
	require.ErrorContains(t, c.createPayment(t), `failed to find plugin "host-local"`)
	f := c.only(t, "cni-plugin-missing")
	assert.Equal(t, event.CNIPluginMissing, f.RootCause.Event)
	assert.Equal(t, "host-local", f.RootCause.Evidence[event.KeyCNIPlugin])
	assert.Contains(t, f.Actions.Immediate[0], "Install host-local again on "+c.name)
	assert.Contains(t, rig.Link(t, f, event.CNIOperation, "").Title, `failed to find plugin "host-local"`)
	rig.Link(t, f, event.K8sEvent, "payment-2")
	rig.Link(t, f, event.K8sPodNotReady, "payment-2")
	rig.Link(t, f, "tapio.call.failed", "storefront")
}

// TestMissingRouteHurtsCallers: somebody takes the node's route to its pods.
func TestMissingRouteHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	c.run("ip", "route", "del", "10.197.9.0/24", "dev", "br0")
	c.waitFor(t, event.CNIRouteMissing, c.address)
	f := c.ofPod(t, "route-missing", event.CNIRouteMissing)
	assert.Equal(t, c.address+"/32", f.RootCause.Evidence[event.KeyCNIRoute])
	assert.Contains(t, f.Actions.Immediate[0], c.address+"/32")
}

// TestMTUMismatchHurtsCallers: the node's end of the pod's interface lets only small
// packets through: connections open, and then hang.
func TestMTUMismatchHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	// A bridge whose MTU was changed once does not follow its smallest port any more.
	c.run("ip", "link", "set", "br0", "mtu", "1400")
	c.run("ip", "link", "set", "br0", "mtu", "1500")
	c.run("ip", "link", "set", c.hostEnd(t), "mtu", "200")
	c.waitFor(t, event.CNIInterfaceMTUMismatch)
	f := c.ofPod(t, "mtu-mismatch", event.CNIInterfaceMTUMismatch)
	assert.EqualValues(t, 200, f.RootCause.Evidence[event.KeyCNIMTUExpected])
	assert.EqualValues(t, 1500, f.RootCause.Evidence[event.KeyCNIMTU])
	assert.Contains(t, f.Actions.Immediate[0], "200")
}

// hostEnd is the node's end of the pod's interface.
func (c *cluster) hostEnd(t *testing.T) string {
	t.Helper()
	out, err := rig.In(c.netns, "ip", "-o", "link", "show", "eth0").Output()
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(out), "eth0@if") // 2: eth0@if5: <BROADCAST...
	index, _, _ := strings.Cut(after, ":")
	out, err = c.command("ip", "-o", "link").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, index+": "); ok {
			name, _, _ := strings.Cut(rest, "@")
			return name
		}
	}
	t.Fatalf("the node has no interface %s: %s", index, out)
	return ""
}

// TestInterfaceDownHurtsCallers: somebody takes the node's end of the pod's interface down. Once it
// is up again, the finding is over.
func TestInterfaceDownHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	end := c.hostEnd(t)
	c.run("ip", "link", "set", end, "down")
	c.waitFor(t, event.CNIInterfaceDown, end)
	f := c.ofPod(t, "pod-interface-down", event.CNIInterfaceDown)
	assert.Equal(t, end, f.RootCause.Evidence[event.KeyInterfaceName])
	assert.Contains(t, f.Actions.Immediate[0], "Bring "+end)
	c.run("ip", "link", "set", end, "up")
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(c.collector.Findings(t), func(x *finding.Finding) bool { return x.ID == f.ID && x.State == finding.StateResolved })
	}, 30*time.Second, 200*time.Millisecond, "%s does not end it", event.CNIRecovered)
}

// TestMissingAddressHurtsCallers: something in the pod takes its address.
func TestMissingAddressHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	rig.Run(t, rig.In(c.netns, "ip", "addr", "del", c.address+"/24", "dev", "eth0").Args...)
	c.waitFor(t, event.CNIAddressMissing, c.address)
	f := c.ofPod(t, "address-missing", event.CNIAddressMissing)
	assert.Equal(t, c.address, f.RootCause.Evidence[event.KeyCNIAddress])
}

// TestCallersKnowOnlyTheAddress: the spans of payment do not say in which pod it is, as those
// of most SDKs. Who calls the pod is known by the address that it calls.
func TestCallersKnowOnlyTheAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern, event string
		breaks         func(t *testing.T, c *cluster)
	}{
		"interface": {"pod-interface-down", event.CNIInterfaceDown, func(t *testing.T, c *cluster) {
			c.run("ip", "link", "set", c.hostEnd(t), "down")
		}},
		"address": {"address-missing", event.CNIAddressMissing, func(t *testing.T, c *cluster) {
			rig.Run(t, rig.In(c.netns, "ip", "addr", "del", c.address+"/24", "dev", "eth0").Args...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := startClusterWith(t, "10.197.9.0/24", false)
			tc.breaks(t, c)
			c.waitFor(t, tc.event)
			f := c.ofPod(t, tc.pattern, tc.event)
			call := rig.Link(t, f, "tapio.call.failed", "storefront")
			assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
			assert.Equal(t, c.address+":8081, the address of pod payment-1", call.LinkedOn)
		})
	}
}

// TestDuplicateAddressHurtsCallers: somebody takes the note of payment's address out of the
// store of addresses, and the plugin gives it to the next pod as well. That one gets
// storefront's calls: it refuses them, or serves something else at that port.
func TestDuplicateAddressHurtsCallers(t *testing.T) {
	for name, serves := range map[string]bool{"refused": false, "wrong answers": true} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, "10.197.9.0/24")
			store := c.path("networks", c.host.name)
			require.NoError(t, os.Remove(filepath.Join(store, c.address)))
			require.NoError(t, os.RemoveAll(filepath.Join(store, "last_reserved_ip.0")))
			thief, err := c.runSandbox("thief")
			require.NoError(t, err)
			address, netns := c.network(t, thief)
			require.Equal(t, c.address, address, "the plugin gives the address again")
			if serves {
				rig.Start(t, rig.In(netns, rig.Program(t, "checkout"), "ledger", "--listen", c.address+":8081"))
				rig.WaitListening(t, netns, c.address+":8081")
			}
			// It calls the node, whose ARP cache learns from its requests as from payment's.
			rig.Start(t, rig.In(netns, "bash", "-c", "while sleep 0.2; do ip neigh flush dev eth0; timeout 1 bash -c '</dev/tcp/"+c.gateway+"/8082'; done"))
			c.waitFor(t, event.CNIAddressDuplicate, c.address)
			f := c.ofPod(t, "address-duplicate", event.CNIAddressDuplicate)
			assert.Equal(t, c.address, f.RootCause.Evidence[event.KeyCNIAddress])
			assert.Equal(t, "thief", f.RootCause.Evidence[event.KeyCNIOtherPodName], "who looks for the other finds it too")
			assert.Contains(t, f.RootCause.Description, c.host.name+"/thief")
			assert.Contains(t, f.Actions.Immediate[0], c.address)
		})
	}
}
