//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
)

func dropped(reason, key string, port int) func(seenRecord) bool {
	return func(r seenRecord) bool {
		return r.Name == event.PacketsDropped && r.Attributes[event.KeyDropReason] == reason && r.Attributes[key] == int64(port)
	}
}

func TestPacketsDropped(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	netns, err := inodeOf("/proc/self/ns/net")
	require.NoError(t, err)
	const n = 25

	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	noOne := closed.LocalAddr().(*net.UDPAddr)
	require.NoError(t, closed.Close())
	sender, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer sender.Close()
	full, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer full.Close()
	require.NoError(t, full.SetReadBuffer(1)) // the kernel's least: a few kilobytes
	busy := full.LocalAddr().(*net.UDPAddr)
	const sent = 200
	for range n {
		_, err := sender.WriteTo([]byte("to nobody"), noOne)
		require.NoError(t, err)
	}
	for range sent {
		_, err := sender.WriteTo(make([]byte, 1000), busy)
		require.NoError(t, err)
	}
	sum := func(matches func(seenRecord) bool) (total int64) {
		for _, rec := range r.records(matches) {
			total += rec.Attributes[event.KeyPacketsCount].(int64)
		}
		return total
	}
	toNobody := dropped("no_socket", event.KeyDestinationPort, noOne.Port)
	assert.Eventually(t, func() bool { return sum(toNobody) == n }, 5*time.Second, 10*time.Millisecond)
	rec := r.await(toNobody)
	assert.Equal(t, "udp", rec.Attributes[event.KeyNetworkTransport])
	assert.Equal(t, int64(netns), rec.Attributes[event.KeyNetworkNamespace])
	assert.Equal(t, "Warn", rec.Severity)
	assert.Positive(t, rec.Attributes[event.KeyInterval])

	key := event.KeyDestinationPort
	if r.receiver.source.(*kernel).features.dropHasSocket {
		key = event.KeyLocalPort
	}
	toFull := dropped("socket_rcvbuff", key, busy.Port)
	received := int64(0)
	_ = full.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for {
		if _, _, err = full.ReadFrom(make([]byte, 2000)); err != nil {
			break
		}
		received++
	}
	require.True(t, errors.Is(err, os.ErrDeadlineExceeded))
	assert.Positive(t, received)
	assert.Eventually(t, func() bool { return sum(toFull) == sent-received }, 5*time.Second, 10*time.Millisecond, "what was not received was dropped")
}

// TestPortScanHidesNoDrops: more ports at which nobody listens than there are places
// for counts.
func TestPortScanHidesNoDrops(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	sender, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer sender.Close()
	const ports = 2600
	for port := 1; port <= ports; port++ {
		_, err := sender.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: 20000 + port})
		require.NoError(t, err)
	}
	full, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer full.Close()
	require.NoError(t, full.SetReadBuffer(1))
	busy := full.LocalAddr().(*net.UDPAddr)
	for range 200 {
		_, err := sender.WriteTo(make([]byte, 1000), busy)
		require.NoError(t, err)
	}
	r.await(func(s seenRecord) bool {
		port := int64(busy.Port)
		return s.Name == event.PacketsDropped && s.Attributes[event.KeyDropReason] == "socket_rcvbuff" &&
			(s.Attributes[event.KeyLocalPort] == port || s.Attributes[event.KeyDestinationPort] == port)
	})
	together := func() (sum int64) { // samples may come while the ports are scanned
		for _, rec := range r.records(func(s seenRecord) bool {
			_, hasPort := s.Attributes[event.KeyDestinationPort]
			return s.Name == event.PacketsDropped && s.Attributes[event.KeyDropReason] == "no_socket" && !hasPort
		}) {
			count, _ := rec.Attributes[event.KeyPacketsCount].(int64)
			sum += count
		}
		return sum
	}
	assert.Eventually(t, func() bool { return together() > ports/2 }, 15*time.Second, 50*time.Millisecond, "all beyond the first 256")
}

