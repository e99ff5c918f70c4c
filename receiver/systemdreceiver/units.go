package systemdreceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/bus"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

const (
	// queueSize is how many signals may wait while a pipeline is slow. A signal
	// has some 2 KiB.
	queueSize = 16384
	// maxUnits and maxJobs bound what is followed. A node with 250 pods has some
	// 2000 units.
	maxUnits = 16384
	maxJobs  = 16384
	// A bus that is away is looked for at first often, then rarely.
	firstDial = 200 * time.Millisecond
	lastDial  = 30 * time.Second
	// absentAfter is how long systemd may be off the bus before that is told:
	// systemctl daemon-reexec takes less.
	absentAfter = 3 * time.Second
	// executing is how long after systemd has executed itself again a reload is
	// part of that.
	executing = 5 * time.Second
	// tick is how often it is looked whether what was held back has come true.
	tick = 50 * time.Millisecond
)

// units watches systemd's units and jobs over D-Bus. One goroutine owns all of
// it; the pipelines are called from there, so events leave in their order.
type units struct {
	r       *systemdReceiver
	host    *hostInfo
	encoder *encoder
	spans   spanEncoder
	memory  *memory
	units   *unit.Tracker
	jobs    *job.Tracker
	samples samples
	sight   *sight
	log     *zap.Logger

	// started says that the first record was sent, lost since when nothing is
	// seen, zero while something is.
	started bool
	// toldRunning and checkedGlobs: what is done once, at the first connection that lasts
	// long enough, is done. checks is the second, under way.
	toldRunning  bool
	checkedGlobs atomic.Bool
	checks       sync.WaitGroup
	lost         time.Time
	// said is what was said last while systemd was never seen.
	said string
	// inBoot says that the boot is not over and will be told, reloading that unit files are read.
	inBoot, reloading bool
	// executed is when systemd last executed itself again.
	executed time.Time
	// dropped are the counts of the connection that were seen last.
	droppedFull, droppedMalformed int64

	// For metrics, which are read from other goroutines.
	connected, unitCount, jobCount, jobsUntracked atomic.Int64

	report func(*componentstatus.Event)
	cancel context.CancelFunc
	done   chan struct{}
}

func newUnits(r *systemdReceiver, host *hostInfo) *units {
	u := &units{
		r: r, host: host, log: r.set.Logger,
		encoder: newEncoder(r.cfg, r.set, host),
		spans:   spanEncoder{host: host, version: r.set.BuildInfo.Version},
		units:   unit.NewTracker(r.cfg.Units.RestartWindow, maxUnits),
		jobs:    job.NewTracker(maxJobs),
		samples: samples{interval: r.cfg.Units.SampleInterval, last: map[string]unit.Sample{}},
	}
	u.sight = newSight(u.isWatched, time.Now())
	u.sight.boot = host.boot
	return u
}

// start opens what was remembered and begins to look for systemd. That systemd
// is not there is an error only when the configuration requires it.
func (u *units) start(ctx context.Context, host component.Host) error {
	runCtx, cancel := context.WithCancel(context.Background())
	var conn *bus.Conn
	if u.r.cfg.Units.Required {
		var err error
		if conn, err = bus.Dial(runCtx, u.r.cfg.Units.BusAddress, queueSize); err != nil {
			cancel()
			return fmt.Errorf("units::required is true and systemd cannot be seen at %s: %w", u.r.cfg.Units.BusAddress, err)
		}
	}
	m, err := openMemory(ctx, host, u.r.cfg.StorageID, u.r.set.ID)
	if err == nil {
		err = u.registerMetrics()
	}
	if err != nil {
		cancel()
		if conn != nil {
			err = errors.Join(err, conn.Close())
		}
		return err
	}
	u.memory = m
	m.restore(u.units)
	u.sight.remembered(u.units.FailedRuns(), m.jobs.Shutdown)
	if m.forgotten > 0 {
		u.r.telemetry.ReceiverTapioSystemdReadErrors.Add(ctx, m.forgotten)
		u.log.Warn("some of what was remembered cannot be read; units that have failed may be told again", zap.Int64("values", m.forgotten))
	}
	u.report = func(e *componentstatus.Event) { componentstatus.ReportStatus(host, e) }
	u.cancel, u.done = cancel, make(chan struct{})
	go u.run(runCtx, conn)
	return nil
}

