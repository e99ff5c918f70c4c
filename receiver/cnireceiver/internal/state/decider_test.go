package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
)

// world makes pictures of a node with pods on a bridge. Tests change it between
// two pictures.
type world struct {
	Picture
	decider *Decider
	saved   []ConfigFile
	uplink  Link
}

var begin = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

const grace = time.Minute

func newWorld(pods ...int) *world {
	config, wrong := netconf.Parse("10-pods.conflist", []byte(
		`{"name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "subnet": "10.0.0.0/27"}}]}`))
	if wrong != nil {
		panic(wrong)
	}
	w := &world{
		Picture: Picture{
			At: begin, Unseen: map[Source]string{}, HostRoutes: map[netip.Addr]int{}, Containers: map[string]bool{},
			Configs: []ConfigFile{{Path: "/etc/cni/net.d/10-pods.conflist", Digest: "a", Network: config}},
			Plugins: map[string]*PluginFile{
				"bridge":     {Path: "/opt/cni/bin/bridge", Identity: "1"},
				"host-local": {Path: "/opt/cni/bin/host-local", Identity: "1"},
			},
			Namespaces: []*Namespace{{Inode: 1, IsHost: true, Entered: true, HasProcess: true, Links: []Link{
				{Index: 1, Name: "eth0", MTU: 1500, Up: true, Carrier: true, PeerID: -1, Addresses: addresses("192.0.2.10/24")},
				{Index: 2, Name: "cni0", Kind: Bridge, MTU: 1500, Up: true, Carrier: true, PeerID: -1, Addresses: addresses("10.0.0.1/27")},
			}}},
		},
		decider: NewDecider(Settings{
			PoolHighWater: 0.85, ConntrackHighWater: 0.85, Hold: time.Second, Grace: grace, NamespacePatterns: []string{"cni-*"},
			Pools: true, Interfaces: true, Leaks: true, Conntrack: true, DataDirs: []string{"/var/lib/cni/networks"}, ConfigDirs: []string{"/etc/cni/net.d"}, PluginDirs: []string{"/opt/cni/bin", "/usr/lib/cni"},
		}),
	}
	for _, n := range pods {
		w.addPod(n)
	}
	return w
}

func addresses(list ...string) (out []Address) {
	for _, s := range list {
		p := netip.MustParsePrefix(s)
		out = append(out, Address{Prefix: p, IsLinkLocal: p.Addr().IsLinkLocalUnicast()})
	}
	return out
}

// defaultRoutes are those of a pod.
func defaultRoutes() []Route {
	return []Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Link: 2, Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
}

// addPod does what ADD does for pod n, whose address is 10.0.0.(n+1).
func (w *world) addPod(n int) {
	id, netns := fmt.Sprintf("c%d", n), fmt.Sprintf("/run/netns/cni-%d", n)
	address := netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/27", n+1))
	host := Link{
		Index: 100 + n, Name: fmt.Sprintf("veth%d", n), Kind: "veth", MTU: 1500, Up: true, Carrier: true, Master: 2,
		Peer: 2, PeerNamespace: uint64(1000 + n), PeerID: n,
	}
	w.Namespaces[0].Links = append(w.Namespaces[0].Links, host)
	w.Namespaces = append(w.Namespaces, &Namespace{
		Inode: uint64(1000 + n), Paths: []string{netns}, HasProcess: true, Entered: true,
		Links: []Link{{
			Index: 2, Name: "eth0", Kind: "veth", MAC: "02:00:00:00:00:01", MTU: 1500, Up: true, Carrier: true, Peer: host.Index, PeerID: 0,
			Addresses: append(addresses(address.String()), addresses("fe80::1/64")...),
		}},
		Routes: defaultRoutes(),
	})
	w.Results = append(w.Results, &result.Attachment{
		Network: "pods", ContainerID: id, IfName: "eth0", HasInterface: true, Netns: netns, PodName: "payment-" + id, PodNamespace: "shop", PodUID: "u" + id,
		HostInterfaces: []string{"cni0", host.Name}, Addresses: []netip.Prefix{address},
		Routes: []result.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1")}}, Plugins: []string{"bridge", "host-local"},
	})
	w.Reservations = append(w.Reservations, Reservation{
		Network: "pods", Dir: "/var/lib/cni/networks/pods", Address: address.Addr(), ContainerID: id, IfName: "eth0", Since: begin,
	})
	w.HostRoutes[address.Addr()] = 2
	w.Containers[id] = true
}

// after lets time pass and takes a picture.
func (w *world) after(d time.Duration) []Event {
	w.At = w.At.Add(d)
	p := w.Picture
	return w.decider.Decide(&p)
}

func (w *world) host(name string) *Link            { return w.Namespaces[0].named(name) }
func (w *world) pod(n int) *Namespace              { return w.Namespaces[n] }
func (w *world) eth0(n int) *Link                  { return w.pod(n).named("eth0") }
func (w *world) attached(n int) *result.Attachment { return w.Results[n-1] }

func names(events []Event) []string {
	out := []string{}
	for _, e := range events {
		out = append(out, e.Name)
	}
	return out
}

func TestHealthyNodeSaysFactsOnceAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 2)
	first := w.after(0)
	assert.Equal(t, []string{event.CNIInterface, event.CNIInterface}, names(first))
	assert.Equal(t, Pod{ContainerID: "c1", Name: "payment-c1", Namespace: "shop", UID: "uc1", IP: "10.0.0.2"}, first[0].Pod)
	assert.Equal(t, "Pod shop/payment-c1 has eth0 in network pods with 10.0.0.2/27", first[0].Body)
	assert.Equal(t, map[string]any{
		event.KeyCNINetwork: "pods", event.KeyInterfaceName: "eth0", event.KeyCNIAddress: "10.0.0.2", event.KeyCNIAddresses: []any{"10.0.0.2/27"},
		event.KeyCNIHostInterface: "veth1", event.KeyCNIMAC: "02:00:00:00:00:01", event.KeyCNIMTU: int64(1500),
		event.KeyCNINetns: "/run/netns/cni-1", event.KeyNetworkNamespace: int64(1001),
	}, first[0].Attributes)
	for range 10 {
		assert.Empty(t, w.after(time.Hour))
	}
	assert.True(t, w.decider.Due().IsZero())
}

