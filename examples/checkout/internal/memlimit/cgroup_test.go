package memlimit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test binary plays the confined program too: roleVariable says which part.
const (
	roleVariable = "MEMLIMIT_TEST_ROLE"
	roleConfine  = "confine"
	roleEat      = "eat"
	eatLimit     = 64 << 20
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleConfine:
		_ = os.Setenv(roleVariable, roleEat)
		fmt.Println(Exec(os.Getenv("MEMLIMIT_TEST_CGROUP"), eatLimit, os.Args[:1]))
		os.Exit(3)
	case roleEat:
		eat()
	}
	os.Exit(m.Run())
}

// eat takes memory until it is four times over the limit, then exits 0: a limit
// that does not work fails the test and not the machine.
func eat() {
	var kept [][]byte
	for range 4 * eatLimit >> 20 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	fmt.Println("ate", len(kept), "MiB")
	os.Exit(0)
}

func confined(t *testing.T, cgroup string) (*os.ProcessState, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+roleConfine, "MEMLIMIT_TEST_CGROUP="+cgroup)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // it is killed: the caller looks at how
	return cmd.ProcessState, out.String()
}

func TestDataLimitFailsAllocation(t *testing.T) {
	state, out := confined(t, "")
	assert.True(t, state.Exited(), "it ends itself, no signal does: %s", out)
	assert.NotZero(t, state.ExitCode(), out)
	// The first is the Go runtime's, the second that of the race detector in it.
	assert.Regexp(t, "out of memory|ThreadSanitizer failed to allocate", out)
}

func TestCgroupKills(t *testing.T) {
	c := newCgroup(t)
	assert.EqualValues(t, eatLimit, c.Limit)
	kills, err := c.OOMKills()
	require.NoError(t, err)
	assert.Zero(t, kills)

	state, out := confined(t, c.Dir)
	assert.Equal(t, syscall.SIGKILL, state.Sys().(syscall.WaitStatus).Signal(), out)
	kills, err = c.OOMKills()
	require.NoError(t, err)
	assert.EqualValues(t, 1, kills)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.NoError(t, c.Remove(ctx))
	assert.NoDirExists(t, c.Dir)
}

// newCgroup makes a real cgroup, or skips the test where none can be made.
func newCgroup(t *testing.T) *Cgroup {
	t.Helper()
	c, err := func() (*Cgroup, error) {
		parents, err := FindParents("/")
		if err != nil {
			return nil, err
		}
		return Create(parents, eatLimit)
	}()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no memory cgroup can be made: %v", err)
		}
		t.Skipf("no memory cgroup can be made here (root can): %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		assert.NoError(t, c.Remove(ctx))
	})
	return c
}

func TestRemoveStale(t *testing.T) {
	dir := t.TempDir()
	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	stale := filepath.Join(dir, namePrefix+strconv.Itoa(dead.Process.Pid))
	alive := filepath.Join(dir, namePrefix+strconv.Itoa(os.Getpid()))
	other := filepath.Join(dir, "tapio-checkout-x")
	inUse := filepath.Join(dir, namePrefix+strconv.Itoa(dead.Process.Pid)+"0000000")
	for _, d := range []string{stale, alive, other, inUse, filepath.Join(inUse, "child")} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	assert.Equal(t, []string{stale}, RemoveStale([]Parent{{Version: 1, Dir: dir}}))
	assert.NoDirExists(t, stale)
	assert.DirExists(t, alive)
	assert.DirExists(t, other)
	assert.DirExists(t, inUse)
}

func TestCreateTriesAllParents(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	plain := t.TempDir() // no cgroup: it has no memory.max
	_, err := Create([]Parent{{2, missing}, {2, plain}}, eatLimit)
	require.ErrorContains(t, err, missing)
	require.ErrorContains(t, err, "memory.max")
	left, err := os.ReadDir(plain)
	require.NoError(t, err)
	assert.Empty(t, left, "a cgroup without a limit must not stay")
}

func TestOOMKillCounters(t *testing.T) {
	for name, in := range map[string]string{
		"v1": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
		"v2": "low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 0\n",
	} {
		n, err := oomKills([]byte(in))
		require.NoError(t, err, name)
		assert.EqualValues(t, 3, n, name)
	}
	_, err := oomKills([]byte("oom_kill_disable 0\nunder_oom 0\n"))
	assert.ErrorContains(t, err, "4.13")
}

func TestDataSize(t *testing.T) {
	got, err := dataSize([]byte("Name:\tx\nVmSize:\t  1276124 kB\nVmData:\t   78052 kB\n"))
	require.NoError(t, err)
	assert.EqualValues(t, 78052<<10, got)
	_, err = dataSize([]byte("Name:\tx\n"))
	assert.ErrorContains(t, err, "VmData")
}

func TestExecWithoutProgram(t *testing.T) {
	assert.ErrorContains(t, Exec("", eatLimit, nil), "no program")
}
