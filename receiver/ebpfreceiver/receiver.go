package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// ebpfReceiver has two goroutines: one reads the source into the queue and
// never waits for anything else, one sends what is in the queue.
type ebpfReceiver struct {
	cfg *Config
	set receiver.Settings
	// next takes records and nextTraces spans; nil without such a pipeline.
	next       consumer.Logs
	nextTraces consumer.Traces
	// forget is called when it has stopped; nil unless the factory made it.
	forget    func()
	open      func(*Config, *zap.Logger) source
	obs       *receiverhelper.ObsReport
	telemetry *metadata.TelemetryBuilder

	source source
	// openMessages opens the kernel's log; messages is what it returned, nil when
	// it is not read.
	openMessages func(*Config, []string, *zap.Logger) *messages
	messages     *messages
	queue        *queue
	clock        *linux.Clock
	encoder      *encoder
	// services knows to which service a process belongs.
	services *services

	readMessagesDone                     chan struct{}
	readDone, stop, sendDone, sampleDone chan struct{}
	stopSample                           chan struct{}
	// The collector starts and stops it once for each pipeline.
	startOnce, stopOnce sync.Once
	startErr            error
	// cancelSend gives up a batch that the next component does not take.
	cancelSend context.CancelFunc
}

// Values of the attribute reason of otelcol_receiver_tapio_ebpf_dropped.
const (
	droppedMalformed = "malformed"
	droppedQueueFull = "queue_full"
)

// maxBurst is how many events are moved to the queue at once, when that many are there.
const maxBurst = 256

// pollInterval is how often to look for what did not happen in time.
const pollInterval = time.Second

// newReceiver makes a receiver of what open opens when it is started.
func newReceiver(cfg *Config, set receiver.Settings, next consumer.Logs, open func(*Config, *zap.Logger) source) (*ebpfReceiver, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: "ebpf", ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, err
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	return &ebpfReceiver{cfg: cfg, set: set, next: next, open: open, obs: obs, telemetry: telemetry}, nil
}

// Start attaches the kernel programs. What cannot be attached is logged and
// reported as the component's status; it never keeps the collector from starting.
func (r *ebpfReceiver) Start(_ context.Context, host component.Host) error {
	r.startOnce.Do(func() { r.startErr = r.start(host) })
	return r.startErr
}

func (r *ebpfReceiver) start(host component.Host) error {
	info, err := machine.Read(r.cfg.HostName, "")
	if err != nil {
		return fmt.Errorf("host_name is not set and the system has none: %w", err)
	}
	r.clock = linux.NewClock(linux.ReadClockOffset)
	r.services = newServices("/proc", r.countUnresolved)
	r.encoder = newEncoder(r.cfg, r.set, info, r.clock)
	r.encoder.services = r.services
	r.queue = newQueue(r.cfg.QueueSize, r.cfg.MaxBatchSize)
	cfg := *r.cfg
	cfg.makesSpans = r.nextTraces != nil
	r.source = r.open(&cfg, r.set.Logger)
	r.services.seed() // after the programs are attached: who begins now is learnt from its exec
	if r.openMessages != nil {
		r.messages = r.openMessages(r.cfg, r.source.attached(), r.set.Logger)
	}
	if err := r.registerMetrics(); err != nil {
		return errors.Join(err, r.stopMessages(), r.source.close())
	}
	r.report(host)

	ctx, cancel := context.WithCancel(context.Background())
	r.cancelSend = cancel
	r.readDone, r.stop, r.sendDone, r.sampleDone = make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	r.stopSample = make(chan struct{})
	r.readMessagesDone = make(chan struct{})
	go r.read(r.source, r.readDone)
	if r.readsMessages() {
		go r.read(r.messages, r.readMessagesDone)
	} else {
		close(r.readMessagesDone)
	}
	go r.sample()
	go r.send(ctx)
	return nil
}

