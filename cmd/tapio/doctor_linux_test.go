package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/linux"
)

// doctorEnv makes this binary run tapio doctor in place of the tests.
const doctorEnv = "TAPIO_TEST_DOCTOR"

func init() {
	if os.Getenv(doctorEnv) != "" {
		os.Args = []string{"tapio", "doctor", "--output", "json"}
		main()
	}
}

func TestDoctorOnThisKernel(t *testing.T) {
	if os.Getenv("CI") != "true" {
		if _, err := os.Stat(linux.BTF); err != nil || os.Geteuid() != 0 {
			t.Skip("needs root and BTF")
		}
	}
	code, out, stderr := tapio(t, nil, "doctor", "--output", "json")
	assert.Equal(t, exitOK, code, stderr)
	var d diagnosis
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	assert.Equal(t, isThere, factNamed(d.Host, "BTF").Has)
	assert.Equal(t, isThere, factNamed(d.Capabilities, "CAP_BPF").Has)
	for _, g := range d.Groups {
		for _, p := range g.Programs {
			assert.True(t, p.Runs || !g.Default, "%s: %s", p.Name, p.Reason)
		}
	}
	code, out, _ = tapio(t, nil, "doctor")
	assert.Equal(t, exitOK, code)
	assert.Regexp(t, `(?m)^process \(on by default\): (\d+) of \d+ run$`, out)
	assert.Contains(t, out, "  yes      process_exec, tp_btf/sched_process_exec\n")
}

// TestDoctorWithoutRights runs as nobody: it says what it cannot know.
func TestDoctorWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become nobody")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{doctorEnv + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, string(out))
	assert.Equal(t, exitNotFound, exit.ExitCode())
	assert.Contains(t, string(exit.Stderr), "could not be tried by this process: process_exec")
	var d diagnosis
	require.NoError(t, json.Unmarshal(out, &d))
	assert.Equal(t, isMissing, factNamed(d.Capabilities, "CAP_PERFMON").Has)
	p := d.Groups[0].Programs[0]
	assert.False(t, p.Runs)
	assert.True(t, p.Denied)
	assert.Contains(t, p.Reason, "missing CAP_BPF and CAP_PERFMON")
}

func factNamed(facts []fact, name string) fact {
	for _, f := range facts {
		if f.Name == name {
			return f
		}
	}
	return fact{}
}

func TestReadHost(t *testing.T) {
	root := t.TempDir()
	empty := readHost(root)
	for _, f := range append(empty.Host, empty.Sources...) {
		switch f.Name {
		case "host's pid namespace": // of this process, wherever it is
		case "lockdown allows it", "cgroups":
			assert.Equal(t, isUnknown, f.Has, f.Name)
		default:
			assert.Equal(t, isMissing, f.Has, f.Name)
		}
	}

	file := func(name, content string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o600))
	}
	file("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n")
	file("proc/sys/net/core/bpf_jit_enable", "0\n")
	file("sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
	file("sys/fs/cgroup/cgroup.controllers", "cpu io pids\n")
	file("var/log/journal/abc/system.journal", "")
	file("opt/cni/bin/bridge", "")
	file("sys/kernel/btf/vmlinux", "types")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "run/dbus"), 0o700))
	bus, err := net.Listen("unix", filepath.Join(root, "run/dbus/system_bus_socket"))
	require.NoError(t, err)
	defer bus.Close()
	d := readHost(root)
	has := func(name, want, found string) {
		f := factNamed(append(d.Host, d.Sources...), name)
		assert.Equal(t, want, f.Has, name)
		assert.Contains(t, f.Found, found, name)
	}
	has("kernel", isMissing, "Linux 5.10.0-30-amd64")
	has("JIT", isMissing, "off")
	has("BTF", isThere, "5 B")
	has("lockdown allows it", isMissing, "level confidentiality")
	has("cgroups", isMissing, "v2 without the memory controller")
	has("system bus", isThere, "system_bus_socket")
	has("journal", isThere, "/var/log/journal")
	has("CNI plugins", isThere, "1 file in /opt/cni/bin")

	file("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
	require.NoError(t, os.Remove(filepath.Join(root, "sys/fs/cgroup/cgroup.controllers")))
	file("sys/fs/cgroup/memory/memory.limit_in_bytes", "")
	d = readHost(root)
	has("lockdown allows it", isThere, "level none")
	has("cgroups", isThere, "v1 with the memory controller")
	file("sys/fs/cgroup/unified/cgroup.procs", "")
	d = readHost(root)
	has("cgroups", isThere, "hybrid")
}

func TestIsNewEnough(t *testing.T) {
	for release, want := range map[string]bool{
		"5.15.0-91-generic": true, "6.1.0": true, "10.0": true, "5.14.21": false, "4.19.0": false, "": false, "six": false,
	} {
		assert.Equal(t, want, isNewEnough(release), release)
	}
}

func TestCapabilities(t *testing.T) {
	got := capabilities(1 << unix.CAP_SYSLOG)
	assert.Equal(t, isThere, factNamed(got, "CAP_SYSLOG").Has)
	assert.Equal(t, isMissing, factNamed(got, "CAP_BPF").Has)
}
