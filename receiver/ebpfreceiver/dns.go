package ebpfreceiver

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

const (
	// answerTimeout is how long an answer is waited for: what resolvers of glibc,
	// musl and Go wait before they ask again or give up.
	answerTimeout = 5 * time.Second
	// maxLookups bounds the DNS events of one poll; the most frequent are sent.
	maxLookups = 64
	// maxUnanswered bounds the names with questions that nobody answered.
	maxUnanswered = 2048
	// lookupIdle is after how long without growth a count is forgotten, and
	// lookupIdleCrowded when there is hardly any place for more.
	lookupIdle        = time.Minute
	lookupIdleCrowded = 2 * time.Second
)

// Endings of a question that are no response codes: enum dns_end of bpf/dns.h.
const (
	dnsEndRefused     = 0x100
	dnsEndUnreachable = 0x101
	dnsEndTimeout     = 0x102
	dnsEndSlow        = 0x103
	dnsEndClosed      = 0x104
	codeNXDomain      = 3
)

// lookupEvent: lookups of one name, by one process, failed in the same way or
// were slow.
type lookupEvent struct {
	base
	// code is a response code or one of the endings above.
	code     uint32
	question string
	types    []string
	server   netip.AddrPort
	netns    uint32
	// isTCP says that the last was asked over TCP.
	isTCP bool
	// count is of lookups since the event before.
	count uint64
	// longest is the time from question to answer.
	longest time.Duration
}

func (e lookupEvent) name() string {
	if e.code == dnsEndSlow {
		return event.DNSSlow
	}
	return event.DNSFailed
}

func (lookupEvent) isUrgent() bool { return true }

// codeNames are the response codes of RFC 1035, RFC 2136 and RFC 6895 that fit in the
// four bits of the header.
var codeNames = [...]string{
	1: "FORMERR", 2: "SERVFAIL", codeNXDomain: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED",
	6: "YXDOMAIN", 7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE",
}

func dnsErrorType(code uint32) string {
	switch {
	case code == dnsEndRefused:
		return event.DNSRefused
	case code == dnsEndUnreachable:
		return event.DNSUnreachable
	case code == dnsEndTimeout:
		return event.DNSTimeout
	case code == dnsEndClosed:
		return event.DNSClosed
	case int(code) < len(codeNames) && codeNames[code] != "":
		return codeNames[code]
	}
	return "RCODE" + strconv.FormatUint(uint64(code), 10)
}

// recordTypes are the types of records that are asked for in practice.
var recordTypes = map[uint16]string{
	1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR",
	43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY", 257: "CAA",
}

// recordType is the name of a type, as RFC 3597 writes those without one.
func recordType(number uint16) string {
	if name, ok := recordTypes[number]; ok {
		return name
	}
	return "TYPE" + strconv.Itoa(int(number))
}

