//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
)

// failingCalls are let fail by seccomp, in place of a disk that breaks and a machine
// that runs out, before the kernel does anything.
var failingCalls = []struct {
	number uint32
	errno  syscall.Errno
	first  uintptr // argument
}{
	{unix.SYS_OPENAT, unix.EIO, uintptr(0xffffff9c)}, // AT_FDCWD, as C libraries pass it
	{unix.SYS_UNLINKAT, unix.EIO, ^uintptr(99)},      // the same, as Go does
	{unix.SYS_MOUNT, unix.EIO, uintptr(unsafe.Pointer(&failingPath))},
	{unix.SYS_CLOSE, unix.EIO, 999}, // of no open file, as it is when that is closed
	{unix.SYS_MMAP, unix.EIO, 0},    // an address
	{unix.SYS_MREMAP, unix.ENOMEM, 0},
	{unix.SYS_SOCKET, unix.ENFILE, 2},
	{unix.SYS_MKDIRAT, unix.EDQUOT, 1},
	{unix.SYS_PTRACE, unix.EIO, 1},
}

var failingPath = [2]byte{'/', 0}

// failCalls is the role "calls-fail". Its standard input is a terminal whose other end
// is closed.
func failCalls() {
	runtime.LockOSThread() // the filter is this thread's
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}}
	for _, c := range failingCalls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: c.number},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(c.errno)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	terminal, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		err = unix.IoctlSetPointerInt(terminal, unix.TIOCSPTLCK, 0)
	}
	other, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(terminal), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if err != nil || errno != 0 || unix.Close(int(other)) != nil {
		fmt.Println(err, errno)
		os.Exit(1)
	}
	self, err := unix.Open("/proc/self/mem", unix.O_RDONLY, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// Both are no fault: nobody at the other end, nothing at an address.
	_, err = unix.Read(terminal, make([]byte, 1))
	_, failed := unix.Pread(self, make([]byte, 1), 1)
	if err != unix.EIO || failed != unix.EIO {
		fmt.Println(err, failed)
		os.Exit(1)
	}
	if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, c := range failingCalls {
		if _, _, errno := unix.RawSyscall6(uintptr(c.number), c.first, 0, 0, 0, 0, 0); errno != c.errno {
			os.Exit(2)
		}
	}
	os.Exit(0)
}

// TestCallsThatFailForAFault: whether they take an open file or a path.
func TestCallsThatFailForAFault(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	cmd := role("calls-fail")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	r.await(of(event.ProcessExit, cmd.Process.Pid))
	var got, want []string
	for _, rec := range r.records(of(event.SyscallFailed, cmd.Process.Pid)) {
		got = append(got, fmt.Sprint(rec.Attributes[event.KeySyscall], rec.Attributes[event.KeyErrorType]))
	}
	for _, c := range failingCalls {
		if c.number != unix.SYS_PTRACE { // asks for what is not there
			want = append(want, fmt.Sprint(syscallName(c.number), errnoName(uint32(c.errno))))
		}
	}
	assert.ElementsMatch(t, want, got)
}

// TestCallsThatFailForReal: a disk that breaks, a limit of address space, a quota (of keys,
// which every kernel has for users without rights).
func TestCallsThatFailForReal(t *testing.T) {
	requireKernel(t)
	name := failingDevice(t)
	r := startRig(t, nil)
	failed := func(pid int, call, errno string) {
		t.Helper()
		got := r.await(func(s seenRecord) bool {
			return of(event.SyscallFailed, pid)(s) && s.Attributes[event.KeySyscall] == call && s.Attributes[event.KeyErrorType] == errno
		})
		assert.Equal(t, "Error", got.Severity)
	}

	disk, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer disk.Close()
	_, err = disk.WriteAt(make([]byte, 4096), 1<<20)
	require.NoError(t, err, "it is only in memory yet")
	require.ErrorIs(t, disk.Sync(), unix.EIO)
	failed(os.Getpid(), "fsync", "EIO")

	cmd := exec.Command("sh", "-c", "ulimit -v 100000; exec dd if=/dev/zero of=/dev/null bs=1073741824 count=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, string(out))
	failed(cmd.Process.Pid, "mmap", "ENOMEM")

	cmd = role("exceed-key-quota")
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	failed(cmd.Process.Pid, "add_key", "EDQUOT")
}

// exceedKeyQuota is the role "exceed-key-quota": it adds keys as a user without rights.
func exceedKeyQuota() {
	runtime.LockOSThread() // the user and the keyring are this thread's
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 64123, 64123, 64123)
	for i := 0; errno == 0 && i < 100_000; i++ {
		_, err := unix.AddKey("user", fmt.Sprintf("tapio-test-%d", i), make([]byte, 1000), unix.KEY_SPEC_THREAD_KEYRING)
		if errors.Is(err, unix.EDQUOT) {
			os.Exit(0)
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	fmt.Println(errno)
	os.Exit(2)
}

// failuresEach is how many calls the role "calls-fail-everywhere" lets fail on each CPU.
const failuresEach = 20_000

// failOnAllCPUs makes the same call fail on all CPUs at the same time, when its parent
// says so.
func failOnAllCPUs() {
	_, _ = os.Stdin.Read(make([]byte, 1))
	var wg sync.WaitGroup
	for cpu := range runtime.NumCPU() {
		wg.Go(func() {
			runtime.LockOSThread()
			var only unix.CPUSet
			only.Set(cpu)
			_ = unix.SchedSetaffinity(0, &only) // a CPU that is not ours: the others do
			for range failuresEach {
				_, _, _ = syscall.RawSyscall(unix.SYS_GETPRIORITY, 99, 0, 0) // EINVAL
			}
		})
	}
	wg.Wait()
	os.Exit(0)
}

// TestFailuresOfAllCPUs: each CPU counts for itself; the sum is exact, and so it is
// when the samples come meanwhile.
func TestFailuresOfAllCPUs(t *testing.T) {
	requireKernel(t)
	path, folder := memoryCgroup(t, 256<<20)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	cmd := role("calls-fail-everywhere")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, os.WriteFile(folder+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	_, _ = stdin.Write([]byte{1})
	require.NoError(t, cmd.Wait())
	want := int64(runtime.NumCPU() * failuresEach)
	counted := func() (sum int64) {
		for _, rec := range r.records(func(s seenRecord) bool {
			return s.Name == event.SyscallFailures && s.Attributes[event.KeySyscall] == "getpriority" && s.Resource[event.KeyProcessCgroup] == path
		}) {
			assert.Equal(t, "EINVAL", rec.Attributes[event.KeyErrorType])
			count, _ := rec.Attributes[event.KeySyscallCount].(int64)
			sum += count
		}
		return sum
	}
	require.Eventually(t, func() bool { return counted() >= want }, 15*time.Second, 50*time.Millisecond)
	assert.Equal(t, want, counted())
}
