package operations

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// cluster is a node with containerd, real plugins, a collector that watches them, and
// a shop: payment runs in the network of a pod, storefront on the node and calls the
// pod's address.
//
// There is no kubelet: the test asks containerd for sandboxes, as a kubelet does, and
// tells what the kubelet and the API server would, with the words of the real error,
// as the records that package event names: that is the only thing that is not real. payment
// is a process in the pod's network namespace, not a container.
type cluster struct {
	*containerd
	name      string // of the node
	collector *rig.Collector
	load      *rig.Load
	gateway   string // the node's address in the network
	payment   string // sandbox of the pod
	address   string // of the pod
	netns     string // path of its network namespace
	stop      func() // stops the process in it
}

const cniReceivers = `
receivers:
  tapio_cni:
    host_name: %[1]s
    host_namespace: %[2]s
    config_dirs: [%[3]s]
    plugin_dirs: [%[4]s]
    result_dirs: [%[6]s]
    ipam: {data_dirs: [%[5]s]}
    interval: 2s
    debounce: 50ms
`

// startCluster starts the node and the shop. The spans of payment say in which pod it is.
func startCluster(t *testing.T, subnet string) *cluster {
	t.Helper()
	return startClusterWith(t, subnet, true)
}

// startClusterWith is startCluster; tells is whether the spans of payment say in which pod it is.
func startClusterWith(t *testing.T, subnet string, tells bool) *cluster {
	t.Helper()
	requireParts(t, "containerd", "runc", "ctr")
	h := newHost(t)
	h.ownPlugins("bridge", "host-local", "loopback", "portmap")
	h.network(subnet)
	node, err := os.Hostname()
	require.NoError(t, err)
	prefix, err := netip.ParsePrefix(subnet)
	require.NoError(t, err)
	c := &cluster{name: node, gateway: prefix.Addr().Next().String()}
	c.collector = rig.StartCollector(t, h.netns, rig.Receivers{
		YAML:   fmt.Sprintf(cniReceivers, node, h.netns, h.path("net.d"), h.plugins, h.path("networks"), h.path("cni", "results")),
		Traces: []string{"tapio_cni"}, Logs: []string{"tapio_cni"},
	})
	c.containerd = startContainerd(t, h)
	c.payment, err = c.runSandbox("payment-1")
	require.NoError(t, err)
	c.address, c.netns = c.network(t, c.payment)
	gateway, address, netns := c.gateway, c.address, c.netns
	// The ledger and storefront are on the node, payment in the pod.
	checkout := rig.Program(t, "checkout")
	rig.Start(t, rig.In(h.netns, checkout, "ledger", "--listen", gateway+":8082"))
	payment := rig.In(netns, checkout, "payment", "--listen", address+":8081", "--ledger-url", "http://"+gateway+":8082", "--otlp-endpoint", "http://"+gateway+":4317")
	if tells { // as they do by the downward API or a collector's k8sattributes
		payment.Env = append(os.Environ(), "OTEL_RESOURCE_ATTRIBUTES=k8s.namespace.name="+h.name+",k8s.pod.name=payment-1,k8s.pod.uid=uid-payment-1,k8s.node.name="+node)
	}
	c.stop = rig.Start(t, payment)
	rig.Start(t, rig.In(h.netns, checkout, "storefront", "--payment-url", "http://"+address+":8081"))
	rig.WaitListening(t, h.netns, gateway+":8082", address+":8081")
	c.load = rig.StartLoad(t, h.netns, "http://127.0.0.1:8080", "http://127.0.0.1:4317")
	c.load.WaitOK(t, 50)
	return c
}

