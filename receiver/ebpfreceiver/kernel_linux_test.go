//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// The tests in this file make things really happen and read them from the
// receiver. They run this binary again in the roles below.
const roleEnv = "TAPIO_EBPF_TEST_ROLE"

func init() {
	switch role := os.Getenv(roleEnv); role {
	case "":
		return
	case "exit":
		os.Exit(7)
	case "exit-later": // when its parent says so
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(7)
	case "exec": // a program of another name than its first argument
		_, _ = os.Stdin.Read(make([]byte, 1))
		_ = syscall.Exec("/bin/true", []string{"payment", "--port=8080", "two words"}, nil)
	case "connect":
		_, _ = os.Stdin.Read(make([]byte, 1))
		dialClosedPorts()
	case "sockets":
		haveTroubleWithSockets()
	case "names":
		if err := lookUpNames(); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	case "publishes":
		if err := publishContext(); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	case "catch-signals":
		catchSignals()
	case "flood-with-signals":
		floodWithSignals(os.Getenv("TAPIO_EBPF_TEST_TARGETS"))
	case "flood-with-connects":
		floodWithConnects()
	case "exceed-key-quota":
		exceedKeyQuota()
	case "calls-fail":
		failCalls()
	case "calls-fail-everywhere":
		failOnAllCPUs()
	case "flood-with-failures":
		floodWithFailures()
	case "calls-of-32-bits": // of a machine that has them, else nothing
	case "signal-itself":
		signalItself()
	case "sleep":
		time.Sleep(time.Minute)
	case "storm":
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: 0})
		for range stormSize {
			_, _ = unix.Open("/dev/null", unix.O_RDONLY, 0)
		}
		os.Exit(0)
	case "runs-out":
		_, _ = os.Stdin.Read(make([]byte, 1))
		runOut(os.Getenv("TAPIO_EBPF_TEST_DIR"))
	case "leader-first":
		leaderFirst()
	case "eat":
		eatMemory()
	case "leak":
		leak()
	case "fork":
		fork()
	case "prefork":
		prefork()
	case "read-files":
		readFiles(os.Getenv("TAPIO_EBPF_TEST_FILE"))
	case "spin":
		spin()
	case "disk":
		readDisk(os.Getenv("TAPIO_EBPF_TEST_DEVICE"))
	case "mortal":
		serveUntilDeath()
	case "eating-child":
		eatingChild(nil)
	case "eating-sandbox":
		eatingChild(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID})
	case "segfault":
		segfault()
	case "unprivileged":
		os.Exit(startAndTell())
	case "first-in-namespace":
		os.Exit(watchOwnChild())
	default:
		fmt.Fprintln(os.Stderr, "unknown role", role)
	}
	os.Exit(2)
}

// stormSize is how many calls the role "storm" lets fail.
const stormSize = 5000

// runOut fills a small file system, opens files until it may not any more, and
// writes where it is not allowed to.
func runOut(dir string) {
	if f, err := os.Create(dir + "/full"); err == nil {
		_, _ = f.Write(make([]byte, 1<<20))
		_ = f.Close()
	}
	_ = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	_, _ = os.Create(dir + "/read-only")
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 16, Max: 16})
	for range 32 {
		_, _ = unix.Open("/dev/null", unix.O_RDONLY, 0)
	}
	for range 500 {
		_, _ = unix.Getpgid(1 << 30) // ESRCH: counted, not sent
	}
	os.Exit(0)
}

// leaderFirst ends the first thread and, later, the process with code 3.
func leaderFirst() {
	go func() {
		time.Sleep(100 * time.Millisecond)
		os.Exit(3)
	}()
	runtime.LockOSThread()                               // init runs on the first thread
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) // not Raw: that would take the only processor of a small machine with it
}

// eatMemory waits until it is put in its cgroup, then allocates without end.
func eatMemory() {
	_, _ = os.Stdin.Read(make([]byte, 1))
	eat()
}

func eat() {
	var held [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
		held = append(held, b)
		runtime.KeepAlive(held)
	}
}

