//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
)

// listenOn listens on a free port of an address.
func listenOn(t *testing.T, host string) (*net.TCPListener, int) {
	t.Helper()
	network := "tcp"
	if host == "0.0.0.0" {
		network = "tcp4" // of "tcp" Go makes ::
	}
	l, err := net.Listen(network, net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).Port
}

// connectedPair is a connection, its client's end first.
func connectedPair(t *testing.T, l *net.TCPListener) (client, server *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s, err := l.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = c.Close(), s.Close() })
	return c.(*net.TCPConn), s
}

func atLocal(name string, port int) func(seenRecord) bool {
	return func(r seenRecord) bool { return r.Name == name && r.Attributes[event.KeyLocalPort] == int64(port) }
}

func atPeer(name string, port int) func(seenRecord) bool {
	return func(r seenRecord) bool { return r.Name == name && r.Attributes[event.KeyPeerPort] == int64(port) }
}

// deafen makes a socket ignore all that comes: its filter takes no byte.
func deafen(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	failed := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none[0]})
	})
	return errors.Join(failed, err)
}

// haveTroubleWithSockets is the role "sockets": a reset, a retransmission and a
// listener with a full queue.
func haveTroubleWithSockets() {
	_, _ = os.Stdin.Read(make([]byte, 1))
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return
	}
	client, _ := net.Dial("tcp", l.Addr().String())
	server, _ := l.AcceptTCP()
	_ = server.SetLinger(0)
	_ = server.Close()
	_ = client.Close()
	client, _ = net.Dial("tcp", l.Addr().String())
	server, _ = l.AcceptTCP()
	_ = deafen(server)
	_, _ = client.Write([]byte("anybody there?"))
	_, _ = overflow()
	time.Sleep(time.Minute)
}

// overflow connects to a listener that has two places, eight times.
func overflow() (*unix.SockaddrInet4, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1))
	name, failed := unix.Getsockname(fd)
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	at := name.(*unix.SockaddrInet4)
	for range 8 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		if err := unix.Connect(c, at); !errors.Is(err, unix.EINPROGRESS) {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	return at, nil
}

func TestWhoListens(t *testing.T) {
	requireKernel(t)
	_, old := listenOn(t, "127.0.0.1")
	r := startRig(t, nil)
	existing := r.await(atLocal(event.TCPListen, old))
	assert.Equal(t, true, existing.Attributes[event.KeyListenExisting])
	assert.Equal(t, int64(os.Getpid()), existing.Resource[event.KeyProcessPID])

	netns, err := inodeOf("/proc/self/ns/net")
	require.NoError(t, err)
	for _, tc := range []struct{ host, network, address string }{
		{"127.0.0.1", "ipv4", "127.0.0.1"}, {"::1", "ipv6", "::1"}, {"", "ipv6", "::"}, {"0.0.0.0", "ipv4", "0.0.0.0"},
	} {
		t.Run(tc.host, func(t *testing.T) {
			l, port := listenOn(t, tc.host)
			rec := r.await(atLocal(event.TCPListen, port))
			assert.Equal(t, "listen", rec.Attributes[event.KeyConnectionState])
			assert.Equal(t, tc.address, rec.Attributes[event.KeyLocalAddress])
			assert.Equal(t, tc.network, rec.Attributes[event.KeyNetworkType])
			assert.Equal(t, int64(netns), rec.Attributes[event.KeyNetworkNamespace])
			assert.Positive(t, rec.Attributes[event.KeyListenBacklog])
			assert.NotContains(t, rec.Attributes, event.KeyListenExisting)
			assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
			assert.Equal(t, ownCgroup(t), rec.Resource[event.KeyProcessCgroup])
			assert.Equal(t, "Info", rec.Severity)

			require.NoError(t, l.Close())
			end := r.await(func(s seenRecord) bool {
				return atLocal(event.TCPListen, port)(s) && s.Attributes[event.KeyConnectionState] == "closed"
			})
			assert.Equal(t, rec.Resource, end.Resource)
		})
	}
}