func TestChangedAndRemovedInterface(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.after(0)
	w.eth0(1).MAC = "02:00:00:00:00:02"
	assert.Equal(t, []string{event.CNIInterface}, names(w.after(time.Second)))
	w.Results, w.Reservations = nil, nil
	w.Namespaces, w.Namespaces[0].Links = w.Namespaces[:1], w.Namespaces[0].Links[:2]
	got := w.after(time.Second)
	assert.Equal(t, []string{event.CNIInterfaceRemoved}, names(got))
	assert.Equal(t, "10.0.0.2", got[0].Pod.IP)
	assert.Zero(t, w.decider.Held()["conditions"])
	assert.Equal(t, int64(1), w.decider.Held()["interfaces"], "the host's eth0")
}

// An address whose owner has no process yet is leaked only when that lasts: while an
// ADD runs nobody should be told to free its address.
func TestPoolTellsLeaksOnlyAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		wait   time.Duration
		leaked any
	}{
		{"an ADD runs", grace - time.Second, nil},
		{"it was killed long ago", grace, int64(1)},
	} {
		w := newWorld()
		for n := range 27 {
			w.addPod(n + 1)
		}
		w.Namespaces = append(w.Namespaces, &Namespace{Inode: 2000, Paths: []string{"/run/netns/cni-new"}, Entered: true})
		w.Reservations = append(w.Reservations, Reservation{
			Network: "pods", Dir: "/var/lib/cni/networks/pods", Address: netip.MustParseAddr("10.0.0.30"), ContainerID: "new", Since: w.At,
		})
		w.after(0)
		w.addPod(28) // the last address
		var full []Event
		for _, ev := range w.after(tc.wait) {
			if ev.Name == event.CNIPoolExhausted {
				full = append(full, ev)
			}
		}
		require.Len(t, full, 1, tc.name)
		assert.Equal(t, tc.leaked, full[0].Attributes[event.KeyCNIPoolLeaked], tc.name)
		assert.Equal(t, tc.leaked != nil, strings.Contains(full[0].Body, "by nobody who lives"), tc.name)
	}
}

// While a DEL runs, the interface is gone and its result is not.
func TestInterfaceThatIsBeingDeletedIsNotToldAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.after(0)
	w.pod(1).Links, w.pod(1).Routes = nil, nil
	assert.Empty(t, w.after(time.Millisecond))
	w.Namespaces[0].Links = w.Namespaces[0].Links[:2]
	assert.Empty(t, w.after(time.Millisecond))
	w.Results, w.Reservations, w.Namespaces = nil, nil, w.Namespaces[:1]
	got := w.after(time.Millisecond)
	require.Equal(t, []string{event.CNIInterfaceRemoved}, names(got))
	assert.Equal(t, "10.0.0.2", got[0].Attributes[event.KeyCNIAddress])
}

// Pictures of a container that is deleted and added again and again may each show a DEL.
func TestInterfaceOfAnotherAddIsMissingAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.after(0)
	w.pod(1).Links = nil
	for n := range 20 {
		w.attached(1).MAC = fmt.Sprintf("02:00:00:00:01:%02x", n)
		assert.Empty(t, w.after(900*time.Millisecond))
	}
	assert.Equal(t, []string{event.CNIInterfaceDown}, names(w.after(time.Second)))
}

// breakage is one thing that is wrong, and how it is mended.
type breakage struct {
	do, undo  func(*world)
	hold      time.Duration
	want      string
	severity  plog.SeverityNumber
	attribute string
	value     any
}