// report tells people, once, what does not run.
func (r *ebpfReceiver) report(host component.Host) {
	failed, attached := r.failed(), r.attached()
	if len(failed) == 0 {
		r.set.Logger.Info("kernel programs attached", zap.Strings("programs", attached))
		return
	}
	reasons := reasonsOf(failed, len(attached), maxNamed)
	r.set.Logger.Warn("some kernel events cannot be seen; everything else works on. What is lost: tapio doctor",
		zap.Strings("attached", attached), zap.Strings("failed", reasons))
	running := "nothing"
	if len(attached) > 0 {
		running = strings.Join(attached, ", ")
	}
	// Permanent: nothing changes until somebody changes permissions or kernel.
	componentstatus.ReportStatus(host, componentstatus.NewPermanentErrorEvent(
		fmt.Errorf("%d of %d kernel programs do not run: %s; what runs: %s", len(failed), len(failed)+len(attached), strings.Join(reasons, "; "), running)))
}

// maxNamed is up to how many programs a reason names where people read it;
// tapio.ebpf.started names all, and tapio doctor, by group.
const maxNamed = 4

// reasonsOf says each reason once, after the programs that it stops, or most of them and
// how many more.
func reasonsOf(failed []failure, attached, most int) (out []string) {
	var order []string
	names := map[string][]string{}
	for _, f := range failed {
		if names[f.reason] == nil {
			order = append(order, f.reason)
		}
		names[f.reason] = append(names[f.reason], f.program)
	}
	for _, reason := range order {
		stopped := names[reason]
		who := strings.Join(stopped[:min(len(stopped), most)], ", ")
		switch more := len(stopped) - most; {
		case more > 0 && len(stopped) == len(failed) && attached == 0:
			who = fmt.Sprintf("all %d programs", len(stopped))
		case more > 0:
			who = fmt.Sprintf("%s and %d more", who, more)
		}
		out = append(out, who+": "+reason)
	}
	return out
}

// Shutdown takes a last sample, detaches the programs, reads what they have left in the ring buffer
// and sends what is queued, for as long as ctx lasts.
func (r *ebpfReceiver) Shutdown(ctx context.Context) error {
	var err error
	r.stopOnce.Do(func() {
		err = r.shutdown(ctx)
		if r.forget != nil {
			r.forget()
		}
	})
	return err
}

func (r *ebpfReceiver) shutdown(ctx context.Context) error {
	defer r.telemetry.Shutdown()
	if r.stop == nil { // never started
		return nil
	}
	close(r.stopSample)
	<-r.sampleDone
	err := errors.Join(r.source.stop(), r.stopMessages())
	<-r.readDone // soon: the ring buffer is bounded and nothing fills it any more
	<-r.readMessagesDone
	err = errors.Join(err, r.source.close())
	close(r.stop)
	select {
	case <-r.sendDone:
	case <-ctx.Done():
		r.cancelSend()
		err = errors.Join(err, fmt.Errorf("%d kernel events were not sent: %w", r.queue.len(), ctx.Err()))
	}
	r.cancelSend()
	return err
}

// attached are the names of what runs, failed what does not though it is enabled.
func (r *ebpfReceiver) attached() []string {
	if !r.readsMessages() {
		return r.source.attached()
	}
	return append(slices.Clone(r.source.attached()), kmsgName)
}

func (r *ebpfReceiver) failed() []failure {
	if r.messages == nil || r.messages.failure == nil {
		return r.source.failed()
	}
	return append(slices.Clone(r.source.failed()), *r.messages.failure)
}

func (r *ebpfReceiver) readsMessages() bool { return r.messages != nil && r.messages.failure == nil }

func (r *ebpfReceiver) stopMessages() error {
	if !r.readsMessages() {
		return nil
	}
	return r.messages.stop()
}

// suppressed counts, by event, what was held back.
func (r *ebpfReceiver) suppressed() map[string]int64 {
	counts := r.source.stats().suppressed
	if !r.readsMessages() {
		return counts
	}
	all := maps.Clone(counts)
	if all == nil {
		all = map[string]int64{}
	}
	for name, n := range r.messages.suppressed() {
		all[name] += n
	}
	return all
}

