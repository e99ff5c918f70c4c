//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// The tests in this file ask real servers to dial an address of its own for each
// request, at which nobody listens. The kernel tells of each, and must tell the
// trace of the request that it was for.

// httpRequests is how many a test sends, httpConcurrent how many at once.
const (
	httpRequests   = 3000
	httpConcurrent = 50
)

// requireProgram looks for a program that the test runs.
func requireProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("this test runs %s: %v", name, err)
	}
	require.NoError(t, err)
	return path
}

// buildGoServer compiles the Go server of testdata, which is a program of its own:
// what is linked into this one is not in it.
func buildGoServer(t *testing.T, args ...string) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("testdata", "http", "server.go.txt"))
	require.NoError(t, err)
	return buildGo(t, source, args...)
}

func buildGo(t *testing.T, source []byte, args ...string) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "main.go"), source, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module example.com/server\n\ngo 1.26\n"), 0o600))
	cmd := exec.Command(requireProgram(t, "go"), append(append([]string{"build"}, args...), "-o", "server", ".")...)
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return filepath.Join(folder, "server")
}

// httpServer is a running server.
type httpServer struct {
	t       *testing.T
	pid     int
	address string
	tls     *tls.Config // to ask it over TLS
	once    bool        // each request on a connection of its own
}

// client asks it.
func (s *httpServer) client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, TLSClientConfig: s.tls, DisableKeepAlives: s.once}, Timeout: 20 * time.Second}
}

func (s *httpServer) url(query string) string {
	if s.tls != nil {
		return "https://" + s.address + "/?" + query
	}
	return "http://" + s.address + "/?" + query
}

func startHTTPServer(t *testing.T, cmd *exec.Cmd) *httpServer {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return &httpServer{t: t, pid: cmd.Process.Pid, address: strings.TrimSpace(line)}
}

// target is the address that request i makes the server dial: one of its own.
func target(i int) string { return fmt.Sprintf("127.1.%d.%d", i>>8&0xff, i&0xff) }

// traceparents are of requests by the address that they dial.
type traceparents map[string]string

func randomHex(t *testing.T, n int) string {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}

// send makes requests, and returns what each said that its trace is.
func (s *httpServer) send(query string, n, concurrent int) traceparents {
	s.t.Helper()
	client := s.client(concurrent)
	defer client.CloseIdleConnections()
	sent := make(traceparents, n)
	work := make(chan *http.Request, n)
	for i := range n {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.url("to="+target(i)+":1&"+query), nil)
		require.NoError(s.t, err)
		sent[target(i)] = "00-" + randomHex(s.t, 16) + "-" + randomHex(s.t, 8) + "-01"
		r.Header.Set("traceparent", sent[target(i)])
		work <- r
	}
	close(work)
	var group sync.WaitGroup
	for range concurrent {
		group.Go(func() {
			for r := range work {
				response, err := client.Do(r)
				if !assert.NoError(s.t, err) {
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		})
	}
	group.Wait()
	return sent
}

// associations counts how many of the failed connects name the right trace, a
// wrong one, and none.
func (r *rig) associations(s *httpServer, sent traceparents, how string) (right, wrong, none int) {
	r.t.Helper()
	seen := map[string]bool{}
	failed := func(rec seenRecord) bool {
		to, _ := rec.Attributes["network.peer.address"].(string)
		return of(event.TCPConnectFailed, s.pid)(rec) && sent[to] != ""
	}
	require.Eventually(r.t, func() bool { return len(r.records(failed)) >= len(sent) }, 30*time.Second, 50*time.Millisecond)
	for _, rec := range r.records(failed) {
		to := rec.Attributes["network.peer.address"].(string)
		require.False(r.t, seen[to], "one event of each request")
		seen[to] = true
		switch {
		case rec.Trace == "":
			assert.NotContains(r.t, rec.Attributes, event.KeyTraceAssociation)
			none++
		case sent[to] == "00-"+rec.Trace+"-"+rec.Span+"-01" && rec.Attributes[event.KeyTraceAssociation] == how:
			right++
		default:
			wrong++
		}
	}
	return right, wrong, none
}

func enableHTTP(c *Config) {
	c.Programs.HTTP.Enabled = true
	c.Programs.HTTP.ContextMap = ""
}

// warmUp waits until the kernel programs know the server.
func (r *rig) warmUp(s *httpServer) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.receiver.source.(*kernel).tracer.knows(s.pid) }, 10*time.Second, time.Millisecond)
}