func breakages() map[string]breakage {
	const warn, bad = plog.SeverityNumberWarn, plog.SeverityNumberError
	link := func(get func(*world) *Link, change func(*Link)) func(*world) {
		return func(w *world) { change(get(w)) }
	}
	veth := func(w *world) *Link { return w.host("veth1") }
	eth := func(w *world) *Link { return w.eth0(1) }
	bridge := func(w *world) *Link { return w.host("cni0") }
	uplink := func(w *world) *Link { return w.host("eth0") }
	up, down := func(l *Link) { l.Up = true }, func(l *Link) { l.Up = false }
	carrier, noCarrier := func(l *Link) { l.Carrier = true }, func(l *Link) { l.Carrier = false }
	mtu := func(n int) func(*Link) { return func(l *Link) { l.MTU = n } }
	rename := func(name string) func(*Link) { return func(l *Link) { l.Name = name } }
	return map[string]breakage{
		"veth down":     {link(veth, down), link(veth, up), time.Second, event.CNIInterfaceDown, bad, event.KeyInterfaceName, "veth1"},
		"pod's down":    {link(eth, down), link(eth, up), time.Second, event.CNIInterfaceDown, bad, event.KeyCNIInterfaceState, "down"},
		"pod's missing": {link(eth, rename("x")), func(w *world) { w.pod(1).named("x").Name = "eth0" }, time.Second, event.CNIInterfaceDown, bad, event.KeyCNIInterfaceState, "missing"},
		"bridge down":   {link(bridge, down), link(bridge, up), time.Second, event.CNIInterfaceDown, bad, event.KeyInterfaceName, "cni0"},
		"off its bridge": {
			link(veth, func(l *Link) { l.Master = 0 }), link(veth, func(l *Link) { l.Master = 2 }), time.Second, event.CNIInterfaceDown, bad, event.KeyCNIInterfaceState, "detached",
		},
		"pod's carrier":  {link(eth, noCarrier), link(eth, carrier), time.Second, event.CNIInterfaceCarrierLost, bad, event.KeyInterfaceName, "eth0"},
		"MTU of veth":    {link(veth, mtu(1400)), link(veth, mtu(1500)), time.Second, event.CNIInterfaceMTUMismatch, warn, event.KeyCNIMTUExpected, int64(1400)},
		"MTU of bridge":  {link(bridge, mtu(1400)), link(bridge, mtu(1500)), time.Second, event.CNIInterfaceMTUMismatch, warn, event.KeyCNIOther, "cni0"},
		"uplink down":    {link(uplink, down), link(uplink, up), time.Second, event.CNIInterfaceDown, bad, event.KeyInterfaceName, "eth0"},
		"uplink carrier": {link(uplink, noCarrier), link(uplink, carrier), time.Second, event.CNIInterfaceCarrierLost, bad, event.KeyInterfaceName, "eth0"},
		"uplink gone": {
			func(w *world) { w.uplink, w.Namespaces[0].Links = w.Namespaces[0].Links[0], w.Namespaces[0].Links[1:] },
			func(w *world) { w.uplink.Index = 77; w.Namespaces[0].Links = append(w.Namespaces[0].Links, w.uplink) },
			time.Second, event.CNIInterfaceDown, bad, event.KeyCNIInterfaceState, "missing",
		},
		"address missing": {func(w *world) {
			w.attached(1).Addresses[0] = netip.MustParsePrefix("10.0.0.9/27")
			w.Reservations = nil
		}, func(w *world) { w.attached(1).Addresses[0] = netip.MustParsePrefix("10.0.0.2/27") }, time.Second, event.CNIAddressMissing, bad, event.KeyCNIAddress, "10.0.0.9"},
		"duplicate by kernel": {
			func(w *world) { w.eth0(1).Addresses[0].IsDuplicate = true }, func(w *world) { w.eth0(1).Addresses[0].IsDuplicate = false },
			time.Second, event.CNIAddressDuplicate, bad, event.KeyCNIAddress, "10.0.0.2",
		},
		"duplicate of host": {
			func(w *world) { w.host("eth0").Addresses = addresses("192.0.2.10/24", "10.0.0.2/24") }, func(w *world) { w.host("eth0").Addresses = addresses("192.0.2.10/24") },
			time.Second, event.CNIAddressDuplicate, bad, event.KeyCNIOther, "eth0 of the host",
		},
		"route of pod": {
			func(w *world) { w.pod(1).Routes = nil }, func(w *world) { w.pod(1).Routes = defaultRoutes() },
			time.Second, event.CNIRouteMissing, bad, event.KeyCNIRoute, "0.0.0.0/0",
		},
		"route of host": {
			func(w *world) { w.HostRoutes[netip.MustParseAddr("10.0.0.2")] = 1 }, func(w *world) { w.HostRoutes[netip.MustParseAddr("10.0.0.2")] = 2 },
			time.Second, event.CNIRouteMissing, bad, event.KeyCNIRoute, "10.0.0.2/32",
		},
		"config invalid": {
			func(w *world) {
				w.Configs = append([]ConfigFile{{Path: "/etc/cni/net.d/00.conf", Digest: "x", Err: &netconf.Error{Type: netconf.ErrorSyntax, Line: 3, Reason: "r"}}}, w.Configs...)
			},
			func(w *world) { w.Configs = w.Configs[1:] },
			settle, event.CNIConfigInvalid, bad, event.KeyCNIConfigLine, int64(3),
		},
		"later config invalid": {
			func(w *world) {
				w.Configs = append(w.Configs, ConfigFile{Path: "/etc/cni/net.d/99.conf", Digest: "x", Err: &netconf.Error{Type: netconf.ErrorSchema, Reason: "r"}})
			},
			func(w *world) { w.Configs = w.Configs[:1] },
			settle, event.CNIConfigInvalid, warn, event.KeyErrorType, "schema",
		},
		"config missing": {func(w *world) { w.Configs, w.saved = nil, w.Configs }, func(w *world) { w.Configs = w.saved }, settle, event.CNIConfigMissing, bad, event.KeyFilePath, "/etc/cni/net.d"},
		"plugin missing": {func(w *world) { w.Plugins["bridge"] = nil }, func(w *world) { w.Plugins["bridge"] = &PluginFile{Path: "/opt/cni/bin/bridge", Identity: "1"} }, settle, event.CNIPluginMissing, bad, event.KeyCNIPlugin, "bridge"},
		"plugin of later config missing": {
			func(w *world) {
				w.Configs = append(w.Configs, ConfigFile{Path: "/etc/cni/net.d/99.conf", Digest: "x", Network: &netconf.Network{Name: "old", Plugins: []netconf.Plugin{{Type: "weave-net"}}}})
				w.Plugins["weave-net"] = nil
			},
			func(w *world) { w.Plugins["weave-net"] = &PluginFile{Path: "/opt/cni/bin/weave-net", Identity: "2"} },
			settle, event.CNIPluginMissing, warn, event.KeyCNIConfigInUse, false,
		},
		"plugin not executable": {
			func(w *world) {
				w.Plugins["bridge"] = &PluginFile{Path: "/opt/cni/bin/bridge", Identity: "1", Problem: "mode"}
			},
			func(w *world) { w.Plugins["bridge"].Problem = "" },
			settle, event.CNIPluginMissing, bad, event.KeyCNIReason, "/opt/cni/bin/bridge: mode",
		},
		"namespace leaked": {func(w *world) { w.pod(1).HasProcess = false }, func(w *world) { w.pod(1).HasProcess = true }, grace, event.CNINamespaceLeaked, warn, event.KeyCNINetns, "/run/netns/cni-1"},
		"address leaked": {
			func(w *world) {
				w.Reservations = append(w.Reservations, Reservation{Network: "pods", Dir: "/d", Address: netip.MustParseAddr("10.0.0.20"), ContainerID: "dead", Since: begin})
			},
			func(w *world) { w.Containers["dead"] = true },
			grace, event.CNIAddressLeaked, warn, event.KeyCNIAddress, "10.0.0.20",
		},
		"veth leaked": {
			func(w *world) {
				w.Namespaces[0].Links = append(w.Namespaces[0].Links, Link{Index: 500, Name: "veth500", Kind: "veth", Up: true, Carrier: true, Master: 2, Peer: 9, PeerNamespace: 1001, PeerID: 5})
				w.pod(1).Links = append(w.pod(1).Links, Link{Index: 9, Name: "eth9", Kind: "veth", Up: true, Carrier: true, Addresses: addresses("fe80::9/64")})
			},
			func(w *world) { w.pod(1).Links[1].Addresses = addresses("10.9.0.1/24") },
			grace, event.CNIInterfaceLeaked, warn, event.KeyInterfaceName, "veth500",
		},
		"conntrack high": {func(w *world) { w.pod(1).ConntrackCount, w.pod(1).ConntrackMax = 90, 100 }, func(w *world) { w.pod(1).ConntrackCount = 50 }, 0, event.CNIConntrackHigh, warn, event.KeyCNIConntrackCount, int64(90)},
		"conntrack full": {func(w *world) { w.pod(1).ConntrackCount, w.pod(1).ConntrackMax = 100, 100 }, func(w *world) { w.pod(1).ConntrackCount = 50 }, 0, event.CNIConntrackFull, bad, event.KeyCNIConntrackMax, int64(100)},
	}
}

