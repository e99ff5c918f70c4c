//go:build linux && amd64

package ebpfreceiver

import (
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
)

const compatCalls = 300

func init() {
	if os.Getenv(roleEnv) == "calls-of-32-bits" {
		callAs32Bits()
	}
}

// callAs32Bits sends signal 0 to a process that cannot be, by the number that kill has for
// programs of 32 bits; alarm has it here, which never fails.
func callAs32Bits() {
	code, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		os.Exit(3)
	}
	copy(code, []byte{
		0x53,              // push rbx
		0xb8, 37, 0, 0, 0, // mov eax, 37
		0xbb, 0, 0, 0, 0x20, // mov ebx, 1<<29
		0x31, 0xc9, // xor ecx, ecx
		0xcd, 0x80, // int 0x80
		0x5b, // pop rbx
		0xc3, // ret
	})
	start := unsafe.Pointer(&code[0])
	function := unsafe.Pointer(&start)
	call := *(*func())(unsafe.Pointer(&function))
	for range compatCalls {
		call()
	}
	os.Exit(0)
}

// TestCallsOf32Bits have other numbers.
func TestCallsOf32Bits(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	if err := role("calls-of-32-bits").Run(); err != nil {
		cannotRun(t, "this kernel runs no programs of 32 bits: %v", err)
	}
	rec := r.await(func(s seenRecord) bool {
		return s.Name == event.SyscallFailures && s.Attributes[event.KeySyscall] == "compat_37"
	})
	assert.Equal(t, "ESRCH", rec.Attributes[event.KeyErrorType])
	assert.EqualValues(t, compatCalls, rec.Attributes[event.KeySyscallCount])
	require.Empty(t, r.records(func(s seenRecord) bool { return s.Attributes[event.KeySyscall] == "alarm" }))
}
