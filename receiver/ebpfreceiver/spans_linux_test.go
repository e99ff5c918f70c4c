//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// seenSpan is a span with its resource, in plain Go values.
type seenSpan struct {
	Trace, ID, Parent    string
	Name                 string
	Kind                 ptrace.SpanKind
	Status               ptrace.StatusCode
	Duration             time.Duration
	Resource, Attributes map[string]any
}

// spanRig is a receiver in a pipeline of logs and one of traces.
type spanRig struct {
	*rig
	traces *consumertest.TracesSink
}

func startSpanRig(t *testing.T, change ...func(*Config)) *spanRig {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	enableHTTP(cfg)
	cfg.Programs.HTTP.Observation = 0
	for _, c := range change {
		c(cfg)
	}
	r := &spanRig{&rig{t: t, sink: new(consumertest.LogsSink)}, new(consumertest.TracesSink)}
	factory, settings := NewFactory(), receivertest.NewNopSettings(metadata.Type)
	logs, err := factory.CreateLogs(context.Background(), settings, cfg, r.sink)
	require.NoError(t, err)
	traces, err := factory.CreateTraces(context.Background(), settings, cfg, r.traces)
	require.NoError(t, err)
	r.receiver = logs.(*ebpfReceiver)
	require.Same(t, r.receiver, traces.(*ebpfReceiver), "one receiver in both pipelines")
	for range 2 {
		require.NoError(t, r.receiver.Start(context.Background(), componenttest.NewNopHost()))
		t.Cleanup(func() { assert.NoError(t, r.receiver.Shutdown(context.Background())) })
	}
	require.Empty(t, r.receiver.failed())
	return r
}

// spans are those of a trace.
func (r *spanRig) spans(trace string) (out []seenSpan) {
	for _, all := range r.traces.AllTraces() {
		for _, rs := range all.ResourceSpans().All() {
			for _, s := range rs.ScopeSpans().At(0).Spans().All() {
				if s.TraceID().String() != trace {
					continue
				}
				out = append(out, seenSpan{
					Trace: s.TraceID().String(), ID: s.SpanID().String(), Parent: s.ParentSpanID().String(), Name: s.Name(), Kind: s.Kind(),
					Status: s.Status().Code(), Duration: s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime()),
					Resource: rs.Resource().Attributes().AsRaw(), Attributes: s.Attributes().AsRaw(),
				})
			}
		}
	}
	return out
}

// await waits until a trace has that many spans.
func (r *spanRig) await(trace string, n int) []seenSpan {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return len(r.spans(trace)) >= n }, 10*time.Second, 5*time.Millisecond)
	return r.spans(trace)
}

// get sends a request of a trace and returns when it was answered.
func (s *httpServer) get(query, traceparent string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.url(query), nil)
	require.NoError(s.t, err)
	r.Header.Set("traceparent", traceparent)
	client := s.client(1)
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
}

func TestServerSpans(t *testing.T) {
	requireKernel(t)
	r := startSpanRig(t)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	ids := map[string]bool{}
	for _, traceparent := range s.send("sleep", 200, 20) {
		spans := r.await(traceparent[3:35], 1)
		require.Len(t, spans, 1)
		span := spans[0]
		assert.Equal(t, traceparent[36:52], span.Parent)
		assert.Equal(t, ptrace.SpanKindServer, span.Kind)
		assert.Equal(t, "GET", span.Name)
		assert.Positive(t, span.Duration)
		assert.Equal(t, int64(200), span.Attributes["http.response.status_code"])
		assert.Equal(t, s.address, fmt.Sprintf("%s:%d", span.Attributes["server.address"], span.Attributes["server.port"]))
		assert.Equal(t, int64(s.pid), span.Resource["process.pid"])
		assert.Equal(t, "unknown_service:server", span.Resource["service.name"])
		ids[span.ID] = true
	}
	assert.Len(t, ids, 200)
}