func TestEachBreakageIsToldOnceWhenItLastsAndWhenItIsOver(t *testing.T) {
	t.Parallel()
	for name, b := range breakages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(1, 2)
			w.after(0)
			b.do(w)
			at := w.At.Add(time.Millisecond)
			var got []Event
			got = append(got, only(w.after(time.Millisecond), b.want)...)
			if b.hold > 0 {
				require.Empty(t, got, "not at once")
				assert.Equal(t, at.Add(b.hold), w.decider.Due())
			}
			got = append(got, only(w.after(b.hold), b.want)...)
			for range 3 {
				got = append(got, only(w.after(time.Minute), b.want)...)
			}
			got = about(got, b)
			require.Len(t, got, 1, "told once")
			assert.Equal(t, at, got[0].Time, "it began when it was first seen")
			assert.Equal(t, b.severity, got[0].Severity)
			assert.NotEmpty(t, got[0].Body)

			b.undo(w)
			over := only(w.after(time.Second), event.CNIRecovered)
			gone := w.At
			over = append(over, only(w.after(poolLinger), event.CNIRecovered)...)
			require.NotEmpty(t, over)
			assert.Equal(t, gone, over[0].Time, "over since it was gone")
			found := false
			for _, e := range over {
				found = found || e.Attributes[event.KeyCNIRecovered] == b.want
			}
			assert.True(t, found, "%v", over)
			assert.Empty(t, w.decider.tracker.held)
		})
	}
}

func TestWhatIsOverSoonIsNotTold(t *testing.T) {
	t.Parallel()
	for name, b := range breakages() {
		if b.hold == 0 {
			continue
		}
		w := newWorld(1, 2)
		w.after(0)
		b.do(w)
		w.after(time.Millisecond)
		b.undo(w)
		assert.Empty(t, append(only(w.after(b.hold), b.want), only(w.after(b.hold), event.CNIRecovered)...), name)
	}
}

// What is explained by something else keeps its state: while a bridge is down, a pod
// neither gets its address back nor loses it once more.
func TestWhatIsExplainedIsNeitherOverNorToldAgain(t *testing.T) {
	t.Parallel()
	all := breakages()
	for _, name := range []string{
		"address missing", "route of pod", "route of host", "MTU of veth", "MTU of bridge", "pod's carrier", "duplicate by kernel", "duplicate of host",
	} {
		for _, why := range []string{"bridge down", "veth down", "pod's down", "pod's missing"} {
			for _, pods := range [][]int{{1}, {1, 2}} {
				t.Run(fmt.Sprintf("%s, %s, %d pods", name, why, len(pods)), func(t *testing.T) {
					t.Parallel()
					b, explains := all[name], all[why]
					w := newWorld(pods...)
					w.after(0)
					b.do(w)
					w.after(time.Millisecond)
					require.Len(t, about(only(w.after(time.Minute), b.want), b), 1)

					explains.do(w)
					w.after(time.Millisecond)
					assert.Equal(t, []string{event.CNIInterfaceDown}, names(w.after(time.Minute)))
					assert.Empty(t, w.after(time.Hour))
					explains.undo(w)
					got := append(w.after(time.Millisecond), w.after(time.Minute)...)
					require.Equal(t, []string{event.CNIRecovered}, names(got))
					assert.Equal(t, event.CNIInterfaceDown, got[0].Attributes[event.KeyCNIRecovered])
					assert.Empty(t, w.after(time.Hour))

					b.undo(w)
					got = append(w.after(time.Millisecond), w.after(time.Minute)...)
					require.Equal(t, []string{event.CNIRecovered}, names(got))
					assert.Equal(t, b.want, got[0].Attributes[event.KeyCNIRecovered])
				})
			}
		}
	}
}

// What begins behind something that explains it is told when that is over.
func TestWhatBeginsWhileExplainedIsToldAfterwards(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 2)
	w.after(0)
	w.host("cni0").Up, w.pod(1).Routes = false, nil
	w.after(time.Millisecond)
	assert.Equal(t, []string{event.CNIInterfaceDown}, names(w.after(time.Minute)))
	w.host("cni0").Up = true
	w.after(time.Millisecond)
	assert.Equal(t, []string{event.CNIRouteMissing, event.CNIRecovered}, names(w.after(time.Minute)))
}

// An uplink that is disabled has no carrier either: it was lost before, and is not back.
func TestUplinkDownKeepsItsLostCarrier(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.after(0)
	w.host("eth0").Carrier = false
	w.after(time.Millisecond)
	assert.Equal(t, []string{event.CNIInterfaceCarrierLost}, names(w.after(time.Minute)))
	w.host("eth0").Up = false
	w.after(time.Millisecond)
	assert.Equal(t, []string{event.CNIInterfaceDown}, names(w.after(time.Minute)))
	w.host("eth0").Up = true
	got := append(w.after(time.Millisecond), w.after(time.Minute)...)
	require.Equal(t, []string{event.CNIRecovered}, names(got))
	assert.Equal(t, event.CNIInterfaceDown, got[0].Attributes[event.KeyCNIRecovered])
}

// The host end of a pod's veth is the pod's own matter, a bridge that of all pods.
func TestHostInterfacesThatAreGone(t *testing.T) {
	t.Parallel()
	remove := func(w *world, name string) {
		w.Namespaces[0].Links = slices.DeleteFunc(w.Namespaces[0].Links, func(l Link) bool { return l.Name == name })
	}
	for name, tc := range map[string]struct {
		do   func(*world)
		want []string // bodies
	}{
		"veth renamed":   {func(w *world) { w.host("veth1").Name = "x" }, nil},
		"bridge renamed": {func(w *world) { w.host("cni0").Name = "x" }, nil},
		"veth moved away": {func(w *world) {
			remove(w, "veth1")
			w.eth0(1).Carrier = false
		}, []string{"Pod shop/payment-c1 cannot be reached: veth1 is not there"}},
		"bridge gone": {func(w *world) {
			remove(w, "cni0")
			for i := range w.Namespaces[0].Links {
				w.Namespaces[0].Links[i].Master = 0
			}
		}, []string{"No pod of network pods can be reached: cni0 is not there"}},
	} {
		for _, configured := range []bool{true, false} {
			t.Run(fmt.Sprint(name, configured), func(t *testing.T) {
				t.Parallel()
				w := newWorld(1, 2)
				if !configured { // two pods have it: then it is a bridge
					w.Configs[0].Network.Plugins[0].Bridge = "another"
				}
				w.after(0)
				tc.do(w)
				w.after(time.Millisecond)
				var got []string
				for _, ev := range w.after(time.Minute) {
					got = append(got, ev.Body)
					assert.Equal(t, strings.HasPrefix(ev.Body, "Pod "), ev.Pod.ContainerID == "c1", ev.Body)
				}
				assert.Equal(t, tc.want, got)
			})
		}
	}
}

