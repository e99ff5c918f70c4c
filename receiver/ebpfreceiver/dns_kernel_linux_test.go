//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
)

// resolvConf is what a pod of Kubernetes has.
const resolvConf = `nameserver 127.0.0.1
search shop.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
`

// existing are the names that the test's server knows.
var existing = []string{"cart.other.svc.cluster.local", "www.example.com"}

// answerDNS serves DNS at a socket. The first label says what becomes of a question;
// a name that is not in existing does not exist.
func answerDNS(c net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		answer, after := answerTo(slices.Clone(buf[:n]))
		if answer == nil {
			continue
		}
		time.AfterFunc(after, func() { _, _ = c.WriteTo(answer, from) })
	}
}

// serveStreams serves DNS over TCP.
func serveStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answerStream(c)
	}
}

func answerStream(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		m := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, m); err != nil {
			return
		}
		if len(m) <= 12 {
			continue
		}
		name, _ := questionName(m[12:])
		first, _, _ := strings.Cut(strings.ToLower(name), ".")
		switch first {
		case "hangup":
			return
		case "reset":
			_ = c.(*net.TCPConn).SetLinger(0)
			return
		}
		answer, after := answerTo(m)
		if answer == nil {
			continue
		}
		if first == "truncated" { // over TCP all fits
			answer[2] &^= 0x02
			if strings.Contains(name, ".servfail.") {
				answer[3] = answer[3]&0xf0 | 2
			}
		}
		if first == "long" { // what is behind the header is not read
			answer[3] = answer[3]&0xf0 | 2
			answer = append(answer, make([]byte, 20_000)...)
		}
		time.Sleep(after)
		_, _ = c.Write(withLength(answer))
	}
}

// withLength puts the length of a message before it, as it is over TCP.
func withLength(m []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
}

// askOverTCP asks in one of the ways in which resolvers write and read.
func askOverTCP(how, name string) error {
	c, err := net.Dial("tcp", "127.0.0.1:53")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(4 * time.Second))
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	message := withLength(question(9, name))
	switch how {
	case "tcp": // Go: all at once
		_, err = c.Write(message)
	case "tcp-pieces":
		for i := range message {
			if _, err = c.Write(message[i : i+1]); err != nil {
				return err
			}
		}
	case "tcp-vector": // glibc: the length, then the message, in one call
		buffers := net.Buffers{message[:2], message[2:]}
		_, err = buffers.WriteTo(c)
	case "tcp-message": // musl
		failed := raw.Control(func(fd uintptr) {
			_, err = unix.SendmsgBuffers(int(fd), [][]byte{message[:2], message[2:9], message[9:]}, nil, nil, 0)
		})
		err = errors.Join(err, failed)
	case "tcp-two": // two questions in one write, after one that was answered
		first := withLength(question(8, "www.example.com"))
		if _, err = c.Write(first); err != nil {
			return err
		}
		if err = readAnswer(c, how); err != nil {
			return err
		}
		other := question(10, name)
		other[len(other)-3] = 28 // AAAA
		if _, err = c.Write(append(slices.Clone(message), withLength(other)...)); err == nil {
			err = readAnswer(c, how)
		}
	}
	return errors.Join(err, ignoreEnd(readAnswer(c, how)))
}

// writeGarbage writes what is no DNS, each to a connection of its own.
func writeGarbage() error {
	long := make([]byte, 100_000)
	many := make([]byte, 0, 4000)
	for range 200 { // messages of one write, none of them a question
		many = append(many, withLength(make([]byte, 12))...)
	}
	all := [][]byte{
		{0},
		{0, 0},
		{0, 0, 0},
		{0xff, 0xff},
		[]byte("GET / HTTP/1.1\r\n\r\n"), long, many, bytes.Repeat([]byte{0xff}, 70_000),
		withLength(question(1, "servfail.cut.example")[:20]), append(withLength(question(2, "x")[:12]), 1),
	}
	for _, m := range all {
		c, err := net.Dial("tcp", "127.0.0.1:53")
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = c.Write(m)
		_, _ = c.Read(make([]byte, 512))
		_ = c.Close()
	}
	return nil
}

