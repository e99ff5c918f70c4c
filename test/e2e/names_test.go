package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// nameServer is a DNS server that knows every name, until it is told to know none.
type nameServer struct {
	address string
	forgot  atomic.Bool
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	pid := os.Getpid()
	s := &nameServer{address: fmt.Sprintf("127.54.%d.%d:53", pid>>8&0xff, pid&0xff)}
	c, err := net.ListenPacket("udp", s.address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(s.answer(bytes.Clone(buf[:n])), from)
		}
	}()
	return s
}

// answer makes the answer of a question: 127.0.0.1 for one of type A, nothing for
// another one.
func (s *nameServer) answer(m []byte) []byte {
	m[2], m[3] = m[2]|0x80, 0
	end := 12 + bytes.IndexByte(m[12:], 0) + 5
	isA := m[end-3] == 1
	m = m[:end] // without what the question adds
	m[11] = 0
	switch {
	case s.forgot.Load():
		m[3] = 3 // NXDOMAIN
	case isA:
		m[7] = 1
		m = append(m, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return m
}

// caller is a service that is this process. It looks up whom it calls, for real.
type caller struct {
	service, callee string
	otlp            string
	resolver        net.Resolver
}

// request serves one request, for which the caller calls the callee by its name.
func (c *caller) request(t *testing.T) (failed bool) {
	t.Helper()
	begin := time.Now()
	_, err := c.resolver.LookupHost(t.Context(), c.callee+".")
	td := ptrace.NewTraces()
	var trace pcommon.TraceID
	_, _ = rand.Read(trace[:])
	entry := c.span(td, c.service, trace, pcommon.SpanID{}, ptrace.SpanKindServer, begin)
	call := c.span(td, c.service, trace, entry.SpanID(), ptrace.SpanKindClient, begin)
	call.Attributes().PutStr(event.KeyServerAddress, c.callee)
	call.Attributes().PutInt(event.KeyServerPort, 8081)
	if err != nil {
		entry.Status().SetCode(ptrace.StatusCodeError)
		call.Status().SetCode(ptrace.StatusCodeError)
		call.Status().SetMessage(err.Error())
	} else {
		c.span(td, c.service+"-callee", trace, call.SpanID(), ptrace.SpanKindServer, begin)
	}
	body, failure := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	require.NoError(t, failure)
	answer, failure := http.Post("http://"+c.otlp+"/v1/traces", "application/x-protobuf", bytes.NewReader(body))
	require.NoError(t, failure)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	return err != nil
}

func (c *caller) span(td ptrace.Traces, service string, trace pcommon.TraceID, parent pcommon.SpanID, kind ptrace.SpanKind, begin time.Time) ptrace.Span {
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr(event.KeyServiceName, service)
	if service == c.service {
		host, _ := os.Hostname()
		rs.Resource().Attributes().PutStr(event.KeyHostName, host)
		rs.Resource().Attributes().PutInt(event.KeyProcessPID, int64(os.Getpid()))
	}
	s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	var id pcommon.SpanID
	_, _ = rand.Read(id[:])
	s.SetTraceID(trace)
	s.SetSpanID(id)
	s.SetParentSpanID(parent)
	s.SetKind(kind)
	s.SetName("POST /order")
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	return s
}

// TestNameThatIsGone: a service looks up whom it calls, and from some time on its
// DNS server does not know the name any more. What the kernel saw of that is the
// cause of the requests that fail.
func TestNameThatIsGone(t *testing.T) {
	requireKernel(t)
	a := freeAddresses(t, 6)
	restartCollector(t, a, filepath.Join(t.TempDir(), "findings.db"))
	server := startNameServer(t)
	c := &caller{service: fmt.Sprintf("orders-%d", os.Getpid()), callee: fmt.Sprintf("ledger-%d.shop.test", os.Getpid()), otlp: a[1]}
	c.resolver = net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.address)
	}}
	for range 60 {
		require.False(t, c.request(t))
		time.Sleep(50 * time.Millisecond)
	}
	server.forgot.Store(true)
	const failures = 40
	for range failures {
		require.True(t, c.request(t))
		time.Sleep(50 * time.Millisecond)
	}
	var found *finding.Finding
	poll(t, time.Minute, "finding", func() bool {
		all, err := listed(t, "http://"+a[2])
		require.NoError(t, err)
		for _, f := range all {
			if f.Pattern == "name-unresolved" && f.RootCause.Entity.Name == c.service && f.Impact.FailedRequests == failures {
				found = f
			}
		}
		return found != nil
	})
	assert.Contains(t, found.Title, c.callee)
	assert.Contains(t, found.Title, "NXDOMAIN")
	require.NotEmpty(t, found.Chain)
	assert.Equal(t, event.DNSFailed, found.Chain[0].Event)
	all, err := listed(t, "http://"+a[2])
	require.NoError(t, err)
	for _, f := range all {
		assert.NotEqual(t, c.service+"-callee", f.RootCause.Entity.Name, "the callee is not to blame: %s", f.Title)
	}
}