// A plugin that makes no interface, for policies or accounting, promises none: neither
// is one missed, nor is that of another network its own.
func TestResultWithoutInterface(t *testing.T) {
	t.Parallel()
	for _, pods := range [][]int{nil, {1}} {
		w := newWorld(pods...)
		facts := len(w.after(0))
		w.Results = append(w.Results, &result.Attachment{Network: "policy", ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/cni-1"})
		if len(pods) == 0 {
			w.Namespaces = append(w.Namespaces, &Namespace{Inode: 1001, Paths: []string{"/run/netns/cni-1"}, HasProcess: true, Entered: true})
		}
		assert.Equal(t, len(pods), facts)
		assert.Empty(t, append(w.after(time.Second), w.after(time.Hour)...))
	}
}

// sbr and vrf put the routes of a pod into a table of their own.
func TestRoutesThatAPluginMoves(t *testing.T) {
	t.Parallel()
	for plugin, want := range map[string][]string{"portmap": {event.CNIRouteMissing}, "sbr": {}, "vrf": {}} {
		w := newWorld(1)
		w.attached(1).Plugins = append(w.attached(1).Plugins, plugin)
		w.pod(1).Routes = nil
		w.after(0)
		assert.Equal(t, want, names(w.after(time.Minute)), plugin)
	}
}

// A table that is full is told as full, not as nearly full too.
func TestFullConntrackIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.after(0)
	w.pod(1).ConntrackCount, w.pod(1).ConntrackMax = 100, 100
	assert.Equal(t, []string{event.CNIConntrackFull}, names(append(w.after(time.Second), w.after(time.Hour)...)))
	w.pod(1).ConntrackCount = 99
	assert.Equal(t, []string{event.CNIConntrackHigh}, names(w.after(time.Second)))
	for _, count := range []int64{100, 99, 96, 100} {
		w.pod(1).ConntrackCount = count
		assert.Empty(t, w.after(time.Second), "it hovers below its limit: %d", count)
	}
	w.pod(1).ConntrackCount = 94
	assert.Contains(t, names(w.after(time.Minute)), event.CNIRecovered)
}

// A part that cannot be read ends nothing and begins nothing.
func TestUnseenPartsKeepWhatWasKnown(t *testing.T) {
	t.Parallel()
	for name, b := range breakages() {
		w := newWorld(1, 2)
		w.after(0)
		b.do(w)
		w.after(time.Millisecond)
		w.after(b.hold)
		held := len(w.decider.tracker.held)
		require.NotZero(t, held, name)
		for _, s := range Sources {
			w.Unseen[s] = "permission denied"
		}
		w.Picture = Picture{At: w.At, Unseen: w.Unseen}
		assert.Empty(t, w.after(grace), name)
		assert.Len(t, w.decider.tracker.held, held, name)
	}
}

func TestNoOwnerIsMissedByOneWhoCannotSee(t *testing.T) {
	t.Parallel()
	for _, s := range leakSources {
		w := newWorld()
		w.Reservations = []Reservation{{Network: "pods", Address: netip.MustParseAddr("10.0.0.20"), ContainerID: "dead", Since: begin}}
		w.Unseen[s] = "permission denied"
		w.after(0)
		assert.Empty(t, only(w.after(2*grace), event.CNIAddressLeaked), string(s))
	}
}

func only(events []Event, name string) (out []Event) {
	for _, e := range events {
		if e.Name == name {
			out = append(out, e)
		}
	}
	return out
}

func about(events []Event, b breakage) (out []Event) {
	for _, e := range events {
		if e.Attributes[b.attribute] == b.value {
			out = append(out, e)
		}
	}
	return out
}

func TestPoolMarks(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.after(0)
	fill := func(n int) []string {
		w.Reservations = nil
		for i := range n { // .2 to .30 are 29; others are not of the pool
			w.Reservations = append(w.Reservations, Reservation{Network: "pods", Dir: "/var/lib/cni/networks/pods", Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)})})
			w.Reservations = append(w.Reservations, Reservation{Network: "other", Dir: "/var/lib/cni/networks/other", Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)})})
		}
		w.Reservations = append(w.Reservations, Reservation{Network: "pods", Dir: "/var/lib/cni/networks/pods", Address: netip.MustParseAddr("10.1.0.2")})
		return names(w.after(time.Second))
	}
	assert.Empty(t, fill(24))
	assert.Equal(t, []string{event.CNIPoolHigh}, fill(25))
	assert.Empty(t, fill(28))
	assert.Equal(t, []string{event.CNIPoolExhausted}, fill(29))
	assert.Empty(t, fill(28), "not exhausted for a moment")
	assert.Empty(t, fill(29))
	assert.Empty(t, fill(28))
	w.after(poolLinger - 2*time.Second)
	assert.Equal(t, []string{event.CNIRecovered}, append(fill(28), fill(28)...), "not exhausted any more")
	assert.Empty(t, fill(24), "a little below the mark is not over")
	assert.Equal(t, []string{event.CNIRecovered}, fill(23))
	assert.Equal(t, []string{event.CNIPoolExhausted}, fill(29), "at once, without a warning")
	assert.Equal(t, []string{event.CNIPoolHigh}, fill(27))
	w.At = w.At.Add(poolLinger)
	assert.Equal(t, []string{event.CNIRecovered}, fill(27))
}

// reserveAll reserves all 29 addresses of the pool in a store.
func (w *world) reserveAll(dir string) {
	for i := range 29 {
		w.Reservations = append(w.Reservations, Reservation{Network: "pods", Dir: dir, Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + i)})})
	}
}

// In another store than the pool's, under the same name, are rests, or another node's
// addresses.
func TestPoolCountsItsOwnStore(t *testing.T) {
	t.Parallel()
	for dataDir, stores := range map[string]struct{ own, other string }{
		"":           {"/var/lib/cni/networks/pods", "/run/ipam/pods"},
		"/run/ipam/": {"/run/ipam/pods", "/var/lib/cni/networks/pods"},
	} {
		w := newWorld()
		w.Configs[0].Network.Plugins[0].IPAM.DataDir = dataDir
		w.reserveAll(stores.other)
		assert.Empty(t, w.after(0), dataDir)
		w.reserveAll(stores.own)
		got := w.after(time.Second)
		require.Equal(t, []string{event.CNIPoolExhausted}, names(got), dataDir)
		assert.Equal(t, int64(29), got[0].Attributes[event.KeyCNIPoolUsed])
		assert.Equal(t, stores.own, got[0].Attributes[event.KeyFilePath])
	}
}

