package systemdreceiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/internal/storageclient"
)

// Keys in the storage.
const (
	positionKey = "position"
	doneKey     = "done"
)

// fullBatch is how many bytes of entries make a batch full, before its last entry:
// as much as receivers of OTLP over gRPC take at once.
const fullBatch = 3 << 20

// journalHint is what to do about files that may not be read.
const journalHint = "give the collector's user the group systemd-journal"

// journalPart reads the journal. It has one goroutine, which owns the reader.
type journalPart struct {
	r       *systemdReceiver
	cfg     *JournalConfig
	host    *hostInfo
	log     *zap.Logger
	status  component.Host
	storage storage.Client

	reader  *journal.Reader
	encoder *journalEncoder
	// sight is what the bus tells of units, nil when nobody asks it.
	sight   *sight
	counted journal.Stats
	problem string
	// none says that there was no journal at all at the last look, looked that there was one.
	none, looked bool
	refreshed    time.Time

	cancel context.CancelFunc
	done   chan struct{}
}

func newJournalPart(r *systemdReceiver, host *hostInfo, seen *sight) *journalPart {
	return &journalPart{r: r, cfg: &r.cfg.Journal, host: host, log: r.set.Logger, sight: seen}
}

// start begins to read where the last run ended.
func (j *journalPart) start(ctx context.Context, host component.Host) error {
	rules, err := j.cfg.rules()
	if err != nil {
		return fmt.Errorf("journal::kernel_rules: %w", err)
	}
	if j.storage, err = storageclient.Open(ctx, host, j.r.cfg.StorageID, j.r.set.ID, "journal"); err != nil {
		return err
	}
	state, err := j.load(ctx)
	if err != nil {
		return errors.Join(err, j.storage.Close(ctx))
	}
	j.status = host
	run, cancel := context.WithCancel(context.Background())
	j.encoder = newJournalEncoder(j.r.cfg, j.r.set.BuildInfo.Version, j.host, rules, func(e *entry) bool {
		return j.sight != nil && j.sight.tells(run, e)
	})
	j.reader = j.cfg.reader(state)
	// From here on: the position of the first start must survive a crash.
	if err := j.save(ctx); err != nil {
		cancel()
		return errors.Join(err, j.storage.Close(ctx))
	}
	j.cancel, j.done = cancel, make(chan struct{})
	go j.run(run)
	return nil
}

// reader reads the configured directories from a position on.
func (cfg *JournalConfig) reader(state *journal.State) *journal.Reader {
	return journal.NewReader(journal.Options{
		Directories: cfg.Directories, MaxFieldSize: cfg.MaxFieldSize, MaxOpenFiles: cfg.MaxOpenFiles, Now: time.Now,
	}, state)
}

// unreadable returns why some of the journal cannot be read now, at most some reasons.
func (cfg *JournalConfig) unreadable() []error {
	probe := cfg.reader(journal.NewState(uint64(time.Now().UnixMicro())))
	probe.Refresh()
	problems := probe.Problems()
	if err := probe.Close(); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// load reads the saved position. One that cannot be understood is told and
// begun anew: not to start at all would lose more.
func (j *journalPart) load(ctx context.Context) (*journal.State, error) {
	position, err := j.storage.Get(ctx, positionKey)
	if err != nil {
		return nil, fmt.Errorf("storage: read %s: %w", positionKey, err)
	}
	done, err := j.storage.Get(ctx, doneKey)
	if err != nil {
		return nil, fmt.Errorf("storage: read %s: %w", doneKey, err)
	}
	if position != nil {
		state, err := journal.DecodeState(position, done)
		if err == nil {
			return state, nil
		}
		j.log.Error("the journal is read as at the first start", zap.Error(err), zap.String("start_at", string(j.cfg.StartAt)))
	}
	if j.cfg.StartAt == startAtBeginning {
		return journal.NewState(0), nil
	}
	return journal.NewState(uint64(time.Now().UnixMicro())), nil
}

// save remembers what was handed on.
func (j *journalPart) save(ctx context.Context) error {
	state := j.reader.State()
	position, err := state.Encode()
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	operations := []*storage.Operation{storage.SetOperation(positionKey, position)}
	done := state.EncodeDone()
	if done != nil {
		operations = append(operations, storage.SetOperation(doneKey, done))
	}
	if err := j.storage.Batch(ctx, operations...); err != nil {
		if done != nil {
			state.DoneNotSaved()
		}
		return fmt.Errorf("storage: write %s: %w", positionKey, err)
	}
	return nil
}

// shutdown ends after the batch that is on its way, or without it when ctx ends:
// it was not counted as handed on then.
func (j *journalPart) shutdown(ctx context.Context) error {
	j.cancel()
	select {
	case <-j.done:
	case <-ctx.Done():
		return fmt.Errorf("journal: %w", ctx.Err())
	}
	return errors.Join(j.reader.Close(), j.storage.Close(ctx))
}

// run reads until ctx ends.
func (j *journalPart) run(ctx context.Context) {
	defer close(j.done)
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		j.refresh()
		for ctx.Err() == nil && j.batch(ctx) {
			if time.Since(j.refreshed) >= j.cfg.PollInterval {
				j.refresh()
			}
		}
		wait.Reset(j.cfg.PollInterval)
	}
}

// refresh looks for new entries and tells what cannot be read.
func (j *journalPart) refresh() {
	j.reader.Refresh()
	j.refreshed = time.Now()
	j.count()
	j.report()
}

