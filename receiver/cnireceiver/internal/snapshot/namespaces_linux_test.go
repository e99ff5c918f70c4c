package snapshot

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// needRoot skips, or fails in CI, where namespaces cannot be made.
func needRoot(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("ip")
	switch {
	case os.Geteuid() == 0 && err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal("network namespaces need root and the program ip")
	default:
		t.Skip("network namespaces need root and the program ip")
	}
}

// pin makes a network namespace at path.
func pin(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	linux.OnOwnThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); assert.NoError(t, err) {
			assert.NoError(t, unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""))
		}
	})
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(path, unix.MNT_DETACH)) })
}

func inside(t *testing.T, path string, args ...string) {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + path}, args...)...).CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
}

// twoNamespaces are a host's and a pod's, joined by a veth on a bridge.
func twoNamespaces(t *testing.T) (Options, string, string) {
	needRoot(t)
	dir := t.TempDir()
	host, pod := filepath.Join(dir, "host"), filepath.Join(dir, "cni-pod")
	pin(t, host)
	pin(t, pod)
	inside(t, host, "ip", "link", "add", "cni0", "type", "bridge")
	inside(t, host, "ip", "addr", "add", "10.97.0.1/24", "dev", "cni0")
	inside(t, host, "ip", "link", "set", "cni0", "up")
	inside(t, host, "ip", "link", "add", "veth0", "mtu", "1400", "type", "veth", "peer", "name", "eth0", "mtu", "1400", "netns", pod)
	inside(t, host, "ip", "link", "set", "veth0", "master", "cni0", "up")
	inside(t, pod, "ip", "addr", "add", "10.97.0.2/24", "dev", "eth0")
	inside(t, pod, "ip", "link", "set", "eth0", "up")
	inside(t, pod, "ip", "route", "add", "default", "via", "10.97.0.1")
	return Options{HostNamespace: host, NamespaceDirs: []string{dir}, Interfaces: true, Conntrack: true, Processes: true}, host, pod
}

func TestPictureOfNamespaces(t *testing.T) {
	t.Parallel()
	opts, hostPath, podPath := twoNamespaces(t)
	r := NewReader(opts)
	p := r.Read(time.Now())
	require.Empty(t, p.Unseen)
	require.Len(t, p.Namespaces, 2)
	host, pod := p.Namespaces[0], p.Namespaces[1]
	assert.True(t, host.IsHost && host.Entered && pod.Entered)
	assert.Equal(t, []string{hostPath}, host.Paths)
	assert.Equal(t, []string{podPath}, pod.Paths)
	assert.False(t, pod.HasProcess)

	veth, bridge := linkNamed(t, host, "veth0"), linkNamed(t, host, "cni0")
	eth := linkNamed(t, pod, "eth0")
	assert.Equal(t, "veth", veth.Kind)
	assert.Equal(t, "bridge", bridge.Kind)
	assert.Equal(t, bridge.Index, veth.Master)
	assert.Equal(t, 1400, veth.MTU)
	assert.True(t, veth.Up && veth.Carrier && eth.Up && eth.Carrier)
	assert.Equal(t, eth.Index, veth.Peer)
	assert.Equal(t, pod.Inode, veth.PeerNamespace)
	assert.Contains(t, addressesOf(eth), netip.MustParsePrefix("10.97.0.2/24"))
	assert.Contains(t, pod.Routes, state.Route{
		Destination: netip.MustParsePrefix("0.0.0.0/0"), Link: eth.Index, Gateways: []netip.Addr{netip.MustParseAddr("10.97.0.1")},
	})

	inside(t, podPath, "ip", "link", "set", "eth0", "down")
	p = r.Read(time.Now())
	eth, veth = linkNamed(t, p.Namespaces[1], "eth0"), linkNamed(t, p.Namespaces[0], "veth0")
	assert.False(t, eth.Up)
	assert.True(t, veth.Up)
	assert.False(t, veth.Carrier)
}

// The host's namespace may be named by a process, and so may a pod's (podman, nerdctl),
// also where the host's / is mounted elsewhere.
func TestNamespacesOfProcessesBelowARoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "proc"), 0o750))
	require.NoError(t, unix.Mount("/proc", filepath.Join(root, "proc"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(filepath.Join(root, "proc"), unix.MNT_DETACH)) })
	pod := exec.Command("sleep", "60")
	pod.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	require.NoError(t, pod.Start())
	t.Cleanup(func() { _ = pod.Process.Kill(); _ = pod.Wait() })
	netns := fmt.Sprintf("/proc/%d/ns/net", pod.Process.Pid)
	r := NewReader(Options{Root: root, HostNamespace: fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), Interfaces: true})
	p := &state.Picture{Unseen: map[state.Source]string{}, Results: []*result.Attachment{{Netns: netns}}}
	r.readNamespaces(p)
	assert.Empty(t, p.Unseen)
	require.Len(t, p.Namespaces, 2)
	assert.True(t, p.Namespaces[0].IsHost && p.Namespaces[0].Entered)
	assert.Equal(t, []string{netns}, p.Namespaces[1].Paths)
	assert.True(t, p.Namespaces[1].Entered)
}

