package systemd

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// machine is a systemd that runs in a container.
type machine struct {
	// busDir is the container's /run/dbus, as seen from here.
	busDir  string
	cgroups []string
	nspawn  *exec.Cmd
	// leader is the pid of its systemd, as seen from here.
	leader int
	out    bytes.Buffer
}

// cgroupRoots are where a process is put so that systemd in the container may
// manage what is below: the unified hierarchy, and on hybrid hosts systemd's own.
func cgroupRoots() []string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}
	}
	return []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"}
}

// requireMachine skips the test where no container can be booted; with CI=true
// it fails.
func requireMachine(t *testing.T) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "booting a container needs root"
	}
	for _, program := range []string{"systemd-nspawn", "dbus-daemon", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			reason = err.Error() + ": make deps installs it on Debian and Ubuntu"
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

// boot starts a machine, waits until it is up, and ends it with the test.
func boot(t *testing.T) *machine {
	t.Helper()
	m := begin(t, "test.target")
	require.Eventually(t, func() bool { return m.findLeader() && m.isUp() }, time.Minute, 50*time.Millisecond, "the container does not boot")
	return m
}

// begin starts a machine that boots into a target, and ends it with the test.
func begin(t *testing.T, target string) *machine {
	t.Helper()
	requireMachine(t)
	base, err := os.MkdirTemp("", "tapio-systemd-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(base, 0o755)) // a collector without root reaches the bus through it
	name := filepath.Base(base)
	m := &machine{busDir: filepath.Join(base, "bus")}
	t.Cleanup(func() { m.end(t, base) })

	for _, dir := range []string{"bus", "tmpfs", "root", "units"} {
		require.NoError(t, os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	require.NoError(t, os.CopyFS(filepath.Join(base, "units"), os.DirFS(filepath.Join("testdata", "units"))))
	tmpfs := filepath.Join(base, "tmpfs")
	require.NoError(t, syscall.Mount("tmpfs", tmpfs, "tmpfs", 0, ""))
	for _, dir := range []string{"upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(tmpfs, dir), 0o755))
	}
	require.NoError(t, syscall.Mount("overlay", filepath.Join(base, "root"), "overlay", 0,
		fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", tmpfs, tmpfs)))
	m.start(t, base, name, target)
	return m
}

func (m *machine) start(t *testing.T, base, name, target string) {
	t.Helper()
	script := ""
	for _, root := range cgroupRoots() {
		dir := filepath.Join(root, name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		m.cgroups = append(m.cgroups, dir)
		script += fmt.Sprintf("echo $$ > %s/cgroup.procs; ", dir)
	}
	script += `exec systemd-nspawn "$@"`
	m.nspawn = exec.Command("sh", "-ec", script, "sh",
		"--directory", filepath.Join(base, "root"), "--machine", name, "--register=no", "--keep-unit", "--private-network",
		"--console=pipe", "--link-journal=no",
		"--bind-ro="+filepath.Join(base, "units")+":/run/systemd/system", "--bind="+m.busDir+":/run/dbus",
		"--boot", "--", "--unit="+target)
	m.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	m.nspawn.Stdout, m.nspawn.Stderr = &m.out, &m.out
	require.NoError(t, m.nspawn.Start())
	require.Eventually(t, m.findLeader, 10*time.Second, 10*time.Millisecond, "no systemd in the container")
}

// findLeader looks for the container's systemd, the child of systemd-nspawn.
func (m *machine) findLeader() bool {
	pid := m.nspawn.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return false
	}
	for _, child := range strings.Fields(string(children)) {
		if comm, err := os.ReadFile("/proc/" + child + "/comm"); err == nil && string(comm) == "systemd\n" {
			m.leader, err = strconv.Atoi(child)
			return err == nil
		}
	}
	return false
}

func (m *machine) isUp() bool {
	out, _ := m.command("systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out)) == "running" || strings.TrimSpace(string(out)) == "degraded"
}

// command is a command that is to run inside the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{
		"--target", strconv.Itoa(m.leader), "--mount", "--pid", "--uts", "--net", "--",
	}, args...)...)
}

// systemctl runs systemctl in the machine. That it fails is often what is wanted.
func (m *machine) systemctl(args ...string) {
	_ = m.command(append([]string{"systemctl"}, args...)...).Run()
}

// address is the D-Bus address of the machine's bus.
func (m *machine) address() string {
	return "unix:path=" + filepath.Join(m.busDir, "system_bus_socket")
}

// cgroup is the control group of a unit in the unified hierarchy.
func (m *machine) cgroup(t *testing.T, unit string) string {
	t.Helper()
	found := ""
	require.Eventually(t, func() bool {
		_ = filepath.WalkDir(m.cgroups[0], func(path string, _ os.DirEntry, _ error) error {
			if filepath.Base(path) == unit {
				found = path
			}
			return nil
		})
		return found != ""
	}, 10*time.Second, 10*time.Millisecond, "%s has no control group", unit)
	return found
}

// oomKill does to a unit what systemd-oomd does: it leaves its marks on the
// control group and kills all that is in it.
func (m *machine) oomKill(t *testing.T, unit string) {
	t.Helper()
	dir := m.cgroup(t, unit)
	for _, mark := range []string{"user.oomd_ooms", "user.oomd_kill"} {
		require.NoError(t, syscall.Setxattr(dir, mark, []byte("1"), 0))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0))
}

// end stops the machine and leaves nothing behind.
func (m *machine) end(t *testing.T, base string) {
	if t.Failed() {
		t.Logf("console of the machine:\n%s", m.out.String())
	}
	if m.findLeader(); m.leader != 0 {
		assert.NoError(t, syscall.Kill(m.leader, syscall.SIGKILL))
	} else if m.nspawn != nil && m.nspawn.Process != nil {
		assert.NoError(t, m.nspawn.Process.Kill())
	}
	if m.nspawn != nil && m.nspawn.Process != nil {
		_ = m.nspawn.Wait()
	}
	for _, dir := range m.cgroups {
		removeCgroup(t, dir)
	}
	for _, dir := range []string{"root", "tmpfs"} {
		if err := syscall.Unmount(filepath.Join(base, dir), syscall.MNT_DETACH); err != nil && err != syscall.EINVAL {
			assert.NoError(t, err)
		}
	}
	assert.NoError(t, os.RemoveAll(base))
}

// removeCgroup removes a control group and those below it, deepest first.
func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	assert.Eventually(t, func() bool {
		var dirs []string
		_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = syscall.Rmdir(dirs[i])
		}
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	}, 10*time.Second, 50*time.Millisecond, "%s stays", dir)
}
