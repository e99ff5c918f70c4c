package cnireceiver

import (
	"context"
	"errors"
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
	files []*runtimelog.File
	// journal is nil when it is not read.
	journal *journalLog
	formats []runtimelog.Format
	log     *zap.Logger
	told    map[runtimelog.Failure]toldFailure
	// failing are the logs that cannot be read, by index in files.
	failing map[int]bool
	emit    func(context.Context, []state.Event)
	// count counts reads that failed, and entries of the journal that are lost.
	count func(int64)

	cancel context.CancelFunc
	done   chan struct{}
}

// toldFailure is when a failure was told last, and by which log.
type toldFailure struct {
	at  time.Time
	log int
}

// journalIndex stands for the journal where files have their index.
const journalIndex = -1

// startLogWatcher follows the files from now on.
func startLogWatcher(cfg *Config, log *zap.Logger, emit func(context.Context, []state.Event), count func(int64)) *logWatcher {
	w := &logWatcher{
		formats: logFormats(), log: log, emit: emit, count: count, journal: followJournal(cfg),
		told: make(map[runtimelog.Failure]toldFailure), failing: make(map[int]bool), done: make(chan struct{}),
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

// look reads what is new in all logs. One that cannot be read is logged once.
func (w *logWatcher) look(now time.Time) []state.Event {
	var events []state.Event
	tell := func(line string, index int, at time.Time) {
		for _, f := range w.parse(line) {
			if w.isNew(f, index, now) {
				events = append(events, failureEvent(f, at))
			}
		}
	}
	for i, file := range w.files {
		w.report(i, file.Read(func(line string) { tell(line, i, now) }))
	}
	if w.journal != nil {
		w.report(journalIndex, w.journal.read(func(line string, at time.Time) { tell(line, journalIndex, at) })...)
		w.count(w.journal.lost())
	}
	for f, last := range w.told {
		if now.Sub(last.at) >= repeatAfter {
			delete(w.told, f)
		}
	}
	return events
}

// report counts that a log cannot be read and logs why, once until it can.
func (w *logWatcher) report(index int, problems ...error) {
	err := errors.Join(problems...)
	if err != nil {
		w.count(1)
	}
	if err != nil && !w.failing[index] {
		w.log.Info("a log of the container runtime cannot be read", zap.Error(err))
	}
	w.failing[index] = err != nil
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
// of its own. What has no owner may be of several: it is told each time that the same
// log has it. A STATUS is the node's, and asked for again and again: as long as it
// fails alike it is one.
func (w *logWatcher) isNew(f runtimelog.Failure, index int, now time.Time) bool {
	key := runtimelog.Failure{Command: f.Command, Plugin: f.Plugin, ContainerID: f.ContainerID}
	repeats := false
	switch {
	case f.Command == "STATUS":
		key.Message = f.Message
	case f.ContainerID != "":
	case f.PodName != "":
		key.PodNamespace, key.PodName = f.PodNamespace, f.PodName
	default:
		key, repeats = f, true
	}
	last, isOld := w.told[key]
	isNew := !isOld || repeats && last.log == index
	if !isOld && len(w.told) < maxRepeats || isOld && f.Command == "STATUS" || isOld && isNew {
		w.told[key] = toldFailure{at: now, log: index}
	}
	return isNew
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
	if w.journal != nil {
		return w.journal.reader.Close()
	}
	return nil
}
