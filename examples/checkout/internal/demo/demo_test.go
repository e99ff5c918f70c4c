package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/examples/checkout/internal/load"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

func TestDifferences(t *testing.T) {
	r := load.Report{Failed: 12, FailedUsers: []string{"a", "b"}, FailedAmount: 30}
	users, value := int64(2), 0.1+0.2 // not exactly 0.3
	equal := &finding.Finding{Impact: finding.Impact{FailedRequests: 12, Users: &users, Value: &value}}
	assert.Empty(t, Differences(r, equal))

	users2, value2 := int64(1), 0.31
	assert.Equal(t, []string{
		"failed orders: the load generator counted 12, the finding says 11",
		"affected users: the load generator counted 2, the finding says 1",
		"their value: the load generator counted 0.30, the finding says 0.31",
	}, Differences(r, &finding.Finding{Impact: finding.Impact{FailedRequests: 11, Users: &users2, Value: &value2}}))

	assert.Equal(t, []string{
		"affected users: the load generator counted 2, the finding says unknown",
		"their value: the load generator counted 0.30, the finding says unknown",
	}, Differences(r, &finding.Finding{Impact: finding.Impact{FailedRequests: 12}}))
}

func TestElsewhere(t *testing.T) {
	kill := func(pid any, failed int64) *finding.Finding {
		return &finding.Finding{
			RootCause: finding.RootCause{Event: event.OOMKill, Entity: finding.Entity{Attributes: map[string]any{event.KeyProcessPID: pid}}},
			Impact:    finding.Impact{FailedRequests: failed},
		}
	}
	pids := map[string]int{"payment": 7}
	assert.True(t, Elsewhere(kill(int64(8), 0), pids))
	assert.False(t, Elsewhere(kill(int64(7), 0), pids), "payment is ours")
	assert.False(t, Elsewhere(kill(int64(8), 1), pids), "a request was hurt")
	assert.False(t, Elsewhere(kill("8", 0), pids), "no pid")
	crash := kill(int64(8), 0)
	crash.RootCause.Event = event.ProcessExit
	assert.False(t, Elsewhere(crash, pids), "an exit alone is no incident")
}

func TestFreeAddresses(t *testing.T) {
	got, err := freeAddresses(t.Context(), 20)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, a := range got {
		assert.False(t, seen[a], a)
		seen[a] = true
		host, port, err := net.SplitHostPort(a)
		require.NoError(t, err)
		assert.Equal(t, "127.0.0.1", host)
		n, err := strconv.Atoi(port)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, n, lowestPort)
		l, err := net.Listen("tcp", a)
		if assert.NoError(t, err, "it must be free") {
			assert.NoError(t, l.Close())
		}
	}
}

func TestFirstEphemeral(t *testing.T) {
	for in, want := range map[string]int{
		"32768\t60999\n": 32768, "20000 30000": 20000,
		"": defaultEphemeral, "x y": defaultEphemeral, "1024 65535": defaultEphemeral,
	} {
		assert.Equal(t, want, firstEphemeral(in), in)
	}
}

func goodOptions(t *testing.T) Options {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return Options{
		Collector: exe, Tapio: exe, Config: []string{exe}, Fault: FaultLeak, After: time.Second, Duration: time.Minute,
		MemoryLimit: 64 << 20, Leak: 1 << 20, Rate: 10, Users: 50,
	}
}

func TestOptionsValidate(t *testing.T) {
	require.NoError(t, goodOptions(t).Validate())
	for want, change := range map[string]func(*Options){
		`--fault "boom": want one of [leak`: func(o *Options) { o.Fault = "boom" },
		"--duration 0s":                     func(o *Options) { o.Duration = 0 },
		"--after 0s":                        func(o *Options) { o.After = 0 },
		"--after 1m0s: want more than 0":    func(o *Options) { o.Fault, o.After = FaultStop, time.Minute },
		"--memory-limit 1 MiB":              func(o *Options) { o.MemoryLimit = 1 << 20 },
		"--leak 0 bytes":                    func(o *Options) { o.Leak = 0 },
		"--rate 0":                          func(o *Options) { o.Rate = 0 },
		"--users 0":                         func(o *Options) { o.Users = 0 },
		"--collector":                       func(o *Options) { o.Collector = "/nowhere/otelcol" },
		"--tapio":                           func(o *Options) { o.Tapio = "/nowhere/tapio" },
		"--config":                          func(o *Options) { o.Config = append(o.Config, "/nowhere/config.yaml") },
		"--config: missing":                 func(o *Options) { o.Config = nil },
	} {
		o := goodOptions(t)
		change(&o)
		assert.ErrorContains(t, o.Validate(), want)
	}
}

