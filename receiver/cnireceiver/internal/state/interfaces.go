package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// States of an interface, the values of tapio.cni.interface.state.
const (
	stateMissing   = "missing"
	stateDown      = "down"
	stateNoCarrier = "no_carrier"
)

// interfaceConditions compares each pod's interface with its result and with
// its other end.
func (d *Decider) interfaceConditions(v *view) []condition {
	var out []condition
	routed := make(map[string]bool)
	for _, a := range v.attached {
		if a.netns == nil || !a.netns.Entered || a.netns.IsHost || v.isDead(a.netns) {
			continue
		}
		if found := a.linkConditions(v); len(found) > 0 {
			out = append(out, found...) // the rest follows from it
			if d.routed[a.Key()] {
				routed[a.Key()] = true
			}
			continue
		}
		out = append(out, a.mtuConditions(v)...)
		out = append(out, a.addressConditions(v)...)
		out = append(out, a.routeConditions(v)...)
		found, ok := a.hostRouteConditions(v, d.routed[a.Key()])
		out = append(out, found...)
		if ok && len(routed) < maxAttachments {
			routed[a.Key()] = true
		}
	}
	d.routed = routed
	return out
}

// condition makes one of the attachment, which must last for the hold time.
func (a attachment) condition(v *view, what string, ev Event) condition {
	ev.Pod = a.pod()
	return condition{
		key: ev.Name + "/" + a.Key() + "/" + what, sources: []Source{SourceResults, SourceNamespaces, SourcePods},
		hold: v.settings.Hold, linger: v.settings.Hold, event: ev,
	}
}

// linkConditions tells what is missing, down or without carrier on the way from
// the pod to the bridge. The first that is wrong explains the others.
func (a attachment) linkConditions(v *view) []condition {
	down := func(name, state string) []condition {
		return []condition{a.condition(v, name, Event{
			Name: event.CNIInterfaceDown, Severity: plog.SeverityNumberError,
			Body:       fmt.Sprintf("%s cannot be reached: %s", title(a.who()), wrong(name, state)),
			Attributes: a.attributes(map[string]any{event.KeyInterfaceName: name, event.KeyCNIInterfaceState: state}),
		})}
	}
	switch {
	case a.link == nil:
		return down(a.IfName, stateMissing)
	case !a.link.Up:
		return down(a.IfName, stateDown)
	case a.host != nil && !a.host.Up:
		return down(a.host.Name, stateDown)
	case a.bridge != nil && !a.bridge.Up:
		return []condition{a.bridgeDown(v, a.bridge.Name, stateDown)}
	}
	for _, name := range a.HostInterfaces {
		if v.host.named(name) == nil { // the pod's own end would be missing with its veth
			return []condition{a.bridgeDown(v, name, stateMissing)}
		}
	}
	if !a.link.Carrier {
		return []condition{a.condition(v, a.IfName, Event{
			Name: event.CNIInterfaceCarrierLost, Severity: plog.SeverityNumberError,
			Body:       fmt.Sprintf("%s cannot be reached: %s has no carrier", title(a.who()), a.IfName),
			Attributes: a.attributes(map[string]any{event.KeyCNIInterfaceState: stateNoCarrier}),
		})}
	}
	return nil
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
	if state == stateMissing {
		return name + " is not there"
	}
	return name + " is down"
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
		sources: []Source{SourceResults, SourceNamespaces, SourcePods}, hold: v.settings.Hold, linger: v.settings.Hold,
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

// routeConditions tells which routes of the result the pod has not.
func (a attachment) routeConditions(v *view) []condition {
	var out []condition
	for _, want := range a.Routes {
		if slices.ContainsFunc(a.netns.Routes, func(have Route) bool { return have.Destination == want }) {
			continue
		}
		out = append(out, a.condition(v, want.String(), Event{
			Name: event.CNIRouteMissing, Severity: plog.SeverityNumberError,
			Body:       fmt.Sprintf("%s has no route to %s any more", title(a.who()), want),
			Attributes: a.attributes(map[string]any{event.KeyCNIRoute: want.String()}),
		}))
	}
	return out
}

// hostRouteConditions tells when the host no longer sends a pod's packets to
// the pod. Only what was right before can be wrong: a bridge may be used
// without an address of the host. ok says that it is, or was, right.
func (a attachment) hostRouteConditions(v *view, wasRight bool) (out []condition, ok bool) {
	if len(a.Plugins) == 0 || a.host == nil {
		return nil, false
	}
	if k, _ := Known(a.Plugins[0]); !k.RoutesByKernel {
		return nil, false
	}
	ok = wasRight
	for _, address := range a.Addresses {
		by, asked := v.HostRoutes[address.Addr()]
		switch {
		case !asked:
		case by == a.host.Index || a.bridge != nil && by == a.bridge.Index:
			ok = true
		case wasRight:
			to := netip.PrefixFrom(address.Addr(), address.Addr().BitLen())
			out = append(out, a.condition(v, "host/"+to.String(), Event{
				Name: event.CNIRouteMissing, Severity: plog.SeverityNumberError,
				Body:       fmt.Sprintf("The host has no route to %s of %s by %s any more", address.Addr(), a.who(), a.host.Name),
				Attributes: a.attributes(map[string]any{event.KeyCNIRoute: to.String(), event.KeyInterfaceName: a.host.Name}),
			}))
		}
	}
	return out, ok
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
	var out []condition
	for index, name := range d.uplinks {
		l := v.host.link(index)
		switch {
		case l == nil && v.host.named(name) != nil: // made anew
			delete(d.uplinks, index)
		case l == nil:
			out = append(out, uplinkCondition(v, name, event.CNIInterfaceDown, stateMissing, "is not there any more"))
		case !l.Up:
			out = append(out, uplinkCondition(v, name, event.CNIInterfaceDown, stateDown, "is down"))
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
		key: ev + "/host/" + name, sources: []Source{SourceNamespaces}, hold: v.settings.Hold, linger: v.settings.Hold,
		event: Event{
			Name: ev, Severity: plog.SeverityNumberError, Body: fmt.Sprintf("Interface %s of the host %s", name, what),
			Attributes: map[string]any{
				event.KeyInterfaceName: name, event.KeyCNIInterfaceState: state, event.KeyNetworkNamespace: int64(v.host.Inode),
			},
		},
	}
}
