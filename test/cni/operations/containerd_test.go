package operations

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// containerd's own: no socket, directory or cgroup is shared with another one.
// restrict_oom_score_adj lets it run where nothing may lower that number.
const containerdConfig = `version = 2
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %[3]q
[ttrpc]
  address = %[4]q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[5]q
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[6]q
    conf_dir = %[7]q
`

// containerd is one that runs in the namespace of h.
type containerd struct {
	*host
	cri    cri.RuntimeServiceClient
	cgroup string
}

func startContainerd(t *testing.T, h *host) *containerd {
	t.Helper()
	requireParts(t, "containerd", "runc", "ctr")
	socket := h.path("c.sock")
	config := fmt.Sprintf(containerdConfig, h.path("root"), h.path("state"), socket, h.path("t.sock"), rig.PauseImage, h.plugins, h.path("net.d"))
	require.NoError(t, os.WriteFile(h.path("config.toml"), []byte(config), 0o600))
	log, err := os.Create(h.path("containerd.log"))
	require.NoError(t, err)
	cmd := h.runtime("containerd", "--config", h.path("config.toml"))
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("containerd wrote:\n%s", text)
		}
	})
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	c := &containerd{host: h, cri: cri.NewRuntimeServiceClient(conn), cgroup: "/" + h.name}
	t.Cleanup(c.removeCgroups)
	c.waitReady()
	t.Cleanup(c.removeAll)
	image := h.path("pause.tar")
	rig.WritePauseImage(t, image)
	out, err := exec.Command("ctr", "--address", socket, "--namespace", "k8s.io", "image", "import", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return c
}

// waitReady waits until the runtime and its network are ready.
func (c *containerd) waitReady() {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		s, err := c.cri.Status(context.Background(), &cri.StatusRequest{})
		if err != nil {
			return false
		}
		for _, condition := range s.GetStatus().GetConditions() {
			if !condition.GetStatus() {
				return false
			}
		}
		return true
	}, 30*time.Second, 100*time.Millisecond, "containerd is not ready")
}

// removeAll removes the sandboxes that a test left, also when it failed: they would
// outlive containerd.
func (c *containerd) removeAll() {
	r, err := c.cri.ListPodSandbox(context.Background(), &cri.ListPodSandboxRequest{})
	if !assert.NoError(c.t, err) {
		return
	}
	for _, s := range r.GetItems() {
		assert.NoError(c.t, c.removeSandbox(s.GetId()))
	}
}

// removeCgroups removes what runc leaves: the parents that were named to it.
func (c *containerd) removeCgroups() {
	parents, err := filepath.Glob("/sys/fs/cgroup/*" + c.cgroup)
	assert.NoError(c.t, err)
	for _, p := range append(parents, "/sys/fs/cgroup"+c.cgroup) {
		if err := os.Remove(p); err != nil && !os.IsNotExist(err) {
			c.t.Errorf("left behind: %v", err)
		}
	}
}

func (c *containerd) config(pod string) *cri.PodSandboxConfig {
	return &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: pod, Uid: "uid-" + pod, Namespace: c.name},
		Hostname: pod,
		Linux:    &cri.LinuxPodSandboxConfig{CgroupParent: c.cgroup},
	}
}

// run starts a sandbox and returns its id.
func (c *containerd) runSandbox(pod string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := c.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: c.config(pod)})
	return r.GetPodSandboxId(), err
}

