package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
)

// States of an interface, the values of tapio.cni.interface.state.
const (
	stateMissing   = "missing"
	stateDown      = "down"
	stateNoCarrier = "no_carrier"
	stateDetached  = "detached"
)

// interfaceConditions compares each pod's interface with its result and with
// its other end.
func (d *Decider) interfaceConditions(v *view) []condition {
	var out []condition
	routed := make(map[string]bool)
	for _, a := range v.attached {
		if !a.HasInterface || a.netns == nil || !a.netns.Entered || a.netns.IsHost || v.isDead(a.netns) {
			continue
		}
		found := append(a.bridgeConditions(v), a.linkConditions(v)...)
		out = append(out, found...)
		v.explained[a.linkPart()] = a.link == nil
		if len(found) > 0 { // the rest follows from it
			v.explained[a.Key()] = true
			for _, address := range a.Addresses {
				if key := a.routedKey(address); d.routed[key] {
					routed[key] = true
				}
			}
			continue
		}
		out = append(out, a.mtuConditions(v)...)
		out = append(out, a.addressConditions(v)...)
		out = append(out, a.routeConditions(v)...)
		out = append(out, a.hostRouteConditions(v, d.routed, routed)...)
	}
	d.routed = routed
	return out
}

// linkPart is what of the attachment is seen as long as its interface is there; the
// rest (Key) as long as that works.
func (a attachment) linkPart() string { return "link/" + a.Key() }

// condition makes one of the attachment, which must last for the hold time. After
// another ADD for the same container it is another interface's: hardware addresses are
// made anew.
func (a attachment) condition(v *view, what string, ev Event) condition {
	ev.Pod = a.pod()
	return condition{
		key: ev.Name + "/" + a.Key() + "/" + what, sources: []Source{SourceResults, SourceNamespaces, SourcePods},
		hold: v.settings.Hold, linger: v.settings.Hold, about: a.Key(), version: a.MAC, event: ev,
	}
}

// linkConditions tells what is missing, down or without carrier on the way from
// the pod to the host. The first that is wrong explains the others.
func (a attachment) linkConditions(v *view) []condition {
	var out []condition
	add := func(name, state string) {
		c := a.unreachable(v, name, state)
		c.about, c.weak = a.linkPart(), len(out) > 0
		out = append(out, c)
	}
	if a.link == nil {
		add(a.IfName, stateMissing)
		return out
	}
	if !a.link.Up {
		add(a.IfName, stateDown)
	}
	if name := a.lostHostEnd(v); name != "" {
		add(name, stateMissing)
	} else if a.host != nil && !a.host.Up {
		add(a.host.Name, stateDown)
	}
	if !a.link.Carrier {
		add(a.IfName, stateNoCarrier)
	}
	return out
}

// unreachable is that an interface on the way to the pod is in a state in which it is not.
func (a attachment) unreachable(v *view, name, state string) condition {
	ev := Event{
		Name: event.CNIInterfaceDown, Severity: plog.SeverityNumberError,
		Body:       fmt.Sprintf("%s cannot be reached: %s", title(a.who()), wrong(name, state)),
		Attributes: a.attributes(map[string]any{event.KeyInterfaceName: name, event.KeyCNIInterfaceState: state}),
	}
	if state == stateNoCarrier {
		ev.Name = event.CNIInterfaceCarrierLost
	}
	return a.condition(v, name, ev)
}

// lostHostEnd is the name of the interface's other end that the host has no more,
// "" when it has it: perhaps under another name.
func (a attachment) lostHostEnd(v *view) string {
	if a.host != nil {
		return ""
	}
	for _, name := range a.HostInterfaces {
		if v.host.named(name) == nil && !v.isBridge(a, name) {
			return name
		}
	}
	return ""
}