// watchOwnChild is the first process of a pid namespace: it starts a receiver
// and a child, and returns 0 when the record has the child's pid as it sees it.
func watchOwnChild() int {
	sink := new(consumertest.LogsSink)
	r, err := newReceiver(createDefaultConfig().(*Config), receivertest.NewNopSettings(metadata.Type), sink, openSource)
	if err != nil {
		return 10
	}
	if err := r.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		return 11
	}
	cmd := role("exit")
	if err := cmd.Run(); err == nil || os.Getpid() != 1 {
		return 12
	}
	matches := func(s seenRecord) bool {
		return of(event.ProcessExit, cmd.Process.Pid)(s) &&
			s.Attributes[event.KeyProcessExitCode] == int64(7) &&
			s.Resource[event.KeyProcessParentPID] == int64(1) &&
			s.Resource[event.KeyProcessVPID] == nil
	}
	for range 2000 {
		if len((&rig{sink: sink}).records(matches)) == 1 {
			return 0
		}
		time.Sleep(time.Millisecond)
	}
	return 13
}

// cannotRun skips a test that cannot run on this machine; in CI it must.
func cannotRun(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func requireKernel(t *testing.T) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		return // there it must work
	}
	if os.Geteuid() != 0 {
		t.Skip("kernel programs need root")
	}
	if _, err := os.Stat(linux.BTF); err != nil {
		t.Skipf("kernel programs need BTF: %v", err)
	}
}

// seenRecord is a log record with its resource, in plain Go values.
type seenRecord struct {
	Name       string
	Body       string
	Severity   string
	Trace      string
	Span       string
	Time       time.Time
	Observed   time.Time
	Resource   map[string]any
	Attributes map[string]any
}

// rig is a started receiver and what it emitted.
type rig struct {
	t        *testing.T
	receiver *ebpfReceiver
	sink     *consumertest.LogsSink
}

func startRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	return startRigOf(t, change, openSource)
}

// startRigOf starts a receiver of what open opens.
func startRigOf(t *testing.T, change func(*Config), open func(*Config, *zap.Logger) source) *rig {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	if change != nil {
		change(cfg)
	}
	require.NoError(t, cfg.Validate())
	sink := new(consumertest.LogsSink)
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), sink, open)
	require.NoError(t, err)
	r.openMessages = openMessages
	require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
	t.Cleanup(func() {
		recordRuns(t, r.source)
		assert.NoError(t, r.Shutdown(context.Background()))
	})
	require.Empty(t, r.failed())
	return &rig{t, r, sink}
}

// records are all records that match.
func (r *rig) records(matches func(seenRecord) bool) []seenRecord {
	var out []seenRecord
	for _, logs := range r.sink.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, lr := range recordsOf(rl).All() {
				rec := seenRecord{
					Name: lr.EventName(), Body: lr.Body().Str(), Severity: lr.SeverityText(),
					Trace: lr.TraceID().String(), Span: lr.SpanID().String(),
					Time: lr.Timestamp().AsTime(), Observed: lr.ObservedTimestamp().AsTime(),
					Resource: rl.Resource().Attributes().AsRaw(), Attributes: lr.Attributes().AsRaw(),
				}
				if matches(rec) {
					out = append(out, rec)
				}
			}
		}
	}
	return out
}

// await returns the first record that matches.
func (r *rig) await(matches func(seenRecord) bool) seenRecord {
	r.t.Helper()
	return r.awaitFor(15*time.Second, matches)
}

// awaitFor waits longer, for what takes its time.
func (r *rig) awaitFor(atMost time.Duration, matches func(seenRecord) bool) seenRecord {
	r.t.Helper()
	var found []seenRecord
	require.Eventually(r.t, func() bool {
		found = r.records(matches)
		return len(found) > 0
	}, atMost, time.Millisecond)
	return found[0]
}

func of(name string, pid int) func(seenRecord) bool {
	return func(r seenRecord) bool {
		return r.Name == name && r.Resource[event.KeyProcessPID] == int64(pid)
	}
}

func role(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	return cmd
}

