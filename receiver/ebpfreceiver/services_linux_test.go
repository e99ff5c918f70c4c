//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
)

// One process began before the receiver and one after it; both have ended when
// the record of their end is made.
func TestServiceNameOfRealProcesses(t *testing.T) {
	requireKernel(t)
	start := func(variable string) (end func() int) {
		cmd := role("exit-later")
		cmd.Env = append(cmd.Env, variable)
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		return func() int {
			_, err := stdin.Write([]byte{1})
			require.NoError(t, err)
			require.Error(t, cmd.Wait())
			return cmd.Process.Pid
		}
	}
	old := start("OTEL_SERVICE_NAME=old")
	r := startRig(t, nil)
	young := start("OTEL_RESOURCE_ATTRIBUTES=service.name=young,service.namespace=shop")
	none := start("OTEL_SERVICE_NAME=")

	assert.Equal(t, "old", r.await(of(event.ProcessExit, old())).Resource[event.KeyServiceName])
	rec := r.await(of(event.ProcessExit, young()))
	assert.Equal(t, "young", rec.Resource[event.KeyServiceName])
	assert.Equal(t, "shop", rec.Resource[event.KeyServiceNamespace])
	assert.NotContains(t, r.await(of(event.ProcessExit, none())).Resource, event.KeyServiceName)
}

// prefork forks a child that ends when it is told to, as a server that forks its workers
// does, says which, and goes on as it is, or as another program with another environment.
func prefork() {
	var b [1]byte
	// A child of a program in Go must not do more than call the kernel.
	child, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
	if child == 0 && errno == 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_READ, 0, uintptr(unsafe.Pointer(&b[0])), 1)
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 61, 0, 0)
	}
	fmt.Println(child)
	if next := os.Getenv("TAPIO_EBPF_TEST_NEXT"); next != "" {
		_ = syscall.Exec("/proc/self/exe", []string{"next"}, []string{roleEnv + "=sleep", "OTEL_SERVICE_NAME=" + next})
	}
	time.Sleep(time.Minute)
}

// TestServiceNameOfForkedProcess: of one that is heard of when it ends, and never ran
// a program of its own.
func TestServiceNameOfForkedProcess(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	for _, next := range []string{"", "other"} {
		cmd := role("prefork")
		cmd.Env = append(cmd.Env, "OTEL_SERVICE_NAME=workers", "TAPIO_EBPF_TEST_NEXT="+next)
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		var child int
		_, err = fmt.Fscan(stdout, &child)
		require.NoError(t, err)
		if next != "" {
			require.Eventually(t, func() bool {
				return len(r.records(of(event.ProcessExec, cmd.Process.Pid))) == 2
			}, 10*time.Second, time.Millisecond)
		}
		_, err = stdin.Write([]byte{1})
		require.NoError(t, err)
		exit := r.await(of(event.ProcessExit, child))
		if next == "" {
			assert.Equal(t, "workers", exit.Resource[event.KeyServiceName])
		} else { // whose environment the child never had
			assert.NotEqual(t, next, exit.Resource[event.KeyServiceName])
		}
	}
}

// publishContext is the role "publishes": a process that publishes a context as
// OTEP 4719 says, some time after it began.
func publishContext() error {
	_, _ = os.Stdin.Read(make([]byte, 1))
	const size = 4096
	fd, err := unix.MemfdCreate(contextName, unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return err
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Close(fd), unix.Madvise(mem, unix.MADV_DONTFORK)); err != nil {
		return err
	}
	payload := protobuf(1, cartResource())
	header := contextHeader(contextVersion, uint32(len(payload)), uint64(time.Now().UnixNano()),
		uint64(uintptr(unsafe.Pointer(&mem[contextHeaderSize]))))
	copy(mem[contextHeaderSize:], payload)
	copy(mem[8:], header[8:])
	copy(mem, contextSignature)
	// Where the kernel cannot name it, the name of the memfd is enough.
	name := append([]byte(contextName), 0)
	_ = unix.Prctl(unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, uintptr(unsafe.Pointer(&mem[0])), size, uintptr(unsafe.Pointer(&name[0])))
	fmt.Println("published")
	_, _ = os.Stdin.Read(make([]byte, 1))
	runtime.KeepAlive(mem)
	return nil
}

// TestProcessContext: of a process that published its context before the receiver
// began, and of one that does it later than it is first heard of.
func TestProcessContext(t *testing.T) {
	requireKernel(t)
	start := func() (cmd *exec.Cmd, in io.Writer, published func()) {
		cmd = role("publishes")
		cmd.Env = append(cmd.Env, "OTEL_SERVICE_NAME=wrong")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd, in, func() {
			_, err := in.Write([]byte{1})
			require.NoError(t, err)
			line := make([]byte, len("published\n"))
			_, err = io.ReadFull(out, line)
			require.NoError(t, err)
		}
	}
	old, endOld, publishOld := start()
	publishOld()
	r := startRig(t, nil)
	young, endYoung, publishYoung := start()
	r.await(of(event.ProcessExec, young.Process.Pid))
	publishYoung()
	r.receiver.services.lookAgain(time.Now().Add(2 * firstLook))
	for cmd, in := range map[*exec.Cmd]io.Writer{old: endOld, young: endYoung} {
		_, err := in.Write([]byte{1})
		require.NoError(t, err)
		exit := r.await(of(event.ProcessExit, cmd.Process.Pid))
		assert.Equal(t, "cart", exit.Resource[event.KeyServiceName])
		assert.Equal(t, "shop", exit.Resource[event.KeyServiceNamespace])
	}
}

// BenchmarkReadContext looks for the context of this process, which has none.
func BenchmarkReadContext(b *testing.B) {
	s := newServices("/proc", func(string) {})
	for b.Loop() {
		if _, err := s.readContext(uint32(os.Getpid())); err != nil {
			b.Fatal(err)
		}
	}
}
