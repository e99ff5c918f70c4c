package event

// Names of events of the network that are not about one TCP socket.
const (
	// DNSFailed says that a name could not be looked up.
	DNSFailed = "tapio.dns.failed"
	// DNSSlow says that an answer to a DNS question came late.
	DNSSlow = "tapio.dns.slow"
	// PacketsDropped counts packets that the kernel threw away.
	PacketsDropped = "tapio.packets.dropped"
)

// Keys of DNS events.
const (
	// KeyDNSQuestion is the name that was asked for, as text without the final dot.
	KeyDNSQuestion = "dns.question.name"
	// KeyDNSTypes is a slice: the types of records that were asked for.
	KeyDNSTypes = "tapio.dns.question.types"
	// KeyDNSCount is how many lookups the event stands for.
	KeyDNSCount = "tapio.dns.count"
	// KeyDNSDuration is the longest time from question to answer, in seconds; of
	// one that was not answered how long the receiver waited.
	KeyDNSDuration = "tapio.dns.duration"
)

// Keys of PacketsDropped.
const (
	// KeyDropReason is the name of the kernel's own reason, in lower case.
	KeyDropReason = "tapio.packets.drop_reason"
	// KeyPacketsCount is how many were dropped within KeyInterval seconds.
	KeyPacketsCount = "tapio.packets.count"
	// KeyDestinationPort is where they went, when no socket is known.
	KeyDestinationPort = "destination.port"
)

// Values of error.type on tapio.dns.failed that are no name of a response code.
const (
	DNSTimeout     = "timeout"
	DNSRefused     = "connection_refused"
	DNSClosed      = "connection_closed"
	DNSUnreachable = "host_unreachable"
)