func TestProcessThatExitsWithACode(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	before := time.Now()
	cmd := role("exit")
	require.Error(t, cmd.Run())
	after := time.Now()

	exit := r.await(of(event.ProcessExit, cmd.Process.Pid))
	assert.Equal(t, map[string]any{event.KeyProcessExitCode: int64(7)}, exit.Attributes)
	assert.Equal(t, "Warn", exit.Severity)
	assert.Equal(t, int64(os.Getpid()), exit.Resource[event.KeyProcessParentPID])
	assert.Contains(t, exit.Body, fmt.Sprintf("(pid %d) exited with code 7", cmd.Process.Pid))
	assert.WithinRange(t, exit.Time, before, after)
	assert.False(t, exit.Observed.Before(exit.Time))

	begin := r.await(of(event.ProcessExec, cmd.Process.Pid))
	assert.Equal(t, "/proc/self/exe", begin.Attributes[event.KeyProcessExecutablePath])
	assert.NotContains(t, begin.Attributes, event.KeyProcessCommandLine)
	assert.Equal(t, begin.Resource[event.KeyProcessCreationTime], exit.Resource[event.KeyProcessCreationTime])
	created, err := time.Parse(time.RFC3339Nano, exit.Resource[event.KeyProcessCreationTime].(string))
	require.NoError(t, err)
	assert.WithinRange(t, created, before.Add(-time.Millisecond), after)
	self, err := os.Executable()
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(self), begin.Resource[event.KeyProcessExecutableName])
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, host, begin.Resource[event.KeyHostName])
	assert.Equal(t, ownCgroup(t), begin.Resource[event.KeyProcessCgroup])
}

// ownCgroup is the path that the kernel shows for this process: the memory
// controller's under cgroup v1, else the unified one.
func ownCgroup(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	unified := ""
	for line := range strings.Lines(string(content)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if parts[1] == "memory" {
			return parts[2]
		}
		if parts[0] == "0" {
			unified = parts[2]
		}
	}
	return unified
}

func TestProcessKilledBySignal(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	cmd := role("sleep")
	require.NoError(t, cmd.Start())
	r.await(of(event.ProcessExec, cmd.Process.Pid))
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	require.Error(t, cmd.Wait())

	exit := r.await(of(event.ProcessExit, cmd.Process.Pid))
	assert.Equal(t, map[string]any{
		event.KeyExitSignal: int64(9), event.KeyExitSignalName: "SIGKILL", event.KeyCoreDumped: false,
	}, exit.Attributes)
	assert.Equal(t, "Error", exit.Severity)
	time.Sleep(50 * time.Millisecond)
	assert.Len(t, r.records(of(event.ProcessExit, cmd.Process.Pid)), 1, "one end, though it had several threads")
}

// TestSystemCallsThatRunOut: no space, read-only, no file descriptor; and the
// counts of what fails otherwise.
func TestSystemCallsThatRunOut(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	cmd := role("runs-out")
	cmd.Env = append(cmd.Env, "TAPIO_EBPF_TEST_DIR="+dir)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, _ = stdin.Write([]byte{1})
	require.NoError(t, cmd.Wait())

	for _, want := range []struct{ call, errno string }{{"write", "ENOSPC"}, {"openat", "EROFS"}, {"openat", "EMFILE"}} {
		got := r.await(func(s seenRecord) bool {
			return of(event.SyscallFailed, cmd.Process.Pid)(s) && s.Attributes[event.KeyErrorType] == want.errno
		})
		call, _ := got.Attributes[event.KeySyscall].(string)
		assert.Contains(t, []string{want.call, "open"}, call)
		assert.Equal(t, "Error", got.Severity)
		assert.NotEmpty(t, got.Resource[event.KeyProcessCgroup])
	}
	assert.Empty(t, r.records(func(s seenRecord) bool {
		return of(event.SyscallFailed, cmd.Process.Pid)(s) && s.Attributes[event.KeyErrorType] == "ESRCH"
	}), "only what ran out is sent by itself")
	counted := r.await(func(s seenRecord) bool {
		return s.Name == event.SyscallFailures && s.Attributes[event.KeySyscall] == "getpgid" && s.Attributes[event.KeyErrorType] == "ESRCH"
	})
	assert.EqualValues(t, 500, counted.Attributes[event.KeySyscallCount])
	assert.NotEmpty(t, counted.Resource[event.KeyProcessCgroup], "of a cgroup, not of a process")
	assert.Nil(t, counted.Resource[event.KeyProcessPID])
}

// TestManyFailuresAreHeldBack: a storm is counted, and what was not sent is too.
func TestManyFailuresAreHeldBack(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	cmd := role("storm")
	require.NoError(t, cmd.Run())
	sent := of(event.SyscallFailed, cmd.Process.Pid)
	r.await(sent)
	time.Sleep(50 * time.Millisecond)
	stats := r.receiver.source.stats()
	n := len(r.records(sent))
	assert.Less(t, n, stormSize)
	assert.GreaterOrEqual(t, int64(n)+stats.suppressed[event.SyscallFailed]+stats.lost[event.SyscallFailed], int64(stormSize), "every failure was sent or counted")
}

