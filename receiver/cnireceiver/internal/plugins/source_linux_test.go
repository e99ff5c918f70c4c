//go:build linux && (amd64 || arm64)

package plugins

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
)

func TestPluginAndDelegate(t *testing.T) {
	r := newRig(t, OutputAlways)
	cmd := r.command("delegate")
	require.Error(t, cmd.Run())
	a := operation.NewAssembler(filepath.Clean)
	var done []*operation.Operation
	for _, rec := range r.records() {
		done = append(done, a.Add(rec)...)
	}
	require.Len(t, done, 1)
	o := done[0]
	assert.False(t, o.IsUnfinished)
	assert.Equal(t, "cbr0", o.Network())
	require.Len(t, o.Calls, 1)
	c := o.Calls[0]
	assert.Equal(t, "delegate", c.Plugin)
	assert.EqualValues(t, cmd.Process.Pid, c.PID)
	assert.EqualValues(t, os.Getpid(), c.Parent)
	assert.Equal(t, "ADD", c.Command)
	assert.Equal(t, "/run/netns/x", c.Netns)
	assert.Equal(t, "eth0", c.Interface)
	assert.Equal(t, "c1", c.ContainerID)
	assert.Equal(t, "payment-0", c.PodName)
	assert.Equal(t, "shop", c.PodNamespace)
	code, ok := c.ExitCode()
	assert.True(t, ok)
	assert.Equal(t, 1, code)
	want := operation.Failure{Code: 999, Message: "no IP addresses available"}
	assert.Equal(t, want, c.Failure)
	require.Len(t, c.Children, 1)
	assert.Equal(t, "fail", c.Children[0].Plugin)
	assert.Equal(t, want, c.Children[0].Failure)
	assert.Same(t, c.Children[0], c.Origin())
	assert.Zero(t, a.Held())
	stats := r.source.Stats()
	assert.Equal(t, map[string]int64{"exec": 0, "data": 0, "exit": 0}, stats.Lost)
}

// A relative path begins where the process is, also below a mount.
func TestRelativePath(t *testing.T) {
	r := newRig(t, OutputNever)
	deep := filepath.Join(r.dir, "a", strings.Repeat("b", 100), "c")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	for _, dir := range []string{r.dir, deep, "/", "/proc/self"} {
		cmd := r.command("fail")
		relative, err := filepath.Rel(dir, cmd.Path)
		require.NoError(t, err)
		if dir == r.dir {
			relative = "./fail"
		}
		cmd.Path, cmd.Dir = relative, dir
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Run(), &exit, "%s from %s", relative, dir)
		if dir == "/proc/self" {
			dir = "/proc/" + strconv.Itoa(exit.Pid())
		}
		got := r.next(cmd.Process.Pid)
		assert.Equal(t, relative, got.Path)
		assert.Equal(t, dir, got.Dir)
		assert.Equal(t, filepath.Join(r.dir, "fail"), filepath.Join(got.Dir, got.Path))
	}
	require.Error(t, r.command("fail").Run())
	records := r.records()
	assert.Empty(t, records[0].(operation.Exec).Dir, "the path is absolute")
}

// TestSignal: what the runtime does after its timeout.
func TestSignal(t *testing.T) {
	r := newRig(t, OutputAlways)
	cmd := r.command("succeed")
	read, write, err := os.Pipe() // never closed by the writer, so the plugin waits
	require.NoError(t, err)
	defer read.Close()
	defer write.Close()
	cmd.Stdin = read
	require.NoError(t, cmd.Start())
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	records := r.records()
	exit, ok := records[len(records)-1].(operation.Exit)
	require.True(t, ok)
	assert.EqualValues(t, syscall.SIGKILL, exit.Status)
}

func TestOutputNever(t *testing.T) {
	r := newRig(t, OutputNever)
	require.Error(t, r.command("fail").Run())
	records := r.records()
	require.Len(t, records, 2)
	assert.IsType(t, operation.Exec{}, records[0])
	assert.IsType(t, operation.Exit{}, records[1])
}

// TestOutputOnDemand: the first plugin after a pause may end before the programs
// are attached, the next ones are seen.
func TestOutputOnDemand(t *testing.T) {
	r := newRig(t, OutputOnDemand)
	assert.Nil(t, r.source.tap.links, "nothing is attached while no plugin runs")
	require.Error(t, r.command("fail").Run())
	require.Eventually(t, func() bool { // somebody must read for it to be noticed
		_, err := r.source.Read()
		require.NoError(t, err)
		r.source.tap.mu.Lock()
		defer r.source.tap.mu.Unlock()
		return len(r.source.tap.links) == 2
	}, 5*time.Second, time.Millisecond)
	require.Error(t, r.command("fail").Run())
	assert.Contains(t, bytesOf(r.records(), operation.Stdout), "no IP addresses available")
	assert.Nil(t, r.source.tap.links, "Stop detaches")
}