// network returns the address of a sandbox and the path of its network namespace.
func (c *cluster) network(t *testing.T, sandbox string) (address, netns string) {
	t.Helper()
	r, err := c.cri.PodSandboxStatus(context.Background(), &cri.PodSandboxStatusRequest{PodSandboxId: sandbox, Verbose: true})
	require.NoError(t, err)
	address = r.GetStatus().GetNetwork().GetIp()
	require.NotEmpty(t, address)
	var info struct {
		PID int `json:"pid"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.GetInfo()["info"]), &info))
	return address, fmt.Sprintf("/proc/%d/ns/net", info.PID)
}

// rollOut deletes the pod of payment, as the rollout of a deployment does that
// recreates its pods.
func (c *cluster) rollOut(t *testing.T) {
	t.Helper()
	c.stop()
	require.NoError(t, c.removeSandbox(c.payment))
}

// createPayment tries, as the kubelet does again and again, to create the next pod of
// payment, and tells what the kubelet and the API server would.
func (c *cluster) createPayment(t *testing.T) error {
	t.Helper()
	_, failed := c.runSandbox("payment-2")
	require.Error(t, failed)
	c.collector.TellNotCreated(t, rig.Pod{Namespace: c.host.name, Name: "payment-2", Deployment: "payment", Node: c.name}, failed)
	return failed
}

// only ends the load and returns the one finding, of the node.
func (c *cluster) only(t *testing.T, pattern string) *finding.Finding {
	t.Helper()
	f := c.finding(t, pattern)
	assert.Equal(t, "host", f.RootCause.Entity.Kind)
	assert.Equal(t, c.name, f.RootCause.Entity.Name)
	return f
}

// finding ends the load and returns the one finding.
func (c *cluster) finding(t *testing.T, pattern string) *finding.Finding {
	t.Helper()
	c.load.WaitFailed(t, 10)
	r := c.load.Stop(t)
	defer func() {
		if t.Failed() {
			rig.Missing(t, c.collector, r)
		}
	}()
	f := c.collector.Only(t, pattern, r.Counts)
	rig.Check(t, f, r)
	return f
}

// TestPoolExhaustedHurtsCallers: while payment is rolled out, others take the last
// addresses of the range; its next pod gets none, and storefront fails.
func TestPoolExhaustedHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/29") // five addresses
	for i := range 3 {
		_, err := c.runSandbox(fmt.Sprintf("batch-%d", i))
		require.NoError(t, err)
	}
	c.rollOut(t)
	for i := range 2 {
		_, err := c.runSandbox(fmt.Sprintf("batch-%d", 3+i))
		require.NoError(t, err)
	}
	require.ErrorContains(t, c.createPayment(t), "no IP addresses available in range set")
	f := c.only(t, "address-pool-exhausted")
	assert.Equal(t, "tapio.cni.pool.exhausted", f.RootCause.Event)
	assert.EqualValues(t, 5, f.RootCause.Evidence["tapio.cni.pool.used"])
	assert.NotContains(t, f.RootCause.Evidence, event.KeyCNIPoolLeaked, "all who have an address live")
	assert.Contains(t, f.Actions.Immediate[0], "Make room in network "+c.host.name)
	op := rig.Link(t, f, event.CNIOperation, "")
	assert.Equal(t, finding.LayerNetwork, op.Layer)
	assert.Contains(t, op.Title, "no IP addresses available")
	assert.Equal(t, finding.LinkedByTopology, rig.Link(t, f, event.K8sEvent, "payment-2").LinkedBy)
	rig.Link(t, f, event.K8sPodNotReady, "payment-2")
	call := rig.Link(t, f, "tapio.call.failed", "storefront")
	assert.Equal(t, finding.LayerApp, call.Layer)
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
}

// TestBrokenConfigurationHurtsCallers: somebody breaks the network's configuration;
// what runs goes on, but the next pod of payment cannot be made.
func TestBrokenConfigurationHurtsCallers(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	c.rollOut(t)
	file := c.path("net.d", "10-test.conflist")
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	t.Cleanup(func() { // what is left can be deleted only with a network
		assert.NoError(t, os.WriteFile(file, good, 0o600))
		c.waitReady()
	})
	require.NoError(t, os.WriteFile(file, []byte("{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": \n"), 0o600))
	require.Eventually(t, func() bool { return c.collector.Has("tapio.cni.config.invalid") }, 20*time.Second, 50*time.Millisecond)
	require.Error(t, c.createPayment(t))
	f := c.only(t, "cni-config-broken")
	assert.Equal(t, "tapio.cni.config.invalid", f.RootCause.Event)
	assert.Contains(t, f.RootCause.Evidence["file.path"], "10-test.conflist")
	assert.Contains(t, f.Actions.Immediate[0], "10-test.conflist")
	rig.Link(t, f, event.K8sEvent, "payment-2")
	rig.Link(t, f, "tapio.call.failed", "storefront")
}
