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

const full = "failed to allocate for range 0: no IP addresses available in range set: 10.197.8.1-10.197.8.2"

// The first line of lines.log was recorded from containerd. The other lines of both
// files are written for this test, in the formats that the sources of the projects
// document, some with the words of public reports.
func TestParse(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []Failure{
		{Command: "ADD", Plugin: "bridge", Message: full, ContainerID: id, PodName: "payment-2", PodUID: "uid-2", PodNamespace: "shop"},
		{Command: "ADD", Plugin: "bridge", Network: "pods", Message: `say "no"`, ContainerID: id, PodName: "payment-2", PodNamespace: "shop"},
		{
			Command: "ADD", Plugin: "flannel", Network: "cbr0", ContainerID: id, PodName: "web", PodNamespace: "default",
			Message: "failed to allocate for range 0: no IP addresses available in range set: 10.244.2.1-10.244.2.126",
		},
		{Command: "DEL", Plugin: "portmap", Network: "pods", Message: "could not teardown ipv4 dnat: exit status 4", ContainerID: id},
		{Command: "ADD", Plugin: "calico", Message: "stat /var/lib/calico/nodename: no such file or directory"},
		{Command: "ADD", Plugin: "bridge", Network: "pods", Message: "no room"},
		{Command: "DEL", Plugin: "bridge", Network: "pods", Message: "in use", ContainerID: id},
		{Command: "GC", Plugin: "bridge", Network: "pods", Message: `netplugin failed with "no state"`},
		{Command: "GC", Plugin: "portmap", Network: "pods", Message: `failed to find plugin "portmap" in path [/opt/cni/bin]`},
		{
			Command: "CHECK", Network: "pods", PodNamespace: "shop", PodName: "payment-2",
			Message: "host-local: Failed to find address added by container cda93551",
		},
		{Command: "STATUS", Message: `bridge: no "IPAM" plugin; limited`},
	}, parseFile(t, "lines.log"))
}

func TestParsePlugins(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []Failure{
		{Command: "DEL", Plugin: "calico", Message: "connection is unauthorized: Unauthorized"},
		{Command: "ADD", Plugin: "cilium-cni", Message: "Unable to create endpoint: Cilium API client timeout exceeded", ContainerID: id},
		{
			Command: "ADD", Plugin: "cilium-cni", Message: "Unable to create endpoint: [PUT /endpoint/{id}][429] putEndpointIdTooManyRequests",
			ContainerID: id, PodNamespace: "shop", PodName: "payment-2", PodUID: "uid-2",
		},
		{
			Plugin: "cilium-cni", Message: "Invalid chaining mode: invalid chaining-mode weave",
			ContainerID: id, PodNamespace: "shop", PodName: "payment-2",
		},
		{Command: "ADD", Plugin: "cilium-cni", Message: "Chained ADD failed: boom", ContainerID: id, PodNamespace: "shop", PodName: "payment-2"},
		{Command: "ADD", Plugin: "aws-cni", Message: "Failed to assign an IP address to container " + id, ContainerID: id},
		{
			Command: "DEL", Plugin: "aws-cni", ContainerID: id, Message: "Error received from DelNetwork gRPC call for container " + id +
				": rpc error: code = Unavailable desc = connection error",
		},
		{
			Command: "ADD", Plugin: "aws-cni", PodNamespace: "shop", PodName: "payment-2", Message: "Failed to setup default network policy for " +
				"Pod Name payment-2 and NameSpace shop: GRPC returned - <nil> Network policy agent returned - success:false",
		},
		{Command: "ADD", Plugin: "aws-cni", Message: "DataStore has no available IP/Prefix addresses"},
		{Command: "ADD", Plugin: "aws-cni", Message: "ipamd: failed to get Branch ENI resource"},
		{Command: "ADD", Plugin: "aws-cni", Message: `ipamd: rpc error: code = FailedPrecondition desc = wrong client version "v1.19" (!= "v1.20")`},
		{Command: "DEL", Plugin: "aws-cni", Message: "ipamd: datastore: unknown pod"},
	}, parseFile(t, "plugins.log"))
}

var formats = []Format{Runtime, Calico, Cilium, Amazon}

// parseFile returns what the lines tell, each of which is of one format.
func parseFile(t *testing.T, name string) []Failure {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	var all []Failure
	for lines := bufio.NewScanner(f); lines.Scan(); {
		matched := 0
		for _, format := range formats {
			if failures := format.Parse(lines.Text()); len(failures) > 0 {
				matched++
				all = append(all, failures...)
			}
		}
		assert.LessOrEqual(t, matched, 1, lines.Text())
	}
	return all
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	all := Runtime.Parse(`plugin type="x" failed (add): ` + strings.Repeat("ä", maxMessage))
	require.Len(t, all, 1)
	assert.LessOrEqual(t, len(all[0].Message), maxMessage)
	assert.True(t, utf8.ValidString(all[0].Message))
	assert.Empty(t, Runtime.Parse("2 tests failed (add more)"))
	all = Runtime.Parse(`msg="Error while GCing network n: ` + strings.Repeat(`failed to GC plugin x: y\n`, 10*maxJoined))
	assert.Len(t, all, maxJoined)
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"lines.log", "plugins.log"} {
		content, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		for line := range strings.Lines(string(content)) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, format := range formats {
			all := format.Parse(line)
			if len(all) > maxJoined {
				t.Fatalf("%d failures", len(all))
			}
			for _, got := range all {
				if len(got.Message) > 2*maxMessage || !utf8.ValidString(got.Message) {
					t.Fatalf("%+v", got)
				}
				for _, name := range []string{got.Plugin, got.Network, got.ContainerID, got.PodName, got.PodNamespace, got.PodUID} {
					if len(name) > maxWord || !utf8.ValidString(name) {
						t.Fatalf("%+v", got)
					}
				}
			}
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

// BenchmarkParse is what a line costs that tells no failure, as nearly all do.
func BenchmarkParse(b *testing.B) {
	for name, line := range map[string]string{
		"containerd": `time="2026-11-26T12:00:00.000000001Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:payment-1,Uid:uid-payment-1,Namespace:shop,Attempt:0,} returns sandbox id \"` + id + `\""`,
		"ipamd":      `{"level":"debug","ts":"2026-11-26T12:00:05.000Z","caller":"ipamd/ipamd.go:673","msg":"IP pool is too low: available (19) < ENI target (1) * addrsPerENI (29)"}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				for _, format := range formats {
					if len(format.Parse(line)) > 0 {
						b.Fatal("a failure")
					}
				}
			}
		})
	}
}