// batch hands on the next entries and says whether there were any.
func (j *journalPart) batch(ctx context.Context) bool {
	now := time.Now()
	read, filtered := 0, 0
	for j.encoder.count < j.cfg.MaxBatchSize && j.encoder.size < fullBatch && filtered < maxJournalBatch {
		e := j.reader.Next()
		if e == nil {
			break
		}
		read++
		if !j.encoder.add(e, now) {
			filtered++
		}
	}
	// One that was interrupted has not found out who tells what.
	if read == 0 || ctx.Err() != nil {
		return false
	}
	if !j.send(ctx) {
		return false
	}
	t := j.r.telemetry
	t.ReceiverTapioSystemdJournalRead.Add(ctx, int64(read))
	t.ReceiverTapioSystemdJournalFiltered.Add(ctx, int64(filtered))
	// Not with ctx: what was handed on must be remembered, also at shutdown.
	if err := j.save(context.WithoutCancel(ctx)); err != nil {
		j.r.telemetry.ReceiverTapioSystemdReadErrors.Add(ctx, 1)
		j.log.Warn("the position in the journal is not saved; a restart hands entries on twice", zap.Error(err))
	}
	return true
}

// send hands on the batch. What the pipeline cannot take now waits, as the
// journal keeps what follows; what it refuses for good is counted by the
// collector and passed over. It returns false when ctx ended first.
func (j *journalPart) send(ctx context.Context) bool {
	logs := j.encoder.take()
	for {
		err := j.r.out.sendLogs(ctx, logs)
		if err == nil {
			return true
		}
		if consumererror.IsPermanent(err) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
}

// count adds to the metrics what the reader counted since the last call.
func (j *journalPart) count() {
	ctx, t := context.Background(), j.r.telemetry
	now, before := j.reader.Stats(), j.counted
	j.counted = now
	for _, c := range []struct {
		to     metric.Int64Counter
		reason string
		n      uint64
	}{
		{t.ReceiverTapioSystemdJournalLost, "corrupt", now.LostCorrupt - before.LostCorrupt},
		{t.ReceiverTapioSystemdJournalLost, "deleted", now.LostDeleted - before.LostDeleted},
		{t.ReceiverTapioSystemdJournalFieldsDamaged, "unreadable", now.BadFields - before.BadFields},
		{t.ReceiverTapioSystemdJournalFieldsDamaged, "cut", now.CutFields - before.CutFields},
	} {
		if c.n > 0 {
			c.to.Add(ctx, int64(c.n), metric.WithAttributes(attribute.String("reason", c.reason)))
		}
	}
	t.ReceiverTapioSystemdJournalCopies.Add(ctx, int64(now.Copies-before.Copies))
	t.ReceiverTapioSystemdJournalBacklog.Record(ctx, int64(now.Backlog))
	t.ReceiverTapioSystemdJournalFiles.Record(ctx, int64(now.Open), metric.WithAttributes(attribute.String("state", "open")))
	t.ReceiverTapioSystemdJournalFiles.Record(ctx, int64(now.Waiting), metric.WithAttributes(attribute.String("state", "waiting")))
}

// report tells people once what cannot be read, and when it can be again.
func (j *journalPart) report() {
	j.reportDirectories()
	for _, d := range j.reader.Damages() {
		j.log.Warn("a journal file is damaged", zap.Stringer("reason", d))
	}
	problem, hint := "", zap.Skip()
	if err := errors.Join(j.reader.Problems()...); err != nil {
		problem = err.Error()
		if errors.Is(err, os.ErrPermission) {
			hint = zap.String("hint", journalHint)
		}
	}
	if problem == j.problem {
		return
	}
	was := j.problem
	j.problem = problem
	switch {
	case problem != "":
		err := fmt.Errorf("journal: %s", problem)
		j.log.Warn("some of the journal cannot be read; everything else works on", zap.Error(err), hint)
		componentstatus.ReportStatus(j.status, componentstatus.NewRecoverableErrorEvent(err))
	case was != "":
		j.log.Info("all of the journal can be read again")
		componentstatus.ReportStatus(j.status, componentstatus.NewEvent(componentstatus.StatusOK))
	}
}

// reportDirectories tells, at first and when nothing is left, which directories have no
// journal: all of them, or those that are the user's own.
func (j *journalPart) reportDirectories() {
	none := j.reader.Empty()
	if none == j.none && j.looked {
		return
	}
	isFirst := !j.looked
	j.none, j.looked = none, true
	var reasons []string
	for i, dir := range j.cfg.Directories {
		if !none && slices.Contains(defaultJournalConfig().Directories, dir) {
			continue
		}
		if reason := withoutJournal(dir); reason != "" {
			reasons = append(reasons, fmt.Sprintf("journal::directories[%d]: %s", i, reason))
		}
	}
	switch {
	case none:
		j.log.Warn("there is no journal yet; it is read as soon as there is one", zap.Strings("reasons", reasons))
	case isFirst && len(reasons) > 0:
		j.log.Warn("a directory has no journal yet; it is read as soon as there is one", zap.Strings("reasons", reasons))
	}
}

// withoutJournal says why there is nothing to read in a directory, "" when there is, or
// when it may not be listed, which is told by the reader.
func withoutJournal(dir string) string {
	if _, err := os.ReadDir(dir); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return dir + " does not exist"
		}
		return ""
	}
	in := os.DirFS(dir)
	for _, pattern := range []string{"*.journal", "*.journal~", "*/*.journal", "*/*.journal~"} {
		if found, _ := fs.Glob(in, pattern); len(found) > 0 {
			return ""
		}
	}
	reason := fmt.Sprintf("no *.journal in %s nor in a folder in it", dir)
	if deeper, _ := fs.Glob(in, "*/*/*.journal"); len(deeper) > 0 {
		reason += "; do you mean " + path.Join(dir, path.Dir(path.Dir(deeper[0]))) + "?"
	}
	return reason
}