// namesTraces sends requests, 50 at once, and wants no trace to be wrong, and all but one
// in a thousand to be named.
func (r *rig) namesTraces(s *httpServer, query, how string) {
	r.t.Helper()
	right, wrong, none := r.associations(s, s.send(query, httpRequests, httpConcurrent), how)
	r.t.Logf("%d right, %d wrong, %d none", right, wrong, none)
	assert.Zero(r.t, wrong)
	assert.GreaterOrEqual(r.t, right*1000, httpRequests*999)
}

func TestTraceOfGoServer(t *testing.T) {
	requireKernel(t)
	for _, tc := range []struct {
		name, query string
		flags       []string
	}{
		{"dial in the handler", "", nil},
		{"sleep before", "sleep", nil},
		{"stripped", "sleep", []string{"-ldflags=-s -w"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := startRig(t, enableHTTP) // with token buckets that are full
			s := startHTTPServer(t, exec.Command(buildGoServer(t, tc.flags...)))
			r.warmUp(s)
			r.namesTraces(s, tc.query, event.AssociationGoroutine)
		})
	}
}

func TestTraceOfPythonServer(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(python, "testdata/http/server.py"))
	r.warmUp(s)
	r.namesTraces(s, "sleep", event.AssociationThread)
}

func TestTraceOfNodeServer(t *testing.T) {
	requireKernel(t)
	node := requireProgram(t, "node")
	for _, query := range []string{"same-tick", "sleep", "immediate", "deep"} {
		t.Run(query, func(t *testing.T) {
			r := startRig(t, enableHTTP) // with token buckets that are full
			s := startHTTPServer(t, exec.Command(node, "testdata/http/server.js"))
			r.warmUp(s)
			right, wrong, none := r.associations(s, s.send(query, httpRequests, httpConcurrent), event.AssociationThread)
			t.Logf("%d right, %d wrong, %d none", right, wrong, none)
			assert.Zero(t, wrong)
			if query == "same-tick" { // all others wait for something before they dial
				assert.GreaterOrEqual(t, right*1000, httpRequests*999)
			}
		})
	}
}

// TestHostileHeaders: of what a client may send, only one valid traceparent in a
// whole header counts.
func TestHostileHeaders(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	trace, span := strings.Repeat("t", 32), strings.Repeat("s", 16) // in their place each case gets its own
	valid := "00-" + trace + "-" + span + "-01"
	line := "traceparent: " + valid + "\r\n"
	for i, tc := range []struct {
		name, header string
		body         string
		isTraced     bool
	}{
		{name: "as it should be", header: line, isTraced: true},
		{name: "none", header: "a: b\r\n"},
		{name: "any case", header: "TracePARENT: " + valid + "\r\n", isTraced: true},
		{name: "no white space", header: "traceparent:" + valid + "\r\n", isTraced: true},
		{name: "white space behind", header: "traceparent: \t" + valid + " \t\r\n", isTraced: true},
		{name: "line feeds only", header: "traceparent: " + valid + "\n", isTraced: true},
		{name: "later version", header: "traceparent: 01-" + trace + "-" + span + "-01-what-comes\r\n", isTraced: true},
		{name: "version 00 with more", header: "traceparent: " + valid + "-00\r\n"},
		{name: "version ff", header: "traceparent: ff-" + trace + "-" + span + "-01\r\n"},
		{name: "upper case", header: "traceparent: 00-" + strings.Repeat("AB", 16) + "-" + span + "-01\r\n"},
		{name: "no trace id", header: "traceparent: 00-" + strings.Repeat("0", 32) + "-" + span + "-01\r\n"},
		{name: "no span id", header: "traceparent: 00-" + trace + "-" + strings.Repeat("0", 16) + "-01\r\n"},
		{name: "no digits", header: "traceparent: 00-" + strings.Repeat("g", 32) + "-" + span + "-01\r\n"},
		{name: "too short", header: "traceparent: 00-" + trace + "-" + span + "\r\n"},
		{name: "empty", header: "traceparent:\r\n"},
		{name: "twice", header: line + line},
		{name: "many", header: strings.Repeat(line, 40)},
		{name: "another name", header: "x-traceparent: " + valid + "\r\ntraceparents: " + valid + "\r\n"},
		{name: "as a value", header: "a: traceparent: " + valid + "\r\n"},
		{name: "in the body", header: "Content-Length: " + fmt.Sprint(2+len(line)) + "\r\n", body: "\r\n" + line},
		{name: "behind much", header: "cookie: " + strings.Repeat("x", 3000) + "\r\n" + line, isTraced: true},
		{name: "behind too much", header: "cookie: " + strings.Repeat("x", 5000) + "\r\n" + line},
		{name: "before too much", header: line + "cookie: " + strings.Repeat("x", 5000) + "\r\n"},
		{name: "full of lines", header: strings.Repeat("a:b\r\n", 600) + line, isTraced: true},
	} {
		wantTrace, wantSpan := randomHex(t, 16), randomHex(t, 8)
		request := fmt.Sprintf("POST /?to=%s:1 HTTP/1.1\r\nHost: a\r\n%s\r\n%s", target(i), tc.header, tc.body)
		request = strings.NewReplacer(trace, wantTrace, span, wantSpan).Replace(request)
		c, err := net.Dial("tcp", s.address)
		require.NoError(t, err)
		_, err = c.Write([]byte(request))
		require.NoError(t, err)
		_, err = bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err, tc.name)
		require.NoError(t, c.Close())
		got := r.await(func(rec seenRecord) bool {
			return of(event.TCPConnectFailed, s.pid)(rec) && rec.Attributes["network.peer.address"] == target(i)
		})
		if tc.isTraced {
			assert.Equal(t, wantTrace+wantSpan, got.Trace+got.Span, tc.name)
		} else {
			assert.Empty(t, got.Trace, tc.name)
		}
	}
}