// TestOutputOnDemandEnds: after another plugin began, the programs are detached later.
func TestOutputOnDemandEnds(t *testing.T) {
	r := newRig(t, OutputOnDemand)
	tap := r.source.tap
	tap.open()
	assert.True(t, tap.timer.Stop(), "it ends")
	tap.open()
	tap.expire()
	assert.True(t, tap.timer.Stop(), "not yet, but it ends")
	assert.Len(t, tap.links, 2)
	tap.last = tap.last.Add(-linger)
	tap.expire()
	assert.Nil(t, tap.links)
}

// TestOnlyAnswers: what is no JSON object stays in the kernel.
func TestOnlyAnswers(t *testing.T) {
	r := newRig(t, OutputAlways)
	require.Error(t, r.command("noisy").Run())
	records := r.records()
	assert.Empty(t, bytesOf(records, operation.Stdout))
	assert.Equal(t, config, bytesOf(records, operation.Stdin))
}

// TestEndIsReadAtOnce: what stays in the kernel must not keep what comes after it from
// waking the reader.
func TestEndIsReadAtOnce(t *testing.T) {
	r := newRig(t, OutputAlways)
	cmd := r.command("late")
	gate, opens, err := os.Pipe()
	require.NoError(t, err)
	cmd.ExtraFiles = []*os.File{gate}
	require.NoError(t, cmd.Start())
	require.NoError(t, gate.Close())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			rec, err := r.source.Read()
			if e, ok := rec.(operation.Exit); err != nil || ok && int(e.ID.PID) == cmd.Process.Pid {
				return
			}
		}
	}()
	time.Sleep(200 * time.Millisecond) // until the reader sleeps; without that the test passes without need
	require.NoError(t, opens.Close())
	require.Error(t, cmd.Wait())
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("nobody was woken")
	}
	require.NoError(t, r.source.Stop()) // wakes the reader
	<-ended
}

func TestLongAnswerIsCut(t *testing.T) {
	r := newRig(t, OutputAlways)
	require.Error(t, r.command("verbose").Run())
	records := r.records()
	assert.Len(t, bytesOf(records, operation.Stdout), 4096)
	var last operation.Data
	for _, rec := range records {
		if d, ok := rec.(operation.Data); ok && d.Stream == operation.Stdout {
			assert.False(t, last.More)
			last = d
		}
	}
	assert.True(t, last.More)
}

func TestUnprivilegedIsNoPlugin(t *testing.T) {
	r := newRig(t, OutputAlways)
	cmd := exec.Command("/bin/true")
	cmd.Env = r.command("fail").Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	require.NoError(t, cmd.Run())
	assert.EqualValues(t, 1, r.source.Stats().Skipped["unprivileged"])
	assert.Empty(t, r.records())
}

func TestOthersAreNotSeen(t *testing.T) {
	r := newRig(t, OutputAlways)
	cmd := exec.Command("/bin/cat")
	cmd.Env = []string{"CNI_PATH=" + r.dir, "NOT_CNI_COMMAND=ADD"}
	cmd.Stdin = strings.NewReader(`{"password":"x"}`)
	require.NoError(t, cmd.Run())
	require.NoError(t, r.source.Stop())
	for {
		rec, err := r.source.Read()
		if err != nil {
			break
		}
		if e, ok := rec.(operation.Exec); ok {
			assert.NotEqual(t, "/bin/cat", e.Path)
		}
	}
}

func TestLongEnvironments(t *testing.T) {
	many := make([]string, 300)
	for i := range many {
		many[i] = "SERVICE_" + strconv.Itoa(i) + "=10.0.0.1"
	}
	for name, tc := range map[string]struct {
		before []string
		seen   bool
	}{
		"255 variables before it": {many[:255], true},
		"256 variables before it": {many[:256], false},
		// The kernel program reads 1023 bytes at once: what follows must not be taken
		// for a variable.
		"a long one": {[]string{"LONG=" + strings.Repeat("x", 1018) + "CNI_COMMAND=DEL"}, true},
		"exact":      {[]string{"LONG=" + strings.Repeat("x", 1018)}, true},
		"very long":  {[]string{"LONG=" + strings.Repeat("x", 100_000)}, true},
		"empty":      {[]string{""}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, OutputNever)
			cmd := r.command("fail")
			cmd.Env = slices.Concat(tc.before, cmd.Env[1:])
			require.Error(t, cmd.Run())
			stats := r.source.Stats()
			unscanned := stats.Skipped["unscanned"]
			records := r.records()
			if !tc.seen {
				assert.Empty(t, records)
				assert.EqualValues(t, 1, unscanned)
				return
			}
			require.Len(t, records, 2, "%+v", stats)
			env := string(records[0].(operation.Exec).Env)
			assert.True(t, strings.HasPrefix(env, "CNI_COMMAND=ADD\x00"), "%q", env)
			assert.Equal(t, 1, strings.Count(env, "CNI_COMMAND="))
			assert.Zero(t, unscanned)
		})
	}
}