// bridgeConditions tells that the bridge behind the pod is down, or missing, or that the
// pod's other end is on none any more.
func (a attachment) bridgeConditions(v *view) []condition {
	if a.bridge != nil { // perhaps under another name than in the result
		if !a.bridge.Up {
			return []condition{a.bridgeDown(v, a.bridge.Name, stateDown)}
		}
		return nil
	}
	for _, name := range a.HostInterfaces {
		switch l := v.host.named(name); {
		case l == nil && v.isBridge(a, name):
			return []condition{a.bridgeDown(v, name, stateMissing)}
		case l != nil && l.Kind == Bridge && !l.Up:
			return []condition{a.bridgeDown(v, name, stateDown)}
		case l != nil && l.Kind == Bridge && a.host != nil && a.host.Up && a.host.Master == 0:
			return []condition{a.unreachable(v, a.host.Name, stateDetached)}
		}
	}
	return nil
}

// isBridge says whether a name in a result is that of a bridge, also when it is not
// there: a configuration names it so, or another pod has it too.
func (v *view) isBridge(a attachment, name string) bool {
	if v.bridgeNames[name] {
		return true
	}
	return slices.ContainsFunc(v.attached, func(other attachment) bool {
		return other.who() != a.who() && slices.Contains(other.HostInterfaces, name)
	})
}

// bridgeDown is about all pods of a network, and told once.
func (a attachment) bridgeDown(v *view, name, state string) condition {
	return condition{
		key: event.CNIInterfaceDown + "/bridge/" + name, sources: []Source{SourceResults, SourceNamespaces, SourcePods}, hold: v.settings.Hold, linger: v.settings.Hold,
		event: Event{
			Name: event.CNIInterfaceDown, Severity: plog.SeverityNumberError,
			Body: fmt.Sprintf("No pod of network %s can be reached: %s", a.Network, wrong(name, state)),
			Attributes: map[string]any{
				event.KeyInterfaceName: name, event.KeyCNIInterfaceState: state, event.KeyCNINetwork: a.Network,
				event.KeyNetworkNamespace: int64(v.host.Inode),
			},
		},
	}
}

func wrong(name, state string) string {
	switch state {
	case stateMissing:
		return name + " is not there"
	case stateNoCarrier:
		return name + " has no carrier"
	case stateDetached:
		return name + " is on no bridge any more"
	default:
		return name + " is down"
	}
}

// mtuConditions compares the pod's interface with its other end and with the
// bridge. A smaller interface in the pod than the bridge's is allowed: it sends
// less than it may.
func (a attachment) mtuConditions(v *view) []condition {
	if a.host != nil && a.link.MTU != a.host.MTU {
		return []condition{a.condition(v, a.host.Name, Event{
			Name: event.CNIInterfaceMTUMismatch, Severity: plog.SeverityNumberWarn,
			Body: fmt.Sprintf("%s has MTU %d at %s and %s on the host has %d: larger packets may be lost",
				title(a.who()), a.link.MTU, a.IfName, a.host.Name, a.host.MTU),
			Attributes: a.attributes(map[string]any{
				event.KeyCNIMTU: int64(a.link.MTU), event.KeyCNIMTUExpected: int64(a.host.MTU), event.KeyCNIOther: a.host.Name,
			}),
		})}
	}
	if a.bridge == nil || a.link.MTU <= a.bridge.MTU {
		return nil
	}
	return []condition{{ // about all such pods of the network, and told once
		key:     fmt.Sprintf("%s/%s/%s/%d", event.CNIInterfaceMTUMismatch, a.Network, a.bridge.Name, a.link.MTU),
		sources: []Source{SourceResults, SourceNamespaces, SourcePods}, hold: v.settings.Hold, linger: v.settings.Hold, about: a.Key(),
		event: Event{
			Name: event.CNIInterfaceMTUMismatch, Severity: plog.SeverityNumberWarn,
			Body: fmt.Sprintf("Pods of network %s have MTU %d and bridge %s has %d: larger packets between them are lost",
				a.Network, a.link.MTU, a.bridge.Name, a.bridge.MTU),
			Attributes: map[string]any{
				event.KeyInterfaceName: a.bridge.Name, event.KeyCNIMTU: int64(a.link.MTU), event.KeyCNIMTUExpected: int64(a.bridge.MTU),
				event.KeyCNIOther: a.bridge.Name, event.KeyCNINetwork: a.Network, event.KeyNetworkNamespace: int64(v.host.Inode),
			},
		},
	}}
}

