package cnireceiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

const (
	// maxWaiting bounds the events that the next component refused for now.
	maxWaiting = 4096
	// retryAfter is how long until it is asked again.
	retryAfter = time.Second
	// maxGather is how long changes are gathered at most when they do not end.
	maxGather = time.Second
	// maxReads bounds how often a picture is read again because directories appear
	// while it is read; what is missed then comes with the next.
	maxReads = 3
	// restFactor bounds the work: after a picture that took 0.1 s, the next is not taken
	// for so many times that, however much changes; but not longer than maxRest, for on a
	// busy machine most of that time is others'.
	restFactor = 10
	maxRest    = 5 * time.Second
)

// watcher is the state half of the receiver: it takes a picture at the start, at
// every change and at intervals, and emits what follows from it.
type watcher struct {
	cfg       *Config
	log       *zap.Logger
	encoder   *encoder
	telemetry *metadata.TelemetryBuilder
	consume   func(context.Context, plog.Logs) error

	reader  *snapshot.Reader
	decider *state.Decider
	memory  *memory
	files   *snapshot.FileWatcher
	links   *snapshot.Notifier

	// waiting are events that were refused and may be taken later.
	waiting []state.Event
	// told are the reasons that were logged, by source.
	told map[state.Source]string
	// damaged is the result that was logged.
	damaged string
	// forgets says that it was logged that the memory cannot be written.
	forgets bool
	held    *heldCounts
	// unseen is what the operations half cannot see, "part: reason".
	unseen []string

	cancel context.CancelFunc
	done   chan struct{}
}

// startWatcher begins to watch; consume hands records to the next component. unseen
// is what the other half of the receiver cannot see, to be told with the rest. m is the
// watcher's from now on.
func startWatcher(cfg *Config, set receiver.Settings, enc *encoder, telemetry *metadata.TelemetryBuilder, consume func(context.Context, plog.Logs) error, unseen []string, m *memory) (*watcher, error) {
	opts := cfg.options()
	w := &watcher{
		cfg: cfg, log: set.Logger, encoder: enc, telemetry: telemetry, consume: consume,
		reader: snapshot.NewReader(opts), decider: state.NewDecider(cfg.settings()), memory: m,
		unseen: unseen, told: make(map[state.Source]string), held: newHeldCounts(), done: make(chan struct{}),
	}
	if err := w.held.register(telemetry); err != nil {
		return nil, errors.Join(err, m.close(context.Background()))
	}
	m.restore(w.decider)
	if len(m.forgotten) > 0 {
		telemetry.ReceiverTapioCniReadErrors.Add(context.Background(), int64(len(m.forgotten)), metric.WithAttributes(attribute.String("source", "memory")))
		w.log.Warn("some of what was remembered cannot be read; what is wrong may be told as new", zap.Error(errors.Join(m.forgotten...)))
	}
	var err error
	if w.files, err = snapshot.WatchFiles(); err != nil {
		w.log.Warn("changes of files are not noticed at once", zap.Duration("interval", cfg.Interval), zap.Error(err))
	}
	if w.links, err = snapshot.Notify(opts); err != nil {
		tell := w.log.Info
		if cfg.HostNamespace != "" {
			err, tell = fmt.Errorf("host_namespace: %w", err), w.log.Warn
		}
		tell("changes of interfaces are not noticed at once", zap.Duration("interval", cfg.Interval), zap.Error(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go w.run(ctx)
	return w, nil
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.done)
	next, took := w.look(ctx, true)
	looked := time.Now()
	timer := time.NewTimer(next)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case ev := <-w.fileEvents():
			if !w.files.IsRelevant(ev) {
				continue
			}
			w.gather(ctx, restAfter(took)-time.Since(looked))
		case err := <-w.fileErrors():
			w.log.Debug("changes of files were lost; everything is read again", zap.Error(err))
			w.gather(ctx, restAfter(took)-time.Since(looked))
		case <-w.linkChanges():
			w.gather(ctx, restAfter(took)-time.Since(looked))
		}
		if ctx.Err() != nil {
			return
		}
		next, took = w.look(ctx, false)
		looked = time.Now()
		timer.Reset(next)
	}
}

// restAfter is how long no picture is taken after one that took so long.
func restAfter(took time.Duration) time.Duration { return min(took*restFactor, maxRest) }

// gather waits until changes come no more, but not longer than maxGather, and
// at least for rest.
func (w *watcher) gather(ctx context.Context, rest time.Duration) {
	begun := time.Now()
	quiet := time.NewTimer(max(w.cfg.Debounce, rest))
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			return
		case ev := <-w.fileEvents():
			if !w.files.IsRelevant(ev) {
				continue
			}
		case <-w.linkChanges():
		}
		if left := max(maxGather, rest) - time.Since(begun); left > 0 {
			quiet.Reset(min(left, max(w.cfg.Debounce, rest-time.Since(begun))))
		}
	}
}

