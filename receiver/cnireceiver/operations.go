package cnireceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/internal/retry"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/plugins"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
)

const (
	// recordQueue is how many records may wait while operations are handed on.
	recordQueue = 1024
	// tick is how often it is looked for operations that are over.
	tick = 100 * time.Millisecond
)

// pluginSource is where records come from: the kernel, or a test.
type pluginSource interface {
	// Read waits for the next record. After Stop it returns those that are left,
	// then os.ErrClosed; any other error is about one record.
	Read() (operation.Record, error)
	// Limits are what does not work, each as "what: reason".
	Limits() []string
	Stats() plugins.Stats
	Stop() error
	Close() error
}

func openPlugins(output plugins.Output, log *zap.Logger) (pluginSource, error) {
	return plugins.Open(output, log)
}

// operations is the other half of the receiver: what plugins do, as spans. One
// goroutine reads and never waits for anything else, one puts together and sends.
type operations struct {
	r       *cniReceiver
	source  pluginSource
	clock   *linux.Clock
	encoder *operation.Encoder

	records            chan operation.Record
	readDone, sendDone chan struct{}
	cancelSend         context.CancelFunc

	// mu guards what metrics read of the assembler.
	mu        sync.Mutex
	assembler *operation.Assembler
}

// startOperations returns nil when plugins cannot be watched, or are not to be.
// What does not work is said, also in r.unseen, and never keeps the receiver from
// starting.
func startOperations(r *cniReceiver, info machine.Info, host component.Host, open func(plugins.Output, *zap.Logger) (pluginSource, error)) *operations {
	if !r.cfg.Operations.Enabled {
		return nil
	}
	source, err := open(r.cfg.Operations.Output, r.set.Logger)
	if err != nil {
		r.set.Logger.Warn("operations of CNI plugins cannot be seen; everything else works on", zap.Error(err))
		// Permanent: nothing changes until somebody changes permissions or kernel.
		componentstatus.ReportStatus(host, componentstatus.NewPermanentErrorEvent(fmt.Errorf("operations: %w", err)))
		r.unseen = []string{"operations: " + err.Error()}
		return nil
	}
	r.unseen = source.Limits()
	for _, limit := range r.unseen {
		r.set.Logger.Warn("operations of CNI plugins are seen in part", zap.String("missing", limit))
	}
	clock := linux.NewClock(linux.ReadClockOffset)
	o := &operations{
		r: r, source: source, clock: clock,
		assembler: operation.NewAssembler(func(path string) string { return snapshot.Canonical(r.cfg.RootPath, path) }),
		encoder: &operation.Encoder{
			Host: info, Scope: metadata.ScopeName, Version: r.set.BuildInfo.Version, Wall: clock.Wall,
		},
		records:  make(chan operation.Record, recordQueue),
		readDone: make(chan struct{}), sendDone: make(chan struct{}),
	}
	if err := o.registerMetrics(); err != nil {
		r.set.Logger.Warn("metrics of operations are missing", zap.Error(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.cancelSend = cancel
	go o.read()
	go o.send(ctx)
	return o
}

// read moves records from the source to the queue until the source has stopped
// and is empty.
func (o *operations) read() {
	defer close(o.readDone)
	defer close(o.records)
	for {
		rec, err := o.source.Read()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			o.countDropped("records", 1)
			continue
		}
		select {
		case o.records <- rec:
		default:
			o.countDropped("records", 1)
		}
	}
}

// send puts records together and hands on what is over, until there are no more.
func (o *operations) send(ctx context.Context) {
	defer close(o.sendDone)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case rec, ok := <-o.records:
			if !ok {
				o.emit(ctx, o.locked(func(a *operation.Assembler) []*operation.Operation { return a.Flush(o.clock.Boot(time.Now())) }))
				return
			}
			o.emit(ctx, o.locked(func(a *operation.Assembler) []*operation.Operation { return a.Add(rec) }))
		case now := <-ticker.C:
			o.clock.Adjust()
			boot := o.clock.Boot(now)
			o.emit(ctx, o.locked(func(a *operation.Assembler) []*operation.Operation { return a.Expire(boot) }))
		}
	}
}