// lostMessages counts records of the kernel's log that were overwritten.
func (r *ebpfReceiver) lostMessages() int {
	if r.messages == nil {
		return 0
	}
	return int(r.messages.lost.Load())
}

// read moves events to the queue until where they come from has stopped and is
// empty.
func (r *ebpfReceiver) read(from reader, done chan<- struct{}) {
	defer close(done)
	var burst []kernelEvent
	var last processInfo
	for {
		ev, err := from.read()
		if errors.Is(err, os.ErrClosed) {
			r.enqueue(burst)
			return
		}
		if err != nil {
			r.countDropped("unknown", droppedMalformed, 1)
		} else if ev != nil {
			if who := ev.process(); who != last || beginsOrEnds(ev) {
				r.services.learn(ev)
				last = who
			}
			burst = append(burst, ev)
		}
		if len(burst) >= maxBurst || !from.hasMore() {
			r.enqueue(burst)
			burst = burst[:0]
		}
	}
}

// enqueue moves events to the queue and counts those for which it has no place.
func (r *ebpfReceiver) enqueue(events []kernelEvent) {
	for _, refused := range r.queue.push(events) {
		r.countDropped(refused.name(), droppedQueueFull, weight(refused))
	}
}

// sample moves what the kernel counts to the queue, now and then.
func (r *ebpfReceiver) sample() {
	defer close(r.sampleDone)
	sampling, polling := time.NewTicker(r.cfg.SampleInterval), time.NewTicker(pollInterval)
	defer sampling.Stop()
	defer polling.Stop()
	for {
		var events []kernelEvent
		select {
		case <-r.stopSample:
			r.enqueueCounted(r.source.last())
			return
		case <-sampling.C:
			events = r.source.sample()
		case <-polling.C:
			r.services.lookAgain(time.Now())
			events = r.source.poll()
		}
		r.enqueueCounted(events)
	}
}

func (r *ebpfReceiver) enqueueCounted(events []kernelEvent) {
	for _, ev := range events {
		r.services.learn(ev)
	}
	r.enqueue(events)
}

// send hands on what is queued: urgent events at once, others after the flush
// interval, so that a storm makes batches and not a call for each event.
func (r *ebpfReceiver) send(ctx context.Context) {
	defer close(r.sendDone)
	r.sendStarted(ctx)
	flush := time.NewTimer(0)
	defer flush.Stop()
	for {
		select {
		case <-r.queue.urgent:
		case <-r.queue.ready:
			flush.Reset(r.cfg.FlushInterval)
			select {
			case <-flush.C:
			case <-r.queue.urgent:
			case <-r.stop:
			}
		case <-r.stop:
			r.sendQueued(ctx)
			return
		}
		r.sendQueued(ctx)
	}
}

// sendQueued empties the queue, a batch at a time, unless ctx is done.
func (r *ebpfReceiver) sendQueued(ctx context.Context) {
	r.clock.Adjust()
	var batch []kernelEvent
	for ctx.Err() == nil {
		batch = r.queue.pop(batch[:0])
		if len(batch) == 0 {
			return
		}
		spans, others := r.encoder.spans(batch)
		r.consume(ctx, r.encoder.encode(others, time.Now()))
		r.consumeSpans(ctx, spans)
		r.recordLatency(batch)
	}
}

func (r *ebpfReceiver) sendStarted(ctx context.Context) {
	r.consume(ctx, r.encoder.started(r.attached(), r.failed(), time.Now()))
}

// consume hands logs to the next component. What that refuses is counted by
// obsreport (otelcol_receiver_refused_log_records) and gone: the kernel does
// not tell it twice, and to keep it would let newer events be lost instead.
func (r *ebpfReceiver) consume(ctx context.Context, logs plog.Logs) {
	count := logs.LogRecordCount()
	if count == 0 || r.next == nil {
		return
	}
	ctx = r.obs.StartLogsOp(ctx)
	err := r.next.ConsumeLogs(ctx, logs)
	r.obs.EndLogsOp(ctx, metadata.Type.String(), count, err)
}

