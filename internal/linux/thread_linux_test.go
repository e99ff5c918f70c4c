package linux

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// inProcessOfItsOwn runs the calling test again in a new process with one
// processor, where goroutines come by the first thread often. It returns whether
// this is that process.
func inProcessOfItsOwn(t *testing.T) bool {
	t.Helper()
	const key = "TAPIO_TEST_PROCESS"
	if os.Getenv(key) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), key+"=1", "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return false
}

const visits = 2000

func TestOnOwnThread(t *testing.T) {
	if !inProcessOfItsOwn(t) {
		return
	}
	threads := map[int]bool{}
	for range visits {
		OnOwnThread(func() { threads[unix.Gettid()] = true })
	}
	assert.NotContains(t, threads, unix.Getpid())
	assert.Greater(t, len(threads), visits/2, "threads end") // the kernel gives their numbers out in turn

	first := false
	for range visits { // the control: goroutines do come by the first thread
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			first = first || unix.Gettid() == unix.Getpid()
		}()
		<-done
	}
	assert.True(t, first, "no goroutine ran on the first thread, so this test shows nothing")
}

// A test that fails inside leaves its goroutine so.
func TestOnOwnThreadGoexit(t *testing.T) {
	t.Parallel()
	OnOwnThread(runtime.Goexit) // comes back
}
