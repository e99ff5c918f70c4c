package result

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const id = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"

func TestParseRecordedResult(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("testdata", "pods.json"))
	require.NoError(t, err)
	a, err := Parse(content)
	require.NoError(t, err)
	assert.Equal(t, &Attachment{
		Network: "pods", ContainerID: id, IfName: "eth0",
		PodName: "payment-0a1b2", PodNamespace: "shop", PodUID: "6f9d2c1e-0000-4000-8000-0a1b2c3d4e5f", HasInterface: true,
		Netns: "/var/run/netns/cni-" + id, MAC: "62:63:c7:30:52:29", HostInterfaces: []string{"cni0", "vethadb5d326"},
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.22.0.2/29")},
		Routes:    []Route{{Destination: netip.MustParsePrefix("0.0.0.0/0")}},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.22.0.1")},
		Plugins:   []string{"bridge", "host-local"},
	}, a)
	assert.Equal(t, "pods/"+id+"/eth0", a.Key())
}

func TestParseOtherVersions(t *testing.T) {
	t.Parallel()
	head := `{"kind": "cniCacheV1", "containerId": "c", "networkName": "n", "ifName": "eth0", "result": `
	for name, c := range map[string]struct {
		result    string
		addresses []string
		netns     string
	}{
		"0.2.0":           {`{"ip4": {"ip": "10.1.0.5/16", "routes": [{"dst": "0.0.0.0/0"}]}, "ip6": {"ip": "fd00::5/64"}}`, []string{"10.1.0.5/16", "fd00::5/64"}, ""},
		"no interfaces":   {`{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.6/16"}]}`, []string{"10.1.0.6/16"}, ""},
		"sandbox only":    {`{"interfaces": [{"name": "eth0", "sandbox": "/proc/7/ns/net"}], "ips": [{"address": "10.1.0.7/16", "interface": 0}]}`, []string{"10.1.0.7/16"}, "/proc/7/ns/net"},
		"address of host": {`{"interfaces": [{"name": "v"}, {"name": "eth0", "sandbox": "/n"}], "ips": [{"address": "10.1.0.1/16", "interface": 0}, {"address": "10.1.0.8/16", "interface": 1}]}`, []string{"10.1.0.8/16"}, "/n"},
		"wrong index":     {`{"ips": [{"address": "10.1.0.9/16", "interface": 99}, {"address": "nonsense"}]}`, []string{"10.1.0.9/16"}, ""},
		"two interfaces": {
			`{"interfaces": [{"name": "v"}, {"name": "eth0", "sandbox": "/n"}, {"name": "v7"}, {"name": "net7", "sandbox": "/n"}],
			"ips": [{"address": "10.1.0.2/16", "interface": 1}, {"address": "10.2.0.2/16", "interface": 3}]}`, []string{"10.1.0.2/16"}, "/n",
		},
		"no address":    {`{"interfaces": [{"name": "eth0", "sandbox": "/n"}]}`, nil, "/n"},
		"another's one": {`{"interfaces": [{"name": "net7", "sandbox": "/n"}], "ips": [{"address": "10.2.0.2/16", "interface": 0}]}`, nil, ""},
		"nothing":       {`{}`, nil, ""},
	} {
		a, err := Parse([]byte(head + c.result + "}"))
		require.NoError(t, err, name)
		var got []string
		for _, p := range a.Addresses {
			got = append(got, p.String())
		}
		assert.Equal(t, c.addresses, got, name)
		assert.Equal(t, c.netns, a.Netns, name)
		assert.Equal(t, len(got) > 0 || name == "no address", a.HasInterface, name)
	}
}

func TestParseRoutes(t *testing.T) {
	t.Parallel()
	a, err := Parse([]byte(`{"kind": "cniCacheV1", "containerId": "c", "networkName": "n", "ifName": "eth0", "result": {
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "10.9.8.7/16", "gw": "nonsense"}, {"dst": "nonsense"},
			{"dst": "10.8.0.0/16", "scope": 253}, {"dst": "10.7.0.0/16", "table": 100}, {"dst": "10.6.0.0/16", "table": 254}],
		"ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{"dst": "::/0", "gw": "fd00::1"}]}}}`))
	require.NoError(t, err)
	assert.Equal(t, []Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.1.0.1")},
		{Destination: netip.MustParsePrefix("10.9.0.0/16")},
		{Destination: netip.MustParsePrefix("10.8.0.0/16"), IsOnLink: true},
		{Destination: netip.MustParsePrefix("10.6.0.0/16")},
		{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00::1")},
	}, a.Routes)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("fd00::1")}, a.Gateways)
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		``:                       "unexpected end",
		`{"kind": "cniCache`:     "unexpected end",
		`{"kind": "cniCacheV9"}`: `kind: "cniCacheV9" is not cniCacheV1`,
		`{"kind": "cniCacheV1"}`: "containerId, networkName or ifName is missing",
		`{"kind": "cniCacheV1", "containerId": 5}`: "cannot unmarshal",
	} {
		_, err := Parse([]byte(content))
		assert.ErrorContains(t, err, want)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content, address, id, ifName string
	}{
		{"10.22.0.2", "abc\r\neth0", "10.22.0.2", "abc", "eth0"},
		{"10.22.0.2", "abc\n", "10.22.0.2", "abc", ""}, // plugins before 0.7
		{"fd00::5", "abc\r\nnet1\n", "fd00::5", "abc", "net1"},
		{"10.22.0.2", "", "10.22.0.2", "", ""},
		{"last_reserved_ip.0", "10.22.0.2", "", "", ""},
		{"lock", "", "", "", ""},
		{"fe80::1%eth0", "abc", "", "", ""},
	} {
		a, containerID, ifName, ok := Owner(c.name, []byte(c.content))
		assert.Equal(t, c.address != "", ok, c.name)
		if ok {
			assert.Equal(t, []string{c.address, c.id, c.ifName}, []string{a.String(), containerID, ifName})
		}
	}
}

func FuzzParse(f *testing.F) {
	content, err := os.ReadFile(filepath.Join("testdata", "pods.json"))
	require.NoError(f, err)
	f.Add(content)
	f.Fuzz(func(t *testing.T, content []byte) {
		a, err := Parse(content)
		if (a == nil) == (err == nil) {
			t.Fatalf("attachment %v and error %v", a, err)
		}
		if a != nil && (a.ContainerID == "" || a.Network == "" || a.IfName == "") {
			t.Fatalf("attachment without identity: %+v", a)
		}
	})
}

func FuzzOwner(f *testing.F) {
	f.Add("10.22.0.2", []byte("abc\r\neth0"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		if a, _, _, ok := Owner(name, content); ok && (!a.IsValid() || a.Is4In6()) {
			t.Fatalf("%q is address %v", name, a)
		}
	})
}
