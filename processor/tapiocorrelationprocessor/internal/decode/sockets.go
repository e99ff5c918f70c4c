package decode

import (
	"net/netip"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// sockets tells the graph what the kernel knows of sockets: who listens at which
// address, and who is connected with whom.
func (d *Decoder) sockets(name string, attrs pcommon.Map, ref topology.Ref, at int64) {
	switch name {
	case event.TCPListen:
		if text(attrs, event.KeyConnectionState) == "listen" {
			d.listens(text(attrs, event.KeyLocalAddress), integer(attrs, event.KeyLocalPort), ref, at)
		}
	case event.UDPListen:
		d.listens(text(attrs, event.KeyLocalAddress), integer(attrs, event.KeyLocalPort), ref, at)
	case event.TCPConnections:
		if text(attrs, event.KeyTCPRole) == "server" {
			d.listens(text(attrs, event.KeyLocalAddress), integer(attrs, event.KeyLocalPort), ref, at)
			return
		}
		peer := d.graph.Address(ref.Network, text(attrs, event.KeyPeerAddress), integer(attrs, event.KeyPeerPort), at)
		d.graph.Called(ref.Service, d.graph.ServiceOf(d.graph.Owner(peer, at)), at)
	}
}

// listens notes a listener. Of one that takes connections to all addresses the
// loopback address alone is known here; the others are, once it is connected.
func (d *Decoder) listens(address string, port int64, ref topology.Ref, at int64) {
	if a, err := netip.ParseAddr(address); err == nil && a.IsUnspecified() {
		address = "127.0.0.1"
	}
	d.graph.Listens(d.graph.Address(ref.Network, address, port, at), ref.Subject, at)
}

func text(attrs pcommon.Map, key string) string {
	if v, ok := attrs.Get(key); ok {
		return v.Str()
	}
	return ""
}

func integer(attrs pcommon.Map, key string) int64 {
	if v, ok := attrs.Get(key); ok {
		return v.Int()
	}
	return 0
}