// TestCountersMakeRoom: what grows no more goes soon when the map is nearly full, and
// late when it is not.
func TestCountersMakeRoom(t *testing.T) {
	requireKernel(t)
	for entries, kept := range map[uint32]bool{4: true, 7: false} {
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 8})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, m.Close()) })
		for key := range entries {
			require.NoError(t, m.Put(key, uint64(1)))
		}
		c := newCounters[uint32, uint64](m)
		for range idleSamplesCrowded + 1 {
			c.each(func(_ uint32, now, before *uint64) bool { return *now > *before })
		}
		var value uint64
		assert.Equal(t, kept, m.Lookup(uint32(0), &value) == nil, "%d of 8", entries)
		assert.Equal(t, kept, len(c.known) > 0)
	}
}

// TestCountersOfCPUs are added up, and what one grew between its last reading and its
// end is told.
func TestCountersOfCPUs(t *testing.T) {
	requireKernel(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUHash, KeySize: 4, ValueSize: 8, MaxEntries: 8})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, m.Close()) })
	put := func(each uint64) {
		values := make([]uint64, ebpf.MustPossibleCPU())
		for i := range values {
			values[i] = each
		}
		require.NoError(t, m.Put(uint32(1), values))
	}
	cpus := uint64(ebpf.MustPossibleCPU())
	put(2)
	c := newCounters[uint32, uint64](m)
	c.sum = total
	var told, samples uint64
	grown := func(_ uint32, now, before *uint64) bool {
		told += *now - *before
		if samples == idleSamples && *now == 2*cpus {
			put(5) // another CPU, just now
		}
		return *now > *before
	}
	for samples = range idleSamples {
		c.each(grown)
		require.Equal(t, 2*cpus, told)
	}
	samples = idleSamples
	c.each(grown)
	assert.Equal(t, 5*cpus, told)
	assert.Empty(t, c.known)
	var values []uint64
	assert.ErrorIs(t, m.Lookup(uint32(1), &values), ebpf.ErrKeyNotExist)
}

// TestDropsKnowTheProcess: segments far outside of a connection's window, of a
// kernel that says for which socket a packet was.
func TestDropsKnowTheProcess(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	if !r.receiver.source.(*kernel).features.dropHasSocket {
		t.Skip("this kernel does not say for which socket a packet was")
	}
	l, port := listenOn(t, "127.0.0.1")
	client, _ := connectedPair(t, l)
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	require.NoError(t, err)
	defer unix.Close(raw)
	from := client.LocalAddr().(*net.TCPAddr).Port
	for _, sequence := range []uint32{0, 1 << 30, 2 << 30, 3 << 30} { // all but one are old or far
		require.NoError(t, unix.Sendto(raw, segment(from, port, sequence), 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	}
	rec := r.await(func(s seenRecord) bool {
		return s.Name == event.PacketsDropped && s.Attributes[event.KeyLocalPort] == int64(port)
	})
	assert.Contains(t, rec.Attributes[event.KeyDropReason], "tcp_invalid")
	assert.Equal(t, "tcp", rec.Attributes[event.KeyNetworkTransport])
	assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
	assert.Equal(t, ownCgroup(t), rec.Resource[event.KeyProcessCgroup])
}

// segment is a TCP header over loopback, with a byte of data.
func segment(from, to int, sequence uint32) []byte {
	s := binary.BigEndian.AppendUint16(nil, uint16(from))
	s = binary.BigEndian.AppendUint16(s, uint16(to))
	s = binary.BigEndian.AppendUint32(s, sequence)
	s = append(s, 0, 0, 0, 0, 5<<4, 0x10, 1, 0, 0, 0, 0, 0, 'x', 0) // ACK, a window of 256
	sum := uint32(2*(127<<8+0) + 2*1 + unix.IPPROTO_TCP + len(s) - 1)
	for i := 0; i < len(s); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(s[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(s[16:], ^uint16(sum))
	return s[:len(s)-1]
}

// BenchmarkDrop is a datagram to a port where nobody listens; most of it is the kernel's
// own work of refusing it.
func BenchmarkDrop(b *testing.B) {
	benchmarkPrograms(b, []program{dropsProgram()}, func(b *testing.B) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		require.NoError(b, err)
		defer unix.Close(fd)
		nobody := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
		for b.Loop() {
			_ = unix.Sendto(fd, []byte("to nobody"), 0, nobody)
		}
	})
}