// writeRandom writes questions with bytes that are wrong, in pieces, and reads what comes.
func writeRandom() error {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c, err := net.Dial("tcp", "127.0.0.1:53")
		if err != nil {
			return err
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
		m := slices.Concat(withLength(question(1, "servfail.random.example")), withLength(question(2, "www.example.com")))
		for range random.IntN(6) {
			m[random.IntN(len(m))] = byte(random.Uint32())
		}
		for len(m) > 0 {
			n := 1 + random.IntN(len(m))
			_, _ = c.Write(m[:n])
			m = m[n:]
		}
		for buf := make([]byte, 1+random.IntN(64)); ; {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		_ = c.Close()
	}
	return nil
}

// ignoreEnd ignores that a server says nothing more.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// readAnswer reads one message: byte by byte, or its length first.
func readAnswer(c net.Conn, how string) error {
	size := make([]byte, 2)
	if _, err := io.ReadFull(c, size); err != nil {
		return err
	}
	rest := make([]byte, binary.BigEndian.Uint16(size))
	if how != "tcp-pieces" {
		_, err := io.ReadFull(c, rest)
		return err
	}
	for i := range rest {
		if _, err := c.Read(rest[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

func answerTo(m []byte) (answer []byte, after time.Duration) {
	name, ok := questionName(m[12:])
	if !ok {
		return nil, 0
	}
	m[2] |= 0x80 // it is an answer
	code := byte(codeNXDomain)
	first, _, _ := strings.Cut(name, ".")
	switch strings.ToLower(first) {
	case "servfail":
		code = 2
	case "refused":
		code = 5
	case "late":
		code, after = 0, 600*time.Millisecond
	case "never":
		return nil, 0
	case "truncated":
		m[2] |= 0x02
		code = 0
		if strings.Contains(name, ".late.") {
			after = 300 * time.Millisecond
		}
	case "header": // all that a server may say that has not understood the question
		m[3], m[5] = m[3]&0xf0|1, 0
		return m[:12], 0
	case "garbage": // of the right number, and nothing else right
		return append(m[:2], 0xff, 0xff, 0xff, 0xff, 0xff), 0
	default:
		if slices.Contains(existing, strings.ToLower(name)) {
			code = 0
		}
	}
	m[3] = m[3]&0xf0 | code
	end := 12 + len(name) + 2 + 4
	if code == 0 && binary.BigEndian.Uint16(m[end-4:]) == 1 {
		m[7] = 1
		m = append(m[:end:end], 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1)
		m[10], m[11] = 0, 0 // no additional record any more
	}
	return m, after
}

// question is a message that asks for the address of a name.
func question(id uint16, name string) []byte {
	m := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		m = append(append(m, byte(len(label))), label...)
	}
	return append(m, 0, 0, 1, 0, 1)
}

// lookUpNames is the role "names": the first process of a network namespace, with
// a DNS server and what a pod has in its resolv.conf. It does what it reads.
func lookUpNames() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	conf := filepath.Join(os.Getenv("TAPIO_EBPF_TEST_DIR"), "resolv.conf")
	err = errors.Join(netlink.LinkSetUp(lo), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		os.WriteFile(conf, []byte(resolvConf), 0o600), unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	if err != nil {
		return err
	}
	for _, address := range []string{"127.0.0.1:53", "[::1]:53"} {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		go answerDNS(c)
		over, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go serveStreams(over)
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		how, name, _ := strings.Cut(in.Text(), " ")
		if err := lookUp(how, name); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("done")
	}
	return nil
}

// farAddress is that of a server in another network namespace, over a veth pair.
var farAddress = net.IPv4(192, 0, 2, 2)

// serveFar makes that server.
func serveFar() error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}); err != nil {
		return err
	}
	far, err := netlink.LinkByName("far")
	if err != nil {
		return err
	}
	made, moved, done := make(chan *os.File), make(chan error), make(chan error)
	go linux.OnOwnThread(func() { // the first thread stays: the test reads its namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		own, failed := os.Open("/proc/thread-self/ns/net")
		made <- own
		if err = errors.Join(err, failed, <-moved); err == nil {
			err = bringUp("far", "192.0.2.2/24")
		}
		c, failed := net.ListenPacket("udp", "192.0.2.2:53")
		if failed == nil {
			go answerDNS(c)
		}
		done <- errors.Join(err, failed)
	})
	own := <-made
	moved <- netlink.LinkSetNsFd(far, int(own.Fd()))
	return errors.Join(<-done, own.Close(), bringUp("near", "192.0.2.1/24"))
}

func bringUp(name, address string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, addr), netlink.LinkSetUp(l))
}