// hiddenProc names the directory of a /proc for the copy of the test that sees no
// other user's processes in it.
const hiddenProc = "TAPIO_TEST_HIDDEN_PROC"

// Where /proc shows no foreign process, nobody is known to be dead.
func TestHiddenProcesses(t *testing.T) {
	if root := os.Getenv(hiddenProc); root != "" {
		require.NotZero(t, os.Geteuid())
		_, err := os.Stat(filepath.Join(root, "proc/self/ns"))
		require.NoError(t, err, "its own is there")
		assert.Contains(t, listProcesses(root).problem, "hides the processes of others")
		return
	}
	needRoot(t)
	root, err := os.MkdirTemp("/tmp", "tapio-proc-") // t's own lets nobody in
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(root)) })
	require.NoError(t, os.Chmod(root, 0o755))
	proc := filepath.Join(root, "proc")
	require.NoError(t, os.Mkdir(proc, 0o755))
	require.NoError(t, unix.Mount("proc", proc, "proc", 0, "hidepid=2"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(proc, unix.MNT_DETACH)) })
	assert.Empty(t, listProcesses(root).problem, "root sees them")

	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHiddenProcesses$", "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), hiddenProc+"="+root, "TMPDIR=/tmp", "GOCOVERDIR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestHiddenProcesses", "it ran")
}

func linkNamed(t *testing.T, ns *state.Namespace, name string) state.Link {
	t.Helper()
	for _, l := range ns.Links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no interface %s in %+v", name, ns.Links)
	return state.Link{}
}

func addressesOf(l state.Link) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range l.Addresses {
		out = append(out, a.Prefix)
	}
	return out
}

func TestHostRoutesAndProcesses(t *testing.T) {
	t.Parallel()
	opts, hostPath, podPath := twoNamespaces(t)
	sleep := exec.Command("nsenter", "--net="+podPath, "sleep", "60")
	require.NoError(t, sleep.Start())
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	p := &state.Picture{Unseen: map[state.Source]string{}, Results: []*result.Attachment{
		{Netns: podPath, Addresses: []netip.Prefix{netip.MustParsePrefix("10.97.0.2/24"), netip.MustParsePrefix("192.0.2.1/32")}},
		{Netns: "/etc/passwd"},
		{Netns: "/proc/self/ns/mnt"},
		{Netns: filepath.Join(podPath, "nowhere")}, // no network namespaces
	}}
	r := NewReader(opts)
	assert.Eventually(t, func() bool { // nsenter has entered
		p.Namespaces = nil
		r.readNamespaces(p)
		return len(p.Namespaces) == 2 && p.Namespaces[1].HasProcess
	}, 5*time.Second, 10*time.Millisecond)
	require.Empty(t, p.Unseen)
	assert.Equal(t, map[netip.Addr]int{
		netip.MustParseAddr("10.97.0.2"): linkNamed(t, p.Namespaces[0], "cni0").Index,
		netip.MustParseAddr("192.0.2.1"): 0,
	}, p.HostRoutes)
	_ = hostPath
}

// A namespace that is not mounted where the collector is, is not one without a pod.
func TestNamespaceThatIsMountedElsewhere(t *testing.T) {
	t.Parallel()
	opts, _, podPath := twoNamespaces(t)
	elsewhere := filepath.Join(filepath.Dir(podPath), "cni-elsewhere")
	require.NoError(t, os.WriteFile(elsewhere, nil, 0o600))
	r := NewReader(opts)
	p := &state.Picture{Unseen: map[state.Source]string{}}
	r.readNamespaces(p)
	assert.Empty(t, p.Unseen, "one that is being made, or a rest")
	p = &state.Picture{Unseen: map[state.Source]string{}, Results: []*result.Attachment{{Netns: elsewhere}}}
	r.readNamespaces(p)
	assert.Contains(t, p.Unseen[state.SourcePods], elsewhere+" is an empty file")
	assert.True(t, p.Sees(state.SourceNamespaces))
}