// remove stops and removes a sandbox.
func (c *containerd) removeSandbox(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := c.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// eth0 are the spans of a pod for its interface: containerd calls loopback too.
func eth0(pod string) func(ptrace.Span) bool {
	return func(s ptrace.Span) bool {
		return text(s.Attributes(), event.KeyPodName) == pod && text(s.Attributes(), event.KeyInterfaceName) == "eth0"
	}
}

func TestContainerd(t *testing.T) {
	requireParts(t, "containerd", "runc", "ctr")
	h := newHost(t)
	network := h.network("10.197.8.0/30", chain) // one address
	w := startReceiver(t, h, map[string]any{"operations": map[string]any{"output": "always"}})
	c := startContainerd(t, h)
	first, err := c.runSandbox(h.name + "-first")
	require.NoError(t, err)
	w.eventually(eth0(h.name+"-first"), "cni ADD ok\n  bridge ADD ok\n    host-local ADD ok\n  portmap ADD ok\n")
	for _, s := range w.spans(eth0(h.name + "-first")) {
		assert.Equal(t, first, text(s.Attributes(), event.KeyContainerID))
		assert.Equal(t, network, text(s.Attributes(), event.KeyCNINetwork))
		assert.Equal(t, "uid-"+h.name+"-first", text(s.Attributes(), event.KeyPodUID))
		assert.Equal(t, h.name, text(s.Attributes(), event.KeyNamespaceName))
	}

	results, err := os.ReadDir(h.path("cni", "results"))
	require.NoError(t, err)
	assert.NotEmpty(t, results, "what containerd keeps is the test's own")

	// No address is left. containerd calls DEL for what could not be added.
	_, err = c.runSandbox(h.name + "-second")
	require.ErrorContains(t, err, "no IP addresses available in range set")
	w.eventually(eth0(h.name+"-second"), `cni ADD address_pool_exhausted
  bridge ADD address_pool_exhausted
    host-local ADD address_pool_exhausted
cni DEL ok
  portmap DEL ok
  bridge DEL ok
    host-local DEL ok
`)
	require.Eventually(t, func() bool { return len(w.failures(event.KeyPodName, h.name+"-second")) == 1 }, waitLimit, waitStep)
	record := w.failures(event.KeyPodName, h.name+"-second")[0]
	assert.Equal(t, "host-local", text(record.Attributes(), event.KeyCNIPlugin))
	assert.Contains(t, err.Error(), text(record.Attributes(), event.KeyCNIErrorMessage), "the runtime heard the same")

	require.NoError(t, c.removeSandbox(first))
	require.Eventually(t, func() bool {
		return len(w.spans(func(s ptrace.Span) bool { return eth0(h.name+"-first")(s) && s.Name() == "cni DEL" })) > 0
	}, waitLimit, waitStep)
}

// TestNoResidue: what 200 sandboxes leave in the receiver is nothing, and each of
// their operations was told once.
func TestNoResidue(t *testing.T) {
	requireParts(t, "containerd", "runc", "ctr")
	const sandboxes, atOnce = 200, 4
	h := newHost(t)
	h.network("10.197.16.0/20", chain)
	w := startReceiver(t, h, map[string]any{"operations": map[string]any{"output": "always"}})
	c := startContainerd(t, h)
	require.Eventually(t, func() bool { _, ok := w.held()["interfaces"]; return ok }, waitLimit, waitStep, "no first picture")
	before := w.held()["interfaces"] // the uplinks of this machine
	began := time.Now()
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range sandboxes {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			id, err := c.runSandbox(fmt.Sprintf("%s-%d", h.name, i))
			if assert.NoError(t, err) {
				assert.NoError(t, c.removeSandbox(id))
			}
		})
	}
	group.Wait()
	t.Logf("%d sandboxes made and removed in %s", sandboxes, time.Since(began).Round(time.Second))
	of := func(name string) int {
		return len(w.spans(func(s ptrace.Span) bool {
			return s.Name() == name && text(s.Attributes(), event.KeyNamespaceName) == h.name && text(s.Attributes(), event.KeyInterfaceName) == "eth0"
		}))
	}
	// The gauge is of the whole machine: other operations may go on for a while.
	if !assert.Eventually(t, func() bool { return of("cni DEL") >= sandboxes && w.held()["calls"] == 0 }, time.Minute, waitStep) {
		t.Log(of("cni DEL"), w.held())
	}
	assert.Eventually(t, func() bool { return w.held()["interfaces"] == before }, time.Minute, waitStep)
	assert.Equal(t, sandboxes, of("cni ADD"))
	assert.Equal(t, sandboxes, of("bridge ADD"))
	assert.Equal(t, sandboxes, of("host-local ADD"))
	assert.Equal(t, sandboxes, of("portmap ADD"))
	assert.NotEmpty(t, w.named(event.CNIInterface), "the state half saw those that lived long enough")
	// RemovePodSandbox may ask once more for what StopPodSandbox deleted.
	assert.Equal(t, of("cni DEL"), of("bridge DEL"))
	assert.Empty(t, w.failures(event.KeyNamespaceName, h.name))
	assert.Eventually(t, func() bool { return w.held()["records"] == 0 }, waitLimit, waitStep)
	assert.Zero(t, w.sum("otelcol_receiver_tapio_cni_lost"))
}