// locked uses the assembler, and counts what it left out.
func (o *operations) locked(use func(*operation.Assembler) []*operation.Operation) []*operation.Operation {
	o.mu.Lock()
	before := o.assembler.Counts()
	done := use(o.assembler)
	after := o.assembler.Counts()
	o.mu.Unlock()
	if n := after.Overflow - before.Overflow; n > 0 {
		o.countDropped("calls", n)
	}
	return done
}

// emit hands operations that are over, or stuck, to the pipelines. While these refuse for a moment records
// wait in the queue, and what finds no place there is counted.
func (o *operations) emit(ctx context.Context, done []*operation.Operation) {
	if len(done) == 0 {
		return
	}
	for _, op := range done {
		if !op.IsOver() {
			continue
		}
		o.r.telemetry.ReceiverTapioCniOperations.Add(context.Background(), 1, metric.WithAttributes(
			attribute.String("command", op.Request().Command), attribute.String("outcome", op.Outcome())))
	}
	if o.r.traces != nil {
		o.r.sendTraces(ctx, o.encoder.Traces(done))
	}
	if o.r.logs != nil && o.r.cfg.Events.TapioCniOperation.Enabled {
		o.r.sendLogs(ctx, o.encoder.Failures(done, time.Now()))
	}
	if o.r.logs != nil && o.r.cfg.Events.TapioCniRecovered.Enabled {
		o.r.sendLogs(ctx, o.encoder.Recoveries(done, time.Now()))
	}
}

func (o *operations) countDropped(kind string, n int64) {
	o.r.telemetry.ReceiverTapioCniDropped.Add(context.Background(), n, metric.WithAttributes(attribute.String("kind", kind)))
}

// registerMetrics makes the collector ask the source and the assembler for numbers.
func (o *operations) registerMetrics() error {
	counts := func(key string, get func(plugins.Stats) map[string]int64) metric.Int64Callback {
		return func(_ context.Context, ob metric.Int64Observer) error {
			for name, n := range get(o.source.Stats()) {
				ob.Observe(n, metric.WithAttributes(attribute.String(key, name)))
			}
			return nil
		}
	}
	t := o.r.telemetry
	return errors.Join(
		t.RegisterReceiverTapioCniLostCallback(counts("record", func(s plugins.Stats) map[string]int64 { return s.Lost })),
		t.RegisterReceiverTapioCniMissedCallback(counts("program", func(s plugins.Stats) map[string]int64 { return s.Missed })),
		t.RegisterReceiverTapioCniSkippedCallback(counts("reason", o.skipped)),
		t.RegisterReceiverTapioCniHeldCallback(func(_ context.Context, ob metric.Int64Observer) error {
			ob.Observe(int64(o.held()), metric.WithAttributes(attribute.String("kind", "calls")))
			ob.Observe(int64(len(o.records)), metric.WithAttributes(attribute.String("kind", "records")))
			return nil
		}),
		t.RegisterReceiverTapioCniPluginsSilentCallback(func(_ context.Context, ob metric.Int64Observer) error {
			ob.Observe(o.counts().Silent)
			return nil
		}),
	)
}

func (o *operations) skipped(s plugins.Stats) map[string]int64 {
	s.Skipped["not_a_plugin"] = o.counts().Ignored
	return s.Skipped
}

func (o *operations) held() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.assembler.Held()
}

func (o *operations) counts() operation.Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.assembler.Counts()
}

// shutdown detaches the programs, reads what they have left in the ring buffer
// and sends it, for as long as ctx lasts, and no longer than a pipeline that
// refuses one batch would take: there may be many.
func (o *operations) shutdown(ctx context.Context) error {
	if o == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, retry.Limit)
	defer cancel()
	err := o.source.Stop()
	<-o.readDone // soon: the ring buffer is bounded and nothing fills it any more
	err = errors.Join(err, o.source.Close())
	select {
	case <-o.sendDone:
	case <-ctx.Done():
		o.cancelSend()
		err = errors.Join(err, fmt.Errorf("operations of CNI plugins were not sent: %w", ctx.Err()))
	}
	o.cancelSend()
	return err
}