func TestWhoSentASignal(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	cmd := role("sleep")
	require.NoError(t, cmd.Start())
	r.await(of(event.ProcessExec, cmd.Process.Pid))
	kill := exec.Command("/bin/kill", "-TERM", strconv.Itoa(cmd.Process.Pid))
	require.NoError(t, kill.Run())
	require.Error(t, cmd.Wait())

	sent := r.await(of(event.ProcessSignal, cmd.Process.Pid))
	assert.Equal(t, int64(15), sent.Attributes[event.KeySignal])
	assert.Equal(t, "SIGTERM", sent.Attributes[event.KeySignalName])
	assert.Equal(t, "user", sent.Attributes[event.KeySignalOrigin])
	assert.Equal(t, int64(kill.Process.Pid), sent.Attributes[event.KeySenderPID])
	assert.Equal(t, "kill", sent.Attributes[event.KeySenderName])
	assert.NotEmpty(t, sent.Attributes[event.KeySenderCgroup])
	exit := r.await(of(event.ProcessExit, cmd.Process.Pid))
	assert.Equal(t, "SIGTERM", exit.Attributes[event.KeyExitSignalName])
	assert.Len(t, r.records(of(event.ProcessSignal, cmd.Process.Pid)), 1)
}

func TestProcessWhoseFirstThreadEndsFirst(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	cmd := role("leader-first")
	require.Error(t, cmd.Run())
	require.Equal(t, 3, cmd.ProcessState.ExitCode())

	exit := r.await(of(event.ProcessExit, cmd.Process.Pid))
	assert.Equal(t, int64(3), exit.Attributes[event.KeyProcessExitCode])
	time.Sleep(50 * time.Millisecond)
	assert.Len(t, r.records(of(event.ProcessExit, cmd.Process.Pid)), 1)
}

func TestProcessInAPIDNamespace(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	cmd := role("exit")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	require.Error(t, cmd.Run())

	exit := r.await(of(event.ProcessExit, cmd.Process.Pid))
	assert.Equal(t, int64(1), exit.Resource[event.KeyProcessVPID])
	assert.Equal(t, int64(os.Getpid()), exit.Resource[event.KeyProcessParentPID])
}

func TestReceiverInAPIDNamespace(t *testing.T) {
	requireKernel(t)
	cmd := role("first-in-namespace")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestCommandLine(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.CommandLine = true })
	for _, tc := range []struct {
		arg, want string
	}{
		{"two words", "sleep two words"},
		{strings.Repeat("x", 2000), "sleep " + strings.Repeat("x", 1024-len("sleep ")) + " ..."},
	} {
		cmd := role("sleep")
		cmd.Args = []string{"sleep", tc.arg}
		require.NoError(t, cmd.Start())
		rec := r.await(of(event.ProcessExec, cmd.Process.Pid))
		assert.Equal(t, tc.want, rec.Attributes[event.KeyProcessCommandLine])
		assert.Equal(t, "sleep", rec.Attributes[event.KeyProcessCommand])
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
}

// closedPort is a port of this machine that nobody listens on.
func closedPort(t testing.TB, host string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func toPeer(port int) func(seenRecord) bool {
	return func(r seenRecord) bool {
		return r.Name == event.TCPConnectFailed && r.Attributes[event.KeyPeerPort] == int64(port)
	}
}

func TestConnectionRefused(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	netns, err := inodeOf("/proc/self/ns/net")
	require.NoError(t, err)
	for _, tc := range []struct{ network, host string }{{"ipv4", "127.0.0.1"}, {"ipv6", "::1"}} {
		t.Run(tc.network, func(t *testing.T) {
			port := closedPort(t, tc.host)
			_, err := net.Dial("tcp", net.JoinHostPort(tc.host, strconv.Itoa(port)))
			require.ErrorIs(t, err, syscall.ECONNREFUSED)

			rec := r.await(toPeer(port))
			assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
			assert.Equal(t, ownCgroup(t), rec.Resource[event.KeyProcessCgroup])
			assert.Equal(t, event.ErrorConnectionRefused, rec.Attributes[event.KeyErrorType])
			assert.Equal(t, tc.host, rec.Attributes[event.KeyPeerAddress])
			assert.Equal(t, tc.host, rec.Attributes[event.KeyLocalAddress])
			assert.NotZero(t, rec.Attributes[event.KeyLocalPort])
			assert.Equal(t, tc.network, rec.Attributes[event.KeyNetworkType])
			assert.Equal(t, "tcp", rec.Attributes[event.KeyNetworkTransport])
			assert.Equal(t, int64(netns), rec.Attributes[event.KeyNetworkNamespace])
			assert.Less(t, rec.Attributes[event.KeyConnectDuration], 1.0)
			assert.Equal(t, "Warn", rec.Severity)
		})
	}
}

func TestIPv4AddressOnIPv6Socket(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	port := closedPort(t, "127.0.0.1")
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	mapped := [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
	require.ErrorIs(t, unix.Connect(fd, &unix.SockaddrInet6{Port: port, Addr: mapped}), syscall.ECONNREFUSED)

	rec := r.await(toPeer(port))
	assert.Equal(t, "127.0.0.1", rec.Attributes[event.KeyPeerAddress])
	assert.Equal(t, "ipv4", rec.Attributes[event.KeyNetworkType])
}

// silentPort is a port that takes no connection and refuses none: its backlog
// is full.
func silentPort(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0)) // one may wait
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	port := name.(*unix.SockaddrInet4).Port
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.Eventually(t, func() bool { // the last segment of that one may be on its way yet
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.Unacked > info.Sacked // of a listener: how many wait, how many may
	}, 15*time.Second, time.Millisecond)
	return port
}