func lookUp(how, name string) error {
	server := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}
	switch how {
	case "go":
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		r := net.Resolver{PreferGo: true}
		_, _ = r.LookupHost(ctx, name) // it may well fail
		return nil
	case "getent": // glibc, which asks for both addresses by sendmmsg
		cmd := exec.Command("getent", "ahosts", name)
		if err := cmd.Run(); cmd.ProcessState == nil {
			return err
		}
		return nil
	case "write6":
		server.IP = net.IPv6loopback
		fallthrough
	case "write":
		c, err := net.DialUDP("udp", nil, server)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(question(1, name))
		return errors.Join(err, answered(c))
	case "sendto":
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.WriteToUDP(question(2, name), server)
		return errors.Join(err, answered(c))
	case "sendmsg":
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, _, err = c.WriteMsgUDP(question(3, name), nil, server)
		return errors.Join(err, answered(c))
	case "sendmmsg":
		return sendTwo(name)
	case "serve-far":
		return serveFar()
	case "veth":
		server.IP = farAddress
		c, err := net.DialUDP("udp", nil, server)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(question(7, name))
		_ = c.SetReadDeadline(time.Now().Add(4 * time.Second)) // the link takes its time to come up
		_, failed := c.Read(make([]byte, 512))
		return errors.Join(err, failed)
	case "random":
		c, err := net.DialUDP("udp", nil, server)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range 4000 {
			_, err = c.Write(question(uint16(i), fmt.Sprintf("x%d.%s", i, name)))
			if err = errors.Join(err, answered(c)); err != nil {
				return err
			}
		}
		return nil
	case "tcp", "tcp-pieces", "tcp-vector", "tcp-message", "tcp-two":
		return askOverTCP(how, name)
	case "tcp-random":
		return writeRandom()
	case "tcp-garbage":
		return writeGarbage()
	case "truncated-tcp": // what a resolver does whose answer did not fit
		c, err := net.DialUDP("udp", nil, server)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(question(1, "truncated."+name))
		if err = errors.Join(err, answered(c)); err != nil {
			return err
		}
		return askOverTCP("tcp", "truncated."+name)
	case "getent-tcp": // glibc, as with "options use-vc"
		cmd := exec.Command("getent", "ahosts", name)
		cmd.Env = append(os.Environ(), "RES_OPTIONS=use-vc")
		if err := cmd.Run(); cmd.ProcessState == nil {
			return err
		}
		return nil
	case "closed": // where no server is
		c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 53})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(question(4, name))
		return err
	}
	return fmt.Errorf("unknown way %q", how)
}

// answered waits for an answer for a while; there may be none.
func answered(c net.Conn) error {
	_ = c.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
	_, err := c.Read(make([]byte, 512))
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// sendTwo asks for both kinds of address at once, on one socket, as glibc does.
func sendTwo(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	a, aaaa := question(5, name), question(6, name)
	aaaa[len(aaaa)-3] = 28
	type mmsghdr struct {
		header unix.Msghdr
		len    uint32
		_      [4]byte
	}
	vectors := []unix.Iovec{{Base: &a[0], Len: uint64(len(a))}, {Base: &aaaa[0], Len: uint64(len(aaaa))}}
	messages := make([]mmsghdr, 2)
	for i := range messages {
		messages[i].header.Iov, messages[i].header.Iovlen = &vectors[i], 1
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), 2, 0, 0, 0)
	if n != 2 {
		return fmt.Errorf("sendmmsg sent %d: %w", n, errno)
	}
	for range 2 {
		_, _ = unix.Read(fd, make([]byte, 512))
	}
	return nil
}

// resolver is a process that looks up names.
type resolver struct {
	t   *testing.T
	pid int
	in  io.Writer
	out *bufio.Scanner
}

