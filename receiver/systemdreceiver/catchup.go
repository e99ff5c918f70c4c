package systemdreceiver

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/bus"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

// catchUp reads all units and jobs, and tells what has happened while nobody
// was watching.
func (u *units) catchUp(ctx context.Context, conn *bus.Conn) error {
	manager, err := conn.Manager(ctx)
	if err != nil {
		return err
	}
	machine, err := conn.MachineID(ctx)
	if err != nil && !bus.IsRefused(err) {
		return err
	}
	if err == nil {
		u.host.told(machine)
	}
	u.newRun(seedOf(u.host.name, machine, manager))
	finished, _ := manager["FinishTimestamp"].(uint64)
	u.inBoot = finished == 0 && u.wantsBoot()
	jobs, err := conn.Jobs(ctx)
	if err != nil {
		return err
	}
	events, names, err := u.readUnits(ctx, conn)
	if err == nil {
		u.announce(ctx, manager)
	}
	u.tell(ctx, conn, events, names...) // what was found before systemd left, too
	if err == nil && !u.toldRunning {
		err = u.tellRunning(ctx, conn)
		u.toldRunning = err == nil // else at the next connection
	}
	if err != nil {
		return err
	}
	u.foundJobs(ctx, conn, jobs)
	u.tellBoot(ctx, conn)
	if !u.checkedGlobs.Load() {
		u.checks.Go(func() {
			// Not at once: for a third of a second systemd does nothing else.
			if sleep(ctx, globsAfter); ctx.Err() == nil {
				u.checkedGlobs.Store(u.checkGlobs(ctx, conn))
			}
		})
	}
	return nil
}

// newRun takes note of which run of systemd this is. What was remembered of the
// jobs of another run is forgotten: their numbers mean others now.
func (u *units) newRun(seed string) {
	if u.spans.seed == seed {
		return
	}
	u.spans.seed = seed
	u.jobs = job.NewTracker(maxJobs)
	if u.memory.jobs.Seed != seed {
		u.memory.jobs = openJobs{Seed: seed, Shutdown: u.memory.jobs.Shutdown}
	}
	for _, j := range u.memory.jobs.Jobs {
		u.jobs.Restore(j)
	}
}

// readUnit reads one unit, and all of it only when something may have happened
// to it.
func (u *units) readUnit(ctx context.Context, conn *bus.Conn, row bus.Unit) ([]unit.Event, error) {
	change, err := conn.StateChange(ctx, row.Name)
	if err == nil && !u.units.Listed(row.Name, row.ActiveState, row.SubState, unit.Time(change), time.Now()) {
		return nil, nil
	}
	var p bus.Properties
	if err == nil {
		p, err = conn.Properties(ctx, row.Name)
	}
	if err != nil {
		if bus.IsGone(err) {
			return nil, nil
		}
		return nil, err
	}
	return u.units.Found(row.Name, p, time.Now()), nil
}

// tellRunning tells the main processes of the services that run already: whoever links
// processes with units remembers nothing of them from before, and nothing may happen to
// them until they are needed.
func (u *units) tellRunning(ctx context.Context, conn *bus.Conn) error {
	var running []*unit.Unit
	for _, name := range services(u.units) {
		p, err := conn.Properties(ctx, name)
		if bus.IsGone(err) || bus.IsRefused(err) {
			continue
		}
		if err != nil {
			return err
		}
		s := unit.New(name)
		s.Apply(p)
		// One that is being started is told when it has been.
		if s.MainPID != 0 && (s.ActiveState == "active" || s.ActiveState == "reloading") {
			running = append(running, s)
		}
	}
	u.sendError(u.r.out.sendLogs(ctx, u.encoder.running(running, time.Now())))
	return nil
}

// globsAfter is how long after the bus was connected names of the configuration are looked up.
const globsAfter = 10 * time.Second