// TestSpansThatFail: an error of the server, one that is not, and no answer at all.
func TestSpansThatFail(t *testing.T) {
	requireKernel(t)
	r := startSpanRig(t)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	traceparent := func() (string, string) {
		trace := randomHex(t, 16)
		return trace, "00-" + trace + "-0102030405060708-01"
	}
	failed, header := traceparent()
	s.get("status=503", header)
	span := r.await(failed, 1)[0]
	assert.Equal(t, ptrace.StatusCodeError, span.Status)
	assert.Equal(t, "503", span.Attributes["error.type"])

	missing, header := traceparent()
	s.get("status=404", header)
	span = r.await(missing, 1)[0]
	assert.Equal(t, ptrace.StatusCodeUnset, span.Status)
	assert.Equal(t, int64(404), span.Attributes["http.response.status_code"])

	unanswered, header := traceparent()
	c, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	_, err = fmt.Fprintf(c, "DELETE /?wait=300ms HTTP/1.1\r\nHost: a\r\ntraceparent: %s\r\n\r\n", header)
	require.NoError(t, err)
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, c.(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.Close())
	span = r.await(unanswered, 1)[0]
	assert.Equal(t, "DELETE", span.Name)
	assert.Equal(t, ptrace.StatusCodeError, span.Status)
	assert.Equal(t, "no_response", span.Attributes["error.type"])

	dropped, _ := traceparent()
	s.get("", "00-"+dropped+"-0102030405060708-00")
	last, header := traceparent()
	s.get("", header)
	r.await(last, 1)
	assert.Empty(t, r.spans(dropped), "its caller decided that the trace is not kept")
}

// TestClientSpans: what a handler asks of others is a child of its own span.
func TestClientSpans(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startSpanRig(t)
	callee := startHTTPServer(t, exec.Command(buildGoServer(t)))
	s := startHTTPServer(t, exec.Command(python, "testdata/http/server.py"))
	r.warmUp(callee)
	r.warmUp(s)
	trace := randomHex(t, 16)
	header := "00-" + trace + "-0102030405060708-01"
	s.get("call="+callee.address, header)
	server, client := byKind(t, r.await(trace, 2))
	assert.Equal(t, "0102030405060708", server.Parent)
	assert.Equal(t, server.ID, client.Parent)
	assert.Equal(t, ptrace.StatusCodeError, client.Status, "it was answered with 404")
	assert.Equal(t, callee.address, fmt.Sprintf("%s:%d", client.Attributes["server.address"], client.Attributes["server.port"]))

	// One that passes the header on as it is has no SDK either.
	trace = randomHex(t, 16)
	header = "00-" + trace + "-0102030405060708-01"
	s.get("call="+callee.address+"&traceparent="+header, header)
	spans := r.await(trace, 3)
	require.Len(t, spans, 3)
	for _, span := range spans {
		if span.Kind == ptrace.SpanKindServer {
			assert.Equal(t, "0102030405060708", span.Parent)
		}
	}
}

func byKind(t *testing.T, spans []seenSpan) (server, client seenSpan) {
	t.Helper()
	require.Len(t, spans, 2)
	if spans[0].Kind == ptrace.SpanKindClient {
		return spans[1], spans[0]
	}
	return spans[0], spans[1]
}

// listenForOTLP listens on a port of OTLP, at an address of loopback that is not the
// usual one: a collector that runs on this machine has that.
func listenForOTLP(t *testing.T) net.Listener {
	t.Helper()
	var errs []error
	for _, port := range []string{"4318", "4317"} {
		listener, err := net.Listen("tcp", "127.0.66.1:"+port)
		if err == nil {
			t.Cleanup(func() { _ = listener.Close() })
			return listener
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("both ports of OTLP are in use: %v", err)
	}
	t.Skipf("both ports of OTLP are in use: %v", err)
	return nil
}

// TestNoSpansBesideAnSDK: of a process that makes spans itself, none is told.
func TestNoSpansBesideAnSDK(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	listener := listenForOTLP(t)
	r := startSpanRig(t)
	callee := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(callee)
	configured := exec.Command(python, "testdata/http/server.py")
	configured.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317")
	trace := func() (string, string) {
		id := randomHex(t, 16)
		return id, "00-" + id + "-0102030405060708-01"
	}

	s := startHTTPServer(t, configured)
	r.warmUp(s)
	byEnvironment, header := trace()
	s.get("", header)

	s = startHTTPServer(t, exec.Command(python, "testdata/http/server.py"))
	r.warmUp(s)
	byHeader, header := trace()
	s.get("call="+callee.address+"&traceparent=00-"+byHeader+"-1111111111111111-01", header)
	assert.Len(t, r.await(byHeader, 1), 1)

	s = startHTTPServer(t, exec.Command(python, "testdata/http/server.py"))
	r.warmUp(s)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(c).ReadString('\n')
		_ = c.Close()
	}()
	byExport, header := trace()
	s.get("to="+listener.Addr().String(), header)

	last, header := trace()
	callee.get("", header)
	r.await(last, 1)
	assert.Empty(t, r.spans(byEnvironment))
	assert.Empty(t, r.spans(byExport))
	spans := r.spans(byHeader)
	require.Len(t, spans, 1, "that of the callee")
	assert.Equal(t, "1111111111111111", spans[0].Parent)
	assert.Equal(t, int64(callee.pid), spans[0].Resource["process.pid"])
}

