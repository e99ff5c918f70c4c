package operations

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pluginDir is where Debian's containernetworking-plugins are.
const pluginDir = "/usr/lib/cni"

// require skips the test when something is missing; with CI=true it fails.
func requireParts(t *testing.T, programs ...string) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "network namespaces and kernel programs need root"
	} else if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		reason = "kernel programs need a kernel with BTF: " + err.Error()
	}
	for _, p := range append(programs, "ip", "nsenter", filepath.Join(pluginDir, "bridge")) {
		if _, err := exec.LookPath(p); err != nil && reason == "" {
			reason = fmt.Sprintf("%v (packages: containernetworking-plugins containerd runc iproute2)", err)
		}
	}
	switch {
	case reason == "":
	case os.Getenv("CI") == "true":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

// host is a network namespace that plays the host, with a directory for what CNI
// keeps. Everything in it is gone when the test ends.
type host struct {
	t   *testing.T
	dir string
	// netns is the path of its network namespace.
	netns string
	// plugins is where containerd and the collector look for plugins.
	plugins string
	// name is unique, for names of networks and sandboxes.
	name string
}

var hosts struct {
	sync.Mutex
	count int
}

func newHost(t *testing.T) *host {
	t.Helper()
	hosts.Lock()
	hosts.count++
	name := fmt.Sprintf("tapio-%d-%d", os.Getpid(), hosts.count)
	hosts.Unlock()
	// Not t.TempDir, whose names are too long for Unix sockets.
	dir, err := os.MkdirTemp("", "tapio-cni-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	h := &host{t: t, dir: dir, plugins: pluginDir, name: name}
	h.netns = h.namespace("host")
	h.run("ip", "link", "set", "lo", "up")
	for _, d := range []string{"net.d", "networks", "cni/results"} {
		require.NoError(t, os.MkdirAll(h.path(d), 0o755))
	}
	return h
}

func (h *host) path(elements ...string) string {
	return filepath.Join(append([]string{h.dir}, elements...)...)
}

// namespace makes a network namespace and returns its path.
func (h *host) namespace(name string) string {
	h.t.Helper()
	name = h.name + "-" + name
	out, err := exec.Command("ip", "netns", "add", name).CombinedOutput()
	require.NoError(h.t, err, "%s", out)
	h.t.Cleanup(func() {
		out, err := exec.Command("ip", "netns", "del", name).CombinedOutput()
		assert.NoError(h.t, err, "%s", out)
	})
	return "/run/netns/" + name
}

// command is a program to run in the host's network namespace.
func (h *host) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + h.netns, "--", name}, args...)...)
}

// ownResults mounts the directory that is its first argument where libcni keeps results,
// whatever one tells its users, and becomes the program that follows. Only that program
// sees it there; network namespaces that are pinned meanwhile are seen by all.
const ownResults = `set -e
mkdir -p /var/lib/cni
mount --make-slave "$(stat --format=%m /var/lib/cni)"
mount --bind "$0" /var/lib/cni
exec "$@"`

// runtime is a command that calls plugins, with a directory of results of its own.
func (h *host) runtime(name string, args ...string) *exec.Cmd {
	return h.command("unshare", append([]string{"--mount", "--propagation", "unchanged", "sh", "-c", ownResults, h.path("cni"), name}, args...)...)
}

func (h *host) run(name string, args ...string) {
	h.t.Helper()
	out, err := h.command(name, args...).CombinedOutput()
	require.NoError(h.t, err, "%s", out)
}

// ownPlugins makes copies of plugins, of which one may be taken away.
func (h *host) ownPlugins(names ...string) {
	h.t.Helper()
	h.plugins = h.path("plugins")
	require.NoError(h.t, os.Mkdir(h.plugins, 0o755))
	for _, name := range names {
		h.installPlugin(name)
	}
}

func (h *host) installPlugin(name string) {
	h.t.Helper()
	content, err := os.ReadFile(filepath.Join(pluginDir, name))
	require.NoError(h.t, err)
	require.NoError(h.t, os.WriteFile(filepath.Join(h.plugins, name), content, 0o755))
}

// network writes a configuration: a bridge with host-local, then the plugins of
// rest. Its name is unique.
func (h *host) network(subnet string, rest ...string) string {
	h.t.Helper()
	plugins := append([]string{fmt.Sprintf(
		`{"type":"bridge","bridge":"br0","isGateway":true,"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]]}}`,
		h.path("networks"), subnet)}, rest...)
	return h.networkOf(plugins...)
}

func (h *host) networkOf(plugins ...string) string {
	h.t.Helper()
	text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[%s]}`, h.name, strings.Join(plugins, ","))
	require.NoError(h.t, os.WriteFile(h.path("net.d", "10-test.conflist"), []byte(text), 0o600))
	return h.name
}

var cnitoolOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tapio-cnitool-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cnitool")
	out, err := exec.Command("go", "build", "-o", path, "github.com/containernetworking/cni/cnitool").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build cnitool: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := cnitoolOnce(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// cnitool calls the plugins as a runtime does, for the pod shop/NAME.
func (h *host) cnitool(command, netns string) (string, error) {
	h.t.Helper()
	return h.cnitoolWith(pluginDir, command, netns)
}

// cnitoolWith is cnitool with plugins of another directory.
func (h *host) cnitoolWith(plugins, command, netns string) (string, error) {
	h.t.Helper()
	path, err := cnitoolOnce()
	require.NoError(h.t, err)
	cmd := h.runtime(path, command, h.name, netns)
	cmd.Env = append(os.Environ(), "CNI_PATH="+plugins, "NETCONFPATH="+h.path("net.d"),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME="+filepath.Base(netns)+";K8S_POD_UID=uid-1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
