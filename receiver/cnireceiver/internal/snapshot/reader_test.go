package snapshot

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// nodeOptions are of a tree that was recorded on a node with the bridge plugin,
// with configurations of other kinds beside.
func nodeOptions(root string) Options {
	return Options{
		Root: root, ConfigDirs: []string{"/etc/cni/net.d"}, PluginDirs: []string{"/opt/cni/bin", "/usr/lib/cni"},
		ResultDirs: []string{"/var/lib/cni/results"}, DataDirs: []string{"/var/lib/cni/networks"}, Pools: true,
	}
}

func recorded(t *testing.T) string {
	root, err := filepath.Abs(filepath.Join("testdata", "node"))
	require.NoError(t, err)
	return root
}

func TestPictureOfFiles(t *testing.T) {
	t.Parallel()
	p := NewReader(nodeOptions(recorded(t))).Read(time.Unix(1000, 0))
	assert.Empty(t, p.Unseen)

	require.Len(t, p.Configs, 4)
	assert.Equal(t, "/etc/cni/net.d/10-pods.conflist", p.Configs[0].Path)
	assert.Equal(t, []string{"bridge", "host-local"}, p.Configs[0].Network.Types())
	assert.Equal(t, []string{"flannel", "portmap"}, p.Configs[1].Network.Types())
	assert.Equal(t, []string{"tuning"}, p.Configs[2].Network.Types(), "from the directory with the network's name")
	assert.Equal(t, netconf.ErrorSyntax, p.Configs[3].Err.Type)
	assert.Equal(t, 3, p.Configs[3].Err.Line)

	assert.Equal(t, "/opt/cni/bin/bridge", p.Plugins["bridge"].Path)
	assert.Empty(t, p.Plugins["bridge"].Problem)
	assert.Contains(t, p.Plugins["portmap"].Problem, "not executable")
	assert.Nil(t, p.Plugins["flannel"])
	assert.Contains(t, p.Plugins, "tuning")

	require.Len(t, p.Results, 2)
	assert.Equal(t, "payment-0a1b2", p.Results[0].PodName)
	assert.Equal(t, map[string]netip.Prefix{"/run/flannel/subnet.env": netip.MustParsePrefix("10.244.1.0/24")}, p.Subnets)

	require.Len(t, p.Reservations, 2, "neither lock nor last_reserved_ip.0")
	r := p.Reservations[0]
	assert.Equal(t, "pods", r.Network)
	assert.Equal(t, netip.MustParseAddr("10.22.0.2"), r.Address)
	assert.Equal(t, p.Results[0].ContainerID, r.ContainerID)
	assert.Equal(t, "eth0", r.IfName)
}

func TestFilesAreReadAgainWhenTheyChangeAndForgottenWhenTheyGo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS(recorded(t))))
	r := NewReader(nodeOptions(root))
	first := r.Read(time.Now())
	held := r.Files()
	const programs = 2 // bridge and host-local: the others are missing, or not executable
	require.Equal(t, len(first.Configs)+len(first.Results)+len(first.Reservations)+programs, held)

	config := filepath.Join(root, "etc/cni/net.d/10-pods.conflist")
	require.NoError(t, os.WriteFile(config, []byte("{"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(root, "var/lib/cni/networks/pods/10.22.0.2")))
	second := r.Read(time.Now())
	assert.NotNil(t, second.Configs[0].Err)
	assert.NotEqual(t, first.Configs[0].Digest, second.Configs[0].Digest)
	assert.Len(t, second.Reservations, 1)
	assert.Equal(t, held-1-programs, r.Files(), "the plugins were those of the configuration")

	require.NoError(t, os.RemoveAll(filepath.Join(root, "etc")))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "var")))
	third := r.Read(time.Now())
	assert.Empty(t, third.Unseen, "what is not there is not unseen")
	assert.Empty(t, third.Configs)
	assert.Zero(t, r.Files())
}

func TestUnreadableIsUnseenAndOddFilesAreHarmless(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS(recorded(t))))
	configs := filepath.Join(root, "etc/cni/net.d")
	require.NoError(t, os.WriteFile(filepath.Join(configs, "40-large.conf"), make([]byte, netconf.MaxSize+1), 0o600))
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(configs, "50-link.conf")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "var/lib/cni/results/half"), []byte(`{"kind": "cniCa`), 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(root, "var/lib/cni/networks")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "var/lib/cni/networks"), nil, 0o600))
	p := NewReader(nodeOptions(root)).Read(time.Now())
	require.Len(t, p.Configs, 6)
	assert.Equal(t, netconf.ErrorUnreadable, p.Configs[3].Err.Type)
	require.NotNil(t, p.Configs[4].Err, "containerd refuses all of the directory because of it")
	assert.Contains(t, p.Configs[4].Err.Reason, "symbolic link")
	assert.Contains(t, p.Configs[3].Err.Reason, "larger than")
	assert.Len(t, p.Results, 2)
	assert.Contains(t, p.Unseen[state.SourcePools], "not a directory")
	assert.False(t, p.Sees(state.SourceConfig, state.SourcePools))
	assert.True(t, p.Sees(state.SourceConfig, state.SourceResults))
}

