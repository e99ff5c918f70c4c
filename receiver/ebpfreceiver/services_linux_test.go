//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
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

// heldSource is a source that is not read until it is released.
type heldSource struct {
	source
	released chan struct{}
}

func (h *heldSource) read() (kernelEvent, error) {
	<-h.released
	return h.source.read()
}

// TestServiceNameOfProcessesThatAreGone: of those that have ended before anything is read of
// them.
func TestServiceNameOfProcessesThatAreGone(t *testing.T) {
	requireKernel(t)
	held := &heldSource{released: make(chan struct{})}
	release := sync.OnceFunc(func() { close(held.released) })
	t.Cleanup(release)
	r := startRigOf(t, nil, func(cfg *Config, log *zap.Logger) source {
		held.source = openSource(cfg, log)
		return held
	})
	services := map[int]string{}
	for i := range 20 {
		cmd := exec.Command("/bin/true")
		name := fmt.Sprint("short", i)
		cmd.Env = []string{"A=b", "OTEL_SERVICE_NAME=" + name, "OTEL_RESOURCE_ATTRIBUTES=service.name=other,service.namespace=shop"}
		require.NoError(t, cmd.Run())
		services[cmd.Process.Pid] = name
	}
	release()
	for pid, name := range services {
		for _, what := range []string{event.ProcessExec, event.ProcessExit} {
			rec := r.await(of(what, pid))
			assert.Equal(t, name, rec.Resource[event.KeyServiceName])
			assert.Equal(t, "shop", rec.Resource[event.KeyServiceNamespace])
		}
	}
}

// TestEnvironmentInTheKernel: what is found in it, and when it is left to user space.
func TestEnvironmentInTheKernel(t *testing.T) {
	requireKernel(t)
	cfg := createDefaultConfig().(*Config)
	cfg.Programs = ProgramsConfig{Process: ProgramConfig{Enabled: true}}
	k := openKernel(cfg, programs(cfg), zap.NewNop())
	defer func() { assert.NoError(t, k.close()) }()
	require.Empty(t, k.failures)
	many := slices.Repeat([]string{"A=b"}, 500)
	long := strings.Repeat("x", 5000)
	const name, attributes = "OTEL_SERVICE_NAME=cart", "OTEL_RESOURCE_ATTRIBUTES=service.namespace=shop,service.name=checkout"
	cases := map[string]struct {
		environ []string
		want    serviceName
		isKnown bool
	}{
		"nothing":                         {nil, serviceName{}, true},
		"no such variables":               {[]string{"A=b", "OTEL_SERVICE_NAMES=x", "XOTEL_SERVICE_NAME=x", "OTEL_SERVICE_NAME", ""}, serviceName{}, true},
		"a name":                          {[]string{name}, serviceName{name: "cart"}, true},
		"attributes":                      {[]string{"A=b", attributes, "C=d"}, serviceName{"checkout", "shop"}, true},
		"both":                            {[]string{attributes, name}, serviceName{"cart", "shop"}, true},
		"one after nothing":               {[]string{"", "", name}, serviceName{name: "cart"}, true},
		"one after a long one":            {[]string{"A=" + long, name}, serviceName{name: "cart"}, true},
		"one within a long one":           {[]string{"A=" + long[:1021] + name, "B=" + long}, serviceName{}, true},
		"one after many":                  {append(slices.Clone(many), name), serviceName{name: "cart"}, true},
		"one after too many":              {append(slices.Concat(many, many), name), serviceName{}, false},
		"one that is too long":            {[]string{attributes + ",x=" + long}, serviceName{}, false},
		"more than can be of any program": {slices.Repeat([]string{"OTEL_SERVICE_NAME=" + long[:900]}, 4), serviceName{}, false},
	}
	pids := map[uint32]string{}
	for what, tc := range cases {
		p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Env: append([]string{}, tc.environ...)})
		require.NoError(t, err)
		_, err = p.Wait()
		require.NoError(t, err)
		pids[uint32(p.Pid)] = what
	}
	require.NoError(t, k.stop())
	for {
		ev, err := k.read()
		if errors.Is(err, os.ErrClosed) {
			break
		}
		require.NoError(t, err)
		begun, isExec := ev.(execEvent)
		what, ours := pids[ev.process().pid]
		if !isExec || !ours {
			continue
		}
		delete(pids, ev.process().pid)
		assert.Equal(t, cases[what].want, begun.service, what)
		assert.Equal(t, cases[what].isKnown, begun.isServiceKnown, what)
	}
	assert.Empty(t, pids, "all were told")
}