func startResolver(t *testing.T) *resolver {
	t.Helper()
	cmd := role("names")
	cmd.Env = append(cmd.Env, "TAPIO_EBPF_TEST_DIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r := &resolver{t, cmd.Process.Pid, in, bufio.NewScanner(out)}
	r.expect("ready")
	return r
}

func (r *resolver) expect(want string) {
	r.t.Helper()
	require.True(r.t, r.out.Scan())
	require.Equal(r.t, want, r.out.Text())
}

// failed tells lookups of this process from those of others on the machine.
func (r *resolver) failed(s seenRecord) bool {
	return s.Name == event.DNSFailed && s.Resource[event.KeyProcessPID] == int64(r.pid)
}

func (r *resolver) do(how, name string) {
	r.t.Helper()
	_, err := fmt.Fprintln(r.in, how, name)
	require.NoError(r.t, err)
	r.expect("done")
}

func asked(name, question string) func(seenRecord) bool {
	return func(r seenRecord) bool {
		return r.Name == name && r.Attributes[event.KeyDNSQuestion] == question
	}
}

func TestLookupsThatFail(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	netns, err := inodeOf(fmt.Sprintf("/proc/%d/ns/net", names.pid))
	require.NoError(t, err)
	type lookup struct{ how, name, errorType, severity, server, network string }
	all := []lookup{
		{"write", "servfail.connected.example", "SERVFAIL", "Error", "127.0.0.1", "ipv4"},
		{"write6", "servfail.six.example", "SERVFAIL", "Error", "::1", "ipv6"},
		{"sendto", "servfail.unconnected.example", "SERVFAIL", "Error", "127.0.0.1", "ipv4"},
		{"sendmsg", "refused.message.example", "REFUSED", "Error", "127.0.0.1", "ipv4"},
		{"sendmmsg", "refused.pair.example", "REFUSED", "Error", "127.0.0.1", "ipv4"},
		{"write", "nowhere.example", "NXDOMAIN", "Warn", "127.0.0.1", "ipv4"},
		{"write", "Servfail.Bad\xff\x00\"\x1b[31m name.example", "SERVFAIL", "Error", "127.0.0.1", "ipv4"},
		{"closed", "closed.example", event.DNSRefused, "Error", "127.0.0.2", "ipv4"},
		{"write", "header.example", "FORMERR", "Warn", "127.0.0.1", "ipv4"},
		{"write", "never.example", event.DNSTimeout, "Error", "127.0.0.1", "ipv4"},
		{"write", "garbage.example", event.DNSTimeout, "Error", "127.0.0.1", "ipv4"},
	}
	before := time.Now()
	for _, tc := range all {
		names.do(tc.how, tc.name)
	}
	for _, tc := range all {
		t.Run(tc.how+" "+tc.errorType, func(t *testing.T) {
			want := strings.NewReplacer("\xff", `\255`, "\x00", `\000`, "\x1b", `\027`, " ", `\032`).Replace(tc.name)
			rec := r.await(asked(event.DNSFailed, want))
			assert.Equal(t, tc.errorType, rec.Attributes[event.KeyErrorType])
			assert.Equal(t, tc.severity, rec.Severity)
			types, count := []any{"A"}, int64(1)
			if tc.how == "sendmmsg" {
				types, count = []any{"A", "AAAA"}, 2
			}
			assert.Equal(t, types, rec.Attributes[event.KeyDNSTypes])
			assert.Equal(t, count, rec.Attributes[event.KeyDNSCount])
			assert.Equal(t, tc.server, rec.Attributes[event.KeyServerAddress])
			assert.Equal(t, int64(53), rec.Attributes[event.KeyServerPort])
			assert.Equal(t, tc.network, rec.Attributes[event.KeyNetworkType])
			assert.Equal(t, "udp", rec.Attributes[event.KeyNetworkTransport])
			assert.Equal(t, int64(netns), rec.Attributes[event.KeyNetworkNamespace])
			assert.Equal(t, int64(names.pid), rec.Resource[event.KeyProcessPID])
			assert.Equal(t, ownCgroup(t), rec.Resource[event.KeyProcessCgroup])
			wait := time.Duration(0)
			if tc.errorType == event.DNSTimeout {
				wait = answerTimeout
				assert.InDelta(t, answerTimeout.Seconds(), rec.Attributes[event.KeyDNSDuration], 0)
			} else {
				assert.Less(t, rec.Attributes[event.KeyDNSDuration], answerTimeout.Seconds())
				assert.Positive(t, rec.Attributes[event.KeyDNSDuration])
			}
			assert.WithinRange(t, rec.Time, before.Add(wait), time.Now())
		})
	}
}

// TestLookupsOverTCP: what fails over TCP is told as over UDP, however it is written and
// read; what was asked over UDP first, and did not fit, is one lookup.
func TestLookupsOverTCP(t *testing.T) {
	requireKernel(t)
	testLookupsOverTCP(t, startRig(t, nil))
}

// TestLookupsOverTCPOfOlderKernels does so with what runs before Linux 6.3.
func TestLookupsOverTCPOfOlderKernels(t *testing.T) {
	requireKernel(t)
	testLookupsOverTCP(t, startRigOf(t, nil, func(cfg *Config, log *zap.Logger) source {
		return openKernel(cfg, ofOlderKernels(programs(cfg)), log)
	}))
}

// ofOlderKernels has what is needed before Linux 6.3 in place of what is since.
func ofOlderKernels(all []program) (older []program) {
	for _, p := range all {
		if p.name == bpf.DNSProgDnsStreamSend || p.name == bpf.DNSProgDnsStreamReceive {
			continue
		}
		p.needed = nil
		older = append(older, p)
	}
	return older
}

// TestLookupsOverTCPOfGlibc: as with "options use-vc" in resolv.conf.
func TestLookupsOverTCPOfGlibc(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	names.do("getent-tcp", "servfail.glibc.example.")
	rec := r.await(asked(event.DNSFailed, "servfail.glibc.example"))
	assert.Equal(t, "SERVFAIL", rec.Attributes[event.KeyErrorType])
	assert.Equal(t, "tcp", rec.Attributes[event.KeyNetworkTransport])
	assert.Equal(t, "getent", rec.Resource[event.KeyProcessExecutableName])
}

func testLookupsOverTCP(t *testing.T, r *rig) {
	names := startResolver(t)
	all := []struct {
		how, name, errorType string
		count                int64
	}{
		{"tcp", "servfail.whole.example", "SERVFAIL", 1},
		{"tcp-pieces", "servfail.pieces.example", "SERVFAIL", 1},
		{"tcp-vector", "refused.vector.example", "REFUSED", 1},
		{"tcp-message", "refused.message.example", "REFUSED", 1},
		{"tcp-two", "servfail.two.example", "SERVFAIL", 2},
		{"tcp", "long.example", "SERVFAIL", 1},
		{"tcp-pieces", "long.pieces.example", "SERVFAIL", 1},
		{"tcp", "nowhere.tcp.example", "NXDOMAIN", 1},
		{"tcp", "Servfail.Bad\xff\x00\"\x1b[31m name.example", "SERVFAIL", 1},
		{"tcp", "hangup.example", event.DNSClosed, 1},
		{"tcp", "reset.example", event.DNSClosed, 1},
		{"tcp", "never.tcp.example", event.DNSTimeout, 1},
		{"truncated-tcp", "servfail.example", "SERVFAIL", 1},
	}
	for _, tc := range all {
		names.do(tc.how, tc.name)
	}
	for _, tc := range all {
		t.Run(tc.how+" "+tc.name, func(t *testing.T) {
			want := strings.NewReplacer("\xff", `\255`, "\x00", `\000`, "\x1b", `\027`, " ", `\032`).Replace(tc.name)
			if tc.how == "truncated-tcp" {
				want = "truncated." + want
			}
			rec := r.await(asked(event.DNSFailed, want))
			assert.Equal(t, tc.errorType, rec.Attributes[event.KeyErrorType])
			assert.Equal(t, "tcp", rec.Attributes[event.KeyNetworkTransport])
			assert.Equal(t, "127.0.0.1", rec.Attributes[event.KeyServerAddress])
			assert.Equal(t, int64(53), rec.Attributes[event.KeyServerPort])
			assert.Equal(t, tc.count, rec.Attributes[event.KeyDNSCount])
			assert.Equal(t, int64(names.pid), rec.Resource[event.KeyProcessPID])
			assert.Equal(t, ownCgroup(t), rec.Resource[event.KeyProcessCgroup])
		})
	}
	time.Sleep(2 * pollInterval) // long enough for what must not come
	for _, rec := range r.records(names.failed) {
		name := rec.Attributes[event.KeyDNSQuestion]
		assert.NotEqual(t, "www.example.com", name)
	}
	assert.Len(t, r.records(asked(event.DNSFailed, "truncated.servfail.example")), 1)
}

// TestLookupsOverTCPThatAreSlow: of what was asked over UDP first the time counts from there.
func TestLookupsOverTCPThatAreSlow(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	names.do("tcp", "late.tcp.example")
	rec := r.await(asked(event.DNSSlow, "late.tcp.example"))
	assert.Equal(t, "tcp", rec.Attributes[event.KeyNetworkTransport])
	assert.GreaterOrEqual(t, rec.Attributes[event.KeyDNSDuration], 0.6)
	names.do("truncated-tcp", "late.example") // 0.3 s each
	rec = r.await(asked(event.DNSSlow, "truncated.late.example"))
	assert.Equal(t, "tcp", rec.Attributes[event.KeyNetworkTransport])
	assert.GreaterOrEqual(t, rec.Attributes[event.KeyDNSDuration], 0.6)
	assert.Equal(t, int64(1), rec.Attributes[event.KeyDNSCount])
	assert.Empty(t, r.records(names.failed))
}

// TestStreamsThatAreNoDNS: what is written to port 53 and is something else makes no event,
// and what is asked on other connections is told.
func TestStreamsThatAreNoDNS(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	names.do("tcp-garbage", "")
	names.do("tcp", "servfail.after.example")
	r.await(asked(event.DNSFailed, "servfail.after.example"))
	assert.Len(t, r.records(names.failed), 1)
	assert.NotZero(t, r.receiver.source.stats().suppressed[event.DNSFailed])
	names.do("tcp-random", "")
	names.do("tcp", "servfail.last.example")
	r.await(asked(event.DNSFailed, "servfail.last.example"))
	r.await(asked(event.DNSFailed, "servfail.random.example"))
}

// TestNamesOfTooManyLabels are not told, but counted.
func TestNamesOfTooManyLabels(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	before := r.receiver.source.stats().suppressed[event.DNSFailed]
	names.do("write", "servfail"+strings.Repeat(".a", 60))
	names.do("write", "servfail"+strings.Repeat(".b", 38)) // of 39 it is told
	r.await(asked(event.DNSFailed, "servfail"+strings.Repeat(".b", 38)))
	assert.Greater(t, r.receiver.source.stats().suppressed[event.DNSFailed], before)
}

func TestLookupsThatAreSlow(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	names.do("write", "late.example")
	rec := r.await(asked(event.DNSSlow, "late.example"))
	assert.GreaterOrEqual(t, rec.Attributes[event.KeyDNSDuration], 0.6)
	assert.Less(t, rec.Attributes[event.KeyDNSDuration], answerTimeout.Seconds())
	assert.NotContains(t, rec.Attributes, event.KeyErrorType)
	assert.Equal(t, "Warn", rec.Severity)
	assert.Equal(t, int64(names.pid), rec.Resource[event.KeyProcessPID])
	assert.Empty(t, r.records(asked(event.DNSFailed, "late.example")))
}

// TestResolversSearch: the names that a resolver tries in vain on its way to one
// that exists are no failure; when none exists, the name that was asked of it is.
func TestResolversSearch(t *testing.T) {
	requireKernel(t)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	names := startResolver(t)
	const rounds = 3
	for _, how := range []string{"go", "getent"} {
		for range rounds {
			names.do(how, "cart.other") // found in the second domain
			names.do(how, "www.example.com")
			names.do(how, "orders."+how)              // in none
			names.do(how, "gone."+how+".example.com") // nor this
		}
		names.do(how, "truncated.example.")
	}
	failures := func() (out map[string]int64) {
		out = map[string]int64{}
		for _, rec := range r.records(func(s seenRecord) bool { return s.Name == event.DNSFailed }) {
			out[rec.Attributes[event.KeyDNSQuestion].(string)] += rec.Attributes[event.KeyDNSCount].(int64)
		}
		return out
	}
	// Each getent is a process of its own, which has failed once.
	want := map[string]int64{"orders.go": rounds, "gone.go.example.com": rounds, "orders.getent": rounds, "gone.getent.example.com": rounds}
	assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, failures()) }, 10*time.Second, 20*time.Millisecond)
	time.Sleep(2 * pollInterval) // long enough for what must not come
	assert.Equal(t, want, failures())
	rec := r.await(asked(event.DNSFailed, "orders.getent"))
	assert.Equal(t, []any{"A", "AAAA"}, rec.Attributes[event.KeyDNSTypes])
	assert.Equal(t, "getent", rec.Resource[event.KeyProcessExecutableName])
}