// questionName reads a name as it is sent: labels, each after its length, up to
// one that is empty. It writes what is not printable, dots in labels and
// backslashes as master files do (RFC 1035, 5.1). ok is false for what is no name.
func questionName(wire []byte) (name string, ok bool) {
	var b strings.Builder
	for len(wire) > 0 {
		n := int(wire[0])
		if n == 0 {
			if b.Len() == 0 {
				return ".", true
			}
			return b.String(), true
		}
		if n > 63 || n >= len(wire) {
			return "", false
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		for _, c := range wire[1 : 1+n] {
			writeNameByte(&b, c)
		}
		wire = wire[1+n:]
	}
	return "", false
}

func writeNameByte(b *strings.Builder, c byte) {
	switch {
	case c == '.' || c == '\\':
		b.WriteByte('\\')
		b.WriteByte(c)
	case c > ' ' && c < 0x7f:
		b.WriteByte(c)
	default:
		fmt.Fprintf(b, "\\%03d", c)
	}
}

// lookupKey identifies what is counted together.
type lookupKey struct {
	start, hash uint64
	pid, code   uint32
}

// lookupTally is a count and what of it was told.
type lookupTally struct {
	latest        lookupEvent
	total, told   uint64
	toldAt, grown time.Time
}

// lookupTallies makes events of counts: of what is new at once, of what goes on
// one in each interval.
type lookupTallies struct {
	interval time.Duration
	all      map[lookupKey]*lookupTally
}

func newLookupTallies(interval time.Duration) *lookupTallies {
	return &lookupTallies{interval: interval, all: map[lookupKey]*lookupTally{}}
}

// total is the count of a key.
func (t *lookupTallies) total(key lookupKey) uint64 {
	if tally := t.all[key]; tally != nil {
		return tally.total
	}
	return 0
}

// count sets the count of a key to total, and what is known of the last lookup.
func (t *lookupTallies) count(key lookupKey, total uint64, latest lookupEvent, now time.Time) {
	tally := t.all[key]
	if tally == nil {
		tally = &lookupTally{grown: now}
		t.all[key] = tally
	}
	if total > tally.total {
		tally.grown = now
	}
	tally.total, tally.latest = total, latest
	tally.told = min(tally.told, total) // a lookup that was late was right in the end
}

// due returns the events that it is time for, most frequent first and at most
// maxLookups, and the lookups of all others.
func (t *lookupTallies) due(now time.Time) (out []lookupEvent, left uint64) {
	var found []*lookupTally
	for _, tally := range t.all {
		if tally.total > tally.told && (tally.toldAt.IsZero() || now.Sub(tally.toldAt) >= t.interval) {
			found = append(found, tally)
		}
	}
	slices.SortFunc(found, func(a, b *lookupTally) int {
		return cmp.Or(cmp.Compare(b.total-b.told, a.total-a.told), cmp.Compare(a.latest.at, b.latest.at),
			strings.Compare(a.latest.question, b.latest.question))
	})
	for i, tally := range found {
		ev := tally.latest
		ev.count = tally.total - tally.told
		tally.told, tally.toldAt = tally.total, now
		if i < maxLookups {
			out = append(out, ev)
		} else {
			left += ev.count
		}
	}
	return out, left
}

// idle returns the keys that did not grow for so long, and forgets them.
func (t *lookupTallies) idle(now time.Time, after time.Duration) (out []lookupKey) {
	for key, tally := range t.all {
		if tally.total == tally.told && now.Sub(tally.grown) >= after {
			out = append(out, key)
			delete(t.all, key)
		}
	}
	return out
}

func (e *encoder) recordLookup(at pcommon.Timestamp, ev lookupEvent) (plog.SeverityNumber, string) {
	options := []metadata.EventAttributeOption{metadata.WithTapioDNSDurationEventAttribute(ev.longest.Seconds())}
	if ev.server.IsValid() {
		options = append(options, metadata.WithServerAddressEventAttribute(ev.server.Addr().String()),
			metadata.WithServerPortEventAttribute(int64(ev.server.Port())))
	}
	network := "ipv4"
	if ev.server.Addr().Is6() {
		network = "ipv6"
	}
	transport := "udp"
	if ev.isTCP {
		transport = "tcp"
	}
	if ev.code == dnsEndSlow {
		e.builder.RecordTapioDNSSlowEvent(context.Background(), at, ev.question, anySlice(ev.types), int64(ev.count),
			transport, network, int64(ev.netns), options...)
		return plog.SeverityNumberWarn, fmt.Sprintf("%s waited up to %v for %s to tell it of %s",
			title(ev.who), ev.longest.Round(time.Millisecond), hostPort(ev.server), ev.question)
	}
	errorType := dnsErrorType(ev.code)
	e.builder.RecordTapioDNSFailedEvent(context.Background(), at, ev.question, anySlice(ev.types), errorType, int64(ev.count),
		transport, network, int64(ev.netns), options...)
	return lookupSeverity(ev.code), fmt.Sprintf("%s could not look up %s: %s from %s",
		title(ev.who), ev.question, strings.ReplaceAll(errorType, "_", " "), hostPort(ev.server))
}

// lookupSeverity tells what a program may live with, such as a name that does not
// exist, from a server that does not do its work.
func lookupSeverity(code uint32) plog.SeverityNumber {
	switch code {
	case 1, codeNXDomain, 4: // FORMERR and NOTIMP: the resolver asks again, in simpler words
		return plog.SeverityNumberWarn
	}
	return plog.SeverityNumberError
}

// withType adds a type of record to those that are there.
func withType(types []string, name string) []string {
	if slices.Contains(types, name) {
		return types
	}
	types = append(slices.Clone(types), name)
	slices.Sort(types)
	return types
}
