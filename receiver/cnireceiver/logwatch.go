package cnireceiver

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/runtimelog"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

const (
	// logPoll is how often logs are read.
	logPoll = time.Second
	// repeatAfter is how long the same failure is not told again: the runtime, the
	// kubelet and the plugin each log it.
	repeatAfter = 10 * time.Second
	// maxRepeats bounds the failures that are remembered for that.
	maxRepeats = 1024
)

// logWatcher emits tapio.cni.operation from what runtimes log, where kernel
// programs cannot show the operations.
type logWatcher struct {
	files   []*runtimelog.File
	formats []runtimelog.Format
	log     *zap.Logger
	told    map[runtimelog.Failure]time.Time
	failing map[int]bool
	emit    func(context.Context, []state.Event)

	cancel context.CancelFunc
	done   chan struct{}
}

// startLogWatcher follows the files from now on.
func startLogWatcher(cfg *Config, log *zap.Logger, emit func(context.Context, []state.Event)) *logWatcher {
	w := &logWatcher{
		formats: logFormats(), log: log, emit: emit,
		told: make(map[runtimelog.Failure]time.Time), failing: make(map[int]bool), done: make(chan struct{}),
	}
	for _, path := range cfg.Logs.Files {
		w.files = append(w.files, runtimelog.Follow(snapshot.Resolve(cfg.RootPath, path)))
	}
	w.look(time.Now()) // at their ends, before the first failure
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go w.run(ctx)
	return w
}

// logFormats are those of runtimes and of the known plugins. Each is looked for in
// every file: people have a plugin log where they like, also with others.
func logFormats() []runtimelog.Format {
	_, formats := state.PluginLogs()
	return append([]runtimelog.Format{runtimelog.Runtime}, formats...)
}

func (w *logWatcher) run(ctx context.Context) {
	defer close(w.done)
	ticker := time.NewTicker(logPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if events := w.look(now); len(events) > 0 {
				w.emit(ctx, events)
			}
		}
	}
}

// look reads what is new in all files. A file that cannot be read is logged once.
func (w *logWatcher) look(now time.Time) []state.Event {
	var events []state.Event
	for i, file := range w.files {
		err := file.Read(func(line string) {
			for _, f := range w.parse(line) {
				if w.isNew(f, now) {
					events = append(events, failureEvent(f, now))
				}
			}
		})
		if err != nil && !w.failing[i] {
			w.log.Info("a log of the container runtime cannot be read", zap.Error(err))
		}
		w.failing[i] = err != nil
	}
	for f, at := range w.told {
		if now.Sub(at) >= repeatAfter {
			delete(w.told, f)
		}
	}
	return events
}

// parse returns what a line tells, which is of one format.
func (w *logWatcher) parse(line string) []runtimelog.Failure {
	for _, format := range w.formats {
		if all := format.Parse(line); len(all) > 0 {
			return all
		}
	}
	return nil
}

// isNew says whether the failure was not told a moment ago, by another log in words
// of its own. What has no owner may be of several: it is told each time. A STATUS is
// the node's, and asked for again and again: as long as it fails alike it is one.
func (w *logWatcher) isNew(f runtimelog.Failure, now time.Time) bool {
	key := runtimelog.Failure{Command: f.Command, Plugin: f.Plugin, ContainerID: f.ContainerID}
	switch {
	case f.Command == "STATUS":
		key.Message = f.Message
	case f.ContainerID != "":
	case f.PodName != "":
		key.PodNamespace, key.PodName = f.PodNamespace, f.PodName
	default:
		return true
	}
	_, isOld := w.told[key]
	if !isOld && len(w.told) < maxRepeats || isOld && f.Command == "STATUS" {
		w.told[key] = now
	}
	return !isOld
}

func failureEvent(f runtimelog.Failure, at time.Time) state.Event {
	attrs := map[string]any{event.KeyCNIErrorMessage: f.Message, event.KeyErrorType: operation.Classify(f.Message)}
	body := "CNI"
	if f.Plugin != "" {
		attrs[event.KeyCNIPlugin] = f.Plugin
		body += " plugin " + f.Plugin
	}
	body += " failed"
	if f.Command != "" {
		attrs[event.KeyCNICommand] = f.Command
		body += " at " + f.Command
	}
	if f.Network != "" {
		attrs[event.KeyCNINetwork] = f.Network
	}
	return state.Event{
		Name: event.CNIOperation, Time: at, Severity: operation.Severity(f.Command), Attributes: attrs,
		Body: body + ": " + f.Message,
		Pod:  state.Pod{ContainerID: f.ContainerID, Name: f.PodName, Namespace: f.PodNamespace, UID: f.PodUID},
	}
}

// shutdown ends it, for as long as ctx lasts.
func (w *logWatcher) shutdown(ctx context.Context) error {
	if w == nil {
		return nil
	}
	w.cancel()
	select {
	case <-w.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, file := range w.files {
		file.Close()
	}
	return nil
}