// watchFiles watches the directories that p was read from, and says whether p has
// to be read again: what came between reading and watching is in neither.
func (w *watcher) watchFiles(p *state.Picture) bool {
	if w.files == nil {
		return false
	}
	isNew, err := w.files.Update(w.reader, p)
	if err != nil {
		w.count(state.SourceConfig)
		w.log.Debug("a directory cannot be watched", zap.Error(err))
	}
	return isNew
}

// look takes a picture and emits what follows. It returns when to look again at
// the latest, and how long it took.
func (w *watcher) look(ctx context.Context, isFirst bool) (next, took time.Duration) {
	begun := time.Now()
	p := w.reader.Read(begun)
	for range maxReads {
		if !w.watchFiles(p) {
			break
		}
		p = w.reader.Read(begun)
	}
	events := w.decider.Decide(p)
	took = time.Since(begun)
	w.telemetry.ReceiverTapioCniSnapshotDuration.Record(ctx, took.Seconds())
	w.tell(p, isFirst)
	if isFirst {
		ev := started(w.cfg, p, w.links, w.unseen)
		events = append([]state.Event{ev}, events...)
		w.log.Info(ev.Body)
	}
	w.remember(w.memory.before(ctx, w.decider))
	w.emit(ctx, events)
	if len(w.waiting) == 0 {
		w.remember(w.memory.after(ctx))
	}
	w.held.set(w.decider, w.reader.Files(), len(w.waiting))
	return w.nextLook(time.Now()), took
}

// nextLook is how long nothing needs to be done if nothing changes.
func (w *watcher) nextLook(now time.Time) time.Duration {
	next := w.cfg.Interval
	if due := w.decider.Due(); !due.IsZero() {
		// Not before: a condition is due when it has lasted long enough.
		next = min(next, max(due.Sub(now), 0)+time.Millisecond)
	}
	if len(w.waiting) > 0 {
		next = min(next, retryAfter)
	}
	return next
}

// remember logs, once until it works again, that the memory cannot be written. It is
// written with the next change then, or at the stop.
func (w *watcher) remember(err error) {
	if err != nil && !w.forgets {
		w.log.Warn("what is told cannot be remembered; after a restart of the collector it may be told as new", zap.Error(err))
	}
	w.forgets = err != nil
}

// emit hands events on, after those that were refused before. What is refused
// for good, or for too long, is counted and gone.
func (w *watcher) emit(ctx context.Context, events []state.Event) {
	events = append(w.waiting, events...)
	w.waiting = nil
	if len(events) == 0 {
		return
	}
	err := w.consume(ctx, w.encoder.encode(events, time.Now()))
	if err == nil || consumererror.IsPermanent(err) {
		return
	}
	if excess := len(events) - maxWaiting; excess > 0 {
		w.telemetry.ReceiverTapioCniDropped.Add(ctx, int64(excess), metric.WithAttributes(attribute.String("kind", "events")))
		events = events[excess:]
	}
	w.waiting = events
}

// tell logs what cannot be seen, once for each reason, and counts it.
func (w *watcher) tell(p *state.Picture, isFirst bool) {
	for _, source := range state.Sources {
		reason := p.Unseen[source]
		if reason != "" {
			w.count(source)
		}
		if reason != w.told[source] {
			w.told[source] = reason
			if reason != "" && !isFirst {
				w.log.Warn("a part of the container network cannot be seen", zap.String("part", string(source)), zap.String("reason", reason))
			}
		}
	}
	if p.Damaged != "" {
		w.count(state.SourceResults)
	}
	if p.Damaged != "" && p.Damaged != w.damaged {
		w.log.Info("a cached result is damaged, or is being written; its interface stays as it was", zap.String("reason", p.Damaged))
	}
	w.damaged = p.Damaged
}

func (w *watcher) count(source state.Source) { countReadErrors(w.telemetry, string(source), 1) }

func countReadErrors(t *metadata.TelemetryBuilder, source string, n int64) {
	t.ReceiverTapioCniReadErrors.Add(context.Background(), n, metric.WithAttributes(attribute.String("source", source)))
}

// The channels of what may not be there; nil never has anything.

func (w *watcher) fileEvents() <-chan fsnotify.Event {
	if w.files == nil {
		return nil
	}
	return w.files.Events()
}

func (w *watcher) fileErrors() <-chan error {
	if w.files == nil {
		return nil
	}
	return w.files.Errors()
}

func (w *watcher) linkChanges() <-chan struct{} {
	if w.links == nil {
		return nil
	}
	return w.links.Changes
}

// shutdown ends the watch, for as long as ctx lasts.
func (w *watcher) shutdown(ctx context.Context) error {
	w.cancel()
	var errs []error
	select {
	case <-w.done:
		errs = append(errs, w.memory.close(ctx))
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
	}
	if w.files != nil {
		errs = append(errs, w.files.Close())
	}
	if w.links != nil {
		errs = append(errs, w.links.Close())
	}
	return errors.Join(errs...)
}
