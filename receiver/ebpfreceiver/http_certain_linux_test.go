//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// The tests in this file have servers of which it is not certain what they work on,
// though they look as if it were.

func startSocketServer(t *testing.T, arguments ...string) *httpServer {
	t.Helper()
	python := requireProgram(t, "python3")
	return startHTTPServer(t, exec.Command(python, append([]string{"testdata/http/server_sockets.py"}, arguments...)...))
}

// traceOf is the trace on the event of the dial that a request made a server try.
func (r *rig) traceOf(s *httpServer, i int) string {
	r.t.Helper()
	return r.await(func(rec seenRecord) bool {
		return of(event.TCPConnectFailed, s.pid)(rec) && rec.Attributes["network.peer.address"] == target(i)
	}).Trace
}

// open sends the beginning of a request on a connection of its own; the connection
// stays open.
func (s *httpServer) open(method, query, headers, trace string) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.address)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	if trace != "" {
		headers += "traceparent: 00-" + trace + "-0102030405060708-01\r\n"
	}
	_, err = fmt.Fprintf(c, "%s /?%s HTTP/1.1\r\nHost: a\r\n%s\r\n", method, query, headers)
	require.NoError(s.t, err)
	return c
}

func readStatus(t *testing.T, c net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(line)
}

// readResponse reads the next of several responses.
func readResponse(t *testing.T, responses *bufio.Reader) (status int) {
	t.Helper()
	response, err := http.ReadResponse(responses, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

func toTarget(i int) string { return "to=" + target(i) + ":1" }

// TestServerThatTakesTurns: one thread reads a request from a blocking socket and
// another one before it works on the first.
func TestServerThatTakesTurns(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	for _, how := range []string{"select", "dontwait"} {
		for _, first := range []string{randomHex(t, 16), ""} {
			t.Run(fmt.Sprintf("%s/%v", how, first != ""), func(t *testing.T) {
				s := startSocketServer(t, how)
				r.warmUp(s)
				one := s.open("GET", toTarget(1), "", first)
				two := s.open("GET", toTarget(2), "", randomHex(t, 16))
				for _, c := range []net.Conn{one, two} {
					assert.Equal(t, "HTTP/1.1 200 OK", readStatus(t, c))
				}
				for i := 1; i <= 2; i++ {
					rec := r.await(func(rec seenRecord) bool {
						return of(event.TCPConnectFailed, s.pid)(rec) && rec.Attributes["network.peer.address"] == target(i)
					})
					assert.Empty(t, rec.Trace, "request %d", i)
				}
			})
		}
	}
}

// TestServerThatWaits: for its one connection or for a new one, which takes nothing
// from who works on one request at a time; but for several while it has a request.
func TestServerThatWaits(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startSocketServer(t, "in_turn")
	r.warmUp(s)
	for i := range 20 {
		trace := randomHex(t, 16)
		c := s.open("GET", toTarget(i), "", trace)
		assert.Equal(t, "HTTP/1.1 200 OK", readStatus(t, c))
		assert.Equal(t, trace, r.traceOf(s, i))
	}
	s = startSocketServer(t, "job")
	r.warmUp(s)
	c := s.open("GET", toTarget(1), "", randomHex(t, 16))
	assert.Equal(t, "HTTP/1.1 200 OK", readStatus(t, c))
	assert.Empty(t, r.traceOf(s, 1))
}

// TestBodyThatIsARequest: what follows on a connection before the response is no
// request of its own, whatever it looks like.
func TestBodyThatIsARequest(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(python, "testdata/http/server.py"))
	r.warmUp(s)
	body := "GET /inner HTTP/1.1\r\nHost: a\r\ntraceparent: 00-" + randomHex(t, 16) + "-0102030405060708-01\r\n\r\n"
	for i, trace := range []string{randomHex(t, 16), ""} {
		// It says when it has read the header, so that the body comes in a read of its own.
		headers := fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n", len(body))
		c := s.open("POST", toTarget(i), headers, trace)
		responses := bufio.NewReader(c)
		assert.Equal(t, http.StatusContinue, readResponse(t, responses))
		_, err := c.Write([]byte(body))
		require.NoError(t, err)
		assert.Equal(t, http.StatusOK, readResponse(t, responses))
		assert.Empty(t, r.traceOf(s, i))

		// The next one of the connection is as good as any.
		next := randomHex(t, 16)
		_, err = fmt.Fprintf(c, "GET /?%s HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%s-0102030405060708-01\r\n\r\n", toTarget(10+i), next)
		require.NoError(t, err)
		assert.Equal(t, next, r.traceOf(s, 10+i))
		assert.Equal(t, http.StatusOK, readResponse(t, responses))
	}
}

// TestSeveralRequestsInOneRead: which of them is worked on is not seen, whoever reads them;
// one with its body is one.
func TestSeveralRequestsInOneRead(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	servers := map[string]*exec.Cmd{"go": exec.Command(buildGoServer(t))}
	if node, err := exec.LookPath("node"); err == nil { // other tests say that it is missing
		servers["node"] = exec.Command(node, "testdata/http/server.js")
	}
	for name, cmd := range servers {
		s := startHTTPServer(t, cmd)
		r.warmUp(s)
		i := 0
		for _, tc := range []struct {
			name     string
			headers  []string // of each request in the read
			bodies   []string
			isTraced bool
		}{
			{"one", []string{""}, []string{""}, true},
			{"with a body", []string{"Content-Length: 5\r\n"}, []string{"hello"}, true},
			{"with the beginning of a body", []string{"content-length:\t 50000 \r\n"}, []string{"hello"}, true},
			{"in chunks", []string{"Transfer-Encoding: chunked\r\n"}, []string{"5\r\nhello\r\n0\r\n\r\n"}, true},
			{"two", []string{"", ""}, []string{"", ""}, false},
			{"four", []string{"", "", "", ""}, []string{"", "", "", ""}, false},
			{"after a body", []string{"Content-Length: 5\r\n", ""}, []string{"hello", ""}, false},
			{"after chunks", []string{"transfer-encoding: chunked\r\n", ""}, []string{"5\r\nhello\r\n0\r\n\r\n", ""}, false},
			// More than is looked at; and more than Go reads at once.
			{"far after chunks, node", []string{"Transfer-Encoding: chunked\r\n", ""}, []string{"1400\r\n" + strings.Repeat("x", 0x1400) + "\r\n0\r\n\r\n", ""}, false},
		} {
			if name == "go" && strings.HasSuffix(tc.name, "node") {
				continue
			}
			request, traces, first := "", []string{}, i
			for k, header := range tc.headers {
				traces = append(traces, randomHex(t, 16))
				request += fmt.Sprintf("POST /?%s HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%s-0102030405060708-01\r\n%s\r\n%s", toTarget(i), traces[k], header, tc.bodies[k])
				i++
			}
			c, err := net.Dial("tcp", s.address)
			require.NoError(t, err)
			_, err = c.Write([]byte(request))
			require.NoError(t, err)
			for k, trace := range traces {
				got := r.traceOf(s, first+k)
				if tc.isTraced {
					assert.Equal(t, trace, got, "%s: %s", name, tc.name)
				} else {
					assert.Empty(t, got, "%s: %s, request %d", name, tc.name, k)
				}
			}
			require.NoError(t, c.Close())
		}
	}
}

// TestBodyAfterTheResponse: a server that responds before the body has come reads that
// together with the next request.
func TestBodyAfterTheResponse(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(requireProgram(t, "node"), "testdata/http/server.js"))
	r.warmUp(s)
	first, second := randomHex(t, 16), randomHex(t, 16)
	request := "GET /?%s HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%s-0102030405060708-01\r\n\r\n"
	body := fmt.Sprintf(request, toTarget(8), second)
	c := s.open("POST", toTarget(1), fmt.Sprintf("Content-Length: %d\r\n", len(body)), first)
	responses := bufio.NewReader(c)
	assert.Equal(t, http.StatusOK, readResponse(t, responses))
	assert.Equal(t, first, r.traceOf(s, 1))
	for i := 2; i < 5; i++ {
		_, err := fmt.Fprintf(c, "%s"+request, body, toTarget(i), randomHex(t, 16))
		require.NoError(t, err)
		assert.Empty(t, r.traceOf(s, i), i)
		assert.Equal(t, http.StatusOK, readResponse(t, responses))
		body = ""
	}
}