// addressConditions tells which addresses of the result the interface has not.
func (a attachment) addressConditions(v *view) []condition {
	var out []condition
	for _, want := range a.Addresses {
		if slices.ContainsFunc(a.link.Addresses, func(have Address) bool { return have.Prefix.Addr() == want.Addr() }) {
			continue
		}
		out = append(out, a.condition(v, want.Addr().String(), Event{
			Name: event.CNIAddressMissing, Severity: plog.SeverityNumberError,
			Body:       fmt.Sprintf("%s has lost its address %s: %s has not got it", title(a.who()), want, a.IfName),
			Attributes: a.attributes(map[string]any{event.KeyCNIAddress: want.Addr().String()}),
		}))
	}
	return out
}

// routeConditions tells which routes of the result the pod has not in its main table.
func (a attachment) routeConditions(v *view) []condition {
	if slices.ContainsFunc(a.Plugins, func(plugin string) bool { return known[plugin].MovesRoutes }) {
		return nil
	}
	var out []condition
	for _, want := range a.Routes {
		want.Gateway = a.gateway(want)
		wrong := a.netns.lacks(want)
		if wrong == "" {
			continue
		}
		c := a.condition(v, want.Destination.String(), Event{
			Name: event.CNIRouteMissing, Severity: plog.SeverityNumberError,
			Body:       title(a.who()) + " " + wrong,
			Attributes: a.attributes(map[string]any{event.KeyCNIRoute: want.Destination.String()}),
		})
		c.version += wrong
		out = append(out, c)
	}
	return out
}

// gateway is that of a route; the zero Addr when any will do.
func (a attachment) gateway(r result.Route) netip.Addr {
	if r.Gateway.IsValid() || r.IsOnLink || len(a.Plugins) == 0 {
		return r.Gateway
	}
	if k, _ := Known(a.Plugins[0]); k.RoutesByGateway {
		for _, gateway := range a.Gateways {
			if gateway.Is4() == r.Destination.Addr().Is4() {
				return gateway
			}
		}
	}
	return netip.Addr{}
}

// lacks says what is wrong with a route that the namespace should have; "" when it
// is there, perhaps behind another that is preferred and works.
func (n *Namespace) lacks(want result.Route) string {
	var best *Route
	for i := range n.Routes {
		have := &n.Routes[i]
		if have.Destination == want.Destination && (best == nil || have.Metric < best.Metric) {
			best = have
		}
	}
	switch {
	case best == nil:
		return fmt.Sprintf("has no route to %s any more", want.Destination)
	case best.Refuses != "":
		return fmt.Sprintf("has no route to %s any more: the one there is of type %s", want.Destination, best.Refuses)
	}
	isThere := func(have Route) bool {
		return have.Destination == want.Destination && (!want.Gateway.IsValid() || slices.Contains(have.Gateways, want.Gateway))
	}
	if slices.ContainsFunc(n.Routes, isThere) {
		return ""
	}
	by := "no gateway"
	if len(best.Gateways) > 0 {
		by = best.Gateways[0].String()
	}
	return fmt.Sprintf("has no route to %s by %s any more: it goes by %s", want.Destination, want.Gateway, by)
}

// routedKey identifies an address of the attachment in Decider.routed.
func (a attachment) routedKey(address netip.Prefix) string {
	return a.Key() + "/" + address.Addr().String()
}

