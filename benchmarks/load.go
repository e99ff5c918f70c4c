package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	batchSpans = 1000
	perTrace   = 10
	senders    = 4
)

// load is what is sent to one collector.
type load struct {
	endpoint      string
	pid           int
	log           string // what the collector writes
	next, refused atomic.Int64
}

// send sends spans over four connections and reads what that cost the collector.
func (l *load) send(ctx context.Context, spans int) (phase, error) {
	p := phase{spans: spans / batchSpans * batchSpans}
	cpu, err := cpuOf(l.pid)
	if err != nil {
		return p, err
	}
	cycles, collecting, err := gcOf(l.log)
	if err != nil {
		return p, err
	}
	start := time.Now()
	until := l.next.Load() + int64(spans/batchSpans)
	var wg sync.WaitGroup
	errs := make(chan error, senders)
	for range senders {
		wg.Go(func() { errs <- l.sender(ctx, until) })
	}
	wg.Wait()
	l.next.Store(until)
	p.elapsed = time.Since(start)
	for range senders {
		if err := <-errs; err != nil {
			return p, err
		}
	}
	// What waits for its decision is still to be paid for.
	time.Sleep(3 * time.Second)
	if p.cpu, err = cpuOf(l.pid); err != nil {
		return p, err
	}
	p.cpu -= cpu
	p.cycles, p.collecting, err = gcOf(l.log)
	p.cycles, p.collecting = p.cycles-cycles, p.collecting-collecting
	return p, err
}

func (l *load) sender(ctx context.Context, until int64) error {
	conn, err := grpc.NewClient(l.endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	client := ptraceotlp.NewGRPCClient(conn)
	td := template()
	for {
		n := l.next.Add(1)
		if n > until {
			return nil
		}
		stamp(td, n)
		if _, err := client.Export(ctx, ptraceotlp.NewExportRequestFromTraces(td)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.refused.Add(1)
		}
	}
}

// template is a batch of spans with 15 attributes each, of ten services.
func template() ptrace.Traces {
	td := ptrace.NewTraces()
	for service := range perTrace {
		rs := td.ResourceSpans().AppendEmpty()
		a := rs.Resource().Attributes()
		a.PutStr("service.name", fmt.Sprintf("service-%d", service))
		a.PutStr("service.version", "1.2.3")
		a.PutStr("service.instance.id", fmt.Sprintf("instance-%d", service))
		a.PutStr("host.name", "node-1")
		a.PutInt("process.pid", int64(1000+service))
		a.PutStr("telemetry.sdk.name", "opentelemetry")
		a.PutStr("telemetry.sdk.language", "go")
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
		for i := range batchSpans / perTrace {
			s := ss.Spans().AppendEmpty()
			s.SetName([]string{"GET /orders/{id}", "POST /orders", "GET /stock", "POST /charge"}[i%4])
			s.SetKind(ptrace.SpanKindServer)
			if service%2 == 1 {
				s.SetKind(ptrace.SpanKindClient)
			}
			a := s.Attributes()
			for k, v := range map[string]string{
				"http.request.method": "GET", "url.scheme": "http", "url.path": "/orders/1234567", "http.route": "/orders/{id}",
				"network.protocol.name": "http", "network.protocol.version": "1.1", "client.address": "10.1.2.3",
				"user_agent.original": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "server.address": "10.0.0.1", "user.id": "user-17",
			} {
				a.PutStr(k, v)
			}
			for k, v := range map[string]int64{
				"client.port": 54321, "server.port": 8080, "http.response.status_code": 200, "http.request.body.size": 1234, "thread.id": 17,
			} {
				a.PutInt(k, v)
			}
		}
	}
	return td
}

// stamp makes the batch a new one: ten spans a trace, one of each service, each the
// child of the one before, ending now.
func stamp(td ptrace.Traces, batch int64) {
	now := time.Now()
	end := pcommon.NewTimestampFromTime(now)
	start := pcommon.NewTimestampFromTime(now.Add(-5 * time.Millisecond))
	for service, rs := range td.ResourceSpans().All() {
		for i, s := range rs.ScopeSpans().At(0).Spans().All() {
			trace := uint64(batch)*(batchSpans/perTrace) + uint64(i)
			s.SetTraceID(traceID(trace))
			s.SetSpanID(spanID(trace, service))
			if service > 0 {
				s.SetParentSpanID(spanID(trace, service-1))
			}
			s.SetStartTimestamp(start)
			s.SetEndTimestamp(end)
		}
	}
}

// mix spreads a counter over all bits, as the random ids of SDKs are.
func mix(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31 | 1
}

func traceID(n uint64) (id pcommon.TraceID) {
	binary.BigEndian.PutUint64(id[:8], mix(n))
	binary.BigEndian.PutUint64(id[8:], n+1)
	return id
}

func spanID(trace uint64, service int) (id pcommon.SpanID) {
	binary.BigEndian.PutUint64(id[:], mix(trace*perTrace+uint64(service)+1<<40))
	return id
}

// clockTick is USER_HZ, in which /proc counts CPU time; it is 100 on every
// architecture that the collector runs on.
const clockTick = 10 * time.Millisecond

// cpuOf returns the CPU time of a process, user and system.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses can hold spaces: count the fields after it.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// gcCPU are the CPU times of a cycle in a line of GODEBUG=gctrace=1, in ms: all stopped
// + assisting/in the background/idle + all stopped.
var gcCPU = regexp.MustCompile(`(?m)^gc \d+ @.* ms clock, ([\d.+/]+) ms cpu, `)

// gcOf returns how many cycles of the garbage collector a log tells of, and their CPU
// time.
func gcOf(log string) (cycles int, cpu time.Duration, err error) {
	b, err := os.ReadFile(log)
	if err != nil {
		return 0, 0, err
	}
	for _, line := range gcCPU.FindAllSubmatch(b, -1) {
		cycles++
		for part := range strings.FieldsFuncSeq(string(line[1]), func(r rune) bool { return r == '+' || r == '/' }) {
			ms, err := strconv.ParseFloat(part, 64)
			if err != nil {
				return 0, 0, err
			}
			cpu += time.Duration(ms * float64(time.Millisecond))
		}
	}
	return cycles, cpu, nil
}

// peakOf returns the largest resident size that a process had, in bytes.
func peakOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no VmHWM", pid)
}
