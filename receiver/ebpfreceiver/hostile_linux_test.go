//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// TestHostileProcessNames: names are told as they are, but for what is no UTF-8.
func TestHostileProcessNames(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	binary, err := os.ReadFile("/bin/false")
	require.NoError(t, err)
	for name, want := range map[string]string{
		"a\nb\"{}\xff\xfe\x1b[31m":  "a\nb\"{}\uFFFD\x1b[31m",
		strings.Repeat("\xf0", 255): "\uFFFD...",
		"%s' ; drop $(x)":           "%s' ; drop $(x)",
	} {
		file := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(file, binary, 0o700))
		cmd := exec.Command(file)
		require.Error(t, cmd.Run())
		began := r.await(of(event.ProcessExec, cmd.Process.Pid))
		assert.Equal(t, want, began.Resource[event.KeyProcessExecutableName])
		ended := r.await(of(event.ProcessExit, cmd.Process.Pid))
		assert.Equal(t, int64(1), ended.Attributes[event.KeyProcessExitCode])
		assert.Equal(t, began.Resource[event.KeyProcessCreationTime], ended.Resource[event.KeyProcessCreationTime])
	}
}

// TestHostileCgroupNames: whatever is below it, a container is known.
func TestHostileCgroupNames(t *testing.T) {
	requireKernel(t)
	id := strings.Repeat("ab", 32)
	path, folder := memoryCgroup(t, 64<<20)
	path, folder = path+"/docker-"+id+".scope", filepath.Join(folder, "docker-"+id+".scope")
	makeCgroup(t, folder)
	long := strings.Repeat("x", 255)
	deep := make([]string, 30)
	for i := range deep {
		deep[i] = "d"
	}
	r := startRig(t, nil)
	for _, tc := range []struct {
		what  string
		below []string
		want  string // after the container's path; begins with it when it ends with "..."
	}{
		{"nothing below", nil, ""},
		{"quote, tab, escape, not UTF-8", []string{"q\"\t\x1b[31m\xff\xfe"}, "/q\"\t\x1b[31m\uFFFD"},
		{"the longest name", []string{long}, "/" + long},
		{"names of 1275 bytes", []string{long, long, long, long, long}, "/" + long + "/..."},
		{"deeper than 16", deep, "/d/d/d/d/d/d/d/d/d/d/d/d/d/d/..."},
	} {
		t.Run(tc.what, func(t *testing.T) {
			inner := folder
			for _, name := range tc.below {
				inner = filepath.Join(inner, name)
				makeCgroup(t, inner)
			}
			cmd := role("exit-later")
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			require.NoError(t, os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
			_, _ = stdin.Write([]byte{1})
			require.Error(t, cmd.Wait())
			ended := r.await(of(event.ProcessExit, cmd.Process.Pid))
			assert.Equal(t, id, ended.Resource[event.KeyContainerID])
			got, _ := ended.Resource[event.KeyProcessCgroup].(string)
			if above, _, isCut := strings.Cut(tc.want, "..."); isCut {
				assert.True(t, strings.HasPrefix(got, path+above), got)
				assert.True(t, strings.HasSuffix(got, "/..."), got)
				return
			}
			assert.Equal(t, path+tc.want, got)
		})
	}
}