// TestRequestAfterRequest: what one request said is not true of the next one of its
// connection, nor is it when the header comes in parts.
func TestRequestAfterRequest(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	c, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer c.Close()
	responses := bufio.NewReader(c)
	ask := func(i int, parts ...string) string {
		for _, part := range parts {
			_, err := c.Write([]byte(strings.ReplaceAll(part, "TARGET", target(i)+":1")))
			require.NoError(t, err)
			time.Sleep(20 * time.Millisecond)
		}
		response, err := http.ReadResponse(responses, nil)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, response.Body)
		require.NoError(t, response.Body.Close())
		return r.await(func(rec seenRecord) bool {
			return of(event.TCPConnectFailed, s.pid)(rec) && rec.Attributes["network.peer.address"] == target(i)
		}).Trace
	}
	first, second := randomHex(t, 16), randomHex(t, 16)
	header := "traceparent: 00-" + first + "-0102030405060708-01\r\n\r\n"
	assert.Equal(t, first, ask(1, "GET /?to=TARGET HTTP/1.1\r\nHost: a\r\n"+header))
	assert.Empty(t, ask(2, "GET /?to=TARGET HTTP/1.1\r\nHost: a\r\n\r\n"))
	assert.Equal(t, first, ask(3, "GET /?to=TARGET HTTP/1.1\r\nHost: a\r\n"+header))
	assert.Empty(t, ask(4, "GET /?to=TARGET HTTP/1.1\r\nHost", ": a\r\ntraceparent: 00-"+second+"-0102030405060708-01\r\n\r\n"))
	// The counts are of the whole machine, where other tests have servers too.
	counts := r.receiver.source.stats().requests
	assert.GreaterOrEqual(t, counts[outcomeTraced], int64(2))
	assert.GreaterOrEqual(t, counts[outcomeUntraced], int64(1))
	assert.GreaterOrEqual(t, counts[outcomeCut], int64(1))
}

// TestServerOfCallbacks: one thread works on many requests in turn, in no order
// that the kernel could know.
func TestServerOfCallbacks(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(python, "testdata/http/server_asyncio.py"))
	r.warmUp(s)
	right, wrong, none := r.associations(s, s.send("sleep", httpRequests, httpConcurrent), event.AssociationThread)
	assert.Equal(t, []int{0, 0, httpRequests}, []int{right, wrong, none})
	assert.GreaterOrEqual(t, r.receiver.source.stats().requests[outcomeRuntimeUnknown], int64(httpRequests))
}