// TestLookupsOverADevice: the first question waits until the address of the next
// hop is known, and leaves when somebody else may run: it may have no process, but
// never a wrong one. The others do.
func TestLookupsOverADevice(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	names.do("serve-far", "")
	names.do("veth", "servfail.first.example")
	names.do("veth", "servfail.second.example")
	first := r.await(asked(event.DNSFailed, "servfail.first.example"))
	t.Logf("the first question's process: %v", first.Resource[event.KeyProcessPID])
	if pid, ok := first.Resource[event.KeyProcessPID]; ok {
		assert.Equal(t, int64(names.pid), pid)
	}
	second := r.await(asked(event.DNSFailed, "servfail.second.example"))
	assert.Equal(t, int64(names.pid), second.Resource[event.KeyProcessPID])
	assert.Equal(t, farAddress.String(), second.Attributes[event.KeyServerAddress])
	assert.Equal(t, int64(1), second.Attributes[event.KeyDNSCount])
}

// BenchmarkDatagram is a datagram to a socket on loopback and back, none of them
// DNS; BenchmarkLookup a question and its answer.
func BenchmarkDatagram(b *testing.B) {
	benchmarkDNS(b, 0)
}

func BenchmarkLookup(b *testing.B) {
	benchmarkDNS(b, 53)
}