// A pool is exhausted since its last address was taken, before the ADD that fails of it,
// and not since the picture that shows it.
func TestPoolIsExhaustedSinceItsLastAddress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ taken, want time.Duration }{
		"between the pictures":   {-20 * time.Second, -20 * time.Second},
		"by a clock before them": {-time.Hour, 0},
		"by a clock ahead":       {time.Hour, 0},
	} {
		w := newWorld()
		w.after(0)
		w.reserveAll("/var/lib/cni/networks/pods")
		w.Reservations[28].Since = w.At.Add(30*time.Second + tc.taken)
		got := w.after(30 * time.Second)
		require.Equal(t, []string{event.CNIPoolExhausted}, names(got), name)
		assert.Equal(t, w.At.Add(tc.want), got[0].Time, name)
	}
	w := newWorld()
	w.reserveAll("/var/lib/cni/networks/pods")
	w.Reservations[28].Since = w.At.Add(-time.Second)
	assert.Equal(t, w.At, only(w.after(0), event.CNIPoolExhausted)[0].Time, "at the start nobody knows")
}

func TestAddressInTwoStoresIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.decider.settings.DataDirs = append(w.decider.settings.DataDirs, "/second")
	w.reserveAll("/var/lib/cni/networks/pods")
	w.reserveAll("/second/pods")
	got := w.after(0)
	require.Equal(t, []string{event.CNIPoolExhausted}, names(got))
	assert.Equal(t, int64(29), got[0].Attributes[event.KeyCNIPoolUsed])
}

func TestFlannelPool(t *testing.T) {
	t.Parallel()
	w := newWorld()
	config, wrong := netconf.Parse("a.conflist", []byte(`{"name": "cbr0", "plugins": [{"type": "flannel"}]}`))
	require.Nil(t, wrong)
	w.Configs[0].Network = config
	w.Subnets = map[string]netip.Prefix{"/run/flannel/subnet.env": netip.MustParsePrefix("10.244.1.0/30")}
	w.Reservations = []Reservation{{Network: "cbr0", Dir: "/var/lib/cni/networks/cbr0", Address: netip.MustParseAddr("10.244.1.2")}}
	got := only(w.after(0), event.CNIPoolExhausted)
	require.Len(t, got, 1)
	assert.Equal(t, int64(1), got[0].Attributes[event.KeyCNIPoolSize])
}

func TestChangesOfFiles(t *testing.T) {
	t.Parallel()
	w := newWorld()
	assert.Empty(t, w.after(0), "what is there at the start is no change")
	w.Configs[0].Digest = "b"
	w.Plugins["bridge"] = &PluginFile{Path: "/opt/cni/bin/bridge", Identity: "2"}
	assert.Equal(t, []string{event.CNIConfigChanged, event.CNIPluginReplaced}, names(w.after(time.Second)))
	w.Configs = append(w.Configs, ConfigFile{Path: "/etc/cni/net.d/20.conf", Digest: "c", Network: w.Configs[0].Network})
	got := w.after(time.Second)
	require.Equal(t, []string{event.CNIConfigChanged}, names(got))
	assert.Equal(t, "Network configuration /etc/cni/net.d/20.conf was added", got[0].Body)
	assert.Equal(t, false, got[0].Attributes[event.KeyCNIConfigInUse], "the first is")
	w.Configs = w.Configs[1:]
	got = w.after(time.Second)
	require.Equal(t, []string{event.CNIConfigChanged}, names(got))
	assert.Equal(t, "was removed", got[0].Attributes[event.KeyCNIReason])
	assert.Equal(t, true, got[0].Attributes[event.KeyCNIConfigInUse], "it was")
	w.Configs[0].Digest, w.Configs[0].Network, w.Configs[0].Err = "d", nil, &netconf.Error{Type: netconf.ErrorSyntax, Line: 1, Reason: "r"}
	got = w.after(time.Second)
	require.Equal(t, []string{event.CNIConfigChanged}, names(got))
	assert.Equal(t, true, got[0].Attributes[event.KeyCNIConfigInUse], "there is no other")
}

// What is broken behind a configuration that works is told again when that goes:
// then no pod can be set up.
func TestBrokenConfigurationComesIntoUse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		do   func(*world)
		want string
	}{
		"invalid": {func(w *world) {
			w.Configs = append(w.Configs, ConfigFile{Path: "/etc/cni/net.d/20.conf", Digest: "x", Err: &netconf.Error{Type: netconf.ErrorSchema, Reason: "r"}})
		}, event.CNIConfigInvalid},
		"without plugin": {func(w *world) {
			w.Configs = append(w.Configs, ConfigFile{Path: "/etc/cni/net.d/20.conf", Digest: "x", Network: &netconf.Network{Name: "old", Plugins: []netconf.Plugin{{Type: "weave-net"}}}})
			w.Plugins["weave-net"] = nil
		}, event.CNIPluginMissing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			w.after(0)
			told := func(d time.Duration, severity plog.SeverityNumber, inUse bool) {
				t.Helper()
				got := only(w.after(d), tc.want)
				require.Len(t, got, 1)
				assert.Equal(t, severity, got[0].Severity)
				assert.Equal(t, inUse, got[0].Attributes[event.KeyCNIConfigInUse])
			}
			tc.do(w)
			w.after(time.Second)
			told(settle, plog.SeverityNumberWarn, false)

			all := w.Configs
			w.Configs = all[1:]
			assert.Empty(t, only(w.after(time.Minute), tc.want), "a file may be gone for a moment")
			w.Configs = all
			assert.Empty(t, only(append(w.after(time.Millisecond), w.after(time.Minute)...), tc.want), "it is as it was told")

			w.Configs = all[1:]
			w.after(time.Minute)
			told(settle, plog.SeverityNumberError, true)
			assert.Empty(t, w.after(time.Hour))
			w.Configs = all
			w.after(time.Minute)
			told(settle, plog.SeverityNumberWarn, false)
			w.Configs = all[:1]
			assert.Len(t, only(w.after(time.Minute), event.CNIRecovered), 1)
			assert.Empty(t, w.after(time.Hour))
		})
	}
}

// A plugin that was missing and comes back as it was is no other file.
func TestPluginThatComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.after(0)
	was := w.Plugins["bridge"]
	w.Plugins["bridge"] = nil
	w.after(time.Second)
	assert.Equal(t, []string{event.CNIPluginMissing}, names(w.after(time.Second)))
	w.Plugins["bridge"] = was
	assert.Equal(t, []string{event.CNIRecovered}, names(w.after(time.Second)))
}

