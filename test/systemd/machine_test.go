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
	// base is the directory of all its files, name what it calls itself.
	base, name, target string
	// busDir is the container's /run/dbus, as seen from here.
	busDir string
	// netns is the network namespace that it runs in, "" for one of its own.
	netns string
	// kernel says that the kernel's events are part of the test.
	kernel bool
	// accounting lets its systemd count and limit the memory and tasks of units.
	accounting bool
	// units are further unit files and drop-ins, by their path.
	units map[string]string
	// files are further files of its own, by their path.
	files map[string]string
	// binds are further arguments of systemd-nspawn.
	binds   []string
	cgroups []string
	nspawn  *exec.Cmd
	// leader is the pid of its systemd, as seen from here.
	leader int
	out    bytes.Buffer
}

// withAccounting is a machine whose systemd has the controllers memory and pids.
func withAccounting(m *machine) { m.accounting = true }

// isUnified tells whether this host has no hierarchy but that of cgroup v2.
func isUnified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// cgroupRoots are where a process is put so that systemd in the container may
// manage what is below: the unified hierarchy, and on hybrid hosts systemd's own.
func cgroupRoots() []string {
	if isUnified() {
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
func boot(t *testing.T, options ...func(*machine)) *machine {
	t.Helper()
	m := begin(t, "test.target", options...)
	m.waitUp(t)
	return m
}

func (m *machine) waitUp(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return m.findLeader() && m.isUp() }, time.Minute, 50*time.Millisecond, "the container does not boot")
	if !m.accounting || isUnified() {
		return
	}
	// systemd-nspawn mounts the controllers of cgroup v1 read-only; systemd looks for
	// them when it begins.
	for _, dir := range controllers {
		require.NoError(t, m.command("mount", "-o", "remount,bind,rw", dir).Run())
	}
	require.NoError(t, m.command("systemctl", "daemon-reexec").Run())
}

// controllers are those of cgroup v1 that count memory and tasks.
var controllers = []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"}

// begin starts a machine that boots into a target, and ends it with the test.
func begin(t *testing.T, target string, options ...func(*machine)) *machine {
	t.Helper()
	requireMachine(t)
	base, err := os.MkdirTemp("", "tapio-systemd-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(base, 0o755)) // a collector without root reaches the bus through it
	m := &machine{base: base, name: filepath.Base(base), target: target, busDir: filepath.Join(base, "bus")}
	t.Cleanup(func() { m.end(t, base) })
	for _, option := range options {
		option(m)
	}

	for _, dir := range []string{"bus", "tmpfs", "root", "units"} {
		require.NoError(t, os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	require.NoError(t, os.CopyFS(filepath.Join(base, "units"), os.DirFS(filepath.Join("testdata", "units"))))
	for path, text := range m.units {
		path = filepath.Join(base, "units", path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	tmpfs := filepath.Join(base, "tmpfs")
	require.NoError(t, syscall.Mount("tmpfs", tmpfs, "tmpfs", 0, ""))
	for _, dir := range []string{"upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(tmpfs, dir), 0o755))
	}
	require.NoError(t, syscall.Mount("overlay", filepath.Join(base, "root"), "overlay", 0,
		fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", tmpfs, tmpfs)))
	require.NoError(t, os.WriteFile(filepath.Join(base, "root", "etc", "hostname"), []byte(m.name+"\n"), 0o644))
	for path, text := range m.files {
		path = filepath.Join(base, "root", path)
		require.NoError(t, os.RemoveAll(path)) // not through a link
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	roots := cgroupRoots()
	if m.accounting && !isUnified() {
		roots = append(roots, controllers...)
	}
	for _, root := range roots {
		dir := filepath.Join(root, m.name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		m.cgroups = append(m.cgroups, dir)
	}
	m.start(t)
	return m
}

// start starts its systemd, for the first time or after a reboot.
func (m *machine) start(t *testing.T) {
	t.Helper()
	script := ""
	for _, dir := range m.cgroups {
		script += fmt.Sprintf("echo $$ > %s/cgroup.procs; ", dir)
	}
	script += `exec systemd-nspawn "$@"`
	args := []string{
		"-ec", script, "sh",
		"--directory", filepath.Join(m.base, "root"), "--machine", m.name, "--register=no", "--keep-unit",
		"--console=pipe", "--link-journal=no",
		"--bind-ro=" + filepath.Join(m.base, "units") + ":/run/systemd/system", "--bind=" + m.busDir + ":/run/dbus",
	}
	if m.netns == "" {
		args = append(args, "--private-network")
	} else {
		args = append(args, "--network-namespace-path="+m.netns)
	}
	args = append(args, m.binds...)
	m.nspawn = exec.Command("sh", append(args, "--boot", "--", "--unit="+m.target)...)
	unified := "1"
	if m.accounting && !isUnified() {
		unified = "0" // the controllers belong to cgroup v1 here
	}
	m.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="+unified)
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