func TestHasScheme(t *testing.T) {
	for config, want := range map[string]bool{
		"yaml:a::b: c": true, "env:CONFIG": true, "config.yaml": false, "/etc/c.yaml": false, "./a:b.yaml": false, `c:\config.yaml`: false,
	} {
		assert.Equal(t, want, hasScheme(config), config)
	}
}

func TestMakeDir(t *testing.T) {
	o := Options{OutputDir: filepath.Join(t.TempDir(), "new")}
	dir, temporary, err := o.makeDir()
	require.NoError(t, err)
	assert.False(t, temporary)
	require.NoError(t, os.WriteFile(filepath.Join(dir, DatabaseFile), nil, 0o600))
	_, _, err = o.makeDir()
	assert.ErrorContains(t, err, "want a new or empty directory, it holds findings.db")

	dir, temporary, err = Options{}.makeDir()
	require.NoError(t, err)
	assert.True(t, temporary)
	assert.NoError(t, os.Remove(dir))
}

func startShell(t *testing.T, script string) *process {
	t.Helper()
	l := newLauncher()
	p, err := l.start("shell", []string{"/bin/sh", "-c", script}, os.Environ(), filepath.Join(t.TempDir(), "shell.log"))
	require.NoError(t, err)
	t.Cleanup(func() { p.stop(0); l.close() })
	return p
}

func TestStop(t *testing.T) {
	polite := startShell(t, "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done")
	waitLog(t, polite, "up")
	polite.stop(10 * time.Second)
	assert.Equal(t, "exit status 7", polite.how())
	assert.Regexp(t, "^    up\n(.*\n)*    bye$", polite.logTail(5))
	assert.Equal(t, "    bye", polite.logTail(1))
	polite.stop(0) // a second time does nothing

	stubborn := startShell(t, "trap '' TERM; echo $$; sleep 60 & wait; sleep 60")
	waitLog(t, stubborn, strconv.Itoa(stubborn.pid()))
	stubborn.stop(50 * time.Millisecond)
	assert.Equal(t, "signal: killed", stubborn.how())
	assert.Eventually(t, func() bool { return errors.Is(syscall.Kill(-stubborn.pid(), 0), syscall.ESRCH) },
		5*time.Second, 10*time.Millisecond, "nothing of its group is left")
}

func waitLog(t *testing.T, p *process, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.logTail(5), text) }, 10*time.Second, 5*time.Millisecond)
}

func TestStartFails(t *testing.T) {
	l := newLauncher()
	defer l.close()
	_, err := l.start("ghost", []string{"/nowhere/ghost"}, nil, filepath.Join(t.TempDir(), "log"))
	assert.ErrorContains(t, err, "ghost")
}

func TestWaitReady(t *testing.T) {
	p := startShell(t, "echo broken; exit 3")
	err := waitReady(t.Context(), p, "http://127.0.0.1:1", time.Minute)
	require.ErrorContains(t, err, "shell ended early (exit status 3)")
	assert.ErrorContains(t, err, "    broken")

	p = startShell(t, "sleep 60")
	err = waitReady(t.Context(), p, "http://127.0.0.1:1", 50*time.Millisecond)
	assert.ErrorContains(t, err, "shell does not answer at http://127.0.0.1:1 after 50ms")
}

// TestRunCleansUp: a collector that does not start must leave nothing behind.
func TestRunCleansUp(t *testing.T) {
	o := goodOptions(t)
	o.Collector = "/bin/false"
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	err := Run(t.Context(), o, &out)
	require.ErrorContains(t, err, "otelcol-tapio ended early (exit status 1)")
	assert.Contains(t, out.String(), "stopping everything")
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, Run(ctx, goodOptions(t), io.Discard), ErrInterrupted)
}

// TestRunEndsWithItsReader: a closed output ends the run as Ctrl-C does.
func TestRunEndsWithItsReader(t *testing.T) {
	r, w := io.Pipe()
	require.NoError(t, r.Close())
	o := goodOptions(t)
	o.Collector = "/bin/cat" // waits for an end of input that is there at once, or for ours
	assert.ErrorIs(t, Run(t.Context(), o, w), ErrInterrupted)
}