// checkGlobs warns of globs of the configuration that match no unit of this machine,
// loaded or installed: they would be silent for ever. It returns false when it could not.
func (u *units) checkGlobs(ctx context.Context, conn *bus.Conn) bool {
	unmatched := func(names []string) []string {
		cfg, defaults := u.r.cfg, defaultUnitsConfig()
		out := append(cfg.Units.include().unmatched(defaults.Include, names), cfg.Units.critical().unmatched(defaults.Critical, names)...)
		// Other directories may have the journals of other machines.
		if cfg.Journal.Enabled && slices.Equal(cfg.Journal.Directories, defaultJournalConfig().Directories) {
			out = append(out, cfg.Journal.units().unmatched(nil, names)...)
		}
		return out
	}
	if len(unmatched(nil)) == 0 {
		return true
	}
	var names []string
	list, err := conn.Units(ctx)
	if err == nil {
		names, err = conn.UnitFiles(ctx)
	}
	if err != nil {
		u.readError("look for the units that the configuration names", err)
		return false
	}
	for _, row := range list {
		names = append(names, row.Name)
	}
	if slips := unmatched(names); len(slips) > 0 {
		u.log.Warn("no unit of this machine, loaded or installed, has a name that the configuration asks for", zap.Strings("patterns", slips),
			zap.String("hint", "a pattern is a whole name with its type, such as ledger.service, with *, ? and [a-z]; it is no regular expression"))
	}
	return true
}

// announce tells that systemd is seen: for the first time, or again.
func (u *units) announce(ctx context.Context, manager bus.Properties) {
	u.connected.Store(1)
	now := time.Now()
	switch {
	case !u.started:
		version, _ := manager["Version"].(string)
		unseen := u.unseen()
		u.log.Info("systemd is seen", zap.String("version", version), zap.Int("units", u.units.Len()), zap.Strings("unseen", unseen))
		u.sendError(u.r.out.sendLogs(ctx, u.encoder.started(version, u.units.Len(), unseen, now)))
	case !u.lost.IsZero():
		u.log.Info("systemd is seen again", zap.Duration("after", now.Sub(u.lost)))
		u.sendError(u.r.out.sendLogs(ctx, u.encoder.busRecovered(u.lost, now)))
	default:
		return
	}
	u.started, u.lost = true, time.Time{}
	u.report(componentstatus.NewEvent(componentstatus.StatusOK))
}

// unseen says what this receiver does not see, and why.
func (u *units) unseen() []string {
	unseen := []string{}
	if u.r.out.traces == nil && (u.r.cfg.Units.Jobs || u.r.cfg.Units.Boot) {
		unseen = append(unseen, "jobs and the boot as traces: the receiver is in no traces pipeline")
	}
	if u.r.cfg.StorageID == nil {
		unseen = append(unseen, "what was told before a restart of the collector: no storage is configured")
	}
	if u.r.cfg.Journal.Enabled && u.r.out.logs != nil {
		for _, problem := range u.r.cfg.Journal.unreadable() {
			said := "the journal: " + problem.Error()
			if errors.Is(problem, os.ErrPermission) {
				said += " (" + journalHint + ")"
			}
			unseen = append(unseen, said)
		}
	}
	return unseen
}

// readUnits reads all units that are watched. It returns what has happened to
// them, oldest first, and the names of all that are or were known; with an error
// those that were read before.
func (u *units) readUnits(ctx context.Context, conn *bus.Conn) ([]unit.Event, []string, error) {
	list, err := conn.Units(ctx)
	if err != nil {
		return nil, nil, err
	}
	gone := map[string]struct{}{}
	for _, name := range u.units.Names() {
		gone[name] = struct{}{}
	}
	var events []unit.Event
	var names []string
	listed := time.Now()
	u.units.Snapshot(listed)
	defer func() { u.unitCount.Store(int64(u.units.Len())) }()
	for _, row := range list {
		if !u.isWatched(row.Name) {
			continue
		}
		names = append(names, row.Name)
		delete(gone, row.Name)
		happened, err := u.readUnit(ctx, conn, row)
		if bus.IsRefused(err) {
			u.readError("read "+row.Name, err)
			continue
		}
		if err != nil {
			return oldestFirst(events), names, err
		}
		events = append(events, happened...)
	}
	for name := range gone {
		names = append(names, name)
		events = append(events, u.units.Gone(name, time.Now(), true)...)
	}
	u.sight.began(listed, u.units.FailedRuns())
	return oldestFirst(events), names, nil
}

func oldestFirst(events []unit.Event) []unit.Event {
	slices.SortStableFunc(events, func(a, b unit.Event) int { return a.At.Compare(b.At) })
	return events
}
