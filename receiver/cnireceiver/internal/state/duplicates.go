package state

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// bearer is an interface that has an address.
type bearer struct {
	netns *Namespace
	link  *Link
	// attachment is nil for what CNI has not made.
	attachment *attachment
	// bridge is the index of the host's bridge behind it, 0 for none.
	bridge int
}

// duplicateConditions tells which pods' addresses somebody else has too: of each collision
// once, of the one that it hurts, in which the other is named.
func duplicateConditions(v *view) []condition {
	var out []condition
	bearers := v.bearers()
	for _, address := range slices.SortedFunc(maps.Keys(bearers), netip.Addr.Compare) {
		have := bearers[address]
		slices.SortStableFunc(have, func(a, b bearer) int { return a.compare(b, address) })
		named := make(map[*Link]bool)
		for _, a := range have {
			if a.attachment == nil || named[a.link] {
				continue
			}
			told := false
			for _, other := range have {
				if !named[other.link] && a.attachment.collides(other) {
					named[other.link], told = true, true
					out = append(out, a.attachment.duplicate(v, address, other.who(), other.attachment))
				}
			}
			if !told && a.isDuplicate(address) {
				out = append(out, a.attachment.duplicate(v, address, "a neighbor on the same link", nil))
			}
			named[a.link] = true
		}
	}
	return out
}

// compare orders who has an address by whom a collision hurts most: first whom the kernel
// forbids to use it, then who has it by right, then who had it first.
func (b bearer) compare(other bearer, address netip.Addr) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	if c := first(b.attachment != nil, other.attachment != nil); c != 0 || b.attachment == nil {
		return c
	}
	return cmp.Or(
		first(b.isDuplicate(address), other.isDuplicate(address)),
		first(b.attachment.given(address), other.attachment.given(address)),
		b.attachment.Made.Compare(other.attachment.Made),
		cmp.Compare(b.attachment.Key(), other.attachment.Key()),
	)
}

// isDuplicate tells whether the kernel found another owner of an address of the interface.
func (b bearer) isDuplicate(address netip.Addr) bool {
	return slices.ContainsFunc(b.link.Addresses, func(a Address) bool { return a.IsDuplicate && a.Prefix.Addr() == address })
}

// given tells whether the plugin gave the interface an address.
func (a *attachment) given(address netip.Addr) bool {
	return slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Addr() == address })
}

// bearers finds who has each address, over all namespaces.
func (v *view) bearers() map[netip.Addr][]bearer {
	type place struct {
		inode uint64
		index int
	}
	attached := make(map[place]*attachment)
	for i := range v.attached {
		if a := &v.attached[i]; a.link != nil {
			attached[place{a.netns.Inode, a.link.Index}] = a
		}
	}
	ends := v.hostEnds()
	out := make(map[netip.Addr][]bearer)
	for _, ns := range v.Namespaces {
		for i := range ns.Links {
			l := &ns.Links[i]
			b := bearer{netns: ns, link: l, attachment: attached[place{ns.Inode, l.Index}]}
			if host := ends[end{ns.Inode, l.Index}]; host != nil {
				b.bridge = host.Master
			}
			for _, a := range l.Addresses {
				if !a.IsLinkLocal && !a.Prefix.Addr().IsLoopback() {
					out[a.Prefix.Addr()] = append(out[a.Prefix.Addr()], b)
				}
			}
		}
	}
	return out
}

// collides says whether two interfaces with the same address disturb each
// other: in one network, behind one bridge, or one of them is the host's. Networks
// that are apart may use the same addresses.
func (a *attachment) collides(other bearer) bool {
	if other.netns.Inode == a.netns.Inode {
		return false
	}
	switch {
	case other.netns.IsHost:
		return true
	case other.attachment != nil && other.attachment.Network == a.Network:
		return true
	default:
		return a.bridge != nil && other.bridge == a.bridge.Index
	}
}

func (b bearer) who() string {
	switch {
	case b.attachment != nil:
		return b.attachment.who()
	case b.netns.IsHost:
		return b.link.Name + " of the host"
	case len(b.netns.Paths) > 0:
		return fmt.Sprintf("%s in %s", b.link.Name, b.netns.Paths[0])
	default:
		return b.link.Name
	}
}

// duplicate is a collision with somebody, who is an attachment too or nil.
func (a *attachment) duplicate(v *view, address netip.Addr, who string, other *attachment) condition {
	attrs := map[string]any{event.KeyCNIAddress: address.String(), event.KeyCNIOther: who}
	if other != nil {
		for key, value := range map[string]string{
			event.KeyCNIOtherContainerID: other.ContainerID, event.KeyCNIOtherPodUID: other.PodUID,
			event.KeyCNIOtherPodName: other.PodName, event.KeyCNIOtherPodNamespace: other.PodNamespace,
		} {
			if value != "" {
				attrs[key] = value
			}
		}
	}
	c := a.condition(v, address.String()+"/"+who, Event{
		Name: event.CNIAddressDuplicate, Severity: plog.SeverityNumberError,
		Body:       fmt.Sprintf("Address %s of %s is also that of %s", address, a.who(), who),
		Attributes: a.attributes(attrs),
	})
	c.about = a.linkPart()
	return c
}