// TestTraceOfSystemCall: of requests that are served at once, the one whose write
// finds no space is named.
func TestTraceOfSystemCall(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	full := map[string]bool{}
	var group sync.WaitGroup
	group.Go(func() { s.send("sleep", 1000, 20) })
	for range 20 {
		for _, traceparent := range s.send("sleep&full", 1, 1) {
			full[traceparent[3:35]] = true
		}
	}
	group.Wait()
	failed := func(rec seenRecord) bool {
		return of(event.SyscallFailed, s.pid)(rec) && rec.Attributes[event.KeyErrorType] == "ENOSPC"
	}
	require.Eventually(t, func() bool { return len(r.records(failed)) == len(full) }, 10*time.Second, 10*time.Millisecond)
	for _, rec := range r.records(failed) {
		assert.True(t, full[rec.Trace], rec.Trace)
		assert.Equal(t, event.AssociationGoroutine, rec.Attributes[event.KeyTraceAssociation])
		delete(full, rec.Trace)
	}
	assert.Empty(t, full)
}

// TestTraceOfSocket: a reset comes when no task runs that it is about.
func TestTraceOfSocket(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	reset := func(wait time.Duration, isAnswered bool) seenRecord {
		c, err := net.Dial("tcp", s.address)
		require.NoError(t, err)
		port := int64(c.LocalAddr().(*net.TCPAddr).Port)
		_, err = fmt.Fprintf(c, "GET /?to=127.1.0.0:1&wait=%s HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%032x-%016x-01\r\n\r\n", wait, port, port)
		require.NoError(t, err)
		if isAnswered {
			_, err = bufio.NewReader(c).ReadString('\n')
			require.NoError(t, err)
		}
		time.Sleep(50 * time.Millisecond)
		require.NoError(t, c.(*net.TCPConn).SetLinger(0))
		require.NoError(t, c.Close())
		rec := r.await(func(rec seenRecord) bool {
			return of(event.TCPReset, s.pid)(rec) && rec.Attributes["network.peer.port"] == port
		})
		if rec.Trace != "" {
			assert.Equal(t, fmt.Sprintf("%032x", port), rec.Trace)
			assert.Equal(t, event.AssociationSocket, rec.Attributes[event.KeyTraceAssociation])
		}
		return rec
	}
	assert.NotEmpty(t, reset(time.Second, false).Trace, "the request was being worked on")
	assert.Empty(t, reset(0, true).Trace, "the connection waited for its next request")
}

// TestTraceOfRetransmission: the server connects to a listener that takes no more,
// and the SYN is sent again by a timer of the kernel.
func TestTraceOfRetransmission(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for { // until its queue is full
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			break
		}
		defer c.Close()
	}
	c, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer c.Close()
	trace, span := randomHex(t, 16), randomHex(t, 8)
	_, err = fmt.Fprintf(c, "GET /?to=%s HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%s-%s-00\r\n\r\n", address, trace, span)
	require.NoError(t, err)
	rec := r.await(of(event.TCPRetransmit, s.pid))
	assert.Equal(t, "syn_sent", rec.Attributes["network.connection.state"])
	assert.Equal(t, trace+span, rec.Trace+rec.Span)
	assert.Equal(t, event.AssociationSocket, rec.Attributes[event.KeyTraceAssociation])
}

// BenchmarkHTTPCalls: what the group http adds to calls: to any, to one that reads
// or writes something else than HTTP, and to one that reads a request.
func BenchmarkHTTPCalls(b *testing.B) {
	request := append([]byte("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nAccept: */*\r\n"), make([]byte, 512)...)
	copy(request[len(request)-4:], "\r\n\r\n")
	for _, enabled := range []bool{false, true, false, true} {
		cfg := createDefaultConfig().(*Config)
		cfg.Programs = ProgramsConfig{HTTP: HTTPConfig{Enabled: enabled}}
		k := openKernel(cfg, programs(cfg), zap.NewNop())
		if enabled && len(k.failures) > 0 {
			b.Skip(k.failures)
		}
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		require.NoError(b, err)
		run := func(name string, call func()) {
			b.Run(fmt.Sprintf("%s/http=%v", name, enabled), func(b *testing.B) {
				spent, runs := runTime(b, k, bpf.HTTPProgHttpCalls)
				for b.Loop() {
					call()
				}
				spentAfter, runsAfter := runTime(b, k, bpf.HTTPProgHttpCalls)
				if n := runsAfter - runs; n > 0 { // of all calls of the machine; nearly all are these
					b.ReportMetric(float64(spentAfter-spent)/float64(n), "program-ns/call")
				}
			})
		}
		run("getppid", func() { _, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0) })
		zero, err := unix.Open("/dev/zero", unix.O_RDWR, 0)
		require.NoError(b, err)
		buffer := make([]byte, 64)
		run("read", func() { _, _ = unix.Read(zero, buffer) })
		run("write", func() { _, _ = unix.Write(zero, buffer) })
		server, client := tcpPair(b)
		answer := []byte("HTTP/1.1 200 OK\r\n\r\n")
		large := make([]byte, 4096)
		run("request and response", func() {
			_, _ = client.Write(request)
			_, _ = server.Read(large)
			_, _ = server.Write(answer)
			_, _ = client.Read(large)
		})
		require.NoError(b, errors.Join(stats.Close(), unix.Close(zero), server.Close(), client.Close(), k.close()))
	}
}

