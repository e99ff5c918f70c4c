//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	bpffeatures "github.com/cilium/ebpf/features"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
)

// Kinds of records that http.h defines.
const (
	kindHTTPProcess  = bpf.ProcessRecordKind(bpf.HTTPHttpKindTAPIO_HTTP_PROCESS)
	kindHTTPExchange = bpf.ProcessRecordKind(bpf.HTTPHttpKindTAPIO_HTTP_EXCHANGE)
)

// errNoLoop: without this helper a program cannot look through a header.
var errNoLoop = errors.New("the group http needs the helper bpf_loop, of Linux 5.17 and later")

// httpPrograms are in the order in which they must run: who listens already is
// told after what sees new ones.
func httpPrograms(cfg *Config) (all []program) {
	if cfg.Programs.HTTP.GoroutineChildren {
		all = goroutinePrograms()
	}
	if cfg.Programs.TLS.Enabled {
		all = append(all, tlsPrograms()...)
	}
	all = append(all, []program{
		{name: bpf.HTTPProgHttpFork},
		{name: bpf.HTTPProgHttpExec},
		{name: bpf.HTTPProgHttpSockets},
		{name: bpf.HTTPProgHttpCalls, configure: needLoop},
		{name: bpf.HTTPProgHttpListeners, attached: runOnce},
	}...)
	for i := range all {
		all[i].load = bpf.LoadHTTP
	}
	return all
}

func needLoop(*ebpf.CollectionSpec, *features) error {
	if errors.Is(bpffeatures.HaveProgramHelper(ebpf.Tracing, asm.FnLoop), ebpf.ErrNotSupported) {
		return errNoLoop
	}
	return nil
}

// httpProcessEvent asks what a process is that serves HTTP, or may.
type httpProcessEvent struct {
	base
	// tgid is its number in the first pid namespace of the machine.
	tgid uint32
}

func (httpProcessEvent) name() string   { return "http_process" }
func (httpProcessEvent) isUrgent() bool { return true }

func decodeHTTPProcess(r *bpf.HTTPHttpProcessRecord, known *knownProcesses) kernelEvent {
	return httpProcessEvent{
		base: base{r.Header.Time, known.process((*bpf.ProcessProcessId)(&r.Process), (*bpf.ProcessCgroupPath)(&r.Cgroup))},
		tgid: r.Tgid,
	}
}

// methods are the values of http.request.method.
var methods = map[bpf.HTTPHttpMethod]string{
	bpf.HTTPHttpMethodTAPIO_METHOD_GET: "GET", bpf.HTTPHttpMethodTAPIO_METHOD_POST: "POST",
	bpf.HTTPHttpMethodTAPIO_METHOD_PUT: "PUT", bpf.HTTPHttpMethodTAPIO_METHOD_HEAD: "HEAD",
	bpf.HTTPHttpMethodTAPIO_METHOD_DELETE: "DELETE", bpf.HTTPHttpMethodTAPIO_METHOD_PATCH: "PATCH",
	bpf.HTTPHttpMethodTAPIO_METHOD_OPTIONS: "OPTIONS",
}

func decodeExchange(r *bpf.HTTPHttpExchangeRecord, _ *knownProcesses) kernelEvent {
	method, ok := methods[bpf.HTTPHttpMethod(r.Method)]
	if !ok {
		method = "_OTHER"
	}
	return exchangeEvent{
		base:  base{at: r.Header.Time},
		begun: r.Begun, trace: r.TraceId, span: r.SpanId, parent: r.ParentSpanId, flags: r.Flags,
		socket: decodeEndpoints((*bpf.NetworkEndpoints)(&r.Socket)), method: method, status: int(r.Status), isClient: r.Client != 0,
		tgid: r.Tgid, processStarted: r.Start,
	}
}

func (k *kernel) openTraces(cfg *Config, log *zap.Logger) error {
	t, err := openTraces(cfg, log)
	if err != nil {
		return fmt.Errorf("create maps of requests: %w", err)
	}
	k.traces, k.tracer = t, newTracer(t, cfg, log)
	return nil
}

// tracer answers what the kernel programs ask about processes. To read an
// executable takes its time, so it has a goroutine of its own.
type tracer struct {
	traces      *traces
	log         *zap.Logger
	executables *executables
	questions   chan httpProcessEvent
	done        chan struct{}
	stop        sync.Once
	// makesSpans: spans are told of processes that were watched for observation.
	makesSpans  bool
	observation time.Duration
	// processes are those that were asked about, by their number in the first pid
	// namespace. Used by the reader of the ring buffer only.
	processes map[uint32]processInfo
	unnamed   atomic.Int64
	// probes are in the files that the processes run. goroutineCall and
	// goroutineReturn are nil unless goroutines are followed.
	probes                         *uprobes
	goroutineCall, goroutineReturn *ebpf.Program
	tls                            *tlsProbes
}

// sweepInterval is how often probes are taken out of what nobody runs any more.
const sweepInterval = 10 * time.Second

// maxQuestions bounds those that wait. One that finds no room is not lost for
// good: its process stays unknown, which is counted at each of its requests.
const maxQuestions = 1024

// maxProcesses bounds those that are known for their spans; then it begins anew.
const maxProcesses = 4096

