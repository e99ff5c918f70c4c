package cni

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unprivileged names the node's directory for the copy of this test that runs
// without rights.
const unprivileged = "TAPIO_TEST_UNPRIVILEGED"

// nobody is the user without rights.
const nobody = 65534

// Without root the receiver says what it cannot see, tells what files say, and
// takes nothing for wrong that it cannot see. The kernel refuses its programs.
func TestWithoutRoot(t *testing.T) {
	if dir := os.Getenv(unprivileged); dir != "" {
		withoutRoot(t, dir)
		return
	}
	n := newNode(t)
	n.configure("10.96.14.0/30") // one address
	_, err := n.newPod("one").add()
	require.NoError(t, err)
	// libcni's own choice is 0600 for results; nobody is let in to those.
	require.NoError(t, os.Chmod(n.path("cache", "results"), 0o700))

	own, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer own.Close()
	copied, err := os.OpenFile(n.path("test"), os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(copied, own)
	require.NoError(t, err)
	require.NoError(t, copied.Close())
	for dir := n.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	cmd := exec.Command(n.path("test"), "-test.run=^TestWithoutRoot$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), unprivileged+"="+n.dir, "TMPDIR=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestWithoutRoot", "it ran")
}

// withoutRoot is the half that runs as nobody.
func withoutRoot(t *testing.T, dir string) {
	require.Equal(t, nobody, os.Geteuid())
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^CapEff:\s+0+$`, string(status), "without capabilities")
	n := &node{t: t, dir: dir}
	w := n.watch(map[string]any{"host_namespace": "", "leaks::grace_period": "0s", "interfaces::hold": "0s", "interval": "1s", "operations::enabled": true})
	started := w.records("tapio.cni.started")[0]
	unseen, _ := started.Attributes().Get("tapio.cni.unseen")
	for _, part := range []string{"operations: not permitted", "results: ", "pods: ", "processes: ", "changes inside pods at once: "} {
		assert.Contains(t, unseen.AsString(), part)
	}
	// Reservations are for everybody to read.
	w.expect("tapio.cni.pool.exhausted", map[string]any{"tapio.cni.pool.used": 1})
	for _, name := range []string{"address.leaked", "interface.leaked", "namespace.leaked", "interface.down", "interface"} {
		assert.Empty(t, w.records("tapio.cni."+name), name)
	}
}