func TestConnectionTimedOut(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	port := silentPort(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1))
	require.ErrorIs(t, unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), syscall.ETIMEDOUT)

	rec := r.await(func(r seenRecord) bool {
		return toPeer(port)(r) && r.Attributes[event.KeyErrorType] == event.ErrorConnectionTimedOut
	})
	assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID], "the timer runs in an interrupt, of no process")
	assert.Greater(t, rec.Attributes[event.KeyConnectDuration], 1.0)
}

// Codes of the ICMP message "destination unreachable" (RFC 792).
const (
	icmpNetUnreachable  = 0
	icmpHostUnreachable = 1
)

// TestUnreachable is told by ICMP, as a router on the way does: the kernel ends
// the connection in an interrupt, at once.
func TestUnreachable(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	for want, tc := range map[string]struct {
		code  byte
		errno syscall.Errno
	}{
		event.ErrorNetworkUnreachable: {icmpNetUnreachable, syscall.ENETUNREACH},
		event.ErrorHostUnreachable:    {icmpHostUnreachable, syscall.EHOSTUNREACH},
	} {
		t.Run(want, func(t *testing.T) {
			port := silentPort(t)
			syns := rawSocket(t, unix.IPPROTO_TCP)
			failed := make(chan error, 1)
			go func() { failed <- connectOnce(port) }()
			syn := awaitSYN(t, syns, port)
			require.ErrorIs(t, answerUnreachable(t, syn, tc.code, failed), tc.errno)

			rec := r.await(func(r seenRecord) bool {
				return toPeer(port)(r)
			})
			assert.Equal(t, want, rec.Attributes[event.KeyErrorType])
			assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
			assert.Equal(t, "127.0.0.1", rec.Attributes[event.KeyPeerAddress])
			assert.Less(t, rec.Attributes[event.KeyConnectDuration], 1.0, "no SYN was sent twice")
			assert.Equal(t, "Warn", rec.Severity)
		})
	}
}

// connectOnce waits for an answer from a port of this machine, for as long as
// two SYNs may take (3 s).
func connectOnce(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1); err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

// rawSocket gets a copy of all that arrives for a protocol, with the IP header.
func rawSocket(t *testing.T, protocol int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, protocol)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return fd
}

// awaitSYN returns the head of the next packet to a port: IP header and the
// first 8 bytes of TCP, which is what a router sends back.
func awaitSYN(t *testing.T, fd, port int) []byte {
	t.Helper()
	packet := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, packet, 0)
		require.NoError(t, err, "no SYN to port %d", port)
		header := int(packet[0]&0xf) * 4
		if n >= header+8 && int(binary.BigEndian.Uint16(packet[header+2:])) == port {
			return packet[:header+8]
		}
	}
}