// shutdown stops. What was held back is not remembered as told, so a collector
// with storage tells it when it starts again.
func (u *units) shutdown(ctx context.Context) error {
	u.cancel()
	select {
	case <-u.done:
	case <-ctx.Done():
		return fmt.Errorf("units: %w", ctx.Err())
	}
	return u.memory.close(ctx)
}

// run keeps a connection to systemd, conn at first when it is not nil. After one
// over which not everything could be read it waits, each time longer.
func (u *units) run(ctx context.Context, conn *bus.Conn) {
	defer close(u.done)
	wait := firstDial
	for ctx.Err() == nil {
		if u.watch(ctx, conn) {
			wait = firstDial
		}
		conn = nil
		sleep(ctx, wait)
		wait = min(2*wait, lastDial)
	}
}

// watch connects to systemd, unless conn is not nil, and watches until the
// connection breaks. It returns whether systemd was seen.
func (u *units) watch(ctx context.Context, conn *bus.Conn) (seen bool) {
	if conn == nil {
		var err error
		if conn, err = bus.Dial(ctx, u.r.cfg.Units.BusAddress, queueSize); err != nil {
			u.unavailable(err)
			return false
		}
	}
	session, end := context.WithCancel(ctx)
	err := u.session(session, conn)
	end()
	u.sight.ended(time.Now())
	seen = u.connected.Swap(0) == 1
	if closeErr := conn.Close(); closeErr != nil {
		u.log.Debug("close the bus", zap.Error(closeErr))
	}
	u.checks.Wait()
	if ctx.Err() == nil {
		u.lose(ctx, err)
	}
	return seen
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// unavailable says, once for each kind of reason, why systemd cannot be seen.
// While what was seen before is away it says nothing: that was told.
func (u *units) unavailable(err error) {
	hint := "everything else works on; it is looked for again"
	switch {
	case errors.Is(err, os.ErrNotExist):
		hint = "this host has no systemd, or the socket is not mounted here; " + hint
	case bus.IsRefused(err):
		hint = "the bus does not let this user ask systemd; " + hint
	}
	if u.started || u.said == hint {
		return
	}
	u.said = hint
	err = fmt.Errorf("systemd cannot be seen at %s: %w", u.r.cfg.Units.BusAddress, err)
	u.log.Warn("units, jobs and the boot are not seen", zap.Error(err), zap.String("hint", hint))
	u.report(componentstatus.NewRecoverableErrorEvent(err))
}

// lose tells that a session has ended.
func (u *units) lose(ctx context.Context, err error) {
	kind := "disconnected"
	if errors.Is(err, bus.ErrAbsent) || errors.Is(err, errLeft) {
		kind = "absent"
	}
	if !u.started {
		u.unavailable(err)
		return
	}
	if !u.lost.IsZero() {
		return
	}
	u.lost = time.Now()
	u.log.Warn("systemd is not seen any more", zap.Error(err))
	u.report(componentstatus.NewRecoverableErrorEvent(err))
	u.sendError(u.r.out.sendLogs(ctx, u.encoder.busLost(kind, u.lost)))
}

// Why a session ends: the bus closed the connection, or systemd is not on it.
var (
	errDisconnected = errors.New("the bus closed the connection")
	errLeft         = errors.New("systemd has not been on the bus")
)

// session watches over one connection until it breaks, and returns why.
func (u *units) session(ctx context.Context, conn *bus.Conn) error {
	u.droppedFull, u.droppedMalformed, u.reloading = 0, 0, false
	if err := u.catchUp(ctx, conn); err != nil {
		return err
	}
	// When systemd leaves the bus, all is read again as soon as it is back.
	var absent <-chan time.Time
	for {
		if err := u.next(ctx, conn, &absent); errors.Is(err, bus.ErrAbsent) {
			if absent == nil {
				absent = time.After(absentAfter)
			}
		} else if err != nil {
			return err
		}
	}
}

// next takes the next signal, or tells what has come true meanwhile.
func (u *units) next(ctx context.Context, conn *bus.Conn, absent *<-chan time.Time) error {
	var ticks <-chan time.Time
	if u.units.IsWaiting() || u.jobs.IsWaiting() {
		ticks = time.After(tick)
	}
	var sampling <-chan time.Time
	if due, ok := u.samples.due(); ok && *absent == nil {
		sampling = time.After(time.Until(due))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-sampling:
		err := u.samples.take(ctx, conn, u.units)
		if errors.Is(err, bus.ErrAbsent) {
			return err
		}
		u.readError("sample the services", err)
	case item := <-conn.Signals():
		if owner, ok := item.Signal.(bus.OwnerChanged); ok {
			*absent = nil
			if !owner.Present {
				u.sight.ended(item.At)
				*absent = time.After(absentAfter)
			}
		}
		if err := u.signal(ctx, conn, item); err != nil {
			return err
		}
	case <-*absent:
		return fmt.Errorf("%w for %s", errLeft, absentAfter)
	case <-ticks:
	case <-conn.Done():
		u.sight.ended(time.Now())
		return u.drain(ctx, conn)
	}
	// While signals wait, what is held back may already be overtaken.
	if len(conn.Signals()) > 0 {
		return nil
	}
	u.settle(ctx, conn)
	if u.countDropped(conn) {
		return u.catchUp(ctx, conn)
	}
	return nil
}

// drain takes the signals that came before the bus closed the connection.
func (u *units) drain(ctx context.Context, conn *bus.Conn) error {
	for {
		select {
		case item := <-conn.Signals():
			if err := u.signal(ctx, conn, item); err != nil {
				return err
			}
		default:
			return errDisconnected
		}
	}
}

// countDropped takes over the connection's counts. It returns true when signals
// were dropped since all units were last read.
func (u *units) countDropped(conn *bus.Conn) bool {
	full, malformed := conn.Dropped()
	count := func(n int64, reason string) {
		if n > 0 {
			u.r.telemetry.ReceiverTapioSystemdSignalsDropped.Add(context.Background(), n,
				metric.WithAttributes(attribute.String("reason", reason)))
		}
	}
	count(malformed-u.droppedMalformed, "malformed")
	u.droppedMalformed = malformed
	if full == u.droppedFull {
		return false
	}
	count(full-u.droppedFull, "queue_full")
	u.droppedFull = full
	return true
}

// reexecuted subscribes to a systemd that has executed itself again.
func (u *units) reexecuted(ctx context.Context, conn *bus.Conn, at time.Time) error {
	u.executed = at
	u.sendError(u.r.out.sendLogs(ctx, u.encoder.reexecuted(at)))
	if err := conn.Subscribe(ctx); err != nil {
		return err
	}
	return u.catchUp(ctx, conn)
}

// shutdowns are the units by which systemd ends a run of the machine
// (systemd.special(7)); each is started for nothing else.
var shutdowns = map[string]string{
	"reboot.target": "reboot", "poweroff.target": "poweroff", "halt.target": "halt",
	"kexec.target": "kexec", "soft-reboot.target": "soft-reboot",
}

// maxEager is of how many open jobs each new one is remembered at once, so that a crash
// does not lose when it was queued. Where there are more, writing all would take long.
const maxEager = 64

// signal takes one signal. It returns an error when systemd cannot be asked.
func (u *units) signal(ctx context.Context, conn *bus.Conn, item bus.Item) error {
	switch s := item.Signal.(type) {
	case bus.UnitChanged:
		if u.isWatched(s.Unit) {
			u.tell(ctx, conn, u.units.Changed(s.Unit, s.Properties, item.At), s.Unit)
		}
	case bus.UnitRemoved:
		if u.reloading { // all units are removed and loaded again
			return nil
		}
		u.tell(ctx, conn, u.units.Gone(s.Unit, item.At, false), s.Unit)
	case bus.JobNew:
		if kind, ok := shutdowns[s.Unit]; ok {
			u.sendError(u.r.out.sendLogs(ctx, u.encoder.shutdown(kind, item.At)))
			u.memory.jobs.Shutdown = item.At
			u.sight.goesDown(item.At)
			u.rememberJobs(ctx)
		}
		u.jobs.New(s.ID, s.Unit, u.moves(s.Unit), item.At)
		if u.jobs.Len() <= maxEager { // while signals come one after the other, jobs are not settled
			u.rememberJobs(ctx)
		}
	case bus.JobTyped:
		u.jobs.Typed(s.ID, s.Type)
	case bus.JobChanged:
		u.jobs.State(s.ID, s.State, item.At)
	case bus.JobRemoved:
		if u.reloading {
			return nil
		}
		u.jobRemoved(ctx, conn, s, item.At)
	case bus.OwnerChanged:
		if s.Present {
			return u.reexecuted(ctx, conn, item.At)
		}
		u.reloading = false // that reload ends with the process that began it
	case bus.StartupFinished:
		u.inBoot = false
		u.tellBoot(ctx, conn)
	case bus.Reloading:
		return u.reload(ctx, conn, s.Active, item.At)
	}
	u.unitCount.Store(int64(u.units.Len()))
	return nil
}

// reload takes note that systemd reads all unit files again, or has done so.
// Then it tells units and jobs that were removed only to be loaded again from
// those that are gone by reading all.
func (u *units) reload(ctx context.Context, conn *bus.Conn, active bool, at time.Time) error {
	was := u.reloading
	u.reloading = active
	if !was || active {
		return nil
	}
	if at.Sub(u.executed) > executing {
		u.sendError(u.r.out.sendLogs(ctx, u.encoder.reloaded(at)))
	}
	return u.catchUp(ctx, conn)
}

// moves is how a unit has moved so far, as far as it is known.
func (u *units) moves(name string) job.Moves {
	known := u.units.Get(name)
	if known == nil {
		return job.Moves{}
	}
	tested := known.ConditionTime
	if known.AssertTime.After(tested) {
		tested = known.AssertTime
	}
	return job.Moves{
		InactiveExit: known.InactiveExit, ActiveEnter: known.ActiveEnter,
		ActiveExit: known.ActiveExit, InactiveEnter: known.InactiveEnter,
		StateChange: known.StateChange, Tested: tested,
	}
}

// isWatched tells whether the configuration includes a unit.
func (u *units) isWatched(name string) bool {
	return matches(u.r.cfg.Units.Include, name) && !matches(u.r.cfg.Units.Exclude, name)
}

// settle tells what was held back and has come true.
func (u *units) settle(ctx context.Context, conn *bus.Conn) {
	now := time.Now()
	events := u.units.Tick(now)
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.Unit.Name
	}
	u.tell(ctx, conn, events, names...)
	u.settleJobs(ctx, conn, now)
}

