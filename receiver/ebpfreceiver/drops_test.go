package ebpfreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func TestBenignBits(t *testing.T) {
	t.Parallel()
	bits := benignBits(map[uint32]string{1: "skb_consumed", 3: "no_socket", 64: "otherhost", 255: "queue_purge", 65537: "tcp_close"})
	assert.Equal(t, [4]uint64{1 << 1, 1 << 0, 0, 1 << 63}, bits)
}

func TestDropRecords(t *testing.T) {
	t.Parallel()
	clock := linux.NewClock(func() int64 { return 0 })
	e := newEncoder(createDefaultConfig().(*Config), receivertest.NewNopSettings(metadata.Type), machine.Info{Name: "h"}, clock)
	record := func(ev dropsEvent) (map[string]any, string) {
		r := recordsOf(e.encode([]kernelEvent{ev}, time.Unix(9, 0)).ResourceLogs().At(0)).At(0)
		assert.Equal(t, event.PacketsDropped, r.EventName())
		return r.Attributes().AsRaw(), r.Body().Str()
	}
	ev := dropsEvent{reason: "no_socket", protocol: 17, port: 8125, netns: 7, count: 3, interval: 10 * time.Second}
	attributes, body := record(ev)
	want := map[string]any{
		event.KeyDropReason: "no_socket", event.KeyPacketsCount: int64(3), event.KeyNetworkTransport: "udp",
		event.KeyDestinationPort: int64(8125), event.KeyNetworkNamespace: int64(7), event.KeyInterval: 10.0,
	}
	assert.Equal(t, want, attributes)
	assert.Equal(t, "The kernel dropped 3 packets of udp port 8125 in 10s: no_socket", body)

	ev.hasSocket = true
	attributes, _ = record(ev)
	assert.Equal(t, int64(8125), attributes[event.KeyLocalPort])
	assert.NotContains(t, attributes, event.KeyDestinationPort)

	ev.port, ev.protocol = 0, 0
	attributes, body = record(ev)
	assert.Equal(t, "unknown", attributes[event.KeyNetworkTransport])
	assert.Equal(t, "The kernel dropped 3 packets in 10s: no_socket", body)
	assert.Equal(t, "protocol_50", transportName(50))
}