// answerUnreachable sends the ICMP message until the connect that sent the
// packet has failed, and returns how. The kernel only notes one that comes
// while connect(2) still has the socket to itself.
func answerUnreachable(t *testing.T, packet []byte, code byte, failed <-chan error) error {
	t.Helper()
	const typeUnreachable = 3
	message := append([]byte{typeUnreachable, code, 0, 0, 0, 0, 0, 0}, packet...)
	binary.BigEndian.PutUint16(message[2:], internetChecksum(message))
	fd := rawSocket(t, unix.IPPROTO_ICMP)
	for {
		require.NoError(t, unix.Sendto(fd, message, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
		select {
		case err := <-failed:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// internetChecksum is that of RFC 1071, for an even number of bytes.
func internetChecksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestConnectionThatTheApplicationGaveUp(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	port := silentPort(t)
	const patience = 200 * time.Millisecond
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	begin := time.Now()
	require.ErrorIs(t, unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}), syscall.EINPROGRESS)
	time.Sleep(patience)
	require.NoError(t, unix.Close(fd))
	waited := time.Since(begin)

	rec := r.await(toPeer(port))
	assert.Equal(t, event.ErrorConnectionAborted, rec.Attributes[event.KeyErrorType])
	assert.GreaterOrEqual(t, rec.Attributes[event.KeyConnectDuration], patience.Seconds())
	assert.LessOrEqual(t, rec.Attributes[event.KeyConnectDuration], waited.Seconds())
	assert.Equal(t, "Info", rec.Severity)
}

func TestConnectWithoutAFreePort(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	peer := l.Addr().(*net.TCPAddr)
	local := closedPort(t, "127.0.0.1")
	connect := func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Port: local, Addr: [4]byte{127, 0, 0, 1}}))
		return unix.Connect(fd, &unix.SockaddrInet4{Port: peer.Port, Addr: [4]byte{127, 0, 0, 1}})
	}
	require.NoError(t, connect())
	require.ErrorIs(t, connect(), syscall.EADDRNOTAVAIL)

	rec := r.await(toPeer(peer.Port))
	assert.Equal(t, event.ErrorLocal, rec.Attributes[event.KeyErrorType])
	assert.Equal(t, "Warn", rec.Severity)
}

// memoryCgroup makes a memory cgroup with a limit, on whichever version has
// the controller, and returns its path inside the hierarchy and its folder.
func memoryCgroup(t *testing.T, limit int) (path, folder string) {
	t.Helper()
	name := fmt.Sprintf("tapio-test-%d", os.Getpid())
	if root := "/sys/fs/cgroup/memory"; isFile(root + "/memory.limit_in_bytes") {
		folder = filepath.Join(root, name)
		makeCgroup(t, folder)
		require.NoError(t, os.WriteFile(folder+"/memory.limit_in_bytes", []byte(strconv.Itoa(limit)), 0o600))
		return "/" + name, folder
	}
	root := "/sys/fs/cgroup"
	if err := handDownMemory(t, root+"/cgroup.subtree_control"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no memory cgroup can be made: %v", err)
		}
		t.Skipf("no memory cgroup can be made here: %v", err)
	}
	folder = filepath.Join(root, name)
	makeCgroup(t, folder)
	require.NoError(t, os.WriteFile(folder+"/memory.max", []byte(strconv.Itoa(limit)), 0o600))
	return "/" + name, folder
}

// handDownMemory gives the memory controller to the children of the cgroup
// whose cgroup.subtree_control is named, until the test has ended.
func handDownMemory(t *testing.T, control string) error { return handDown(t, control, "memory") }

func handDown(t *testing.T, control, controller string) error {
	t.Helper()
	given, err := os.ReadFile(control)
	if err != nil || slices.Contains(strings.Fields(string(given)), controller) {
		return err
	}
	if err := os.WriteFile(control, []byte("+"+controller), 0o600); err != nil {
		return err
	}
	t.Cleanup(func() { assert.NoError(t, os.WriteFile(control, []byte("-"+controller), 0o600)) })
	return nil
}

func makeCgroup(t *testing.T, folder string) {
	t.Helper()
	require.NoError(t, os.Mkdir(folder, 0o755))
	t.Cleanup(func() {
		assert.Eventually(t, func() bool { return os.Remove(folder) == nil }, 5*time.Second, 10*time.Millisecond)
	})
}

