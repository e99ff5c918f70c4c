//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"os"
	"runtime"
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

// A fault that really happens, read from the real kernel's log.
func TestMessageOfTheKernel(t *testing.T) {
	requireKernel(t)
	if on, err := os.ReadFile("/proc/sys/debug/exception-trace"); err != nil || strings.TrimSpace(string(on)) == "0" {
		cannotRun(t, "the kernel writes no line of faults (debug.exception-trace)")
	}
	r := startRig(t, nil)
	before := time.Now()
	cmd := role("segfault")
	require.Error(t, cmd.Run())
	require.Equal(t, syscall.SIGSEGV, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	rec := r.await(func(s seenRecord) bool {
		return s.Name == "tapio.kernel.segfault" && s.Attributes[event.KeyProcessPID] == int64(cmd.Process.Pid)
	})
	assert.Equal(t, "segfault", rec.Attributes[event.KeyErrorType])
	assert.Equal(t, "exe", rec.Attributes[event.KeyProcessComm])
	assert.Contains(t, rec.Body, "segfault at 0 ip ")
	assert.WithinDuration(t, before, rec.Time, 2*time.Second)
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
	for _, name := range []string{"Oops: disk dead", "BUG: Bad page", "Oops: 0000 [#1]", "eth0: Link down", "a[1]", "Kernel panic - "} {
		t.Setenv(commEnv, name)
		cmd := role("segfault")
		require.Error(t, cmd.Run())
		rec := r.await(func(s seenRecord) bool {
			return strings.HasPrefix(s.Name, "tapio.kernel.") && strings.HasPrefix(s.Body, fmt.Sprintf("%s[%d]: segfault at ", name, cmd.Process.Pid))
		})
		assert.Equal(t, "tapio.kernel.segfault", rec.Name, rec.Body)
		assert.Equal(t, strings.TrimSpace(name), rec.Attributes[event.KeyProcessComm])
		assert.EqualValues(t, cmd.Process.Pid, rec.Attributes[event.KeyProcessPID])
	}
}
