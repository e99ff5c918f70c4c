package operations

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
)

// buildPlugins builds plugins that know GC and STATUS (CNI 1.1); those of Debian 12
// do not.
func buildPlugins(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for name, pkg := range map[string]string{"bridge": "main/bridge", "host-local": "ipam/host-local"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/containernetworking/plugins/plugins/"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return dir
}

// in runs f on a thread in the host's network namespace; so are the plugins that it calls.
func (h *host) in(f func() error) error {
	var err error
	linux.OnOwnThread(func() {
		var ns *os.File
		if ns, err = os.Open(h.netns); err != nil {
			return
		}
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		ns.Close()
		if err == nil {
			err = f()
		}
	})
	return err
}

// TestGCAndStatus: a runtime asks whether the network works and has what it no longer
// knows of collected, as containerd 2 and CRI-O do.
func TestGCAndStatus(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	plugins := buildPlugins(t)
	network := h.network("10.197.20.0/24")
	file := h.path("net.d", "10-test.conflist")
	config, err := os.ReadFile(file)
	require.NoError(t, err)
	list, err := libcni.ConfListFromBytes([]byte(`{"cniVersion":"1.1.0",` + string(config[len(`{"cniVersion":"1.0.0",`):])))
	require.NoError(t, err)
	w := startReceiver(t, h, map[string]any{"operations": map[string]any{"output": "always"}, "plugin_dirs": []any{plugins}})
	c := libcni.NewCNIConfigWithCacheDir([]string{plugins}, h.path("cache"), nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	of := func(s ptrace.Span) bool { return text(s.Attributes(), event.KeyCNINetwork) == network }

	require.NoError(t, h.in(func() error { return c.GetStatusNetworkList(ctx, list) }))
	w.eventually(of, "cni STATUS ok\n  bridge STATUS ok\n    host-local STATUS ok\n")
	pod := h.namespace("pod")
	require.NoError(t, h.in(func() error {
		_, err := c.AddNetworkList(ctx, list, &libcni.RuntimeConf{ContainerID: h.name, NetNS: pod, IfName: "eth0"})
		return err
	}))
	// Nothing is valid any more: the pod's attachment is deleted, then each plugin collects.
	require.NoError(t, h.in(func() error {
		return c.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}})
	}))
	w.eventually(of, `cni STATUS ok
  bridge STATUS ok
    host-local STATUS ok
cni ADD ok
  bridge ADD ok
    host-local ADD ok
cni DEL ok
  bridge DEL ok
    host-local DEL ok
cni GC ok
  bridge GC ok
`)
	// Without its ipam plugin the network does not work, and bridge says so.
	require.NoError(t, os.Remove(filepath.Join(plugins, "host-local")))
	failed := h.in(func() error { return c.GetStatusNetworkList(ctx, list) })
	require.Error(t, failed)
	require.Eventually(t, func() bool { return len(w.failures(event.KeyCNICommand, "STATUS")) == 1 }, waitLimit, waitStep)
	record := w.failures(event.KeyCNICommand, "STATUS")[0]
	assert.Equal(t, "Error", record.SeverityText())
	assert.Contains(t, failed.Error(), text(record.Attributes(), event.KeyCNIErrorMessage))
}
