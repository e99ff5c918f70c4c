package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/test/internal/rig"
)

const cniConfiguration = `
receivers:
  tapio_cni:
    config_dirs: [%[1]s/net.d]
    logs: {files: [], journal_dirs: [%[2]s]}
exporters:
  file/logs: {path: %[1]s/logs.json, append: true, flush_interval: 20ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [tapio_cni], exporters: [file/logs]}
`

// TestContainerNetworkFailsInTheJournal: where kernel programs may not run, what the
// machine's containerd logs, to its journal alone, still tells that a plugin failed.
// What a user and a container of the machine log in the same words does not.
func TestContainerNetworkFailsInTheJournal(t *testing.T) {
	requireMachine(t)
	requireContainerd(t)
	_, err := exec.LookPath("setpriv")
	require.NoError(t, err, "util-linux has it")
	n := &runtimeNode{}
	t.Cleanup(func() {
		if n.node != nil {
			removePods(t, n)
		}
	})
	files := containerdFiles(t, strings.Replace(podNetwork, "10.198.7.0/24", "10.198.7.0/30", 1)) // one address
	netns := rig.Namespace(t)
	n.node = &node{machine: boot(t, withContainerd(files), func(m *machine) {
		m.netns = netns
		require.NoError(t, os.Mkdir(m.journal(), 0o755))
		m.binds = append(m.binds, "--bind="+m.journal()+":/var/log/journal")
	})}
	n.startContainerd(t)

	dir := t.TempDir()
	c := &collector{dir: dir}
	config := filepath.Join(dir, "config.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, cniConfiguration, dir, n.journal()), 0o600))
	c.cmd = exec.Command("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", program(t), "--config", config)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Log(c.out.String())
		}
	})
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.cni.started")) > 0 }, 30*time.Second, 50*time.Millisecond)

	_, err = n.runSandbox(t, "first")
	require.NoError(t, err)
	const forged = `level=error msg="RunPodSandbox failed" error="plugin type=\"forged\" failed (add): forged"`
	require.NoError(t, n.command("systemd-run", "--wait", "--uid=65534", "echo", forged).Run())
	_, err = n.runSandbox(t, "second")
	require.ErrorContains(t, err, "no IP addresses available in range set")
	require.Eventually(t, func() bool { return len(c.events(t, "", "tapio.cni.operation")) > 0 }, 30*time.Second, 50*time.Millisecond)
	for _, r := range c.events(t, "", "tapio.cni.operation") {
		assert.Equal(t, "bridge", r.attributes["tapio.cni.plugin"])
		assert.Equal(t, "ADD", r.attributes["tapio.cni.command"])
		assert.Equal(t, "address_pool_exhausted", r.attributes["error.type"])
		assert.Contains(t, err.Error(), r.attributes["tapio.cni.error.message"])
	}
}
