package ebpfreceiver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func TestQuestionName(t *testing.T) {
	t.Parallel()
	for wire, want := range map[string]string{
		"\x00":                          "",
		"\x04cart\x05other\x00and more": "cart.other",
		"\x01a\x00":                     "a",
		"\x03a.b\x02\\c\x00":            `a\.b.\\c`,
		"\x05\x00\xff\x1b \"\x00":       `\000\255\027\032"`,
		"\x3f" + strings.Repeat("x", 63) + "\x00": strings.Repeat("x", 63),
	} {
		got, ok := questionName([]byte(wire))
		assert.True(t, ok, "%q", wire)
		if want == "" {
			want = "." // the root
		}
		assert.Equal(t, want, got)
	}
	for _, wire := range []string{"", "\x04cart", "\x04cart\x05", "\x40" + strings.Repeat("x", 64) + "\x00", "\xc0\x0c", "\x05car\x00"} {
		_, ok := questionName([]byte(wire))
		assert.False(t, ok, "%q", wire)
	}
}

func FuzzQuestionName(f *testing.F) {
	f.Add([]byte("\x04cart\x05other\x00"))
	f.Add([]byte("\xc0\x0c"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		name, ok := questionName(wire)
		if ok && name == "" {
			t.Error("a name without text")
		}
		for i := range len(name) {
			if name[i] <= ' ' || name[i] >= 0x7f {
				t.Errorf("byte %#x in %q", name[i], name)
			}
		}
		if len(name) > 4*len(wire) {
			t.Errorf("%d bytes of %d", len(name), len(wire))
		}
	})
}

func TestResponseCodesAndTypes(t *testing.T) {
	t.Parallel()
	for code, want := range map[uint32]string{
		2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED", 15: "RCODE15",
		dnsEndTimeout: "timeout", dnsEndRefused: "connection_refused", dnsEndUnreachable: "host_unreachable",
	} {
		assert.Equal(t, want, dnsErrorType(code))
	}
	assert.Equal(t, "AAAA", recordType(28))
	assert.Equal(t, "TYPE65280", recordType(65280))
}

// TestLookupTallies: the first failure is told at once, those that follow together.
func TestLookupTallies(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	begin := time.Unix(1000, 0)
	tallies := newLookupTallies(interval)
	key := lookupKey{pid: 7, code: codeNXDomain}
	ev := lookupEvent{question: "orders.shop", code: codeNXDomain}
	at := func(after time.Duration, total uint64) []lookupEvent {
		if total > 0 {
			tallies.count(key, total, ev, begin.Add(after))
		}
		out, left := tallies.due(begin.Add(after))
		assert.Zero(t, left)
		return out
	}
	first := at(0, 1)
	require.Len(t, first, 1)
	assert.Equal(t, uint64(1), first[0].count)
	assert.Empty(t, at(time.Second, 5))
	assert.Empty(t, at(9*time.Second, 40))
	second := at(interval, 41)
	require.Len(t, second, 1)
	assert.Equal(t, uint64(40), second[0].count)
	assert.Empty(t, at(2*interval, 0), "nothing new")
	assert.Empty(t, at(2*interval, 40), "one of them was only late")
	third := at(3*interval, 41)
	require.Len(t, third, 1)
	assert.Equal(t, uint64(1), third[0].count)
	assert.Empty(t, tallies.idle(begin.Add(3*interval+lookupIdle-1), lookupIdle))
	assert.Equal(t, []lookupKey{key}, tallies.idle(begin.Add(3*interval+lookupIdle), lookupIdle))
	assert.Empty(t, tallies.all)
}

// TestManyNamesFail: a program that asks for names at random cannot flood.
func TestManyNamesFail(t *testing.T) {
	t.Parallel()
	tallies := newLookupTallies(time.Second)
	now := time.Unix(1000, 0)
	for i := range uint64(1000) {
		tallies.count(lookupKey{hash: i}, i+1, lookupEvent{question: fmt.Sprint(i)}, now)
	}
	out, left := tallies.due(now)
	require.Len(t, out, maxLookups)
	assert.Equal(t, uint64(1000), out[0].count, "the most frequent")
	sum := left
	for _, ev := range out {
		sum += ev.count
	}
	assert.Equal(t, uint64(1000*1001/2), sum)
}

func TestLookupRecords(t *testing.T) {
	t.Parallel()
	clock := linux.NewClock(func() int64 { return 0 })
	e := newEncoder(createDefaultConfig().(*Config), receivertest.NewNopSettings(metadata.Type), machine.Info{Name: "h"}, clock)
	ev := lookupEvent{
		base: base{at: 1, who: processInfo{started: 1, pid: 7, executable: "payment"}}, code: 2, question: "orders.shop", types: []string{"A"},
		server: netip.MustParseAddrPort("10.96.0.10:53"), count: 3, longest: 20 * time.Millisecond,
	}
	record := func(ev lookupEvent) (string, map[string]any, string) {
		r := recordsOf(e.encode([]kernelEvent{ev}, time.Unix(9, 0)).ResourceLogs().At(0)).At(0)
		return r.EventName(), r.Attributes().AsRaw(), r.Body().Str()
	}
	name, attributes, body := record(ev)
	assert.Equal(t, event.DNSFailed, name)
	assert.Equal(t, map[string]any{
		event.KeyDNSQuestion: "orders.shop", event.KeyDNSTypes: []any{"A"}, event.KeyErrorType: "SERVFAIL", event.KeyDNSCount: int64(3),
		event.KeyDNSDuration: 0.02, event.KeyServerAddress: "10.96.0.10", event.KeyServerPort: int64(53),
		event.KeyNetworkTransport: "udp", event.KeyNetworkType: "ipv4", event.KeyNetworkNamespace: int64(0),
	}, attributes)
	assert.Equal(t, "payment (pid 7) could not look up orders.shop: SERVFAIL from 10.96.0.10:53", body)
	ev.code = dnsEndSlow
	name, attributes, body = record(ev)
	assert.Equal(t, event.DNSSlow, name)
	assert.NotContains(t, attributes, event.KeyErrorType)
	assert.Equal(t, "payment (pid 7) waited up to 20ms for 10.96.0.10:53 to tell it of orders.shop", body)
}
