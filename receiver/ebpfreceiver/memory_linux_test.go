//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// eatingChild is the first process of a pid namespace, as that of a container is:
// it outlives a child that eats all memory.
func eatingChild(attr *syscall.SysProcAttr) {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	child := role("eat")
	child.SysProcAttr = attr
	stdin, err := child.StdinPipe()
	if err != nil || child.Start() != nil {
		os.Exit(10)
	}
	_, _ = stdin.Write([]byte{1})
	if child.Wait() == nil {
		os.Exit(11)
	}
	os.Exit(0)
}

// startIn starts a role inside a cgroup, whose folder is given, and lets it go on.
func startIn(t *testing.T, folder, what string, attr *syscall.SysProcAttr) (pid int, wait func() error) {
	t.Helper()
	cmd := role(what)
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	require.NoError(t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	return cmd.Process.Pid, cmd.Wait
}

// containerCgroup is one as docker makes it, with a limit on the one above.
func containerCgroup(t *testing.T) (path, folder string) {
	t.Helper()
	path, folder = memoryCgroup(t, 64<<20)
	name := "docker-" + strings.Repeat("cd", 32) + ".scope"
	folder = filepath.Join(folder, name)
	makeCgroup(t, folder)
	return path + "/" + name, folder
}

// TestOOMKillOfAChild: also when it is the first of a namespace within that of the
// container, and when the container has none of its own (hostPID).
func TestOOMKillOfAChild(t *testing.T) {
	requireKernel(t)
	own := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	for _, tc := range []struct {
		name, what string
		namespace  *syscall.SysProcAttr
	}{
		{"child", "eating-child", own}, {"sandbox", "eating-sandbox", own}, {"no namespace", "eating-child", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, folder := containerCgroup(t)
			r := startRig(t, nil)
			pid, wait := startIn(t, folder, tc.what, tc.namespace)
			require.NoError(t, wait(), "the container lives on")

			rec := r.await(func(s seenRecord) bool {
				return s.Name == event.OOMKill && s.Resource[event.KeyProcessParentPID] == int64(pid)
			})
			assert.Equal(t, true, rec.Attributes[event.KeyOOMSurvives])
			assert.Equal(t, rec.Resource[event.KeyProcessPID], rec.Attributes[event.KeyOOMTriggerPID], "who ate it asked for it")
			assert.Equal(t, rec.Resource[event.KeyProcessExecutableName], rec.Attributes[event.KeyOOMTriggerName])
			assert.Equal(t, path, rec.Attributes[event.KeyOOMTriggerCgroup])
			assert.Contains(t, rec.Body, "its container lives on")
		})
	}
}

func TestOOMKillOfAContainer(t *testing.T) {
	requireKernel(t)
	_, folder := containerCgroup(t)
	r := startRig(t, nil)
	pid, wait := startIn(t, folder, "eat", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	require.Error(t, wait())
	assert.Equal(t, false, r.await(of(event.OOMKill, pid)).Attributes[event.KeyOOMSurvives])
}

// TestOOMKillOutsideOfAContainer: nor is one what has but a pid namespace.
func TestOOMKillOutsideOfAContainer(t *testing.T) {
	requireKernel(t)
	_, folder := memoryCgroup(t, 64<<20)
	r := startRig(t, nil)
	for _, attr := range []*syscall.SysProcAttr{nil, {Cloneflags: syscall.CLONE_NEWPID}} {
		pid, wait := startIn(t, folder, "eat", attr)
		require.Error(t, wait())
		assert.NotContains(t, r.await(of(event.OOMKill, pid)).Attributes, event.KeyOOMSurvives)
	}
}
