package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/test/internal/rig"
)

// Names of the programs under test.
const (
	collectorName = "otelcol-tapio"
	tapioName     = "tapio"
	checkoutName  = "checkout"
)

// binDir is where make build leaves the programs, or $TAPIO_BIN.
func binDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TAPIO_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	dir, err := filepath.Abs(dir)
	require.NoError(t, err)
	return dir
}

// bin returns the path of a program.
func bin(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(binDir(t), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return path
}

// defaultConfig is the configuration that the distribution comes with.
func defaultConfig(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "otelcol-tapio", "config.yaml"))
	require.NoError(t, err)
	return path
}

// environ is the environment without what configures Tapio or an SDK, so that a
// test says all of that itself.
func environ(add ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TAPIO_") && !strings.HasPrefix(v, "OTEL_") {
			env = append(env, v)
		}
	}
	return append(env, add...)
}

// requireKernel skips the test where kernel evidence or a memory cgroup cannot
// be had; with CI=true it fails.
func requireKernel(t *testing.T) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "kernel evidence and a memory cgroup need root"
	} else if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		reason = "kernel evidence needs a kernel with BTF: " + err.Error()
	}
	switch {
	case reason == "":
	case os.Getenv("CI") == "true":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

// program is a process that a test started.
type program struct {
	cmd   *exec.Cmd
	out   rig.Output
	ended chan struct{}
}

// start runs a program; it is killed, with its group, when the test ends before it.
func start(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	require.NoError(t, cmd.Start())
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(30 * time.Second)
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(cmd.Path), p.out.String())
		}
	})
	return p
}

// wait returns the exit code, -1 when a signal ended it.
func (p *program) wait(t *testing.T, timeout time.Duration) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(timeout):
		t.Fatalf("%s still runs after %s", filepath.Base(p.cmd.Path), timeout)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
}

// stop asks for an orderly end, and after grace for any.
func (p *program) stop(grace time.Duration) {
	select {
	case <-p.ended:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(grace):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
	}
}

// waitHealthy returns when the health check at address answers 200.
func (p *program) waitHealthy(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !healthy(t.Context(), address) {
		select {
		case <-p.ended:
			t.Fatalf("%s ended (%s):\n%s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, p.out.String())
		case <-time.After(50 * time.Millisecond):
		}
		require.True(t, time.Now().Before(deadline), "no health at %s", address)
	}
}

func healthy(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// run runs a program to its end and returns what it wrote and its exit code.
func run(t *testing.T, env []string, path string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// freeAddresses returns n loopback addresses on which nobody listens.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	addresses := make([]string, 0, n)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// poll calls f until it returns true.
func poll(t *testing.T, timeout time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !f(); time.Sleep(50 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "after %s: no %s", timeout, what)
	}
}
