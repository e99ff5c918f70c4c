package netconf

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseConflist(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("testdata", "10-bridge.conflist"))
	require.NoError(t, err)
	n, wrong := Parse("10-bridge.conflist", content)
	require.Nil(t, wrong)
	assert.Equal(t, "pods", n.Name)
	assert.Equal(t, "1.0.0", n.Version)
	assert.Equal(t, []string{"bridge", "host-local", "portmap", "firewall"}, n.Types())
	p := n.Plugins[0]
	assert.Equal(t, "cni0", p.Bridge)
	assert.Equal(t, 1450, p.MTU)
	assert.Equal(t, "/run/pods", p.IPAM.DataDir)
	require.Len(t, p.IPAM.Pools, 2)
	assert.Equal(t, "10.22.0.10-10.22.0.19", p.IPAM.Pools[0].String())
	assert.Equal(t, int64(10), p.IPAM.Pools[0].Size())
	assert.Equal(t, int64(1<<62), p.IPAM.Pools[1].Size(), "a /64")
}

func TestParseSinglePlugin(t *testing.T) {
	t.Parallel()
	n, wrong := Parse("a.conf", []byte(`{"name": "lo", "Type": "loopback", "ipam": {}}`))
	require.Nil(t, wrong)
	assert.Equal(t, []string{"loopback"}, n.Types(), "keys are found in any case, an empty ipam asks nobody")
}

func TestMistakesNameLineAndKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, content, kind, want string }{
		{"a.conflist", "{\n \"name\": \"x\",\n}", ErrorSyntax, "line 3: invalid character '}' looking for beginning of object key string"},
		{"a.conflist", "{\n \"name\": \"x\"", ErrorSyntax, "line 2: unexpected end of JSON input"},
		{"a.conf", "", ErrorSyntax, "line 1: unexpected end of JSON input"},
		{"a.conf", "{} {}", ErrorSyntax, "line 1: invalid character '{' after top-level value"},
		{"a.conf", strings.Repeat("[", 100) + strings.Repeat("]", 100), ErrorSyntax, "line 1: nested deeper than 64"},
		{"a.conf", "[]", ErrorSchema, "line 1: the file is a list, not an object"},
		{"a.conf", "{\n\"type\": \"bridge\"}", ErrorSchema, "line 1: name: missing"},
		{"a.conf", "{\n\"name\": 5, \"type\": \"bridge\"}", ErrorSchema, "line 2: name: is a number, not a string"},
		{"a.conf", "{\n\"name\": \"../x\", \"type\": \"bridge\"}", ErrorSchema, `line 2: name: "../x" is not letters`},
		{"a.conf", "{\"name\": \"x\",\n\"cniVersion\": \"one\", \"type\": \"bridge\"}", ErrorSchema, `line 2: cniVersion: "one" is not a version of the CNI specification`},
		{"a.conf", `{"name": "x"}`, ErrorSchema, "line 1: type: missing"},
		{"a.conf", `{"name": "x", "plugins": []}`, ErrorSchema, "plugins: a list of plugins belongs in a file that ends in .conflist"},
		{"a.conf", `{"name": "x", "type": "../../bin/sh"}`, ErrorSchema, `type: "../../bin/sh" is a path`},
		{"a.conflist", `{"name": "x", "type": "bridge"}`, ErrorSchema, "plugins: missing; a single plugin belongs in a file that ends in .conf"},
		{"a.conflist", `{"name": "x", "plugins": {}}`, ErrorSchema, "plugins: is an object, not a list"},
		{"a.conflist", `{"name": "x", "plugins": []}`, ErrorSchema, "plugins: the list is empty"},
		{"a.conflist", `{"name": "x", "loadOnlyInlinedPlugins": true}`, ErrorSchema, "plugins: missing, and loadOnlyInlinedPlugins is true"},
		{"a.conflist", `{"name": "x", "disableCheck": "maybe", "plugins": [{"type": "a"}]}`, ErrorSchema, `disableCheck: "maybe" is not true or false`},
		{"a.conflist", "{\"name\": \"x\", \"plugins\": [{\"type\": \"a\"},\n{\"typ\": \"b\"}]}", ErrorSchema, "line 2: plugins[1].type: missing"},
		{"a.conflist", "{\"name\": \"x\", \"plugins\": [\"a\"]}", ErrorSchema, "plugins[0] is a string, not an object"},
		{"a.conf", ipam(`5`), ErrorSchema, "ipam: is a number, not an object"},
		{"a.conf", ipam(`{"type": "host-local", "ranges": [[{"subnet": "10.0.0.0"}]]}`), ErrorSchema, `line 2: ipam.ranges[0][0].subnet: "10.0.0.0" is not a subnet`},
		{"a.conf", ipam(`{"type": "host-local", "ranges": [{"subnet": "10.0.0.0/8"}]}`), ErrorSchema, "ipam.ranges[0]: is an object, not a list of ranges"},
		{"a.conf", ipam(`{"type": "host-local", "subnet": "10.0.0.1/24"}`), ErrorSchema, `"10.0.0.1/24" has host bits set; the network is 10.0.0.0/24`},
		{"a.conf", ipam(`{"type": "host-local", "subnet": "10.0.0.0/31"}`), ErrorSchema, "10.0.0.0/31 has no address to give out"},
		{"a.conf", ipam(`{"type": "host-local", "subnet": "10.0.0.0/24", "rangeStart": "10.0.1.5"}`), ErrorSchema, `ipam.rangeStart: "10.0.1.5" is not an address of 10.0.0.0/24`},
		{"a.conf", ipam(`{"type": "host-local", "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.5"}`), ErrorSchema, "ipam: rangeEnd 10.0.0.5 is before rangeStart 10.0.0.9"},
	} {
		_, wrong := Parse(c.name, []byte(c.content))
		if assert.NotNil(t, wrong, c.content) {
			assert.Equal(t, c.kind, wrong.Type, c.content)
			assert.Contains(t, wrong.Error(), c.want)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	const known = "there are 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
	for _, c := range []struct{ keys, version, wrong string }{
		{``, "", ""},
		{`"cniVersion": "0.3.1",`, "0.3.1", ""},
		{`"cniVersion": "1.1.0",`, "1.1.0", ""},
		{`"cniVersion": "9.9.9",`, "", `cniVersion: "9.9.9" is not a version of the CNI specification; ` + known},
		{`"cniVersion": "1.0",`, "", `cniVersion: "1.0" is not a version of the CNI specification; ` + known},
		{`"cniVersion": 1,`, "", `cniVersion: is a number, not a string`},
		{`"cniVersions": ["0.4.0", "1.0.0", "0.3.1"],`, "1.0.0", ""},
		{`"cniVersion": "1.1.0", "cniVersions": ["0.4.0"],`, "1.1.0", ""},
		{`"cniVersion": "9.9.9", "cniVersions": ["0.4.0", "7.0.0"],`, "0.4.0", ""}, // libcni passes over what it does not know
		{`"cniVersion": "9.9.9", "cniVersions": ["7.0.0"],`, "", `cniVersion: "9.9.9" is not`},
		{`"cniVersions": ["1.0"],`, "", `cniVersion: "1.0" is not`},
		{`"cniVersions": ["x"],`, "", `cniVersions[0]: "x" is not a version such as 1.0.0`},
		{`"cniVersions": [1],`, "", `cniVersions[0]: is a number, not a string`},
		{`"cniVersions": "1.0.0",`, "", `cniVersions: is a string, not a list of versions`},
		{`"cniVersion": "1.0.0.0", "cniVersions": ["1.0.0"],`, "", `cniVersion: "1.0.0.0" is not a version such as 1.0.0`},
	} {
		n, wrong := Parse("a.conflist", []byte("{"+c.keys+` "name": "x", "plugins": [{"type": "a"}]}`))
		if c.wrong != "" {
			if assert.NotNil(t, wrong, c.keys) {
				assert.Contains(t, wrong.Error(), c.wrong)
				assert.Equal(t, ErrorSchema, wrong.Type)
				assert.Equal(t, 1, wrong.Line)
			}
			continue
		}
		if assert.Nil(t, wrong, c.keys) {
			assert.Equal(t, c.version, n.Version, c.keys)
		}
	}
	// cniVersions is of lists only.
	n, wrong := Parse("a.conf", []byte(`{"cniVersion": "0.4.0", "cniVersions": ["1.0.0"], "name": "x", "type": "a"}`))
	require.Nil(t, wrong)
	assert.Equal(t, "0.4.0", n.Version)
}

func ipam(value string) string {
	return "{\"name\": \"x\", \"type\": \"bridge\",\n\"ipam\": " + value + "}"
}

func TestPoolsOfOthersAreNotKnown(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`{"type": "calico-ipam"}`,
		`{"type": "host-local", "subnet": "usePodCidr"}`,
		`{"type": "host-local", "ranges": [[{"subnet": "usePodCidr"}]]}`,
		`{"type": "host-local"}`,
	} {
		n, wrong := Parse("a.conf", []byte(ipam(value)))
		require.Nil(t, wrong)
		assert.Empty(t, n.Plugins[0].IPAM.Pools, value)
	}
}