// notCharged returns how much of what a process holds can be charged to another cgroup
// than the one to which it was moved: what it had before, and the pages of its executable.
func notCharged(t *testing.T, pid int) int64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(t, err)
	var size, resident int64
	_, err = fmt.Sscan(string(statm), &size, &resident)
	require.NoError(t, err)
	self, err := os.Stat("/proc/self/exe")
	require.NoError(t, err)
	return resident*int64(os.Getpagesize()) + self.Size()
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestOOMKillInMemoryCgroup(t *testing.T) {
	requireKernel(t)
	const limit = 64 << 20
	path, folder := memoryCgroup(t, limit)
	inner := filepath.Join(folder, "inner") // the limit is on the parent
	makeCgroup(t, inner)
	r := startRig(t, nil)

	cmd := role("eat")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, os.WriteFile(inner+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	elsewhere := notCharged(t, cmd.Process.Pid)
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	require.Error(t, cmd.Wait())
	pid := cmd.Process.Pid

	rec := r.await(of(event.OOMKill, pid))
	assert.Equal(t, "cgroup", rec.Attributes[event.KeyOOMScope])
	assert.Equal(t, path, rec.Attributes[event.KeyMemoryCgroup])
	assert.Equal(t, path+"/inner", rec.Resource[event.KeyProcessCgroup])
	assert.Equal(t, int64(limit), rec.Attributes[event.KeyMemoryLimit])
	assert.InDelta(t, limit, rec.Attributes[event.KeyMemoryUsage], limit/16)
	assert.InDelta(t, limit, rec.Attributes[event.KeyMemoryPeak], limit/16)
	assert.Greater(t, rec.Attributes[event.KeyOOMRSS], int64(limit/2))
	assert.Less(t, rec.Attributes[event.KeyOOMRSS], limit+elsewhere)
	assert.Equal(t, int64(0), rec.Attributes[event.KeyOOMScoreAdj])
	assert.Equal(t, "Error", rec.Severity)
	assert.Contains(t, rec.Body, "memory cgroup "+path+" was at its limit of 64.0 MiB")

	exit := r.await(of(event.ProcessExit, pid))
	assert.Equal(t, "SIGKILL", exit.Attributes[event.KeyExitSignalName])
	assert.True(t, exit.Time.After(rec.Time))
	assert.Equal(t, rec.Resource[event.KeyProcessCreationTime], exit.Resource[event.KeyProcessCreationTime])
	assert.Equal(t, path+"/inner", exit.Resource[event.KeyProcessCgroup])
}

func TestOneProgramFailsAlone(t *testing.T) {
	requireKernel(t)
	cfg := createDefaultConfig().(*Config)
	broken := program{name: bpf.MemoryProgOomKill, load: func() (*ebpf.CollectionSpec, error) {
		spec, err := bpf.LoadMemory()
		if err == nil {
			spec.Programs[bpf.MemoryProgOomKill].AttachTo = "no_such_tracepoint"
		}
		return spec, err
	}}
	sink := new(consumertest.LogsSink)
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), sink, func(cfg *Config, log *zap.Logger) source {
		return openKernel(cfg, []program{broken, programs(cfg)[1]}, log)
	})
	require.NoError(t, err)
	host := &statusHost{}
	require.NoError(t, r.Start(context.Background(), host))
	defer func() { require.NoError(t, r.Shutdown(context.Background())) }()

	rig := &rig{t, r, sink}
	started := rig.await(func(r seenRecord) bool { return r.Name == event.EBPFStarted })
	assert.Equal(t, []any{"process_exit"}, started.Attributes[event.KeyEBPFPrograms])
	require.Len(t, started.Attributes[event.KeyEBPFFailed], 1)
	assert.Contains(t, started.Attributes[event.KeyEBPFFailed].([]any)[0], "oom_kill: ")
	assert.Equal(t, "Warn", started.Severity)
	require.Len(t, host.events(), 1)
	assert.ErrorContains(t, host.events()[0].Err(), "1 of 2 kernel programs do not run: oom_kill")

	cmd := role("exit")
	require.Error(t, cmd.Run())
	rig.await(of(event.ProcessExit, cmd.Process.Pid))
}

func TestManyEventsAreAllSeen(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	const workers, each = 4, 250
	seen := make(map[int]bool)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				cmd := exec.Command("/bin/true")
				if err := cmd.Run(); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[cmd.Process.Pid] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	ours := func(name string) func(seenRecord) bool {
		return func(rec seenRecord) bool {
			pid, _ := rec.Resource[event.KeyProcessPID].(int64)
			return rec.Name == name && seen[int(pid)] && rec.Resource[event.KeyProcessParentPID] == int64(os.Getpid())
		}
	}
	for _, name := range []string{event.ProcessExec, event.ProcessExit} {
		assert.Eventually(t, func() bool { return len(r.records(ours(name))) == workers*each }, 10*time.Second, 20*time.Millisecond, name)
	}
	stats := r.receiver.source.stats()
	for name, n := range stats.lost {
		assert.Zero(t, n, name)
	}
	assert.Contains(t, stats.lost, event.ProcessExec)
}