func TestReset(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	l, port := listenOn(t, "127.0.0.1")
	_, server := connectedPair(t, l)
	require.NoError(t, server.SetLinger(0)) // close(2) sends a reset
	require.NoError(t, server.Close())

	sent := r.await(atLocal(event.TCPReset, port))
	assert.Equal(t, "transmit", sent.Attributes[event.KeyIODirection])
	assert.Equal(t, "Warn", sent.Severity)
	assert.Equal(t, int64(os.Getpid()), sent.Resource[event.KeyProcessPID])
	received := r.await(atPeer(event.TCPReset, port))
	assert.Equal(t, "receive", received.Attributes[event.KeyIODirection])
	assert.Equal(t, "established", received.Attributes[event.KeyConnectionState])
	assert.Equal(t, "127.0.0.1", received.Attributes[event.KeyPeerAddress])
	assert.Equal(t, int64(os.Getpid()), received.Resource[event.KeyProcessPID])
	if len(r.receiver.source.(*kernel).features.resetReasons) > 0 {
		assert.NotEmpty(t, sent.Attributes[event.KeyResetReason])
		assert.NotContains(t, sent.Attributes[event.KeyResetReason], "reason_")
	}
}

func TestRefusedConnectIsNoReset(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	port := closedPort(t, "127.0.0.1")
	_, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.Error(t, err)
	r.await(toPeer(port))
	time.Sleep(50 * time.Millisecond)
	assert.Empty(t, r.records(atPeer(event.TCPReset, port)))
	assert.Empty(t, r.records(atLocal(event.TCPReset, port)))
}

func TestRetransmit(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	l, port := listenOn(t, "127.0.0.1")
	client, server := connectedPair(t, l)
	require.NoError(t, deafen(server))
	_, err := client.Write([]byte("anybody there?"))
	require.NoError(t, err)

	rec := r.await(atPeer(event.TCPRetransmit, port))
	assert.Equal(t, "established", rec.Attributes[event.KeyConnectionState])
	assert.Equal(t, int64(1), rec.Attributes[event.KeyTCPRetransmits])
	assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
	assert.Equal(t, "Warn", rec.Severity)
	later := func(s seenRecord) bool {
		n, _ := s.Attributes[event.KeyTCPRetransmitsTotal].(int64)
		return atPeer(event.TCPRetransmit, port)(s) && n >= 3
	}
	again := r.await(later)
	assert.Greater(t, again.Attributes[event.KeyTCPRetransmits], int64(1), "once a second, with what was in between")
	assert.GreaterOrEqual(t, again.Time.Sub(rec.Time), time.Second)
}

// TestSegmentThatIsNotSent: what waits for the address of the next hop is not sent again,
// though newer kernels tell that they tried.
func TestSegmentThatIsNotSent(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	var failed, connect error
	done := make(chan struct{})
	go linux.OnOwnThread(func() {
		defer close(done)
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}
		failed = unix.Unshare(unix.CLONE_NEWNET)
		if failed == nil {
			failed = netlink.LinkAdd(pair)
		}
		if failed = errors.Join(failed, bringUp("lo", "127.0.0.1/8"), bringUp("near", "10.99.0.1/24"), bringUp("far", "10.99.1.1/24")); failed != nil {
			return
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if failed = err; failed != nil {
			return
		}
		failed = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 2)
		connect = unix.Connect(fd, &unix.SockaddrInet4{Port: 7310, Addr: [4]byte{10, 99, 0, 2}})
		failed = errors.Join(failed, unix.Close(fd))
	})
	<-done
	require.NoError(t, failed)
	require.Error(t, connect)
	r.await(func(rec seenRecord) bool { return of(event.TCPConnectFailed, os.Getpid())(rec) && toPeer(7310)(rec) })
	assert.Empty(t, r.records(atPeer(event.TCPRetransmit, 7310)))
}

func TestListenQueueOverflows(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	at, err := overflow()
	require.NoError(t, err)

	rec := r.await(atLocal(event.TCPListenOverflow, at.Port))
	assert.GreaterOrEqual(t, rec.Attributes[event.KeyListenDropped], int64(6))
	assert.Equal(t, int64(2), rec.Attributes[event.KeyListenQueue])
	assert.Equal(t, int64(1), rec.Attributes[event.KeyListenBacklog])
	assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
	assert.Equal(t, "Error", rec.Severity)
}

// listenAgain makes a listener at an address at which there may be others.
func listenAgain(t *testing.T, port int) (fd, at int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 1))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return fd, name.(*unix.SockaddrInet4).Port
}