// What is refused is not reached: by routes of all kinds, and by rules.
func TestRoutesThatRefuse(t *testing.T) {
	t.Parallel()
	opts, hostPath, podPath := twoNamespaces(t)
	four, six := netip.MustParseAddr("10.97.0.2"), netip.MustParseAddr("fd97::2")
	inside(t, hostPath, "ip", "addr", "add", "fd97::1/64", "dev", "cni0", "nodad")
	r := NewReader(opts)
	read := func() *state.Picture {
		p := &state.Picture{Unseen: map[state.Source]string{}, Results: []*result.Attachment{
			{Netns: podPath, Addresses: []netip.Prefix{netip.PrefixFrom(four, 24), netip.PrefixFrom(six, 64)}},
		}}
		r.readNamespaces(p)
		require.Empty(t, p.Unseen)
		return p
	}
	p := read()
	bridge := linkNamed(t, p.Namespaces[0], "cni0").Index
	require.Equal(t, map[netip.Addr]int{four: bridge, six: bridge}, p.HostRoutes)
	for _, kind := range []string{"blackhole", "prohibit", "unreachable"} {
		for _, address := range []netip.Addr{four, six} {
			inside(t, hostPath, "ip", "route", "add", kind, address.String())
			assert.NotEqual(t, bridge, mustRoute(t, read(), address), "%s %s", kind, address)
			inside(t, hostPath, "ip", "route", "del", kind, address.String())
		}
		inside(t, hostPath, "ip", "rule", "add", "to", four.String(), kind)
		assert.Zero(t, mustRoute(t, read(), four), "rule %s", kind)
		inside(t, hostPath, "ip", "rule", "del", "to", four.String(), kind)

		inside(t, podPath, "ip", "route", "replace", kind, "default")
		assert.Contains(t, read().Namespaces[1].Routes, state.Route{Destination: netip.MustParsePrefix("0.0.0.0/0"), Refuses: kind})
	}
	assert.Equal(t, map[netip.Addr]int{four: bridge, six: bridge}, read().HostRoutes)

	inside(t, podPath, "ip", "route", "replace", "default", "nexthop", "via", "10.97.0.1", "nexthop", "via", "10.97.0.9")
	p = read()
	i := slices.IndexFunc(p.Namespaces[1].Routes, func(r state.Route) bool { return r.Destination == netip.MustParsePrefix("0.0.0.0/0") })
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("10.97.0.1"), netip.MustParseAddr("10.97.0.9")}, p.Namespaces[1].Routes[i].Gateways)
}

func mustRoute(t *testing.T, p *state.Picture, to netip.Addr) int {
	t.Helper()
	link, asked := p.HostRoutes[to]
	require.True(t, asked, "no answer for %s", to)
	return link
}

func TestNotifierHearsHostAndPods(t *testing.T) {
	t.Parallel()
	opts, hostPath, podPath := twoNamespaces(t)
	n, err := Notify(opts)
	require.NoError(t, err)
	defer func() { assert.NoError(t, n.Close()) }()
	require.NoError(t, n.OnlyHost)
	heard := func() bool {
		select {
		case <-n.Changes:
			return true
		case <-time.After(3 * time.Second):
			return false
		}
	}
	quiet := func() {
		for {
			select {
			case <-n.Changes:
			case <-time.After(300 * time.Millisecond):
				return
			}
		}
	}
	quiet()
	inside(t, hostPath, "ip", "addr", "add", "10.97.1.1/24", "dev", "cni0")
	assert.True(t, heard(), "an address of the host")
	quiet()
	inside(t, hostPath, "ip", "rule", "add", "to", "10.97.0.2", "blackhole")
	assert.True(t, heard(), "a rule of the host")
	quiet()
	inside(t, podPath, "ip", "addr", "add", "10.97.1.2/24", "dev", "eth0")
	assert.True(t, heard(), "an address of a pod")
}

// The reader must not keep namespaces alive: a pod that is gone is gone.
func TestNamespacesAreNotHeld(t *testing.T) {
	t.Parallel()
	opts, hostPath, podPath := twoNamespaces(t)
	r := NewReader(opts)
	require.Len(t, r.Read(time.Now()).Namespaces, 2)
	require.NoError(t, unix.Unmount(podPath, unix.MNT_DETACH))
	assert.Eventually(t, func() bool { // the veth goes with the namespace
		return exec.Command("nsenter", "--net="+hostPath, "ip", "link", "show", "veth0").Run() != nil
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, unix.Mount("/proc/self/ns/net", podPath, "", unix.MS_BIND, "")) // for the cleanup
}

// The process's first thread is what others, and /proc/net, take for the whole
// process; goroutines come by it, most often with one processor.
func TestProcessStaysInItsNamespace(t *testing.T) {
	const key = "TAPIO_TEST_PROCESS"
	if os.Getenv(key) == "" {
		needRoot(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), key+"=1", "GOMAXPROCS=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	first := fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	own, err := os.Readlink(first)
	require.NoError(t, err)
	opts, _, _ := twoNamespaces(t)
	opts.Processes = false
	r := NewReader(opts)
	for i := range 200 {
		p := r.Read(time.Now())
		require.Empty(t, p.Unseen)
		require.True(t, len(p.Namespaces) == 2 && p.Namespaces[1].Entered)
		n, err := Notify(opts)
		require.NoError(t, err)
		require.NoError(t, n.Close())
		now, err := os.Readlink(first)
		require.NoError(t, err)
		require.Equal(t, own, now, "after %d visits", i+1)
	}
}
