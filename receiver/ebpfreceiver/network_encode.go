package ebpfreceiver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func (e *encoder) recordListen(at pcommon.Timestamp, ev listenEvent) (plog.SeverityNumber, string) {
	state, verb := "listen", "listens"
	if ev.ends {
		state, verb = "closed", "listens no more"
	}
	options := ev.socket.options()
	if ev.isExisting {
		options = append(options, metadata.WithTapioTCPListenExistingEventAttribute(true))
	}
	e.builder.RecordTapioTCPListenEvent(context.Background(), at, "tcp", ev.socket.network(), state,
		int64(ev.socket.netns), int64(ev.backlog), options...)
	return plog.SeverityNumberInfo, fmt.Sprintf("%s %s at %s", title(ev.who), verb, hostPort(ev.socket.local))
}

func (e *encoder) recordUDPListen(at pcommon.Timestamp, ev udpListenEvent) (plog.SeverityNumber, string) {
	e.builder.RecordTapioUDPListenEvent(context.Background(), at, "udp", ev.socket.network(), int64(ev.socket.netns), ev.socket.options()...)
	return plog.SeverityNumberInfo, fmt.Sprintf("%s serves at %s of UDP", title(ev.who), hostPort(ev.socket.local))
}

func (e *encoder) recordReset(at pcommon.Timestamp, ev resetEvent) (plog.SeverityNumber, string) {
	direction, verb := "transmit", "reset its connection with"
	if ev.isReceived {
		direction, verb = "receive", "had its connection reset by"
	}
	options := ev.socket.options()
	if ev.reason != "" {
		options = append(options, metadata.WithTapioTCPResetReasonEventAttribute(ev.reason))
	}
	e.builder.RecordTapioTCPResetEvent(context.Background(), at, "tcp", ev.socket.network(), ev.state, direction,
		int64(ev.socket.netns), options...)
	return plog.SeverityNumberWarn, fmt.Sprintf("%s %s %s", title(ev.who), verb, hostPort(ev.socket.peer))
}

func (e *encoder) recordRetransmit(at pcommon.Timestamp, ev retransmitEvent) (plog.SeverityNumber, string) {
	options := ev.socket.options()
	if ev.rtt > 0 {
		options = append(options, metadata.WithTapioTCPRttEventAttribute(ev.rtt.Seconds()))
	}
	e.builder.RecordTapioTCPRetransmitEvent(context.Background(), at, "tcp", ev.socket.network(), ev.state,
		int64(ev.socket.netns), int64(ev.count), int64(ev.total), options...)
	segments := "segments"
	if ev.count == 1 {
		segments = "segment"
	}
	return plog.SeverityNumberWarn, fmt.Sprintf("%s had to send %d %s to %s again", title(ev.who), ev.count, segments, hostPort(ev.socket.peer))
}

func (e *encoder) recordOverflow(at pcommon.Timestamp, ev overflowEvent) (plog.SeverityNumber, string) {
	e.builder.RecordTapioTCPListenOverflowEvent(context.Background(), at, "tcp", ev.socket.network(), int64(ev.socket.netns),
		int64(ev.dropped), int64(ev.queue), int64(ev.limit), ev.socket.options()...)
	return plog.SeverityNumberError, fmt.Sprintf("%d attempts to connect to %s at %s were dropped: %d wait to be accepted, %d may",
		ev.dropped, title(ev.who), hostPort(ev.socket.local), ev.queue, ev.limit)
}

func (e *encoder) recordConnections(at pcommon.Timestamp, ev connectionsEvent) (plog.SeverityNumber, string) {
	role, peer := "client", hostPort(ev.socket.peer)
	if ev.isServer {
		role, peer = "server", ev.socket.peer.Addr().String()
	}
	options := ev.socket.options()
	if ev.connect > 0 {
		options = append(options, metadata.WithTapioTCPConnectDurationEventAttribute(ev.connect.Seconds()))
	}
	if ev.rtt > 0 {
		options = append(options, metadata.WithTapioTCPRttEventAttribute(ev.rtt.Seconds()))
	}
	e.builder.RecordTapioTCPConnectionsEvent(context.Background(), at, "tcp", ev.socket.network(), int64(ev.socket.netns), role,
		int64(ev.opened), int64(ev.closed), int64(ev.sent), int64(ev.received), int64(ev.retransmits), ev.interval.Seconds(), options...)
	return plog.SeverityNumberDebug, fmt.Sprintf("%s and %s: %d connections opened, %d closed, %s sent, %s received in %v",
		title(ev.who), peer, ev.opened, ev.closed, bytesText(ev.sent), bytesText(ev.received), ev.interval)
}

// options are the attributes of what is known of both ends. An address of all
// (0.0.0.0) counts, one that was never set does not.
func (s endpoints) options() []metadata.EventAttributeOption {
	var options []metadata.EventAttributeOption
	if s.local.IsValid() {
		options = append(options, metadata.WithNetworkLocalAddressEventAttribute(s.local.Addr().String()))
		if s.local.Port() != 0 {
			options = append(options, metadata.WithNetworkLocalPortEventAttribute(int64(s.local.Port())))
		}
	}
	if s.peer.IsValid() && !s.peer.Addr().IsUnspecified() {
		options = append(options, metadata.WithNetworkPeerAddressEventAttribute(s.peer.Addr().String()))
		if s.peer.Port() != 0 {
			options = append(options, metadata.WithNetworkPeerPortEventAttribute(int64(s.peer.Port())))
		}
	}
	return options
}

func (s endpoints) network() string {
	if s.local.Addr().Is6() {
		return "ipv6"
	}
	return "ipv4"
}

func hostPort(a netip.AddrPort) string {
	return net.JoinHostPort(a.Addr().String(), strconv.Itoa(int(a.Port())))
}