// runTime is how long a program ran by now, and how often: as the kernel counts it,
// which other work on the machine disturbs least.
func runTime(tb testing.TB, k *kernel, name string) (time.Duration, uint64) {
	tb.Helper()
	for _, p := range k.running {
		if p.name == name {
			stats, err := p.program.Stats()
			require.NoError(tb, err)
			return stats.Runtime, stats.RunCount
		}
	}
	return 0, 0
}

// tcpPair are the two ends of a connection.
func tcpPair(tb testing.TB) (server, client net.Conn) {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer listener.Close()
	client, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(tb, err)
	server, err = listener.Accept()
	require.NoError(tb, err)
	return server, client
}

// TestTraceOfInstrumentation: a map as OpenTelemetry eBPF Instrumentation pins it
// says what a thread works on, which is no HTTP here; whoever of the two starts first.
func TestTraceOfInstrumentation(t *testing.T) {
	requireKernel(t)
	for name, isFirst := range map[string]bool{"before": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			require.NoError(t, unix.Mount("bpf", root, "bpf", 0, ""))
			t.Cleanup(func() { assert.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) })
			folder := filepath.Join(root, "otel")
			spec := &ebpf.MapSpec{Name: "traces_ctx_v1", Type: ebpf.LRUHash, KeySize: 8, ValueSize: 24, MaxEntries: 1 << 14, Pinning: ebpf.PinByName}
			instrument := func() *ebpf.Map {
				contexts, err := ebpf.NewMapWithOptions(spec, ebpf.MapOptions{PinPath: folder})
				require.NoError(t, err)
				t.Cleanup(func() { _ = contexts.Close() })
				return contexts
			}
			var contexts *ebpf.Map
			if isFirst {
				require.NoError(t, os.Mkdir(folder, 0o700))
				contexts = instrument()
			}
			r := startRig(t, func(c *Config) {
				enableHTTP(c)
				c.Programs.HTTP.ContextMap = filepath.Join(folder, "traces_ctx_v1")
			})
			if !isFirst {
				contexts = instrument()
			}
			checkContexts(t, r, contexts)
		})
	}
}

// checkContexts puts what this thread works on into a map and looks for it on events.
func checkContexts(t *testing.T, r *rig, contexts *ebpf.Map) {
	t.Helper()
	dial := func(i int) seenRecord {
		if c, err := net.Dial("tcp", target(i)+":1"); err == nil {
			c.Close()
		}
		return r.await(func(rec seenRecord) bool {
			return of(event.TCPConnectFailed, os.Getpid())(rec) && rec.Attributes["network.peer.address"] == target(i)
		})
	}
	_ = role("exit").Run() // so that what watches processes runs too, on kernels where this is the only test of the group
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	assert.Empty(t, dial(1).Trace)
	thread := uint64(os.Getpid())<<32 | uint64(unix.Gettid())
	trace, span := randomHex(t, 16), randomHex(t, 8)
	value, err := hex.DecodeString(trace + span)
	require.NoError(t, err)
	require.NoError(t, contexts.Put(thread, value))
	rec := dial(2)
	assert.Equal(t, trace+span, rec.Trace+rec.Span)
	assert.Equal(t, event.AssociationSDK, rec.Attributes[event.KeyTraceAssociation])
	require.NoError(t, contexts.Put(thread, make([]byte, 24)))
	assert.Empty(t, dial(3).Trace, "it is not in a span any more")
	require.NoError(t, contexts.Delete(thread))
	assert.Empty(t, dial(4).Trace)
}