// hostRouteConditions tells when the host no longer sends a pod's packets to
// the pod. Only what was right before can be wrong: a bridge may be used
// without an address of the host. It puts into routed what is, or was, right.
func (a attachment) hostRouteConditions(v *view, before, routed map[string]bool) (out []condition) {
	if len(a.Plugins) == 0 || a.host == nil {
		return nil
	}
	if k, _ := Known(a.Plugins[0]); !k.RoutesByKernel {
		return nil
	}
	for _, address := range a.Addresses {
		key := a.routedKey(address)
		by, asked := v.HostRoutes[address.Addr()]
		isRight := asked && (by == a.host.Index || a.bridge != nil && by == a.bridge.Index)
		if (isRight || before[key]) && len(routed) < maxAttachments {
			routed[key] = true
		}
		if !asked || isRight || !before[key] {
			continue
		}
		to := netip.PrefixFrom(address.Addr(), address.Addr().BitLen())
		out = append(out, a.condition(v, "host/"+to.String(), Event{
			Name: event.CNIRouteMissing, Severity: plog.SeverityNumberError,
			Body:       fmt.Sprintf("The host has no route to %s of %s by %s any more", address.Addr(), a.who(), a.host.Name),
			Attributes: a.attributes(map[string]any{event.KeyCNIRoute: to.String(), event.KeyInterfaceName: a.host.Name}),
		}))
	}
	return out
}

// uplinkConditions tells when an interface by which the host itself is reached
// no longer works. One that never worked since the start is not missed.
func (d *Decider) uplinkConditions(v *view) []condition {
	if v.host == nil {
		return nil
	}
	for i := range v.host.Links {
		if l := &v.host.Links[i]; l.isUplink() && l.Up && l.Carrier && (len(d.uplinks) < maxUplinks || d.uplinks[l.Index] != "") {
			d.uplinks[l.Index] = l.Name // which may be another than before
		}
	}
	for index, name := range d.uplinks {
		if l := v.host.named(name); index < 0 && l != nil { // of another boot: it has another index
			delete(d.uplinks, index)
			d.uplinks[l.Index] = name
		}
	}
	var out []condition
	for index, name := range d.uplinks {
		l := v.host.link(index)
		switch {
		case l == nil && v.host.named(name) != nil: // made anew
			delete(d.uplinks, index)
		case l == nil:
			out = append(out, uplinkCondition(v, name, event.CNIInterfaceDown, stateMissing, "is not there any more"))
			v.explained["uplink/"+name] = true
		case !l.Up:
			out = append(out, uplinkCondition(v, name, event.CNIInterfaceDown, stateDown, "is down"))
			v.explained["uplink/"+name] = true
		case !l.Carrier:
			out = append(out, uplinkCondition(v, name, event.CNIInterfaceCarrierLost, stateNoCarrier, "has no carrier"))
		case !l.isUplink(): // it works and has lost its address: somebody reconfigured it
			delete(d.uplinks, index)
		}
	}
	slices.SortFunc(out, func(a, b condition) int { return cmp.Compare(a.key, b.key) })
	return out
}

// isUplink: hardware, a bond or a vlan with an address of its own. Bridges lose
// their carrier with the last pod.
func (l *Link) isUplink() bool {
	if l.Kind != "" && l.Kind != "bond" && l.Kind != "vlan" {
		return false
	}
	return slices.ContainsFunc(l.Addresses, func(a Address) bool { return !a.IsLinkLocal && !a.Prefix.Addr().IsLoopback() })
}

func uplinkCondition(v *view, name, ev, state, what string) condition {
	return condition{
		key: ev + "/host/" + name, sources: []Source{SourceNamespaces}, hold: v.settings.Hold, linger: v.settings.Hold, about: "uplink/" + name,
		event: Event{
			Name: ev, Severity: plog.SeverityNumberError, Body: fmt.Sprintf("Interface %s of the host %s", name, what),
			Attributes: map[string]any{
				event.KeyInterfaceName: name, event.KeyCNIInterfaceState: state, event.KeyNetworkNamespace: int64(v.host.Inode),
			},
		},
	}
}
