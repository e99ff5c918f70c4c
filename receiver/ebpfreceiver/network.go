package ebpfreceiver

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// endpoints are the two ends of a socket, and its network namespace.
type endpoints struct {
	local, peer netip.AddrPort
	netns       uint32
}

// listenEvent: a process begins, or ends, to listen at an address.
type listenEvent struct {
	base
	socket endpoints
	// ends says that it listens no more, isExisting that it did before we looked.
	ends, isExisting bool
	// backlog is how many connections may wait to be accepted.
	backlog uint32
}

func (listenEvent) name() string   { return event.TCPListen }
func (listenEvent) isUrgent() bool { return false }

// udpListenEvent: a process serves at an address of UDP.
type udpListenEvent struct {
	base
	socket endpoints
}

func (udpListenEvent) name() string   { return event.UDPListen }
func (udpListenEvent) isUrgent() bool { return false }

// resetEvent: a connection was reset by this end or the other.
type resetEvent struct {
	base
	traced
	socket     endpoints
	isReceived bool
	// state is the socket's, reason why the kernel sent it, "" when it does not say;
	// reasonNumber is that by its number, 0 for none.
	state, reason string
	reasonNumber  uint32
}

func (resetEvent) name() string   { return event.TCPReset }
func (resetEvent) isUrgent() bool { return true }

// retransmitEvent: segments were not acknowledged in time and sent again.
type retransmitEvent struct {
	base
	traced
	socket endpoints
	state  string
	// count is of segments since the last event of the connection, total since
	// it began.
	count, total uint32
	// rtt is the smoothed time to the peer and back, 0 when it is not known.
	rtt time.Duration
}

func (retransmitEvent) name() string   { return event.TCPRetransmit }
func (retransmitEvent) isUrgent() bool { return true }

// overflowEvent: connections were refused silently because too many waited to be accepted.
type overflowEvent struct {
	base
	socket endpoints
	// dropped is since the sample before; queue is how many wait now, limit how many may.
	dropped, queue, limit uint32
}

func (overflowEvent) name() string   { return event.TCPListenOverflow }
func (overflowEvent) isUrgent() bool { return true }

// connectionsEvent counts the connections of a process with one peer.
type connectionsEvent struct {
	base
	// socket has no peer port when isServer is set, else no local one.
	socket         endpoints
	isServer       bool
	opened, closed uint64
	sent, received uint64
	retransmits    uint64
	// connect is the mean time to open one, 0 when none was opened by this end; rtt the
	// mean of their smoothed times to the peer and back, 0 when nothing was sent.
	connect, rtt time.Duration
	interval     time.Duration
}

func (connectionsEvent) name() string   { return event.TCPConnections }
func (connectionsEvent) isUrgent() bool { return false }

// tcpStates are the values of network.connection.state, by the kernel's numbers
// (include/net/tcp_states.h).
var tcpStates = [...]string{
	1: "established", 2: "syn_sent", 3: "syn_received", 4: "fin_wait_1", 5: "fin_wait_2", 6: "time_wait",
	7: "closed", 8: "close_wait", 9: "last_ack", 10: "listen", 11: "closing", 12: "syn_received",
}

func tcpState(number uint32) string {
	if number > 0 && int(number) < len(tcpStates) {
		return tcpStates[number]
	}
	return "state_" + strconv.Itoa(int(number))
}

// lowerName makes of a constant's name, such as SK_RST_REASON_TCP_STATE, what
// attributes hold: tcp_state.
func lowerName(constant, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(constant, prefix))
}