// consumeSpans does the same with spans (otelcol_receiver_refused_spans).
func (r *ebpfReceiver) consumeSpans(ctx context.Context, spans ptrace.Traces) {
	count := spans.SpanCount()
	if count == 0 || r.nextTraces == nil {
		return
	}
	ctx = r.obs.StartTracesOp(ctx)
	err := r.nextTraces.ConsumeTraces(ctx, spans)
	r.obs.EndTracesOp(ctx, metadata.Type.String(), count, err)
}

// recordLatency records that of the oldest event of a batch: to record each one's takes
// longer than to read it.
func (r *ebpfReceiver) recordLatency(batch []kernelEvent) {
	oldest := batch[0].time()
	for _, ev := range batch[1:] {
		oldest = min(oldest, ev.time())
	}
	r.telemetry.ReceiverTapioEbpfLatency.Record(context.Background(), time.Since(r.clock.Wall(oldest)).Seconds())
}

func (r *ebpfReceiver) countDropped(event, reason string, records int) {
	r.telemetry.ReceiverTapioEbpfDropped.Add(context.Background(), int64(records), metric.WithAttributes(
		attribute.String("event", event), attribute.String("reason", reason)))
}

func (r *ebpfReceiver) countUnresolved(reason string) {
	r.telemetry.ReceiverTapioEbpfServicesUnresolved.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
}

// registerMetrics makes the collector ask the source and the queue for numbers.
func (r *ebpfReceiver) registerMetrics() error {
	gauge := func(get func() int) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(get()))
			return nil
		}
	}
	counts := func(key string, get func() map[string]int64) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			for name, n := range get() {
				o.Observe(n, metric.WithAttributes(attribute.String(key, name)))
			}
			return nil
		}
	}
	t := r.telemetry
	return errors.Join(
		t.RegisterReceiverTapioEbpfProgramsAttachedCallback(gauge(func() int { return len(r.attached()) })),
		t.RegisterReceiverTapioEbpfProgramsFailedCallback(gauge(func() int { return len(r.failed()) })),
		t.RegisterReceiverTapioEbpfQueueSizeCallback(gauge(r.queue.len)),
		t.RegisterReceiverTapioEbpfQueueCapacityCallback(gauge(r.queue.capacity)),
		t.RegisterReceiverTapioEbpfRingUsedCallback(gauge(func() int { return int(r.source.stats().ringUsed) })),
		t.RegisterReceiverTapioEbpfLostCallback(counts("event", func() map[string]int64 { return r.source.stats().lost })),
		t.RegisterReceiverTapioEbpfSuppressedCallback(counts("event", r.suppressed)),
		t.RegisterReceiverTapioEbpfHTTPRequestsCallback(counts("outcome", func() map[string]int64 { return r.source.stats().requests })),
		t.RegisterReceiverTapioEbpfHTTPGoroutinesCallback(gauge(func() int { return int(r.source.stats().goroutines) })),
		t.RegisterReceiverTapioEbpfHTTPGoroutinesForgottenCallback(gauge(func() int { return int(r.source.stats().goroutinesForgotten) })),
		t.RegisterReceiverTapioEbpfProbedFilesCallback(gauge(func() int { return int(r.source.stats().probedFiles) })),
		t.RegisterReceiverTapioEbpfProbesFailedCallback(gauge(func() int { return int(r.source.stats().probesFailed) })),
		t.RegisterReceiverTapioEbpfMissedCallback(counts("program", func() map[string]int64 { return r.source.stats().missed })),
		t.RegisterReceiverTapioEbpfServicesHeldCallback(gauge(r.services.held)),
		t.RegisterReceiverTapioEbpfKmsgLostCallback(gauge(r.lostMessages)),
	)
}