// TestAfterTheResponse: who has begun to respond does not work on the request any more,
// in whatever calls the response is written, and whatever was forgotten meanwhile.
func TestAfterTheResponse(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startSocketServer(t, "late")
	r.warmUp(s)
	for i, how := range []string{"whole", "pieces", "writev", "sendmsg", "sendfile"} {
		s.open("GET", toTarget(i)+"&how="+how, "", randomHex(t, 16))
		assert.Empty(t, r.traceOf(s, i), how)
	}
	trace := randomHex(t, 16)
	s.open("GET", toTarget(10)+"&before=1", "", trace)
	assert.Equal(t, trace, r.traceOf(s, 10), "100 Continue is no response")
}

// TestAnotherProgramOfTheSameNumber: a request that nobody has answered is not that of the
// program that the process begins to run then, nor of another process that gets its pid,
// while somebody keeps the connection open.
func TestAnotherProgramOfTheSameNumber(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	for i, how := range []string{"exec", "pid"} {
		t.Run(how, func(t *testing.T) {
			s := startSocketServer(t, how)
			var who http.Header
			require.Eventually(t, func() bool {
				resp, err := s.client(1).Get(s.url(""))
				if err != nil {
					return false
				}
				_ = resp.Body.Close()
				who = resp.Header
				s.pid, err = strconv.Atoi(who.Get("X-Pid"))
				return err == nil && r.receiver.source.(*kernel).tracer.knows(s.pid)
			}, 10*time.Second, 10*time.Millisecond)
			trace := randomHex(t, 16)
			s.open("GET", toTarget(10*i), "", trace)
			require.Equal(t, trace, r.traceOf(s, 10*i), "of who reads it")

			commands, err := net.Dial("udp", who.Get("X-Commands"))
			require.NoError(t, err)
			t.Cleanup(func() { _ = commands.Close() })
			require.NoError(t, commands.SetDeadline(time.Now().Add(30*time.Second)))
			tell := func(command string) {
				_, err := commands.Write([]byte(command))
				require.NoError(t, err)
				answer := make([]byte, 1000)
				n, err := commands.Read(answer)
				require.NoError(t, err, "the server neither did it nor said why")
				require.Equal(t, command, string(answer[:n]))
			}
			tell("hello") // it listens
			r.warmUp(s)
			tell(toTarget(10*i + 1))
			assert.Empty(t, r.traceOf(s, 10*i+1))
		})
	}
}

