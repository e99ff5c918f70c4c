package state

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
)

// attachment is a cached result, with what the kernel shows of it.
type attachment struct {
	*result.Attachment
	// netns is nil when the namespace is not in the picture.
	netns *Namespace
	// link is the interface in the pod, host its other end, bridge what that is
	// part of. nil for what is not there.
	link, host, bridge *Link
}

// end is a place where a veth leads.
type end struct {
	namespace uint64
	index     int
}

// hostEnds finds the host's veths by where they lead.
func (v *view) hostEnds() map[end]*Link {
	ends := make(map[end]*Link)
	if v.host == nil {
		return ends
	}
	for i := range v.host.Links {
		if l := &v.host.Links[i]; l.PeerNamespace != 0 {
			ends[end{l.PeerNamespace, l.Peer}] = l
		}
	}
	return ends
}

func (v *view) attach(r *result.Attachment, ends map[end]*Link) attachment {
	a := attachment{Attachment: r, netns: v.byPath[r.Netns]}
	if a.netns != nil && a.netns.Entered && a.HasInterface {
		a.link = a.netns.named(r.IfName)
	}
	if a.link != nil {
		a.host = ends[end{a.netns.Inode, a.link.Index}]
	}
	if a.host != nil && a.host.Master != 0 {
		a.bridge = v.host.link(a.host.Master)
	}
	return a
}

// lives says whether the attachment's namespace is still there. What cannot be
// seen lives.
func (v *view) lives(a attachment) bool {
	if a.netns != nil {
		return !v.isDead(a.netns)
	}
	return a.Netns == "" || !v.Sees(SourceNamespaces, SourcePods)
}

// addresses are those that the interface has, or else those of the result.
func (a attachment) addresses() []netip.Prefix {
	if a.link == nil {
		return a.Addresses
	}
	var out []netip.Prefix
	for _, address := range a.link.Addresses {
		if !address.IsLinkLocal {
			out = append(out, address.Prefix)
		}
	}
	return out
}

func (a attachment) pod() Pod {
	p := Pod{ContainerID: a.ContainerID, Name: a.PodName, Namespace: a.PodNamespace, UID: a.PodUID}
	if len(a.Addresses) > 0 {
		p.IP = a.Addresses[0].Addr().String()
	}
	return p
}

// who is what people call it.
func (a attachment) who() string {
	if a.PodName != "" {
		return fmt.Sprintf("pod %s/%s", a.PodNamespace, a.PodName)
	}
	return "container " + a.ContainerID
}

// attributes are those of every event about the attachment, and more.
func (a attachment) attributes(more map[string]any) map[string]any {
	attrs := map[string]any{event.KeyCNINetwork: a.Network, event.KeyInterfaceName: a.IfName}
	if a.netns != nil {
		attrs[event.KeyNetworkNamespace] = int64(a.netns.Inode)
	}
	if a.host != nil {
		attrs[event.KeyCNIHostInterface] = a.host.Name
	}
	maps.Copy(attrs, more)
	return attrs
}

// fact is an attachment as it was told.
type fact struct {
	version string
	event   Event
}

// attachments tells which interfaces pods have: those that came or changed, and
// those that went.
func (d *Decider) attachments(v *view) []Event {
	if !v.Sees(SourceResults) {
		return nil
	}
	var events []Event
	present := make(map[string]bool, len(v.attached))
	for _, a := range v.attached {
		key := a.Key()
		if present[key] || !a.HasInterface || !v.lives(a) {
			continue
		}
		if _, ok := d.facts[key]; !ok && len(d.facts) >= maxAttachments {
			d.dropped["interfaces"]++
			continue
		}
		present[key] = true
		if old, ok := d.facts[key]; ok && a.isGoing(old) {
			continue
		}
		f := a.fact(v)
		if d.facts[key].version != f.version {
			events = append(events, f.event)
		}
		d.facts[key] = f
	}
	for _, key := range slices.Sorted(maps.Keys(d.facts)) {
		if present[key] {
			continue
		}
		events = append(events, removed(d.facts[key].event, v.Picture))
		delete(d.facts, key)
	}
	return events
}

// isGoing says that an end of the interface is not there any more. While a DEL
// runs, the result is still there: what was told holds until it is gone.
func (a attachment) isGoing(told fact) bool {
	_, hadHost := told.event.Attributes[event.KeyCNIHostInterface]
	return a.link == nil || a.host == nil && hadHost
}

func (a attachment) fact(v *view) fact {
	addresses := a.addresses()
	attrs := a.attributes(map[string]any{event.KeyCNIAddresses: anySlice(addresses, prefixText)})
	put := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	put(event.KeyCNINetns, a.Netns)
	put(event.KeyCNIMAC, a.MAC)
	pod := a.pod()
	pod.IP = ""
	if len(addresses) > 0 {
		pod.IP = addresses[0].Addr().String()
		put(event.KeyCNIAddress, pod.IP)
	}
	if a.link != nil {
		put(event.KeyCNIMAC, a.link.MAC)
		attrs[event.KeyCNIMTU] = int64(a.link.MTU)
	}
	return fact{
		version: fmt.Sprint(attrs), // maps print in the order of their keys
		event: Event{
			Name: event.CNIInterface, Time: v.At, Severity: plog.SeverityNumberInfo, Pod: pod, Attributes: attrs,
			Body: fmt.Sprintf("%s has %s in network %s with %s", title(a.who()), a.IfName, a.Network, listText(addresses)),
		},
	}
}

func removed(ev Event, p *Picture) Event {
	ev.Name, ev.Time = event.CNIInterfaceRemoved, p.At
	ev.Body = "No more: " + ev.Body
	return ev
}

func listText(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return "no address"
	}
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

// title begins a sentence with text.
func title(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
