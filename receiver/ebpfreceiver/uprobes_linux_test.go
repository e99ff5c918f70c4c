//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openProbes counts what this process holds of the kernel's probes.
func openProbes(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && name == "anon_inode:[perf_event]" {
			n++
		}
	}
	return n
}

// TestFileThatDoesNotAnswer: nobody waits for a file that is being read for its probes, and
// none come into it once they are all taken out.
func TestFileThatDoesNotAnswer(t *testing.T) {
	requireKernel(t)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	require.NoError(t, err)
	defer program.Close()
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 16))
	require.NoError(t, err)
	before := openProbes(t)
	u := newUprobes()
	probes := func() ([]uprobe, error) { return []uprobe{{program: program, offset: 8}}, nil }
	require.NoError(t, u.use(processInfo{pid: 1}, f, probes))
	assert.Equal(t, before+1, openProbes(t))
	u.sweep(func(processInfo) bool { return false })

	isReading, answers, used := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		used <- u.use(processInfo{pid: 1}, f, func() ([]uprobe, error) {
			close(isReading)
			<-answers
			return probes()
		})
	}()
	<-isReading
	isClosed := make(chan struct{})
	go func() {
		defer close(isClosed)
		files, failed := u.counts()
		assert.Zero(t, files+failed)
		assert.NoError(t, u.close())
	}()
	select {
	case <-isClosed:
	case <-time.After(30 * time.Second):
		t.Error("the end waits for a file")
	}
	close(answers)
	assert.ErrorIs(t, <-used, os.ErrClosed)
	<-isClosed
	assert.Equal(t, before, openProbes(t))
}