// TestForgottenExchange: the kernel may forget of a request what says when its
// response comes, since its memory for them is bounded.
func TestForgottenExchange(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startSocketServer(t, "late")
	r.warmUp(s)
	c := s.open("GET", toTarget(1)+"&held=1", "", randomHex(t, 16))
	require.Eventually(t, func() bool { return r.forgetExchange(s) }, 10*time.Second, time.Millisecond)
	_, err := c.Write([]byte("x"))
	require.NoError(t, err)
	assert.Empty(t, r.traceOf(s, 1))
}

// forgetExchange deletes what the kernel knows of a request of a server with one thread.
func (r *rig) forgetExchange(s *httpServer) bool {
	exchanges := r.receiver.source.(*kernel).traces.maps[bpf.HTTPMapExchanges]
	var key, found uint64
	value := make([]byte, exchanges.ValueSize())
	for entries := exchanges.Iterate(); entries.Next(&key, &value); {
		if binary.NativeEndian.Uint32(value) == uint32(s.pid) {
			found = key
		}
	}
	return found != 0 && exchanges.Delete(found) == nil
}

// TestTraceOfPooledConnection: a connection that many requests use in turn is that of
// the one that used it last.
func TestTraceOfPooledConnection(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	for _, how := range []string{"whole", "pieces"} {
		t.Run(how, func(t *testing.T) {
			listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			require.NoError(t, err)
			t.Cleanup(func() { _ = listener.Close() })
			s := startSocketServer(t, "pooled", listener.Addr().String())
			r.warmUp(s)
			upstream, err := listener.AcceptTCP()
			require.NoError(t, err)
			t.Cleanup(func() { _ = upstream.Close() })
			first := s.open("GET", "", "", randomHex(t, 16))
			assert.Equal(t, "GET /x HTTP/1.1", readStatus(t, upstream))
			_, err = upstream.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			require.NoError(t, err)
			assert.Equal(t, "HTTP/1.1 200 OK", readStatus(t, first))
			require.NoError(t, deafen(upstream))
			s.open("GET", "how="+how, "", "")
			assert.Empty(t, r.await(atPeer(event.TCPRetransmit, listener.Addr().(*net.TCPAddr).Port)).Trace)
		})
	}
}