// A plugin that cannot be run for another reason than before is told again.
func TestPluginThatIsMissingInAnotherWay(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.after(0)
	w.Plugins["bridge"] = nil
	w.after(time.Second)
	assert.Equal(t, []string{event.CNIPluginMissing}, names(w.after(time.Second)))
	w.Plugins["bridge"] = &PluginFile{Path: "/opt/cni/bin/bridge", Identity: "1", Problem: "not executable"}
	w.after(time.Second)
	got := w.after(settle)
	require.Equal(t, []string{event.CNIPluginMissing}, names(got))
	assert.Equal(t, "/opt/cni/bin/bridge: not executable", got[0].Attributes[event.KeyCNIReason])
	w.Plugins["bridge"] = &PluginFile{Path: "/opt/cni/bin/bridge", Identity: "1"}
	assert.Equal(t, []string{event.CNIRecovered}, names(w.after(time.Second)))
}

func TestReservationOfNobody(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.Reservations = []Reservation{{Network: "pods", Dir: "/var/lib/cni/networks/pods", Address: netip.MustParseAddr("10.0.0.20"), Since: begin}}
	w.after(0)
	got := only(w.after(grace), event.CNIAddressLeaked)
	require.Len(t, got, 1)
	assert.Equal(t, "Address 10.0.0.20 of network pods is left over: its reservation, /var/lib/cni/networks/pods/10.0.0.20, names no container", got[0].Body)
}

// No plugin at all is one event: the plugins are not there, or plugin_dirs is wrong.
func TestNoPluginAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld()
	bridge, hostLocal := w.Plugins["bridge"], w.Plugins["host-local"]
	w.Plugins = map[string]*PluginFile{"bridge": nil, "host-local": nil}
	assert.Empty(t, w.after(0))
	got := w.after(settle)
	require.Equal(t, []string{event.CNIPluginsMissing}, names(got))
	assert.Equal(t, plog.SeverityNumberWarn, got[0].Severity)
	assert.Equal(t, []any{"bridge", "host-local"}, got[0].Attributes[event.KeyCNIPlugins])
	assert.Contains(t, got[0].Attributes[event.KeyCNIReason], "none is in /opt/cni/bin, /usr/lib/cni; plugin_dirs must be")
	assert.Empty(t, w.after(time.Hour), "told once")

	// One comes: plugin_dirs is right, and the other is missing.
	w.Plugins["bridge"] = bridge
	got = w.after(time.Second)
	require.Equal(t, []string{event.CNIRecovered}, names(got))
	assert.Equal(t, event.CNIPluginsMissing, got[0].Attributes[event.KeyCNIRecovered])
	got = w.after(settle)
	require.Equal(t, []string{event.CNIPluginMissing}, names(got))
	assert.Equal(t, "host-local", got[0].Attributes[event.KeyCNIPlugin])
	w.Plugins["host-local"] = hostLocal
	assert.Equal(t, []string{event.CNIRecovered}, names(w.after(time.Second)))

	// From now on what is missing is missing, also when that is all there is.
	w.Plugins = map[string]*PluginFile{"bridge": nil, "host-local": nil}
	w.after(time.Second)
	assert.Equal(t, []string{event.CNIPluginMissing, event.CNIPluginMissing}, names(w.after(settle)))
}

// Without a configuration no plugin is missed, and none is while the directories
// cannot be read.
func TestPluginsThatNobodyNamesOrSees(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.Configs, w.Plugins = nil, nil
	w.after(0)
	assert.NotContains(t, names(w.after(time.Hour)), event.CNIPluginsMissing)
	w = newWorld()
	w.Plugins, w.Unseen[SourcePlugins] = map[string]*PluginFile{"bridge": nil, "host-local": nil}, "permission denied"
	w.after(0)
	assert.Empty(t, w.after(time.Hour))
}

func TestNodeWithoutCNI(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.Configs, w.Plugins = nil, nil
	assert.Empty(t, w.after(0))
	assert.Empty(t, w.after(time.Hour), "what never was is not missed")
}

func TestDuplicateNeedsAWayToMeet(t *testing.T) {
	t.Parallel()
	same := func(change func(*world)) []Event {
		w := newWorld(1, 2)
		w.after(0)
		w.eth0(2).Addresses = addresses("10.0.0.2/27", "10.0.0.3/27")
		change(w)
		w.after(time.Second)
		return only(w.after(time.Second), event.CNIAddressDuplicate)
	}
	got := same(func(*world) {})
	require.Len(t, got, 1, "a collision is told once")
	assert.Equal(t, "c1", got[0].Pod.ContainerID, "of the pod to which the address was given")
	assert.Equal(t, "pod shop/payment-c2", got[0].Attributes[event.KeyCNIOther])
	assert.Equal(t, "c2", got[0].Attributes[event.KeyCNIOtherContainerID])
	assert.Equal(t, "payment-c2", got[0].Attributes[event.KeyCNIOtherPodName])
	apart := func(w *world) {
		w.attached(2).Network = "other"
		w.host("veth2").Master = 0
	}
	assert.Empty(t, same(apart), "another network on another bridge may use the same addresses")
	assert.Len(t, same(func(w *world) { w.attached(2).Network = "other" }), 1, "another network on the same bridge may not")
}

// Of whom a collision is told does not depend on the order in which they are read.
func TestDuplicateIsToldOfTheOneItHurts(t *testing.T) {
	t.Parallel()
	const address = "10.0.0.2"
	for name, tc := range map[string]struct {
		change  func(*world)
		subject string
		others  []string
	}{
		"given to one": {func(*world) {}, "c1", []string{"c2"}},
		"given to the other": {func(w *world) {
			w.attached(1).Addresses, w.attached(2).Addresses = w.attached(2).Addresses, w.attached(1).Addresses
		}, "c2", []string{"c1"}},
		"given to both, the second first": {func(w *world) {
			w.attached(2).Addresses = w.attached(1).Addresses
			w.attached(1).Made, w.attached(2).Made = w.At, w.At.Add(-time.Hour)
		}, "c2", []string{"c1"}},
		"forbidden by the kernel": {func(w *world) { w.eth0(2).Addresses[0].IsDuplicate = true }, "c2", []string{"c1"}},
		"three":                   {func(w *world) { w.eth0(3).Addresses = addresses(address + "/27") }, "c1", []string{"c2", "c3"}},
		"the host, too": {func(w *world) {
			w.Namespaces[0].Links[0].Addresses = append(w.Namespaces[0].Links[0].Addresses, addresses(address+"/32")...)
		}, "c1", []string{"c2", ""}},
	} {
		for _, reversed := range []bool{false, true} {
			w := newWorld(1, 2, 3)
			w.eth0(2).Addresses = addresses(address + "/27")
			tc.change(w)
			if reversed {
				slices.Reverse(w.Results)
				slices.Reverse(w.Namespaces)
			}
			w.after(0)
			var others []string
			for _, ev := range only(w.after(time.Second), event.CNIAddressDuplicate) {
				assert.Equal(t, tc.subject, ev.Pod.ContainerID, name)
				other, _ := ev.Attributes[event.KeyCNIOtherContainerID].(string)
				others = append(others, other)
			}
			assert.ElementsMatch(t, tc.others, others, name)
		}
	}
}