func TestPoolSizeIsWhatHostLocalGivesOut(t *testing.T) {
	t.Parallel()
	for subnet, want := range map[string]int64{
		"10.0.0.0/30": 1, // .1 is the gateway, .2 the only one, .3 broadcast
		"10.0.0.0/24": 253,
		"fd00::/126":  2, // no broadcast address
		"0.0.0.0/0":   1<<32 - 3,
	} {
		r, err := SubnetRange(netip.MustParsePrefix(subnet))
		require.NoError(t, err)
		pool := Pool{Ranges: []Range{r}}
		assert.Equal(t, want, pool.Size(), subnet)
		assert.False(t, pool.Contains(r.Gateway), subnet)
		assert.True(t, pool.Contains(r.Last), subnet)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"10-bridge.conflist"} {
		content, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(name, content)
	}
	f.Add("a.conf", []byte(ipam(`{"type": "host-local", "subnet": "::/0", "gateway": "1.2.3.4"}`)))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		n, wrong := Parse(name, content)
		if (n == nil) == (wrong == nil) {
			t.Fatalf("network %v and error %v", n, wrong)
		}
		if wrong != nil {
			if wrong.Line < 0 || wrong.Line > 1+strings.Count(string(content), "\n") || wrong.Reason == "" {
				t.Fatalf("error %+v", wrong)
			}
			return
		}
		for _, p := range n.Plugins {
			if p.Type == "" {
				t.Fatal("a plugin without type")
			}
			if p.IPAM == nil {
				continue
			}
			for _, pool := range p.IPAM.Pools {
				if size := pool.Size(); size < 0 {
					t.Fatalf("pool %s of %d", pool, size)
				}
			}
		}
	})
}