// tell sends what has happened, and then remembers these units as they are: in
// this order, so that what a crash interrupts is told twice rather than never.
func (u *units) tell(ctx context.Context, conn *bus.Conn, events []unit.Event, names ...string) {
	if len(names) == 0 {
		return
	}
	for i := range events {
		u.explain(ctx, conn, &events[i])
	}
	err := u.r.out.sendLogs(ctx, u.encoder.units(events, time.Now()))
	u.sendError(err)
	if err != nil && ctx.Err() != nil {
		return
	}
	changed := make(map[string]struct{}, len(names))
	for _, name := range names {
		changed[name] = struct{}{}
	}
	u.saveError(u.memory.save(ctx, u.units, changed))
}

// explain asks systemd for what its signals leave out: limits, conditions.
func (u *units) explain(ctx context.Context, conn *bus.Conn, e *unit.Event) {
	var err error
	switch {
	case e.Snapshot:
	case e.Kind == unit.Activated:
		e.Unit.ControlGroup, err = conn.ControlGroup(ctx, e.Unit.Name)
	case e.Kind == unit.Deactivated:
		e.Dependencies, err = u.taken(ctx, conn, &e.Unit)
	case e.Kind == unit.Reloaded, e.Kind == unit.ReloadFailed, e.Kind == unit.Restarting:
	default:
		err = ask(ctx, conn, e)
		u.samples.last[e.Unit.Name].Recall(e)
	}
	if err != nil && !bus.IsGone(err) {
		u.readError("explain "+e.Unit.Name, err)
	}
}