func TestLossInTheRingBufferIsCounted(t *testing.T) {
	requireKernel(t)
	cfg := createDefaultConfig().(*Config)
	cfg.RingBufferSize = os.Getpagesize() // room for a dozen of records, which take some 300 bytes
	k := openKernel(cfg, programs(cfg), zaptest.NewLogger(t))
	defer func() { require.NoError(t, k.close()) }()
	for range 50 {
		require.NoError(t, exec.Command("/bin/true").Run())
	}
	lost := k.stats().lost // nobody read
	assert.GreaterOrEqual(t, lost[event.ProcessExec], int64(30))
	assert.GreaterOrEqual(t, lost[event.ProcessExit], int64(30))
}

func TestStopLeavesWhatTheRingBufferHolds(t *testing.T) {
	requireKernel(t)
	cfg := createDefaultConfig().(*Config)
	k := openKernel(cfg, programs(cfg), zaptest.NewLogger(t))
	defer func() { require.NoError(t, k.close()) }()
	require.Empty(t, k.failed())
	const n = 20
	want := make(map[int]bool, n)
	for range n {
		cmd := role("exit")
		require.Error(t, cmd.Run())
		want[cmd.Process.Pid] = true
	}
	require.NoError(t, k.stop())
	late := role("exit")
	require.Error(t, late.Run())

	got := make(map[int]bool, n)
	for {
		ev, err := k.read()
		if errors.Is(err, os.ErrClosed) {
			break
		}
		require.NoError(t, err)
		pid := int(ev.process().pid)
		if _, isExit := ev.(exitEvent); isExit && want[pid] {
			got[pid] = true
		}
		assert.NotEqual(t, late.Process.Pid, pid, "it began after stop")
	}
	assert.Equal(t, want, got)
}

// BenchmarkLatency is the way from the kernel to the next component, for an event
// that is evidence: from a refused connect to the record.
func BenchmarkLatency(b *testing.B) {
	port := closedPort(b, "127.0.0.1")
	observed := make(chan time.Duration, 1)
	next, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		for _, rl := range logs.ResourceLogs().All() {
			for _, lr := range recordsOf(rl).All() {
				if p, ok := lr.Attributes().Get(event.KeyPeerPort); ok && p.Int() == int64(port) && lr.EventName() == event.TCPConnectFailed {
					observed <- lr.ObservedTimestamp().AsTime().Sub(lr.Timestamp().AsTime())
				}
			}
		}
		return nil
	})
	require.NoError(b, err)
	r, err := newReceiver(createDefaultConfig().(*Config), receivertest.NewNopSettings(metadata.Type), next, openSource)
	require.NoError(b, err)
	require.NoError(b, r.Start(context.Background(), componenttest.NewNopHost()))
	defer func() { assert.NoError(b, r.Shutdown(context.Background())) }()
	if len(r.failed()) > 0 {
		b.Skip(r.failed())
	}
	var late []time.Duration
	for b.Loop() {
		_, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		require.Error(b, err)
		late = append(late, <-observed)
	}
	b.ReportMetric(float64(percentile(late, 50).Microseconds()), "us-median")
	b.ReportMetric(float64(percentile(late, 99).Microseconds()), "us-p99")
}

// inodeOf is the inode number of a file of /proc/PID/ns.
func inodeOf(path string) (uint32, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino), nil
}

// BenchmarkSystemCall: what the group syscalls adds to a call that succeeds.
func BenchmarkSystemCall(b *testing.B) {
	for _, enabled := range []bool{false, true, false, true} {
		b.Run(fmt.Sprintf("syscalls=%v", enabled), func(b *testing.B) {
			cfg := createDefaultConfig().(*Config)
			cfg.Programs = ProgramsConfig{Syscalls: ProgramConfig{Enabled: enabled}}
			k := openKernel(cfg, programs(cfg), zap.NewNop())
			defer k.close()
			if enabled && len(k.failures) > 0 {
				b.Skip(k.failures)
			}
			for b.Loop() {
				_, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
			}
		})
	}
}
