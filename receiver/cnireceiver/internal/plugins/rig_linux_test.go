//go:build linux && (amd64 || arm64)

package plugins

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
)

// The tests run this binary, under other names, as a plugin. The name is its role.
func init() {
	if os.Getenv("CNI_COMMAND") == "" {
		return
	}
	config, _ := io.ReadAll(os.Stdin)
	switch filepath.Base(os.Args[0]) {
	case "succeed":
		fmt.Print(`{"cniVersion":"1.0.0","ips":[]}`)
		os.Exit(0)
	case "fail":
		fmt.Print(`{"code":999,"msg":"no IP addresses available"}`)
		os.Exit(1)
	case "verbose":
		fmt.Printf(`{"code":999,"msg":"%s"}`, strings.Repeat("a", 6000))
		os.Exit(1)
	case "noisy":
		fmt.Print("Chain INPUT (policy ACCEPT)")
		os.Exit(1)
	case "late": // says something when it may
		_, _ = io.ReadAll(os.NewFile(3, "gate"))
		fmt.Print("Chain INPUT (policy ACCEPT)")
		os.Exit(1)
	case "delegate":
		child := exec.Command(filepath.Join(os.Getenv("CNI_PATH"), "fail"))
		child.Stdin = strings.NewReader(string(config))
		answer, _ := child.Output()
		_, _ = os.Stdout.Write(answer)
		os.Exit(1)
	}
	os.Exit(99)
}

func requireKernel(tb testing.TB) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		return // there it must work
	}
	if os.Geteuid() != 0 {
		tb.Skip("kernel programs need root")
	}
	if _, err := os.Stat(linux.BTF); err != nil {
		tb.Skipf("kernel programs need BTF: %v", err)
	}
}

// rig is a source and a directory of plugins.
type rig struct {
	tb     testing.TB
	source *Source
	dir    string
}

func newRig(tb testing.TB, output Output) *rig {
	tb.Helper()
	requireKernel(tb)
	s, err := Open(output, zaptest.NewLogger(tb))
	require.NoError(tb, err)
	require.Empty(tb, s.Limits())
	tb.Cleanup(func() { assert.NoError(tb, s.Close()) })
	r := &rig{tb, s, tb.TempDir()}
	require.NoError(tb, os.Chmod(r.dir, 0o755)) // also for a plugin that is not root
	self, err := os.Executable()
	require.NoError(tb, err)
	for _, name := range []string{"succeed", "fail", "verbose", "noisy", "late", "delegate"} {
		require.NoError(tb, os.Symlink(self, filepath.Join(r.dir, name)))
	}
	return r
}

const config = `{"cniVersion":"1.0.0","ipam":{"type":"fail"},"name":"cbr0","type":"delegate"}`

// command is a plugin, ready to run. env comes on top of what every plugin has.
func (r *rig) command(plugin string, env ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(r.dir, plugin))
	cmd.Env = append([]string{
		"HOME=/root", "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=/run/netns/x", "CNI_IFNAME=eth0", "CNI_PATH=" + r.dir,
		"CNI_ARGS=K8S_POD_NAME=payment-0;K8S_POD_NAMESPACE=shop",
	}, env...)
	cmd.Stdin = strings.NewReader(config)
	cmd.Stdout = io.Discard
	return cmd
}

// records stops the source and returns what it had of this rig's plugins.
func (r *rig) records() []operation.Record {
	r.tb.Helper()
	require.NoError(r.tb, r.source.Stop())
	ours := map[operation.ID]bool{}
	var all []operation.Record
	for {
		rec, err := r.source.Read()
		if err != nil {
			require.ErrorIs(r.tb, err, os.ErrClosed)
			return all
		}
		if e, ok := rec.(operation.Exec); ok {
			ours[e.ID] = strings.HasPrefix(e.Path, r.dir)
		}
		if ours[idOf(rec)] {
			all = append(all, rec)
		}
	}
}

// next waits for the exec of a process.
func (r *rig) next(pid int) operation.Exec {
	r.tb.Helper()
	for {
		rec, err := r.source.Read()
		require.NoError(r.tb, err)
		if e, ok := rec.(operation.Exec); ok && int(e.PID) == pid {
			return e
		}
	}
}

func idOf(r operation.Record) operation.ID {
	switch r := r.(type) {
	case operation.Exec:
		return r.ID
	case operation.Data:
		return r.ID
	case operation.Exit:
		return r.ID
	}
	return operation.ID{}
}

// bytesOf is what records hold of a stream.
func bytesOf(records []operation.Record, stream operation.Stream) string {
	var b strings.Builder
	for _, r := range records {
		if d, ok := r.(operation.Data); ok && d.Stream == stream {
			b.Write(d.Bytes)
		}
	}
	return b.String()
}