// TestNamesThatDoNotFit have a mark where they are cut, and those that just fit have none.
func TestNamesThatDoNotFit(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	program, err := os.ReadFile("/bin/true")
	require.NoError(t, err)
	for length, want := range map[int]string{63: strings.Repeat("n", 63), 64: strings.Repeat("n", 63) + "..."} {
		for pathLength, wantPath := range map[int]func(string) string{
			255: func(path string) string { return path },
			256: func(path string) string { return path[:255] + "..." },
		} {
			path := t.TempDir()
			path += "/" + strings.Repeat("d", pathLength-len(path)-2-length)
			require.NoError(t, os.Mkdir(path, 0o700))
			path += "/" + strings.Repeat("n", length)
			require.NoError(t, os.WriteFile(path, program, 0o700))
			cmd := exec.Command(path)
			require.NoError(t, cmd.Start())
			_ = cmd.Wait() // busybox fails: it has no command of that name
			rec := r.await(of(event.ProcessExec, cmd.Process.Pid))
			assert.Equal(t, want, rec.Resource[event.KeyProcessExecutableName])
			assert.Equal(t, wantPath(path), rec.Attributes[event.KeyProcessExecutablePath])
		}
	}
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

// supervise is a supervisor that adopts whom a service leaves behind, and that executes
// itself once more: as many programs as the service has executed.
const supervise = `
import ctypes, os, sys
def run(what, **more):
    os.execve(sys.executable, [sys.executable, '-c', os.environ['PROGRAM'], what], {**os.environ, **more})
if sys.argv[1] == 'supervisor':
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) # PR_SET_CHILD_SUBREAPER
    if os.fork() == 0:
        run('service', OTEL_SERVICE_NAME='app')
    os.wait()
    run('again')
elif sys.argv[1] == 'service':
    child = os.fork()
    if child == 0:
        os.read(0, 1)
        os._exit(55)
    print(child, flush=True)
    os._exit(0)
print('adopted', flush=True)
os.wait()
`

// TestServiceNameOfAdoptedProcess: it has nothing of who adopted it.
func TestServiceNameOfAdoptedProcess(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startRig(t, nil)
	cmd := exec.Command(python, "-c", supervise, "supervisor")
	cmd.Env = append(os.Environ(), "PROGRAM="+supervise, "OTEL_SERVICE_NAME=supervisor")
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
	var adopted string
	_, err = fmt.Fscan(stdout, &child, &adopted)
	require.NoError(t, err)
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	exit := r.await(of(event.ProcessExit, child))
	assert.Nil(t, exit.Resource[event.KeyServiceName])
	require.NoError(t, cmd.Wait())
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

// BenchmarkExec is what an exec costs more, with so many variables of 40 bytes in its
// environment.
func BenchmarkExec(b *testing.B) {
	for _, n := range []int{0, 30, 500, 1000} {
		environ := slices.Repeat([]string{"KUBERNETES_PORT_443_TCP_ADDR=10.96.10.01"}, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			programCost(b, ProgramsConfig{Process: ProgramConfig{Enabled: true}}, bpf.ProcessProgProcessExec, func() {
				p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Env: append([]string{}, environ...)})
				require.NoError(b, err)
				_, _ = p.Wait()
			})
		})
	}
}