func newTracer(t *traces, cfg *Config, log *zap.Logger) *tracer {
	r := &tracer{
		makesSpans: cfg.makesSpans, observation: cfg.Programs.HTTP.Observation, processes: map[uint32]processInfo{},
		probes: newUprobes(), tls: newTLSProbes("/proc", log),
		traces: t, log: log, executables: newExecutables("/proc"),
		questions: make(chan httpProcessEvent, maxQuestions), done: make(chan struct{}),
	}
	go r.answerAll()
	return r
}

// take keeps what is for the tracer itself, and returns any other event.
func (r *tracer) take(ev kernelEvent) kernelEvent {
	switch ev := ev.(type) {
	case httpProcessEvent: // a question, not an event
		r.ask(ev)
		return nil
	case exchangeEvent:
		return r.named(ev)
	}
	return ev
}

func (r *tracer) ask(p httpProcessEvent) {
	if len(r.processes) >= maxProcesses {
		clear(r.processes)
	}
	r.processes[p.tgid] = p.who
	select {
	case r.questions <- p:
	default:
		_ = r.traces.maps[bpf.HTTPMapTracees].Delete(p.tgid) // its next request asks again
	}
}

// named says whose exchange it is; nil when that is not known any more.
func (r *tracer) named(x exchangeEvent) kernelEvent {
	x.who = r.processes[x.tgid]
	if x.who.started != x.processStarted {
		r.unnamed.Add(1)
		return nil
	}
	return x
}

func (r *tracer) answerAll() {
	defer close(r.done)
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case p, ok := <-r.questions:
			if !ok {
				return
			}
			r.answer(p)
		case <-sweep.C:
			runs := func(who processInfo) bool { return r.isStill(who) == nil }
			r.probes.sweep(runs)
			r.tls.lookAgain(runs)
		}
	}
}

// answer tells the kernel what a process is. One that cannot be inspected stays
// unknown: its requests are counted, and none of its events has an id.
func (r *tracer) answer(p httpProcessEvent) {
	if p.who.pid == 0 {
		return // of another pid namespace: it has no place in /proc
	}
	info, err := r.executables.inspect(p.who.pid)
	if err == nil {
		err = r.isStill(p.who)
	}
	if err != nil {
		r.log.Debug("a process that serves HTTP cannot be inspected", zap.Uint32("pid", p.who.pid), zap.Error(err))
		return
	}
	if info.runtime == runtimeGo {
		if err := r.followGoroutines(p.who, info.goidOffset); err != nil {
			r.log.Warn("what goroutines of this program start is not followed to its request", zap.String("program", p.who.name()), zap.Uint32("pid", p.who.pid), zap.Error(err))
		}
	}
	if info.runtime != runtimeGo { // which has a TLS of its own
		r.tls.follow(p.who)
	}
	if info.runtime == runtimeNode {
		// There are or were some: the program must look for their callbacks.
		if err := r.traces.maps[bpf.HTTPMapEventLoops].Put(uint32(0), uint64(1)); err != nil {
			return
		}
	}
	t := bpf.HTTPTracee{Start: p.who.started, Runtime: uint32(info.runtime), GoidOffset: info.goidOffset, CurgOffset: info.curgOffset, Told: 1}
	observation := r.observation
	switch {
	case info.hasSDK:
		t.Sdk = uint32(bpf.HTTPTraceeSdkTAPIO_SDK_YES)
	case info.isSDKKnown:
		t.Sdk, observation = uint32(bpf.HTTPTraceeSdkTAPIO_SDK_NO), 0
	}
	if r.makesSpans {
		t.SpansFrom = now() + uint64(observation)
	}
	if err := r.traces.maps[bpf.HTTPMapTracees].Put(p.tgid, t); err != nil {
		r.log.Debug("a process that serves HTTP cannot be followed", zap.Uint32("pid", p.who.pid), zap.Error(err))
	}
}

// now is the time of CLOCK_BOOTTIME.
func now() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with this clock
	return uint64(ts.Nano())
}

// isStill fails when the pid is by now that of another process.
func (r *tracer) isStill(who processInfo) error {
	key, ok := keyOf(who)
	if !ok {
		return errProcessGone
	}
	ticks, err := (&services{proc: r.executables.proc}).startTicks(who.pid)
	if err == nil && ticks != key.ticks {
		return errProcessGone
	}
	return err
}

// close ends the goroutine, as soon as the file that it reads answers: that can be on a file
// system that never does. Nobody asks any more.
func (r *tracer) close() {
	if r == nil {
		return
	}
	r.stop.Do(func() { close(r.questions) })
	select {
	case <-r.done:
	case <-time.After(maxInspection):
		r.log.Warn("an executable or library on a file system that does not answer is not waited for any longer")
	}
}

// maxInspection is how long a file of a process is waited for at the end.
const maxInspection = 5 * time.Second

// knows says whether the kernel was told what a process of the first pid namespace is.
func (r *tracer) knows(tgid int) bool {
	var t bpf.HTTPTracee
	return r.traces.maps[bpf.HTTPMapTracees].Lookup(uint32(tgid), &t) == nil && t.Runtime != 0
}