func benchmarkDNS(b *testing.B, port int) {
	benchmarkPrograms(b, dnsPrograms(createDefaultConfig().(*Config)), func(b *testing.B) {
		pid := os.Getpid()
		server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 53, byte(pid>>8), byte(pid)), Port: port})
		require.NoError(b, err)
		defer server.Close()
		client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		require.NoError(b, err)
		defer client.Close()
		message, buf := question(1, "cart.shop.svc.cluster.local"), make([]byte, 512)
		answer := slices.Clone(message)
		answer[2] |= 0x80
		back := client.LocalAddr().(*net.UDPAddr).AddrPort()
		for b.Loop() {
			_, _ = client.Write(message)
			_, _, _ = server.ReadFromUDPAddrPort(buf)
			_, _ = server.WriteToUDPAddrPort(answer, back)
			_, _ = client.Read(buf)
		}
	})
}

// BenchmarkStream is a message to a socket of TCP and back that is no DNS, and
// BenchmarkStreamLookup a question and its answer: two calls that write, four that read.
// The one of older kernels is called for the reading and writing of other files too.
func BenchmarkStream(b *testing.B) {
	all := dnsPrograms(createDefaultConfig().(*Config))
	b.Run("other", func(b *testing.B) { benchmarkStream(b, all, 0) })
	b.Run("lookup", func(b *testing.B) { benchmarkStream(b, all, 53) })
	b.Run("older-other", func(b *testing.B) { benchmarkStream(b, ofOlderKernels(all), 0) })
	b.Run("older-lookup", func(b *testing.B) { benchmarkStream(b, ofOlderKernels(all), 53) })
}