// BenchmarkReadEnvironment is what user space does where the kernel program does not.
func BenchmarkReadEnvironment(b *testing.B) {
	s := newServices("/proc", func(string) {})
	ticks, err := s.startTicks(uint32(os.Getpid()))
	require.NoError(b, err)
	for b.Loop() {
		if _, err := s.read(processKey{uint32(os.Getpid()), ticks}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMemoryThatDoesNotAnswer: nothing waits for a process whose files in /proc cannot be
// opened, as while it executes and closes a file on a file system that does not answer. A
// FIFO that nobody writes to stands in for that.
func TestMemoryThatDoesNotAnswer(t *testing.T) {
	proc := t.TempDir()
	var mu sync.Mutex
	reasons := map[string]int{}
	s := newServices(proc, func(reason string) {
		mu.Lock()
		defer mu.Unlock()
		reasons[reason]++
	})
	const processes = maxHanging + 4
	for pid := range processes {
		dir := fmt.Sprintf("%s/%d", proc, pid+1)
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, unix.Mkfifo(dir+"/environ", 0o600))
		require.NoError(t, os.WriteFile(dir+"/stat", []byte("1 (a) S"+strings.Repeat(" 0", 18)+" 700 0"), 0o600))
	}
	who := func(pid int) processInfo { return processInfo{pid: uint32(pid), started: 700 * tick} }
	learnt := make(chan struct{})
	go func() {
		defer close(learnt)
		for pid := range processes {
			s.learn(execEvent{base: base{who: who(pid + 1)}})
		}
	}()
	select {
	case <-learnt:
	case <-time.After(30 * time.Second):
		t.Error("an event waits for a process")
	}
	s.learn(reclaimEvent{base: base{who: who(processes)}}) // it counts once
	mu.Lock()
	assert.Equal(t, map[string]int{unresolvedSlow: maxHanging, unresolvedTooMany: processes - maxHanging}, reasons)
	mu.Unlock()
	assert.Len(t, s.hanging, maxHanging)
	now := time.Now().Add(2 * firstLook)
	s.lookAgain(now)        // in vain
	const ran, other = 1, 2 // one runs another program meanwhile, one is another process
	s.learn(execEvent{base: base{who: who(ran)}, isServiceKnown: true, service: serviceName{name: "newer"}})
	require.NoError(t, os.WriteFile(fmt.Sprintf("%s/%d/stat", proc, other), []byte("1 (a) S"+strings.Repeat(" 0", 18)+" 701 0"), 0o600))
	for pid := range processes { // they answer
		fifo, err := os.OpenFile(fmt.Sprintf("%s/%d/environ", proc, pid+1), os.O_RDWR|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = fifo.Close() })
		_, err = fifo.WriteString("OTEL_SERVICE_NAME=late")
		require.NoError(t, err)
		require.NoError(t, fifo.Close())
	}
	isAwaited := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.awaited) > 0
	}
	require.Eventually(t, func() bool { return len(s.hanging) == 0 && !isAwaited() }, 10*time.Second, time.Millisecond)
	for pid := 1; pid <= maxHanging; pid++ {
		want := serviceName{name: "late"}
		switch pid {
		case ran:
			want.name = "newer"
		case other:
			want.name = ""
		}
		assert.Equal(t, want, s.of(who(pid)), "process %d", pid)
	}
	// Those that were not looked at are at their next event, or else a little later.
	const next = maxHanging + 1
	for pid := next; pid <= processes; pid++ {
		assert.Empty(t, s.of(who(pid)))
		environ := fmt.Sprintf("%s/%d/environ", proc, pid)
		require.NoError(t, os.Remove(environ))
		require.NoError(t, os.WriteFile(environ, []byte("OTEL_SERVICE_NAME=again"), 0o600))
	}
	s.learn(reclaimEvent{base: base{who: who(next)}})
	assert.Equal(t, serviceName{name: "again"}, s.of(who(next)))
	assert.Empty(t, s.of(who(next+1)))
	s.lookAgain(now.Add(2 * secondLook))
	for pid := next; pid <= processes; pid++ {
		assert.Equal(t, serviceName{name: "again"}, s.of(who(pid)), "process %d", pid)
	}
}