// TestListenersThatShareAnAddress: with SO_REUSEPORT. It ends with the last one, and
// until then the first overflows, and its connections have their process.
func TestListenersThatShareAnAddress(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	first, port := listenAgain(t, 0)
	second, _ := listenAgain(t, port)
	require.NoError(t, unix.Close(second))
	ended := func(s seenRecord) bool {
		return atLocal(event.TCPListen, port)(s) && s.Attributes[event.KeyConnectionState] == "closed"
	}

	for range 8 { // two find a place
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(c)
		_ = unix.Connect(c, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	rec := r.await(atLocal(event.TCPListenOverflow, port))
	assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
	incoming := r.await(func(s seenRecord) bool {
		return s.Name == event.TCPConnections && s.Attributes[event.KeyLocalPort] == int64(port)
	})
	assert.Equal(t, int64(os.Getpid()), incoming.Resource[event.KeyProcessPID])
	assert.Empty(t, r.records(ended), "the first still listens")
	require.NoError(t, unix.Close(first))
	r.await(ended)
}

// TestConnectionsAreCounted: both ends, of connections that are over and of one
// that is open, and of one that is older than the receiver.
func TestConnectionsAreCounted(t *testing.T) {
	requireKernel(t)
	l, port := listenOn(t, "127.0.0.1")
	oldClient, oldServer := connectedPair(t, l)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	exchange := func(client, server *net.TCPConn) {
		_, err := client.Write(make([]byte, 1000))
		require.NoError(t, err)
		_, err = io.ReadFull(server, make([]byte, 1000))
		require.NoError(t, err)
		_, err = server.Write(make([]byte, 3000))
		require.NoError(t, err)
		_, err = io.ReadFull(client, make([]byte, 3000))
		require.NoError(t, err)
	}
	exchange(oldClient, oldServer)
	const n = 5
	for i := range n {
		client, server := connectedPair(t, l)
		exchange(client, server)
		if i > 0 {
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
		}
	}
	sum := func(matches func(seenRecord) bool, key string) (total int64) {
		for _, rec := range r.records(matches) {
			total += rec.Attributes[key].(int64)
		}
		return total
	}
	ofClient, ofServer := atPeer(event.TCPConnections, port), atLocal(event.TCPConnections, port)
	assert.Eventually(t, func() bool {
		return sum(ofClient, event.KeyTCPSent) >= (n+1)*1000 && sum(ofServer, event.KeyTCPSent) >= (n+1)*3000
	}, 5*time.Second, 20*time.Millisecond)
	for _, side := range []struct {
		matches func(seenRecord) bool
		role    string
		sent    int64
	}{{ofClient, "client", (n + 1) * 1000}, {ofServer, "server", (n + 1) * 3000}} {
		rec := r.await(side.matches)
		assert.Equal(t, side.role, rec.Attributes[event.KeyTCPRole])
		assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
		assert.Equal(t, "127.0.0.1", rec.Attributes[event.KeyPeerAddress])
		assert.Equal(t, int64(n), sum(side.matches, event.KeyTCPOpened))
		timed := r.await(func(s seenRecord) bool { return side.matches(s) && s.Attributes[event.KeyTCPRTT] != nil })
		assert.Positive(t, timed.Attributes[event.KeyTCPRTT])
		assert.Less(t, timed.Attributes[event.KeyTCPRTT], 0.5)
		assert.InDelta(t, side.sent, sum(side.matches, event.KeyTCPSent), 2*(n+1), "the kernel counts a SYN and a FIN as a byte each")
		assert.InDelta(t, 4000*(n+1)-side.sent, sum(side.matches, event.KeyTCPReceived), 2*(n+1))
	}
	assert.Equal(t, int64(n-1), sum(ofClient, event.KeyTCPClosed))
	opened := r.await(func(s seenRecord) bool { return ofClient(s) && s.Attributes[event.KeyConnectDuration] != nil })
	assert.Less(t, opened.Attributes[event.KeyConnectDuration], 0.1)
	assert.Positive(t, opened.Attributes[event.KeyConnectDuration])
}

// datagrams receives at a port of its choice of an address.
func datagrams(t *testing.T, host string) (*net.UDPConn, int) {
	t.Helper()
	network := "udp"
	if host == "0.0.0.0" {
		network = "udp4"
	}
	for range 10 { // another process may take the port meanwhile
		free, err := net.ListenPacket(network, net.JoinHostPort(host, "0"))
		require.NoError(t, err)
		port := free.LocalAddr().(*net.UDPAddr).Port
		require.NoError(t, free.Close())
		if c, err := net.ListenPacket(network, net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c.(*net.UDPConn), port
		}
	}
	t.Fatal("no port can be taken")
	return nil, 0
}

// TestWhoServesUDP: what receives datagrams is known by its first answer, with the
// address that it was asked at; those who ask are no servers.
func TestWhoServesUDP(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	netns, err := inodeOf("/proc/self/ns/net")
	require.NoError(t, err)
	for _, tc := range []struct{ host, asked, network string }{
		{"127.0.0.1", "127.0.0.1", "ipv4"}, {"::1", "::1", "ipv6"}, {"0.0.0.0", "127.0.0.1", "ipv4"}, {"::", "127.0.0.1", "ipv4"}, {"::", "::1", "ipv6"},
	} {
		t.Run(tc.host+" at "+tc.asked, func(t *testing.T) {
			server, port := datagrams(t, tc.host)
			client, err := net.Dial("udp", net.JoinHostPort(tc.asked, strconv.Itoa(port)))
			require.NoError(t, err)
			t.Cleanup(func() { _ = client.Close() })
			for _, c := range []net.Conn{client, server} {
				require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
			}
			for range 3 {
				_, err = client.Write([]byte("?"))
				require.NoError(t, err)
				buf := make([]byte, 8)
				_, from, err := server.ReadFrom(buf)
				require.NoError(t, err)
				_, err = server.WriteTo([]byte("!"), from)
				require.NoError(t, err)
				_, err = client.Read(buf)
				require.NoError(t, err)
			}
			rec := r.await(atLocal(event.UDPListen, port))
			assert.Equal(t, tc.asked, rec.Attributes[event.KeyLocalAddress])
			assert.Equal(t, tc.network, rec.Attributes[event.KeyNetworkType])
			assert.Equal(t, "udp", rec.Attributes[event.KeyNetworkTransport])
			assert.Equal(t, int64(netns), rec.Attributes[event.KeyNetworkNamespace])
			assert.Equal(t, int64(os.Getpid()), rec.Resource[event.KeyProcessPID])
			assert.Equal(t, ownCgroup(t), rec.Resource[event.KeyProcessCgroup])
			assert.Equal(t, "Info", rec.Severity)
			asking := client.LocalAddr().(*net.UDPAddr).Port
			assert.Empty(t, r.records(atLocal(event.UDPListen, asking)), "a client's port is the kernel's choice")
			assert.Len(t, r.records(atLocal(event.UDPListen, port)), 1, "told once")
		})
	}
}

// TestConnectThatThisHostRejects: its own ICMP message comes while the connect still has
// the socket, as for a Kubernetes Service without endpoints. Who does not wait in connect(2) is
// told, and closes the socket.
func TestConnectThatThisHostRejects(t *testing.T) {
	requireKernel(t)
	iptables := requireProgram(t, "iptables")
	r := startRig(t, nil)
	ports := map[int]syscall.Errno{7300: unix.ECONNREFUSED, 7301: unix.EHOSTUNREACH, 7302: unix.ENETUNREACH, 7303: unix.ENOPROTOOPT}
	told := make(map[int]int, len(ports))
	var noRules, failed error
	done := make(chan struct{})
	go linux.OnOwnThread(func() {
		defer close(done)
		if failed = errors.Join(unix.Unshare(unix.CLONE_NEWNET), bringUp("lo", "127.0.0.1/8")); failed != nil {
			return
		}
		for i, with := range []string{"icmp-port-unreachable", "icmp-host-unreachable", "icmp-net-unreachable", "icmp-proto-unreachable"} {
			port := 7300 + i
			out, err := exec.Command(iptables, "-A", "OUTPUT", "-p", "tcp", "--dport", strconv.Itoa(port), "-j", "REJECT", "--reject-with", with).CombinedOutput()
			if err != nil {
				noRules = fmt.Errorf("%w: %s", err, out)
				return
			}
			told[port], err = connectWithoutWaiting(port)
			failed = errors.Join(failed, err)
		}
	})
	<-done
	require.NoError(t, failed)
	if noRules != nil && os.Getenv("CI") != "true" {
		t.Skip("this kernel cannot reject connects: ", noRules)
	}
	require.NoError(t, noRules)
	for port, errno := range ports {
		require.Equal(t, int(errno), told[port], "what the application is told")
		rec := r.await(func(rec seenRecord) bool { return of(event.TCPConnectFailed, os.Getpid())(rec) && toPeer(port)(rec) })
		assert.Equal(t, connectErrors[int32(errno)], rec.Attributes[event.KeyErrorType], port)
		assert.Equal(t, "Warn", rec.Severity)
	}
}

// connectWithoutWaiting returns the error of which a socket tells once it has one.
func connectWithoutWaiting(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); !errors.Is(err, unix.EINPROGRESS) {
		return 0, fmt.Errorf("connect: %w", err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
}
