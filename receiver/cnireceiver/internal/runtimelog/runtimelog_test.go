package runtimelog

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const id = "cda935516085f259adfec47370d105820dce944fa8ef3d09c8c434c06a55fa95"

// Each line of the file is followed by what it tells. The line of containerd was
// recorded; the others are in the words of public reports.
func TestParse(t *testing.T) {
	t.Parallel()
	const full = "failed to allocate for range 0: no IP addresses available in range set: 10.197.8.1-10.197.8.2"
	want := []Failure{
		{Command: "ADD", Plugin: "bridge", Message: full, ContainerID: id, PodName: "payment-2", PodUID: "uid-2", PodNamespace: "shop"},
		{Command: "ADD", Plugin: "bridge", Network: "pods", Message: `say "no"`, ContainerID: id, PodName: "payment-2", PodNamespace: "shop"},
		{Command: "ADD", Plugin: "flannel", Network: "cbr0", Message: "failed to allocate for range 0: no IP addresses available in range set: 10.244.2.1-10.244.2.126", ContainerID: id},
		{Command: "DEL", Plugin: "portmap", Network: "pods", Message: "could not teardown ipv4 dnat: exit status 4", ContainerID: id},
		{Command: "ADD", Plugin: "calico", Message: "stat /var/lib/calico/nodename: no such file or directory"},
	}
	f, err := os.Open(filepath.Join("testdata", "lines.log"))
	require.NoError(t, err)
	defer f.Close()
	var got []Failure
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if failure, ok := Parse(lines.Text()); ok {
			got = append(got, failure)
		}
	}
	assert.Equal(t, want, got)
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	f, ok := Parse(`plugin type="x" failed (add): ` + strings.Repeat("ä", maxMessage))
	require.True(t, ok)
	assert.LessOrEqual(t, len(f.Message), maxMessage)
	assert.True(t, utf8.ValidString(f.Message))
	_, ok = Parse("2 tests failed (add more)")
	assert.False(t, ok)
}

func FuzzParse(f *testing.F) {
	content, err := os.ReadFile(filepath.Join("testdata", "lines.log"))
	require.NoError(f, err)
	for line := range strings.Lines(string(content)) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, ok := Parse(line)
		if !ok {
			return
		}
		if len(got.Message) > 2*maxMessage || !utf8.ValidString(got.Message) || got.Plugin == "" || got.Command == "" {
			t.Fatalf("%+v", got)
		}
	})
}

// follower reads a file and keeps its lines.
type follower struct {
	t    *testing.T
	file *File
	path string
}

func (f *follower) lines() []string {
	f.t.Helper()
	var out []string
	require.NoError(f.t, f.file.Read(func(line string) { out = append(out, line) }))
	return out
}

func (f *follower) append(text string) {
	f.t.Helper()
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(f.t, err)
	_, err = file.WriteString(text)
	require.NoError(f.t, err)
	require.NoError(f.t, file.Close())
}

func newFollower(t *testing.T) *follower {
	path := filepath.Join(t.TempDir(), "log")
	f := &follower{t: t, path: path, file: Follow(path)}
	t.Cleanup(f.file.Close)
	return f
}

func TestFollowFromTheEndAndByWholeLines(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.append("history\n")
	assert.Empty(t, f.lines())
	f.append("one\ntw")
	assert.Equal(t, []string{"one"}, f.lines())
	f.append("o\n\n")
	assert.Equal(t, []string{"two", ""}, f.lines())
}

func TestFollowAFileThatComesLater(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	assert.Empty(t, f.lines())
	f.append("first\n")
	assert.Equal(t, []string{"first"}, f.lines())
}

func TestFollowRotationTruncationAndRemoval(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.append("history\n")
	assert.Empty(t, f.lines())
	f.append("last of the old\n")
	require.NoError(t, os.Rename(f.path, f.path+".1"))
	f.append("first of the new\n")
	assert.Equal(t, []string{"last of the old", "first of the new"}, f.lines())

	require.NoError(t, os.Truncate(f.path, 0))
	assert.Empty(t, f.lines())
	f.append("after\n")
	assert.Equal(t, []string{"after"}, f.lines())

	require.NoError(t, os.Remove(f.path))
	assert.Empty(t, f.lines())
	f.append("again\n")
	assert.Equal(t, []string{"again"}, f.lines())
}

func TestFollowSkipsLinesThatAreTooLong(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.append("history\n")
	assert.Empty(t, f.lines())
	f.append(strings.Repeat("x", 3*maxLine))
	assert.Empty(t, f.lines())
	f.append("end\nshort\n")
	assert.Equal(t, []string{"short"}, f.lines())
}

func TestFollowReadsABoundedPartAndLosesNothing(t *testing.T) {
	t.Parallel()
	f := newFollower(t)
	f.append("history\n")
	assert.Empty(t, f.lines())
	const count = maxRead/8 + 1000
	f.append(strings.Repeat("1234567\n", count))
	require.NoError(t, os.Rename(f.path, f.path+".1"))
	f.append("new\n")
	first := f.lines()
	assert.Less(t, len(first), count)
	second := f.lines()
	assert.Equal(t, count+1, len(first)+len(second))
	assert.Equal(t, "new", second[len(second)-1])
}

func TestFollowRefusesOtherThanFiles(t *testing.T) {
	t.Parallel()
	f := Follow(t.TempDir())
	require.Error(t, f.Read(func(string) {}))
}