// A result that cannot be read any more, on a full disk for one, is as it was.
func TestDamagedResultStaysAsItWas(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS(recorded(t))))
	r := NewReader(nodeOptions(root))
	first := r.Read(time.Now())
	require.Len(t, first.Results, 2)
	assert.Empty(t, first.Damaged)
	results, err := filepath.Glob(filepath.Join(root, "var/lib/cni/results/*"))
	require.NoError(t, err)
	whole, err := os.ReadFile(results[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(results[0], whole[:300], 0o600))
	for range 2 {
		p := r.Read(time.Now())
		assert.Equal(t, first.Results, p.Results)
		assert.Contains(t, p.Damaged, filepath.Base(results[0]))
		assert.Empty(t, p.Unseen)
	}
	require.NoError(t, os.WriteFile(results[0], whole, 0o600))
	assert.Empty(t, r.Read(time.Now()).Damaged)
	require.NoError(t, os.Remove(results[0]))
	assert.Len(t, r.Read(time.Now()).Results, 1)
}

// host-local makes the file of an address anew, and fails when anything has its name.
func TestOddThingsInAStoreAreUsedAddresses(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS(recorded(t))))
	store := filepath.Join(root, "var/lib/cni/networks/pods")
	require.NoError(t, os.Mkdir(filepath.Join(store, "10.22.0.4"), 0o750))
	require.NoError(t, os.Symlink("10.22.0.5", filepath.Join(store, "10.22.0.5")))
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(store, "10.22.0.6")))
	require.NoError(t, os.WriteFile(filepath.Join(store, "10.22.0.7"), make([]byte, maxReservation+1), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(root, "data"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(root, "data/10.23.0.2"), []byte("c\r\neth0"), 0o600))
	require.NoError(t, os.Symlink("/data", filepath.Join(root, "var/lib/cni/networks/linked")))
	r := NewReader(nodeOptions(root))
	p := r.Read(time.Now())
	assert.Empty(t, p.Unseen)
	owners := map[string]string{}
	for _, got := range p.Reservations {
		owners[got.Network+" "+got.Address.String()] = got.ContainerID
		assert.Less(t, time.Since(got.Since), time.Hour)
	}
	id := p.Results[0].ContainerID
	assert.Len(t, owners, 7)
	assert.Equal(t, id, owners["pods 10.22.0.2"])
	for last := 4; last < 8; last++ {
		owner, isUsed := owners[fmt.Sprintf("pods 10.22.0.%d", last)]
		assert.True(t, isUsed && owner == "", last)
	}
	assert.Equal(t, "c", owners["linked 10.23.0.2"])
	assert.Contains(t, r.watchedDirs(p), "/var/lib/cni/networks/linked")
}

func TestSymbolicLinksStayBelowTheRoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "run/netns"), 0o750))
	require.NoError(t, os.Mkdir(filepath.Join(root, "var"), 0o750))
	require.NoError(t, os.Symlink("/run", filepath.Join(root, "var/run")))
	require.NoError(t, os.Symlink("../run/netns", filepath.Join(root, "var/netns")))
	require.NoError(t, os.Symlink("loop", filepath.Join(root, "loop")))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/1/ns"), 0o750))
	require.NoError(t, os.Symlink("net:[4026531840]", filepath.Join(root, "proc/1/ns/net")))
	for path, want := range map[string]string{
		"/var/run/netns/a":       "run/netns/a",
		"/var/netns/a":           "run/netns/a",
		"/var/run/../../../etc/": "etc",
		"/not/there":             "not/there",
		"/loop/a":                "loop/a",
		"/proc/1/ns/net":         "proc/1/ns/net",
	} {
		assert.Equal(t, filepath.Join(root, want), Resolve(root, path), path)
	}
	assert.Equal(t, "/var/run", Resolve("", "/var/run"))
}

func TestFlannelSubnet(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.5.34.1/24\n": "10.5.34.0/24",
		"FLANNEL_SUBNET=none": "", "": "",
	} {
		got, ok := flannelSubnet(content)
		assert.Equal(t, want != "", ok, content)
		if ok {
			assert.Equal(t, want, got.String())
		}
	}
}
