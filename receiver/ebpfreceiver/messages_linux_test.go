//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
)

// commEnv names, for the role "segfault", how its process calls itself.
const commEnv = "TAPIO_EBPF_TEST_COMM"

// sigaction is the kernel's struct; all zero it is SIG_DFL.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// segfault ends this process by a fault that nobody handles, of which the kernel
// writes a line (debug.exception-trace).
func segfault() {
	runtime.LockOSThread()
	if name := os.Getenv(commEnv); name != "" {
		text, _ := unix.BytePtrFromString(name)
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(text)), 0, 0, 0)
	}
	var none sigaction
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV), uintptr(unsafe.Pointer(&none)), 0, unsafe.Sizeof(none.mask), 0, 0)
	var nowhere *int
	*nowhere = 1 //nolint:govet // the fault is the point
}

// fault has the role "segfault" crash, and returns the record of that and when it began. The
// kernel writes 10 such lines in 5 s and leaves out the others, of whomever
// (printk_ratelimit): without a line it crashes again.
func (r *rig) fault(matches func(rec seenRecord, pid int) bool) (rec seenRecord, begun time.Time) {
	r.t.Helper()
	for range 6 {
		begun = time.Now()
		cmd := role("segfault")
		require.Error(r.t, cmd.Run())
		require.Equal(r.t, syscall.SIGSEGV, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
		for since := time.Now(); time.Since(since) < 5*time.Second; time.Sleep(time.Millisecond) {
			if found := r.records(func(s seenRecord) bool { return matches(s, cmd.Process.Pid) }); len(found) > 0 {
				return found[0], begun
			}
		}
	}
	require.Fail(r.t, "no record of a fault")
	return seenRecord{}, begun
}

// A fault that really happens, read from the real kernel's log.
func TestMessageOfTheKernel(t *testing.T) {
	requireKernel(t)
	if on, err := os.ReadFile("/proc/sys/debug/exception-trace"); err != nil || strings.TrimSpace(string(on)) == "0" {
		cannotRun(t, "the kernel writes no line of faults (debug.exception-trace)")
	}
	r := startRig(t, nil)
	rec, begun := r.fault(func(s seenRecord, pid int) bool {
		return s.Name == "tapio.kernel.segfault" && s.Attributes[event.KeyProcessPID] == int64(pid)
	})
	assert.Equal(t, "segfault", rec.Attributes[event.KeyErrorType])
	assert.Equal(t, "exe", rec.Attributes[event.KeyProcessComm])
	assert.Contains(t, rec.Body, "segfault at 0 ip ")
	assert.WithinDuration(t, begun, rec.Time, 2*time.Second)
	started := r.await(func(s seenRecord) bool { return s.Name == event.EBPFStarted })
	assert.Contains(t, started.Attributes[event.KeyEBPFPrograms], kmsgName)
}

// A process that calls itself as the kernel speaks is a process that fails, no more.
func TestMessageOfAHostileProcess(t *testing.T) {
	requireKernel(t)
	if on, err := os.ReadFile("/proc/sys/debug/exception-trace"); err != nil || strings.TrimSpace(string(on)) == "0" {
		cannotRun(t, "the kernel writes no line of faults (debug.exception-trace)")
	}
	r := startRig(t, nil)
	for _, name := range []string{"Oops: 0000 [#1]", "a[1]", "Kernel panic - "} { // few: see fault
		t.Setenv(commEnv, name)
		crashed := 0
		rec, _ := r.fault(func(s seenRecord, pid int) bool {
			crashed = pid
			return strings.HasPrefix(s.Name, "tapio.kernel.") && strings.HasPrefix(s.Body, fmt.Sprintf("%s[%d]: segfault at ", name, pid))
		})
		assert.Equal(t, "tapio.kernel.segfault", rec.Name, rec.Body)
		assert.Equal(t, strings.TrimSpace(name), rec.Attributes[event.KeyProcessComm])
		assert.EqualValues(t, crashed, rec.Attributes[event.KeyProcessPID])
	}
}

// A damaged file system, which the kernel then lets nobody write to.
func TestMessagesOfAFileSystem(t *testing.T) {
	requireKernel(t)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		cannotRun(t, "%v", err)
	}
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, 8<<20))
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", file).CombinedOutput()
	require.NoError(t, err, string(out))
	name, dir := loopDevice(t, file, 0), t.TempDir()
	require.NoError(t, unix.Mount("/dev/"+name, dir, "ext4", 0, "errors=remount-ro"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, 0)) })
	r := startRig(t, nil)
	require.NoError(t, os.WriteFile("/sys/fs/ext4/"+name+"/trigger_fs_error", []byte("tapio"), 0o600))

	for _, want := range []string{"tapio.kernel.filesystem_error", "tapio.kernel.filesystem_readonly"} {
		rec := r.await(func(s seenRecord) bool { return s.Name == want && s.Attributes[event.KeyBlockDevice] == name })
		assert.Equal(t, "Error", rec.Severity)
		assert.Equal(t, "EXT4", rec.Attributes["tapio.filesystem.type"])
	}
}

// A cgroup that may have no more processes.
func TestMessageOfAForkThatIsRejected(t *testing.T) {
	requireKernel(t)
	path := fmt.Sprintf("/tapio-test-pids-%d", os.Getpid())
	root := "/sys/fs/cgroup/pids"
	if !isFile(root) {
		root = "/sys/fs/cgroup"
		require.NoError(t, handDown(t, root+"/cgroup.subtree_control", "pids"))
	}
	makeCgroup(t, root+path)
	require.NoError(t, os.WriteFile(root+path+"/pids.max", []byte("1"), 0o600))
	r := startRig(t, nil)
	cmd := exec.Command("sh", "-c", "read go; (exit 0); exit 0")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, os.WriteFile(root+path+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	_, err = stdin.Write([]byte("\n"))
	require.NoError(t, err)
	_ = cmd.Wait() // it cannot fork

	rec := r.await(func(s seenRecord) bool {
		return s.Name == "tapio.kernel.fork_rejected" && s.Attributes[event.KeyProcessCgroup] == path
	})
	assert.Equal(t, "Error", rec.Severity)
}