// together is how shortly before a unit is stopped the one must have ended that
// takes it with it.
const together = 5 * time.Second

// taken are the units that took one with them when it was stopped: those that it
// requires, is bound to or is part of, and that have just ended or are ending.
func (u *units) taken(ctx context.Context, conn *bus.Conn, stopped *unit.Unit) ([]string, error) {
	p, err := conn.Properties(ctx, stopped.Name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, key := range []string{"BindsTo", "Requires", "Requisite", "PartOf"} {
		for _, name := range list(p, key) {
			known := u.units.Get(name)
			if known == nil || slices.Contains(names, name) || stopped.ActiveExit.IsZero() || known.StateChange.Before(stopped.ActiveExit.Add(-together)) {
				continue
			}
			switch known.ActiveState {
			case "failed", "inactive", "deactivating":
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// ask adds to a failure what does not change with the state of its unit.
func ask(ctx context.Context, conn *bus.Conn, e *unit.Event) error {
	p, err := conn.Properties(ctx, e.Unit.Name)
	if err != nil {
		return err
	}
	now := unit.New(e.Unit.Name)
	now.Apply(p)
	e.Unit.MemoryMax, e.Unit.TasksMax = now.MemoryMax, now.TasksMax
	e.Unit.StartLimitBurst, e.Unit.StartLimitInterval = now.StartLimitBurst, now.StartLimitInterval
	if now.InvocationID == e.Unit.InvocationID {
		e.Unit.MemoryCurrent, e.Unit.MemoryPeak, e.Unit.TasksCurrent = now.MemoryCurrent, now.MemoryPeak, now.TasksCurrent
		e.Unit.ControlGroup = now.ControlGroup
	}
	e.Unit.AddProcesses(now)
	switch e.Kind {
	case unit.Failed, unit.OOMKilled, unit.Watchdog:
		e.At = e.Unit.FailedAt()
	}
	if e.Kind == unit.Skipped {
		conditions := now.Conditions
		switch {
		case e.IsAssert:
			conditions = now.Asserts
		case e.IsExec:
			conditions = now.ExecConditions
		}
		e.Unmet = unit.Unmet(conditions)
	}
	return nil
}

func (u *units) sendError(err error) {
	if err != nil {
		u.log.Debug("refused by the pipeline", zap.Error(err))
	}
}

// saveError counts and tells what could not be remembered.
func (u *units) saveError(err error) {
	if err != nil {
		u.r.telemetry.ReceiverTapioSystemdReadErrors.Add(context.Background(), 1)
		u.log.Warn("what was told of units is not saved; until it is, a restart tells it again", zap.Error(err))
	}
}

// readError counts what could not be read.
func (u *units) readError(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		u.r.telemetry.ReceiverTapioSystemdReadErrors.Add(context.Background(), 1)
		u.log.Debug("cannot "+what, zap.Error(err))
	}
}

func (u *units) registerMetrics() error {
	gauge := func(get func() int64) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(get())
			return nil
		}
	}
	t := u.r.telemetry
	return errors.Join(
		t.RegisterReceiverTapioSystemdBusConnectedCallback(gauge(u.connected.Load)),
		t.RegisterReceiverTapioSystemdUnitsCallback(gauge(u.unitCount.Load)),
		t.RegisterReceiverTapioSystemdUnitsUntrackedCallback(gauge(u.units.Untracked)),
		t.RegisterReceiverTapioSystemdJobsCallback(gauge(u.jobCount.Load)),
		t.RegisterReceiverTapioSystemdJobsUntrackedCallback(gauge(u.jobsUntracked.Load)),
	)
}

// seedOf identifies one run of the systemd of a machine: jobs are numbered anew
// after a boot, and not when systemd executes itself again.
func seedOf(host, machine string, manager bus.Properties) string {
	started, _ := manager["UserspaceTimestamp"].(uint64)
	return host + "\x00" + machine + "\x00" + strconv.FormatUint(started, 10)
}
