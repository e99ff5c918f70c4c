package cni

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/linux"
)

// node is a machine made for one test: a network namespace that stands for the
// host's, and directories that stand for those of CNI.
type node struct {
	t *testing.T
	// dir is where everything is: config, plugins, networks, cache and netns below it.
	dir string
	// host is the path of the network namespace that stands for the host's.
	host string
	cni  *libcni.CNIConfig
	name string
}

// pluginDirs are where distributions install plugins.
var pluginDirs = []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}

// required skips, or fails in CI, for want of something.
func required(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// newNode makes a node with copies of real plugins.
func newNode(t *testing.T) *node {
	t.Helper()
	required(t, os.Geteuid() == 0, "network namespaces need root")
	n := &node{t: t, dir: t.TempDir(), name: "pods"}
	for _, sub := range []string{"config", "plugins", "networks", "cache", "netns"} {
		require.NoError(t, os.Mkdir(n.path(sub), 0o755))
	}
	for _, plugin := range []string{"bridge", "host-local", "portmap", "ptp"} {
		n.installPlugin(plugin)
	}
	n.host = n.newNamespace("host")
	n.in(n.host, func() { n.run("ip", "link", "set", "lo", "up") })
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{n.path("plugins")}, n.path("cache"), nil)
	return n
}

func (n *node) path(parts ...string) string {
	return filepath.Join(append([]string{n.dir}, parts...)...)
}

// installPlugin copies a plugin of the machine, so that a test may damage it.
func (n *node) installPlugin(name string) {
	for _, dir := range pluginDirs {
		from, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		defer from.Close()
		to, err := os.OpenFile(n.path("plugins", name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
		require.NoError(n.t, err)
		_, err = io.Copy(to, from)
		require.NoError(n.t, err)
		require.NoError(n.t, to.Close())
		return
	}
	required(n.t, false, fmt.Sprintf("CNI plugin %s is in none of %v", name, pluginDirs))
}

// newNamespace pins a new network namespace and frees it with the test.
func (n *node) newNamespace(name string) string {
	path := n.path("netns", name)
	require.NoError(n.t, os.WriteFile(path, nil, 0o444))
	var err error
	linux.OnOwnThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
	})
	require.NoError(n.t, err)
	n.t.Cleanup(func() { n.removeNamespace(path) })
	return path
}

func (n *node) removeNamespace(path string) {
	if err := unix.Unmount(path, unix.MNT_DETACH); err == nil {
		_ = os.Remove(path)
	}
}

// in runs f on a thread inside a network namespace; programs that f starts are there too.
func (n *node) in(path string, f func()) {
	n.t.Helper()
	var err error
	linux.OnOwnThread(func() {
		var ns *os.File
		if ns, err = os.Open(path); err != nil {
			return
		}
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		ns.Close()
		if err == nil {
			f()
		}
	})
	require.NoError(n.t, err)
}

// run runs a program to its end, in the namespace of the thread.
func (n *node) run(name string, args ...string) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

// hostRun runs a program in the host's network namespace.
func (n *node) hostRun(name string, args ...string) {
	n.t.Helper()
	n.in(n.host, func() { n.run(name, args...) })
}

// configure writes the configuration of the network, with addresses of a range.
func (n *node) configure(subnet string) {
	n.writeConfig("10-pods.conflist", fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "mtu": 1400,
      "ipam": {
        "type": "host-local",
        "dataDir": %q,
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}`, n.path("networks"), subnet))
}

// writeConfig puts a file into the configuration directory, at once.
func (n *node) writeConfig(name, content string) {
	temporary := n.path("config", "."+name)
	require.NoError(n.t, os.WriteFile(temporary, []byte(content), 0o644))
	require.NoError(n.t, os.Rename(temporary, n.path("config", name)))
}

// pod is a sandbox of a node.
type pod struct {
	n *node
	// id is its container id, netns the path of its network namespace.
	id, netns string
	alive     *exec.Cmd
}

// newPod makes a namespace with a living process in it, as a runtime does
// before ADD.
func (n *node) newPod(id string) *pod {
	n.t.Helper()
	p := &pod{n: n, id: id, netns: n.newNamespace("cni-" + id)}
	n.in(p.netns, func() {
		p.alive = exec.Command("sleep", "600")
		if err := p.alive.Start(); err != nil {
			n.t.Error(err)
		}
	})
	n.t.Cleanup(p.kill)
	return p
}

// kill ends the process, and leaves everything else as it is.
func (p *pod) kill() {
	if p.alive != nil && p.alive.Process != nil && p.alive.ProcessState == nil {
		_ = p.alive.Process.Kill()
		_ = p.alive.Wait()
	}
}

func (p *pod) runtimeConf() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: p.id, NetNS: p.netns, IfName: "eth0",
		Args: [][2]string{
			{"K8S_POD_NAMESPACE", "shop"},
			{"K8S_POD_NAME", "payment-" + p.id},
			{"K8S_POD_UID", "uid-" + p.id},
			{"IgnoreUnknown", "1"},
		},
	}
}

func (n *node) network() (*libcni.NetworkConfigList, error) {
	return libcni.LoadConfList(n.path("config"), n.name)
}

// add asks the plugins for the pod's interface, as a container runtime does.
func (p *pod) add() (types.Result, error) {
	network, err := p.n.network()
	if err != nil {
		return nil, err
	}
	var result types.Result
	p.n.in(p.n.host, func() {
		result, err = p.n.cni.AddNetworkList(p.context(), network, p.runtimeConf())
	})
	return result, err
}

// del takes the interface away.
func (p *pod) del() error {
	network, err := p.n.network()
	if err != nil {
		return err
	}
	p.n.in(p.n.host, func() {
		err = p.n.cni.DelNetworkList(p.context(), network, p.runtimeConf())
	})
	return err
}

// end deletes the pod as a runtime does: DEL, then process and namespace.
func (p *pod) end() {
	p.n.t.Helper()
	require.NoError(p.n.t, p.del())
	p.kill()
	p.n.removeNamespace(p.netns)
}

// run runs a program in the pod's namespace.
func (p *pod) run(name string, args ...string) {
	p.n.t.Helper()
	p.n.in(p.netns, func() { p.n.run(name, args...) })
}

func (p *pod) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p.n.t.Cleanup(cancel)
	return ctx
}
