package state

import (
	"fmt"
	"net/netip"

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

// duplicateConditions tells which pods' addresses somebody else has too.
func duplicateConditions(v *view) []condition {
	var out []condition
	bearers := v.bearers()
	for i := range v.attached {
		a := &v.attached[i]
		if a.link == nil {
			continue
		}
		for _, address := range a.link.Addresses {
			if address.IsLinkLocal {
				continue
			}
			if address.IsDuplicate {
				out = append(out, a.duplicate(v, address.Prefix.Addr(), "a neighbor on the same link"))
				continue
			}
			for _, other := range bearers[address.Prefix.Addr()] {
				if a.collides(other) {
					out = append(out, a.duplicate(v, address.Prefix.Addr(), other.who()))
					break
				}
			}
		}
	}
	return out
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

func (a *attachment) duplicate(v *view, address netip.Addr, other string) condition {
	c := a.condition(v, address.String(), Event{
		Name: event.CNIAddressDuplicate, Severity: plog.SeverityNumberError,
		Body:       fmt.Sprintf("Address %s of %s is also that of %s", address, a.who(), other),
		Attributes: a.attributes(map[string]any{event.KeyCNIAddress: address.String(), event.KeyCNIOther: other}),
	})
	c.about = a.linkPart()
	return c
}
