//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// sigaction is the kernel's struct; all zero it is SIG_DFL.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// segfault ends this process by a fault that nobody handles, of which the kernel
// writes a line (debug.exception-trace).
func segfault() {
	runtime.LockOSThread()
	var none sigaction
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGSEGV), uintptr(unsafe.Pointer(&none)), 0, unsafe.Sizeof(none.mask), 0, 0)
	var nowhere *int
	*nowhere = 1 //nolint:govet // the fault is the point
}

// A fault that really happens, read from the real kernel's log.
func TestMessageOfTheKernel(t *testing.T) {
	requireKernel(t)
	if on, err := os.ReadFile("/proc/sys/debug/exception-trace"); err != nil || strings.TrimSpace(string(on)) == "0" {
		t.Skip("the kernel writes no line of faults (debug.exception-trace)")
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
