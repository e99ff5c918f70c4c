package systemd

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// The network of the machine's pods, its address there, and that of its first pod.
const (
	podNetwork = `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","bridge":"br0","isGateway":true,
  "ipam":{"type":"host-local","dataDir":"/run/tapio-containerd/networks","ranges":[[{"subnet":"10.198.7.0/24"}]]}}]}`
	podGateway = "10.198.7.1"
	podAddress = "10.198.7.2"
)

// containerdConfig keeps all that containerd writes in the machine, in memory.
// restrict_oom_score_adj lets it run where nothing may lower that number.
const containerdConfig = `version = 2
root = "/run/tapio-containerd/root"
state = "/run/tapio-containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/tapio-containerd/c.sock"
[ttrpc]
  address = "/run/tapio-containerd/t.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/opt/containerd/net.d"
`

// containerdUnit is as the one of the package, but nobody restarts it. It sees control
// groups and the network's parameters as this machine does: runc needs the kernel's
// controllers, of which the machine in the container has none, and plugins write
// parameters, which it may only read.
const containerdUnit = `[Service]
Type=notify
Delegate=yes
KillMode=process
BindPaths=/opt/cgroup:/sys/fs/cgroup /opt/proc/sys/net:/proc/sys/net
ExecStart=nsenter --cgroup=/opt/proc/%d/ns/cgroup containerd --config /opt/containerd/config.toml
`

// kubeletUnit is a stand-in for the kubelet: a unit of its name, restarted as the one of
// kubeadm is, but sooner. Its process does nothing, and cannot start while there is a file
// /run/no-kubelet. No package of Debian has the kubelet: the real one would have to be
// compiled together with an API server and etcd, about a quarter of an hour and 240 MB of
// programs wherever nothing is cached. What systemd tells of the unit, by which the kubelet
// is judged here, does not depend on which program it runs; what the kubelet and the API server
// tell of pods and nodes belongs to a receiver of Kubernetes and is told here by TellNodeLost.
const kubeletUnit = `[Unit]
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=500ms
ExecStart=sh -c 'test ! -e /run/no-kubelet && exec sleep infinity'
`

// runtimeNode is a node whose containerd and kubelet are units. payment runs in the
// network of a pod, ledger and storefront are units.
//
// The kubelet is a stand-in: the test asks containerd for sandboxes, as a kubelet does,
// and tells what the kubelet and the API server would, with the words of the real error.
// payment is a process in the pod's network namespace, not a container.
type runtimeNode struct {
	*node
	cri     cri.RuntimeServiceClient
	sandbox string // of payment's pod
	stop    func() // stops payment
}

func startRuntimeNode(t *testing.T) *runtimeNode {
	t.Helper()
	requireMachine(t)
	requireContainerd(t)
	n := &runtimeNode{}
	t.Cleanup(func() { // when the machine, and all that is in it, has ended
		if n.node != nil {
			removePods(t, n)
		}
	})
	n.node = bootNode(t, withContainerd(containerdFiles(t, podNetwork)), withUnits(map[string]string{
		"kubelet.service":                kubeletUnit,
		"ledger.service.d/pods.conf":     "[Service]\nExecStart=\nExecStart=/opt/tapio/checkout ledger --listen 0.0.0.0:8082\n",
		"storefront.service.d/pods.conf": "[Service]\nExecStart=\nExecStart=/opt/tapio/checkout storefront --payment-url http://" + podAddress + ":8081\n",
	}))
	n.startContainerd(t)

	var err error
	n.sandbox, err = n.runSandbox(t, "payment-1")
	require.NoError(t, err)
	pod := n.pod(t)
	n.systemctl("start", "kubelet", "ledger", "storefront")
	n.stop = rig.Start(t, rig.In(pod, "nsenter", fmt.Sprintf("--uts=/proc/%d/ns/uts", n.leader), "--", rig.Program(t, "checkout"), "payment", "--listen", podAddress+":8081",
		"--ledger-url", "http://"+podGateway+":8082", "--otlp-endpoint", "http://"+podGateway+":4317"))
	rig.WaitListening(t, n.netns, podGateway+":8082", podAddress+":8081")
	n.startLoad(t)
	return n
}

