//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"os"
	"os/exec"
	ossignal "os/signal"
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

// nobody is a user without rights.
const nobody = 65534

// catchSignals handles SIGTERM and SIGUSR1, and ends with its standard input.
func catchSignals() {
	_ = syscall.Setuid(nobody)
	caught := make(chan os.Signal, 1)
	ossignal.Notify(caught, syscall.SIGTERM, syscall.SIGUSR1)
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// beUnprivilegedOnOneCPU is where a flood soonest meets what the bucket of a CPU holds.
func beUnprivilegedOnOneCPU() {
	runtime.LockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		os.Exit(3)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if may.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if unix.SchedSetaffinity(0, &one) != nil || syscall.Setuid(nobody) != nil {
		os.Exit(3)
	}
}

// floodWithSignals sends SIGTERM to processes, without end.
func floodWithSignals(pids string) {
	beUnprivilegedOnOneCPU()
	for {
		for pid := range strings.FieldsSeq(pids) {
			if n, err := strconv.Atoi(pid); err != nil || syscall.Kill(n, syscall.SIGTERM) != nil {
				os.Exit(3)
			}
		}
	}
}

// floodWithConnects connects to a port that nobody listens at, without end.
func floodWithConnects() {
	beUnprivilegedOnOneCPU()
	for {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			os.Exit(3)
		}
		_ = unix.Connect(fd, &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}})
		_ = unix.Close(fd)
	}
}

// startRole runs a role that writes a line when it is ready, until the test has ended.
func startRole(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := role(name)
	cmd.Env = append(cmd.Env, env...)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = stdout.Read(make([]byte, 16))
	require.NoError(t, err)
	return cmd
}

// TestFloodHidesNothingElse: a process without rights makes events as fast as it
// can. Of others every beginning and end is told, and an OOM kill.
func TestFloodHidesNothingElse(t *testing.T) {
	requireKernel(t)
	for name, tc := range map[string]struct {
		flood string // the role
		of    string
	}{
		"signals":         {"flood-with-signals", event.ProcessSignal},
		"failed connects": {"flood-with-connects", event.TCPConnectFailed},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRig(t, nil)
			var targets []string
			for range 3 {
				targets = append(targets, strconv.Itoa(startRole(t, "catch-signals").Process.Pid))
			}
			flood := role(tc.flood)
			flood.Env = append(flood.Env, "TAPIO_EBPF_TEST_TARGETS="+strings.Join(targets, " "))
			require.NoError(t, flood.Start())
			t.Cleanup(func() {
				assert.NoError(t, flood.Process.Kill(), "it went on all the time")
				_ = flood.Wait()
			})
			suppressed := func() bool { return r.receiver.source.stats().suppressed[tc.of] > 2000 }
			require.Eventually(t, suppressed, 30*time.Second, 10*time.Millisecond)
			assertOthersAreTold(r)
		})
	}
}

func assertOthersAreTold(r *rig) {
	r.t.Helper()
	_, folder := memoryCgroup(r.t, 64<<20)
	var pids []int
	for range 40 {
		cmd := role("exit")
		require.Error(r.t, cmd.Run())
		pids = append(pids, cmd.Process.Pid)
	}
	eat := role("eat")
	stdin, err := eat.StdinPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, eat.Start())
	require.NoError(r.t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(eat.Process.Pid)), 0o600))
	_, err = stdin.Write([]byte{1})
	require.NoError(r.t, err)
	require.Error(r.t, eat.Wait())
	for _, pid := range pids {
		r.await(of(event.ProcessExec, pid))
		r.await(of(event.ProcessExit, pid))
	}
	r.await(of(event.OOMKill, eat.Process.Pid))
	assert.Zero(r.t, r.receiver.source.stats().lost[event.OOMKill])
}

// signalItself has a timer and a pipe send this process SIGTERM: both are the kernel's.
func signalItself() {
	caught := make(chan os.Signal, 64)
	ossignal.Notify(caught, syscall.SIGTERM)
	stdin := 0
	_, err := unix.FcntlInt(uintptr(stdin), unix.F_SETOWN, os.Getpid())
	const fSetSig = 10 // F_SETSIG of include/uapi/asm-generic/fcntl.h
	if err == nil {
		_, err = unix.FcntlInt(uintptr(stdin), fSetSig, int(syscall.SIGTERM))
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(stdin), unix.F_SETFL, unix.O_ASYNC|unix.O_NONBLOCK)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// struct sigevent and struct itimerspec of include/uapi; SIGEV_SIGNAL is 0.
	event := struct {
		value        uint64
		signal, kind int32
		_            [48]byte
	}{signal: int32(syscall.SIGTERM)}
	var timer int32
	every := [4]int64{0, int64(time.Millisecond), 0, int64(time.Millisecond)}
	_, _, e1 := syscall.Syscall(syscall.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer)))
	_, _, e2 := syscall.Syscall6(syscall.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&every)), 0, 0, 0)
	if e1 != 0 || e2 != 0 {
		fmt.Println(e1, e2)
		os.Exit(1)
	}
	for range 100 {
		<-caught
	}
	_, _, _ = syscall.Syscall(syscall.SYS_TIMER_DELETE, uintptr(timer), 0, 0)
	for len(caught) > 0 {
		<-caught
	}
	fmt.Println("the pipe")
	<-caught
	os.Exit(0)
}

// TestSignalOfATimerIsNobodys: it fires in an interrupt, where any process runs; and
// who writes to a pipe does not send the signal that its reader asked for.
func TestSignalOfATimerIsNobodys(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	for range 2 { // so that it is nearly always another one
		spin := exec.Command("sh", "-c", "while :; do :; done")
		require.NoError(t, spin.Start())
		t.Cleanup(func() { _ = spin.Process.Kill(); _ = spin.Wait() })
	}
	cmd := role("signal-itself")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 64)
	n, err := stdout.Read(line)
	require.NoError(t, err)
	require.Equal(t, "the pipe\n", string(line[:n]))
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())

	r.await(of(event.ProcessExit, cmd.Process.Pid))
	sent := r.records(of(event.ProcessSignal, cmd.Process.Pid))
	assert.Greater(t, len(sent), 10)
	for _, rec := range sent {
		assert.Equal(t, "kernel", rec.Attributes[event.KeySignalOrigin], rec.Body)
		assert.NotContains(t, rec.Attributes, event.KeySenderPID)
	}
}

// TestSignalsThatEndByDefault: any signal that ends a process which does nothing
// about it is told, with who sent it; none that it handles, and none that harms nobody.
func TestSignalsThatEndByDefault(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	catches := startRole(t, "catch-signals")
	require.NoError(t, catches.Process.Signal(syscall.SIGUSR1))
	for _, number := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGSEGV, syscall.SIGALRM, syscall.SIGXCPU, syscall.SIGSYS, syscall.Signal(40)} {
		cmd := exec.Command("sleep", "60")
		require.NoError(t, cmd.Start())
		r.await(of(event.ProcessExec, cmd.Process.Pid))
		require.NoError(t, cmd.Process.Signal(syscall.SIGCHLD))
		require.NoError(t, cmd.Process.Signal(number))
		require.Error(t, cmd.Wait())

		sent := r.await(of(event.ProcessSignal, cmd.Process.Pid))
		assert.Equal(t, int64(number), sent.Attributes[event.KeySignal])
		assert.Equal(t, int64(os.Getpid()), sent.Attributes[event.KeySenderPID])
	}
	assert.Empty(t, r.records(of(event.ProcessSignal, catches.Process.Pid)))
}