func benchmarkStream(b *testing.B, wanted []program, port int) {
	benchmarkPrograms(b, wanted, func(b *testing.B) {
		pid := os.Getpid()
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 53, byte(pid>>8), byte(pid)), Port: port})
		require.NoError(b, err)
		defer l.Close()
		go serveStreams(l)
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(b, err)
		defer c.Close()
		message := withLength(question(1, "www.example.com"))
		for b.Loop() {
			if _, err = c.Write(message); err == nil {
				err = readAnswer(c, "")
			}
			require.NoError(b, err)
		}
	})
}

// benchmarkPrograms reports for each program what one of its calls takes, as the
// kernel measures it: the time that the workload takes varies by more.
func benchmarkPrograms(b *testing.B, wanted []program, work func(*testing.B)) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skip(err)
	}
	defer stats.Close()
	k := openKernel(createDefaultConfig().(*Config), wanted, zap.NewNop())
	defer k.close()
	if len(k.failures) > 0 {
		b.Skip(k.failures)
	}
	work(b)
	for _, p := range k.running {
		s, err := p.program.Stats()
		require.NoError(b, err)
		b.ReportMetric(float64(s.Runtime.Nanoseconds())/float64(max(s.RunCount, 1)), p.name+"-ns/call")
	}
}

// TestNamesAtRandom: a program that asks for more names than there is place for
// is counted, and then others are told again.
func TestNamesAtRandom(t *testing.T) {
	requireKernel(t)
	r := startRig(t, nil)
	names := startResolver(t)
	names.do("random", "example")
	assert.Eventually(t, func() bool { return r.receiver.suppressed()[event.DNSFailed] >= 1000 }, 5*time.Second, 10*time.Millisecond)
	assert.Eventually(t, func() bool {
		names.do("write", "servfail.after.example")
		return len(r.records(asked(event.DNSFailed, "servfail.after.example"))) > 0
	}, 15*time.Second, 100*time.Millisecond)
}