// containerdFiles is a directory with the configuration of containerd and of its network,
// and the image of sandboxes.
func containerdFiles(t *testing.T, network string) string {
	t.Helper()
	files := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(files, "net.d"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(files, "net.d", "10-pods.conflist"), []byte(network), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(files, "config.toml"), fmt.Appendf(nil, containerdConfig, rig.PauseImage), 0o600))
	rig.WritePauseImage(t, filepath.Join(files, "pause.tar"))
	return files
}

// withContainerd gives a machine the unit of containerd, with those files.
func withContainerd(files string) func(*machine) {
	unit := withUnits(map[string]string{"containerd.service": fmt.Sprintf(containerdUnit, os.Getpid())})
	return func(m *machine) {
		unit(m)
		m.binds = append(m.binds, "--bind="+files+":/opt/containerd", "--bind=/sys/fs/cgroup:/opt/cgroup", "--bind=/proc:/opt/proc",
			"--capability=all", "--system-call-filter=@keyring bpf")
	}
}

// removePods removes the control groups of pods of a machine that has ended.
func removePods(t *testing.T, n *runtimeNode) {
	t.Helper()
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + n.podCgroup())
	assert.NoError(t, err)
	for _, dir := range append(dirs, "/sys/fs/cgroup"+n.podCgroup()) {
		removeCgroup(t, dir)
	}
}

// requireContainerd skips the test where there is no containerd; with CI=true it fails.
func requireContainerd(t *testing.T) {
	t.Helper()
	for _, program := range []string{"containerd", "runc", "ctr", "/usr/lib/cni/bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			reason := err.Error() + ": make deps installs it on Debian and Ubuntu"
			if os.Getenv("CI") == "true" {
				t.Fatal(reason)
			}
			t.Skip(reason)
		}
	}
}

// podCgroup is the parent of the control groups of all pods.
func (n *runtimeNode) podCgroup() string { return "/" + n.name + "-pods" }

// startContainerd starts the unit, waits until it is ready, and gives it the image.
func (n *runtimeNode) startContainerd(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := n.command("journalctl", "--no-pager", "--unit=containerd", "--grep=level=(warning|error|fatal)|containerd[.]service").CombinedOutput()
			t.Logf("containerd wrote:\n%s", out)
		}
	})
	n.systemctl("start", "containerd")
	conn, err := grpc.NewClient(fmt.Sprintf("unix:///proc/%d/root/run/tapio-containerd/c.sock", n.leader), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	n.cri = cri.NewRuntimeServiceClient(conn)
	require.Eventually(t, func() bool {
		s, err := n.cri.Status(t.Context(), &cri.StatusRequest{})
		conditions := s.GetStatus().GetConditions()
		return err == nil && !slices.ContainsFunc(conditions, func(c *cri.RuntimeCondition) bool { return !c.GetStatus() })
	}, time.Minute, 100*time.Millisecond, "containerd is not ready")
	out, err := n.command("ctr", "--address", "/run/tapio-containerd/c.sock", "--namespace", "k8s.io",
		"image", "import", "--snapshotter", "native", "/opt/containerd/pause.tar").CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// runSandbox asks containerd for the sandbox of a pod and returns its id.
func (n *runtimeNode) runSandbox(t *testing.T, pod string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := n.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: pod, Uid: "uid-" + pod, Namespace: "shop"},
		Hostname: pod,
		Linux:    &cri.LinuxPodSandboxConfig{CgroupParent: n.podCgroup()},
	}})
	return r.GetPodSandboxId(), err
}

