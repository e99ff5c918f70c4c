package state

import (
	"fmt"
	"net/netip"
	"path"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// leakSources must all be seen to call something leaked: an owner that cannot be
// seen is an owner.
var leakSources = []Source{SourceConfig, SourceResults, SourcePools, SourceNamespaces, SourcePods, SourceProcesses}

// leakConditions tells what nobody owns.
func leakConditions(v *view) []condition {
	if !v.Sees(leakSources...) {
		return nil
	}
	out := namespaceLeaks(v)
	for _, r := range leftReservations(v) {
		out = append(out, addressLeak(v, r))
	}
	return append(out, vethLeaks(v)...)
}

func leak(v *view, key string, ev Event) condition {
	ev.Severity = plog.SeverityNumberWarn
	return condition{key: ev.Name + "/" + key, sources: leakSources, hold: v.settings.Grace, event: ev}
}

// namespaceLeaks: a sandbox's namespace that is pinned, without a process.
func namespaceLeaks(v *view) []condition {
	var out []condition
	for _, ns := range v.Namespaces {
		if !v.isDead(ns) {
			continue
		}
		out = append(out, leak(v, fmt.Sprintf("%d/%s", ns.Inode, ns.Paths[0]), Event{ // after a boot another may have the number
			Name:       event.CNINamespaceLeaked,
			Body:       fmt.Sprintf("Network namespace %s is left over: no process lives in it", ns.Paths[0]),
			Attributes: map[string]any{event.KeyCNINetns: ns.Paths[0], event.KeyNetworkNamespace: int64(ns.Inode)},
		}))
	}
	return out
}

// leftReservations: neither an interface nor a living container nor a
// result with a living namespace has the address.
func leftReservations(v *view) []Reservation {
	used := make(map[netip.Addr]bool)
	for _, ns := range v.Namespaces {
		if v.isDead(ns) {
			continue
		}
		for i := range ns.Links {
			for _, a := range ns.Links[i].Addresses {
				used[a.Prefix.Addr()] = true
			}
		}
	}
	owners := make(map[string]bool)
	for _, a := range v.attached {
		if v.lives(a) {
			owners[a.ContainerID] = true
		}
	}
	var out []Reservation
	for _, r := range v.Reservations {
		if !used[r.Address] && !owners[r.ContainerID] && !v.Containers[r.ContainerID] {
			out = append(out, r)
		}
	}
	return out
}

// addressLeak is of a reservation that is left over.
func addressLeak(v *view, r Reservation) condition {
	attrs := map[string]any{
		event.KeyCNINetwork: r.Network, event.KeyCNIAddress: r.Address.String(), event.KeyCNIAge: v.At.Sub(r.Since).Seconds(),
		event.KeyFilePath: path.Join(r.Dir, r.Address.String()),
	}
	if r.IfName != "" {
		attrs[event.KeyInterfaceName] = r.IfName
	}
	return leak(v, r.Dir+"/"+r.Address.String()+"/"+r.ContainerID, Event{
		Name: event.CNIAddressLeaked, Pod: Pod{ContainerID: r.ContainerID}, Attributes: attrs,
		Body: fmt.Sprintf("Address %s of network %s is left over: %s", r.Address, r.Network, r.whyLeft()),
	})
}

// whyLeft says why nobody owns the address. An ADD that was interrupted leaves a file
// without an owner.
func (r Reservation) whyLeft() string {
	if r.ContainerID == "" {
		return "its reservation, " + path.Join(r.Dir, r.Address.String()) + ", names no container"
	}
	return "container " + r.ContainerID + ", which has it reserved, does not live"
}

// vethLeaks: one that leads to a namespace that is left over, or to an interface
// on a network's bridge with neither an address nor a result: an ADD that
// failed halfway.
func vethLeaks(v *view) []condition {
	if v.host == nil {
		return nil
	}
	bridges := v.bridges()
	owned := make(map[string]bool)
	for _, a := range v.attached {
		if !v.lives(a) {
			continue
		}
		for _, name := range a.HostInterfaces {
			owned[name] = true
		}
		if a.host != nil {
			owned[a.host.Name] = true
		}
	}
	var out []condition
	for i := range v.host.Links {
		l := &v.host.Links[i]
		ns := v.byInode[l.PeerNamespace]
		if l.Kind != "veth" || l.PeerNamespace == 0 || ns == nil || owned[l.Name] {
			continue
		}
		var reason string
		switch {
		case v.isDead(ns):
			reason = fmt.Sprintf("no process lives in %s, where it leads", ns.Paths[0])
		case (bridges[l.Master] || v.isRuntimes(ns)) && isBare(ns, l.Peer):
			reason = fmt.Sprintf("the interface in %s, where it leads, has no address, and no ADD that succeeded made it", ns.Paths[0])
		default:
			continue
		}
		out = append(out, leak(v, fmt.Sprintf("%s/%d", l.Name, l.Index), Event{
			Name: event.CNIInterfaceLeaked, Body: fmt.Sprintf("Interface %s of the host is left over: %s", l.Name, reason),
			Attributes: map[string]any{
				event.KeyInterfaceName: l.Name, event.KeyCNIReason: reason, event.KeyNetworkNamespace: int64(v.host.Inode),
			},
		}))
	}
	return out
}

// bridges are the indexes of the bridges that configurations and results name.
func (v *view) bridges() map[int]bool {
	out := make(map[int]bool)
	add := func(name string) {
		if l := v.host.named(name); l != nil && l.Kind == Bridge {
			out[l.Index] = true
		}
	}
	for name := range v.bridgeNames {
		add(name)
	}
	for _, a := range v.attached {
		for _, name := range a.HostInterfaces {
			add(name)
		}
	}
	return out
}

// bridgeNames are the names of bridges in configurations.
func bridgeNames(configs []ConfigFile) map[string]bool {
	out := make(map[string]bool)
	for _, c := range configs {
		if c.Network == nil {
			continue
		}
		for _, p := range c.Network.Plugins {
			switch {
			case p.Bridge != "":
				out[p.Bridge] = true
			case p.Type == Bridge:
				out[defaultBridge] = true
			}
		}
	}
	return out
}

// defaultBridge is what the bridge plugin calls its bridge when the
// configuration gives no name.
const defaultBridge = "cni0"

// isBare says whether an interface has no address but those that the kernel makes.
func isBare(ns *Namespace, index int) bool {
	l := ns.link(index)
	if l == nil || !ns.Entered {
		return false
	}
	for _, a := range l.Addresses {
		if !a.IsLinkLocal {
			return false
		}
	}
	return true
}