// otlpReceiver counts the spans that are exported to it, by trace.
type otlpReceiver struct {
	address string
	mu      sync.Mutex
	spans   map[string]int
}

func startOTLP(t *testing.T) *otlpReceiver {
	t.Helper()
	listener := listenForOTLP(t)
	o := &otlpReceiver{address: listener.Addr().String(), spans: map[string]int{}}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		request := ptraceotlp.NewExportRequest()
		if !assert.NoError(t, request.UnmarshalJSON(body)) {
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, rs := range request.Traces().ResourceSpans().All() {
			for _, span := range rs.ScopeSpans().At(0).Spans().All() {
				o.spans[span.TraceID().String()]++
			}
		}
	}), ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { assert.ErrorIs(t, server.Serve(listener), http.ErrServerClosed) })
	t.Cleanup(func() {
		assert.NoError(t, server.Close())
		serving.Wait()
	})
	return o
}

func (o *otlpReceiver) of(trace string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.spans[trace]
}

// onlyChild is the process that another one has started.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(string(children)))
	require.NoError(t, err)
	return child
}

// TestNoSpansBesideAnEarlyExport: an SDK that shows itself by nothing but a connection
// to its exporter, which is there before the process serves anything.
func TestNoSpansBesideAnEarlyExport(t *testing.T) {
	requireKernel(t)
	python, unlike := requireProgram(t, "python3"), buildGoServer(t)
	for _, tc := range []struct {
		name            string
		arguments       []string
		isReceiverFirst bool
		ofReceiver      int // spans of a request
	}{
		{name: "before the receiver", ofReceiver: 0},
		{name: "before it listens", isReceiverFirst: true, ofReceiver: 0},
		{name: "before the receiver, by its parent", arguments: []string{"fork"}, ofReceiver: 0},
		{name: "by its parent", arguments: []string{"fork"}, isReceiverFirst: true, ofReceiver: 0},
		{name: "before it became another program", arguments: []string{"exec"}, isReceiverFirst: true, ofReceiver: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const requests = 50
			o := startOTLP(t)
			var r *spanRig
			if tc.isReceiverFirst {
				r = startSpanRig(t)
			}
			arguments := append([]string{"testdata/http/server.py", o.address}, tc.arguments...)
			s := startHTTPServer(t, exec.Command(python, arguments...))
			if slices.Contains(tc.arguments, "fork") {
				s.pid = onlyChild(t, s.pid)
			}
			if r == nil {
				r = startSpanRig(t)
			}
			r.warmUp(s)
			sent := s.send("sleep", requests, 10)
			right, wrong, none := r.associations(s, sent, event.AssociationThread)
			assert.Equal(t, []int{requests, 0, 0}, []int{right, wrong, none})

			other := startHTTPServer(t, exec.Command(unlike))
			r.warmUp(other)
			last := randomHex(t, 16)
			other.get("", "00-"+last+"-0102030405060708-01")
			r.await(last, 1)
			for _, traceparent := range sent {
				trace := traceparent[3:35]
				assert.Len(t, r.spans(trace), tc.ofReceiver)
				assert.Eventually(t, func() bool { return o.of(trace) == 1-tc.ofReceiver }, 10*time.Second, time.Millisecond)
			}
		})
	}
}
