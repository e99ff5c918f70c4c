package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// nobody is the user that owns nothing, by convention.
const nobody = 65534

// TestUnprivileged: without root there is no kernel evidence and no cgroup, and
// the finding says the first.
func TestUnprivileged(t *testing.T) {
	cmd, dir := newShop(t, nil, "--fault", "leak")
	if os.Geteuid() == 0 {
		cmd, dir = asNobody(t, cmd)
	}
	s := startCommand(t, cmd, dir)
	require.Zero(t, s.wait(t, runLimit))
	st, r, f := s.state(t), s.report(t), s.onlyFinding(t)
	require.Equal(t, "RLIMIT_DATA", st.Payment.Limit)
	require.Equal(t, "exit status 2", st.Payment.Ended, "the Go runtime ends payment when an allocation fails")

	assert.Equal(t, "connection-refused", f.Pattern, "what the application alone shows")
	assert.Equal(t, "payment", f.RootCause.Entity.Attributes[event.KeyServiceName])
	checkFinding(t, f, r)
	missing := strings.Join(f.Missing, "\n")
	assert.Contains(t, missing, "Kernel evidence is missing")
	assert.Contains(t, missing, "CAP_BPF", "it says how to get it")
	assert.Contains(t, s.out.String(), "Kernel evidence is missing", "so does the summary")
	assert.Contains(t, s.out.String(), "RLIMIT_DATA", "the run says what it did instead of a cgroup")
}

// asNobody is the same command as an unprivileged user, with all that it reads
// and writes in a directory of that user: the repository may be closed to others.
func asNobody(t *testing.T, cmd *exec.Cmd) (as *exec.Cmd, dir string) {
	t.Helper()
	home, err := os.MkdirTemp("", "tapio-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(home)) })
	require.NoError(t, os.Chown(home, nobody, nobody))
	dir = filepath.Join(home, "run")
	args := append([]string{}, cmd.Args[1:]...)
	for i, a := range args {
		switch a {
		case "--collector", "--tapio", "--config":
			args[i+1] = copyTo(t, home, args[i+1])
		case "--output-dir":
			args[i+1] = dir
		}
	}
	as = exec.CommandContext(t.Context(), copyTo(t, home, cmd.Path), args...)
	as.Dir, as.Env = home, append(cmd.Env, "HOME="+home)
	as.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return as, dir
}

func copyTo(t *testing.T, dir, path string) string {
	t.Helper()
	from, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, from.Close()) }()
	target := filepath.Join(dir, filepath.Base(path))
	to, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	require.NoError(t, os.Chmod(target, 0o755), "whatever the umask is")
	return target
}