// A route of the result is there when packets go by it, or by one that is preferred.
func TestRoutesOfPods(t *testing.T) {
	t.Parallel()
	to, gateway, other := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")
	by := func(metric int, gateways ...netip.Addr) Route {
		return Route{Destination: to, Gateways: gateways, Metric: metric}
	}
	for name, tc := range map[string]struct {
		want   netip.Addr
		routes []Route
		wrong  string
	}{
		"none":                  {gateway, nil, "has no route to 0.0.0.0/0 any more"},
		"as made":               {gateway, []Route{by(0, gateway)}, ""},
		"any gateway":           {netip.Addr{}, []Route{by(0, other)}, ""},
		"one of several ways":   {gateway, []Route{by(0, other, gateway)}, ""},
		"another is preferred":  {gateway, []Route{by(100, gateway), by(0, other)}, ""},
		"another gateway":       {gateway, []Route{by(0, other)}, "has no route to 0.0.0.0/0 by 10.0.0.1 any more: it goes by 10.0.0.9"},
		"no gateway":            {gateway, []Route{by(0)}, "has no route to 0.0.0.0/0 by 10.0.0.1 any more: it goes by no gateway"},
		"blackhole":             {gateway, []Route{{Destination: to, Refuses: "blackhole"}}, "has no route to 0.0.0.0/0 any more: the one there is of type blackhole"},
		"blackhole before it":   {gateway, []Route{by(100, gateway), {Destination: to, Refuses: "prohibit"}}, "has no route to 0.0.0.0/0 any more: the one there is of type prohibit"},
		"unreachable behind it": {gateway, []Route{by(0, gateway), {Destination: to, Refuses: "unreachable", Metric: 4278198272}}, ""},
	} {
		ns := Namespace{Routes: tc.routes}
		assert.Equal(t, tc.wrong, ns.lacks(result.Route{Destination: to, Gateway: tc.want}), name)
	}

	w := newWorld(1)
	w.after(0)
	w.pod(1).Routes = []Route{by(0, other)}
	w.after(time.Millisecond)
	got := w.after(time.Minute)
	require.Equal(t, []string{event.CNIRouteMissing}, names(got))
	assert.Equal(t, "Pod shop/payment-c1 has no route to 0.0.0.0/0 by 10.0.0.1 any more: it goes by 10.0.0.9", got[0].Body)
	// The gateway is that of the address when the route has none, for plugins that do so.
	for plugin, want := range map[string]netip.Addr{"bridge": gateway, "ptp": gateway, "flannel": gateway, "calico": {}} {
		a := attachment{Attachment: &result.Attachment{Plugins: []string{plugin}, Gateways: []netip.Addr{netip.MustParseAddr("fd00::1"), gateway}}}
		assert.Equal(t, want, a.gateway(result.Route{Destination: to}), plugin)
		assert.False(t, a.gateway(result.Route{Destination: to, IsOnLink: true}).IsValid(), plugin)
		assert.Equal(t, other, a.gateway(result.Route{Destination: to, Gateway: other}), plugin)
	}
	w.pod(1).Routes[0] = Route{Destination: to, Refuses: "blackhole"}
	w.after(time.Millisecond)
	assert.Equal(t, []string{event.CNIRouteMissing}, names(w.after(time.Minute)), "it is missing in another way")
}

// An address that the host never reached is not missed because another one is.
func TestOnlyAddressesThatWereReachedAreMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	six := netip.MustParsePrefix("fd00::2/64")
	w.attached(1).Addresses = append(w.attached(1).Addresses, six)
	w.eth0(1).Addresses = append(w.eth0(1).Addresses, addresses(six.String())...)
	w.HostRoutes[six.Addr()] = 0
	w.after(0)
	assert.Empty(t, append(w.after(time.Second), w.after(time.Hour)...))
	w.HostRoutes[six.Addr()] = 2
	w.after(time.Second)
	w.HostRoutes[six.Addr()] = 0
	w.after(time.Second)
	got := w.after(time.Second)
	require.Equal(t, []string{event.CNIRouteMissing}, names(got))
	assert.Equal(t, "fd00::2/128", got[0].Attributes[event.KeyCNIRoute])
}

func TestBridgeWithoutGatewayHasNoRouteToMiss(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.HostRoutes[netip.MustParseAddr("10.0.0.2")] = 1 // by the default route, from the start
	w.after(0)
	assert.Empty(t, w.after(time.Hour))
}

func TestPeoplesOwnNamespacesAreNotLeaked(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	w.pod(1).Paths, w.Results[0].Netns = []string{"/run/netns/mine"}, "/run/netns/mine"
	w.pod(1).HasProcess = false
	w.after(0)
	assert.Empty(t, w.after(time.Hour))
}

func TestConditionsAreBounded(t *testing.T) {
	t.Parallel()
	tr := newTracker(2)
	p := &Picture{At: begin}
	var all []condition
	for i := range 5 {
		all = append(all, condition{key: fmt.Sprint(i), event: Event{Name: "e"}})
	}
	assert.Len(t, tr.update(p, all, nil), 2)
	assert.Equal(t, int64(3), tr.dropped)
	assert.Len(t, tr.update(p, nil, nil), 2, "both are over")
	assert.Empty(t, tr.held)
}

func TestAnotherMistakeIsToldAgain(t *testing.T) {
	t.Parallel()
	tr := newTracker(10)
	at := func(s int, version string) []Event {
		p := &Picture{At: begin.Add(time.Duration(s) * time.Second)}
		if version == "" {
			return tr.update(p, nil, nil)
		}
		return tr.update(p, []condition{{key: "k", version: version, hold: time.Second, event: Event{Name: "e", Body: version}}}, nil)
	}
	assert.Empty(t, at(0, "a"))
	assert.Len(t, at(1, "a"), 1)
	assert.Empty(t, at(2, "b"))
	got := at(3, "b")
	require.Len(t, got, 1)
	assert.Equal(t, "b", got[0].Body)
	assert.Empty(t, at(4, "c"))
	over := at(5, "")
	require.Len(t, over, 1)
	assert.Equal(t, "Over: b", over[0].Body, "what was told last, not what never was")
}