// pod returns the path of the network namespace of payment's pod, as seen from here.
func (n *runtimeNode) pod(t *testing.T) string {
	t.Helper()
	r, err := n.cri.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: n.sandbox, Verbose: true})
	require.NoError(t, err)
	require.Equal(t, podAddress, r.GetStatus().GetNetwork().GetIp())
	var info struct {
		PID int `json:"pid"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.GetInfo()["info"]), &info))
	return fmt.Sprintf("/proc/%d/root/proc/%d/ns/net", n.leader, info.PID)
}

// rollOut removes the pod of payment, as the rollout of a deployment does that recreates
// its pods.
func (n *runtimeNode) rollOut(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n.stop()
	_, err := n.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: n.sandbox})
	require.NoError(t, err)
	_, err = n.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: n.sandbox})
	require.NoError(t, err)
}

// TestContainerRuntimeFails: containerd fails in the middle of a rollout of payment, when
// the old pod is away; the next cannot be made, and storefront's calls go on failing.
func TestContainerRuntimeFails(t *testing.T) {
	n := startRuntimeNode(t)
	n.rollOut(t)
	n.failContainerd(t)
	n.createPayment(t)
	n.checkContainerd(t)
}

// TestContainerRuntimeFailedBefore: containerd fails, which hurts nobody yet. Later the
// process in payment's pod ends, and no pod can be made in its place.
func TestContainerRuntimeFailedBefore(t *testing.T) {
	n := startRuntimeNode(t)
	n.failContainerd(t)
	n.load.WaitOK(t, 30) // more than two seconds
	n.stop()
	n.load.WaitFailed(t, 5)
	n.createPayment(t)
	n.checkContainerd(t)
}

// nextPod is what a deployment makes in the place of payment's pod.
func (n *runtimeNode) nextPod() rig.Pod {
	return rig.Pod{Namespace: "shop", Name: "payment-2", Deployment: "payment", Node: n.name}
}

// createPayment tries to create the next pod of payment, which fails, and tells so.
func (n *runtimeNode) createPayment(t *testing.T) {
	t.Helper()
	_, failed := n.runSandbox(t, n.nextPod().Name)
	require.Error(t, failed)
	n.collector.TellNotCreated(t, n.nextPod(), failed)
}

func (n *runtimeNode) failContainerd(t *testing.T) {
	t.Helper()
	n.systemctl("kill", "--kill-whom=main", "--signal=ABRT", "containerd")
	assert.Equal(t, "exit-code", n.collector.Record(t, "tapio.systemd.unit.failed", "containerd.service")["error.type"])
}

// checkContainerd: containerd is the one root of all.
func (n *runtimeNode) checkContainerd(t *testing.T) {
	t.Helper()
	f := n.only(t, "container-runtime-down", nil)
	assert.Equal(t, "tapio.systemd.unit.failed", f.RootCause.Event)
	assert.Equal(t, n.name, f.RootCause.Entity.Name)
	assert.Contains(t, f.RootCause.Description, "containerd.service on "+n.name)
	assert.Contains(t, f.Actions.Immediate[0], "systemctl start containerd.service")
	assert.Equal(t, finding.LinkedByTopology, rig.Link(t, f, event.K8sEvent, "payment-2").LinkedBy)
	rig.Link(t, f, event.K8sPodNotReady, "payment-2")
	call := rig.Link(t, f, "tapio.call.failed", "storefront")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
	assert.Contains(t, call.LinkedOn, podAddress+":8081")
}

// TestKubeletFails: the kubelet fails in the middle of a rollout of payment, when the old
// pod is away, and systemd starts it in vain again and again. Nobody makes the next pod,
// and storefront's calls go on failing.
func TestKubeletFails(t *testing.T) {
	n := startRuntimeNode(t)
	n.rollOut(t)
	n.touch(t, "/run/no-kubelet")
	n.systemctl("kill", "--kill-whom=main", "--signal=KILL", "kubelet")
	require.Eventually(t, func() bool {
		return n.collector.Has(`"tapio.systemd.unit.restarting"`, `"kubelet.service"`, `"tapio.systemd.restart.count","value":{"intValue":"4"}`)
	}, time.Minute, 100*time.Millisecond, "no restart loop")
	n.collector.TellNodeLost(t, n.nextPod())

	f := n.only(t, "kubelet-down", nil)
	assert.Equal(t, "tapio.systemd.unit.failed", f.RootCause.Event)
	assert.Equal(t, n.name, f.RootCause.Entity.Name)
	assert.Equal(t, "host", f.RootCause.Entity.Kind)
	assert.Contains(t, f.RootCause.Description, "kubelet.service on "+n.name)
	assert.Contains(t, f.Actions.Immediate[0], "systemctl start kubelet.service")
	rig.Link(t, f, "tapio.systemd.unit.restarting", "kubelet.service")
	assert.Equal(t, finding.LinkedByTopology, rig.Link(t, f, event.K8sNodeCondition, n.name).LinkedBy)
	assert.Equal(t, finding.LinkedByTopology, rig.Link(t, f, event.K8sPodNotReady, "payment-2").LinkedBy)
	call := rig.Link(t, f, "tapio.call.failed", "storefront")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
	assert.Contains(t, call.LinkedOn, podAddress+":8081")
}
