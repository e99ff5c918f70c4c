package ebpfreceiver

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// maxDrops bounds the records of one sample; the most frequent are sent.
const maxDrops = 64

// benignDrops are reasons for which the kernel frees packets in its daily round,
// as far as this kernel has them: what was received twice, came for somebody else,
// waited in a socket that is closed, or ended a connection.
var benignDrops = []string{
	"skb_not_dropped_yet", "skb_consumed", "not_specified",
	"socket_close", "socket_filter", "unix_disconnect", "unix_skip_oob", "queue_purge", "packet_sock_error",
	"otherhost", "unhandled_proto", "unicast_in_l2_multicast", "ipv6disabled", "ipv6_ndisc_ns_otherhost", "tap_filter", "tap_txfilter",
	"tcp_old_data", "tcp_ofomerge", "tcp_old_sequence", "tcp_old_ack", "tcp_reset", "tcp_close", "tcp_flags", "tcp_abort_on_data", "tcp_fastopen",
}

// benignBits has a bit for each benign reason below 256, by the kernel's numbers.
func benignBits(reasons map[uint32]string) (bits [4]uint64) {
	for number, name := range reasons {
		if number < 256 && slices.Contains(benignDrops, name) {
			bits[number/64] |= 1 << (number % 64)
		}
	}
	return bits
}

// dropsEvent counts the packets that the kernel threw away for one reason.
type dropsEvent struct {
	base
	reason string
	// reasonNumber is that by its number.
	reasonNumber uint32
	// protocol is the number of the protocol over IP, 0 when it is not known.
	protocol uint8
	// port is the socket's when hasSocket is set, else the destination's; 0 for none.
	port      uint16
	hasSocket bool
	netns     uint32
	count     uint64
	interval  time.Duration
}

func (dropsEvent) name() string   { return event.PacketsDropped }
func (dropsEvent) isUrgent() bool { return false }

// transports are names of network.transport, by the numbers of IANA.
var transports = map[uint8]string{0: "unknown", 1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}

func transportName(protocol uint8) string {
	if name, ok := transports[protocol]; ok {
		return name
	}
	return "protocol_" + strconv.Itoa(int(protocol))
}

func (e *encoder) recordDrops(at pcommon.Timestamp, ev dropsEvent) (plog.SeverityNumber, string) {
	var options []metadata.EventAttributeOption
	transport, where := transportName(ev.protocol), ""
	if ev.port != 0 {
		if ev.hasSocket {
			options = append(options, metadata.WithNetworkLocalPortEventAttribute(int64(ev.port)))
		} else {
			options = append(options, metadata.WithDestinationPortEventAttribute(int64(ev.port)))
		}
		where = fmt.Sprintf(" of %s port %d", transport, ev.port)
	}
	e.builder.RecordTapioPacketsDroppedEvent(context.Background(), at, ev.reason, int64(ev.count), transport, int64(ev.netns),
		ev.interval.Seconds(), options...)
	return plog.SeverityNumberWarn, fmt.Sprintf("The kernel dropped %d packets%s in %v: %s", ev.count, where, ev.interval, ev.reason)
}
