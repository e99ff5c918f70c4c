package systemdreceiver

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/boot"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/bus"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

// maxBootAge is how long after a boot its trace is still told. Backends refuse
// spans that are much older, and a collector that is installed on a machine
// that has run for weeks has nothing to say about its boot.
const maxBootAge = time.Hour

// foundJobs takes the jobs that are there, and those that ended unseen.
func (u *units) foundJobs(ctx context.Context, conn *bus.Conn, list []bus.Job) {
	now := time.Now()
	ids := make([]uint32, len(list))
	for i, j := range list {
		ids[i] = j.ID
		u.jobs.Found(j.ID, j.Unit, j.Type, j.State == "running", u.inBoot, now)
	}
	for _, j := range u.jobs.Missing(ids, now) {
		j.Moved = u.moves(j.Unit)
	}
	u.settleJobs(ctx, conn, now)
}

// jobRemoved takes the end of a job.
func (u *units) jobRemoved(ctx context.Context, conn *bus.Conn, s bus.JobRemoved, at time.Time) {
	j := u.jobs.Removed(s.ID, s.Result, u.moves(s.Unit), at)
	if j == nil || !u.isWatched(j.Unit) {
		return
	}
	if j.IsFailed() {
		j.Reason = failureText(j, u.explained(ctx, conn, j), u.units.IsLimited(j.Unit))
	}
	var dependencies []string
	if j.Result == "dependency" {
		dependencies = u.failedDependencies(ctx, conn, j, at)
	}
	u.sendError(u.r.out.sendLogs(ctx, u.encoder.job(j, dependencies)))
}

// explained is what is known of the unit of a failed job, nil for nothing, with the
// processes that the signals leave out.
func (u *units) explained(ctx context.Context, conn *bus.Conn, j *job.Job) *unit.Unit {
	known := u.units.Get(j.Unit)
	if j.Result != "failed" {
		return known
	}
	p, err := conn.Properties(ctx, j.Unit)
	if err != nil {
		if !bus.IsGone(err) {
			u.readError("explain the job of "+j.Unit, err)
		}
		return known
	}
	now := unit.New(j.Unit)
	now.Apply(p)
	if known == nil {
		return now
	}
	copied := *known
	copied.AddProcesses(now)
	return &copied
}

// failedDependencies are the units that the job's unit requires and that failed.
func (u *units) failedDependencies(ctx context.Context, conn *bus.Conn, j *job.Job, now time.Time) []string {
	p, err := conn.Properties(ctx, j.Unit)
	if err != nil {
		u.readError("ask for the dependencies of "+j.Unit, err)
		return nil
	}
	var failed []string
	seen := map[string]bool{}
	for _, key := range []string{"Requires", "Requisite", "BindsTo"} {
		for _, name := range list(p, key) {
			known := u.units.Get(name)
			if !seen[name] && (u.jobs.HasFailed(name, now) || known != nil && known.ActiveState == "failed") {
				seen[name] = true
				failed = append(failed, name)
			}
		}
	}
	return failed
}

// settleJobs finds out what belongs together of the jobs that were queued, and
// tells those that have ended.
func (u *units) settleJobs(ctx context.Context, conn *bus.Conn, now time.Time) {
	changed := false
	if names := u.jobs.Burst(now); names != nil {
		u.jobs.Settle(u.relations(ctx, conn, names), u.isWatched)
		changed = true
	}
	if done := u.jobs.Done(); len(done) > 0 {
		if err := u.tellJobs(ctx, done); err != nil && ctx.Err() != nil {
			return // a collector with storage tells them when it starts again
		}
		changed = true
	}
	u.jobCount.Store(int64(u.jobs.Len()))
	u.jobsUntracked.Store(u.jobs.Untracked())
	if changed {
		u.rememberJobs(ctx)
	}
}

func (u *units) rememberJobs(ctx context.Context) {
	u.memory.jobs.Jobs = u.jobs.Open()
	u.saveError(u.memory.saveJobs(ctx))
}

// relations asks how units that were queued together relate to each other. One
// alone belongs to nobody.
func (u *units) relations(ctx context.Context, conn *bus.Conn, names []string) map[string]job.Relations {
	if len(names) < 2 || !u.wantsJobs() {
		return nil
	}
	all, named := make(map[string]job.Relations, len(names)), make(map[string]job.Named, len(names))
	for _, name := range names {
		if _, known := all[name]; known {
			continue
		}
		p, err := conn.Properties(ctx, name)
		if err != nil {
			if !bus.IsGone(err) {
				u.readError("ask for the relations of "+name, err)
			}
			continue
		}
		all[name], named[name] = relationsOf(p)
	}
	job.Mirror(all, named)
	return all
}

// relationsOf reads how a unit relates to others (org.freedesktop.systemd1(5)), and
// which of that it names itself: systemd forgets who names a unit with those who do,
// which it often does as soon as they are stopped.
func relationsOf(p bus.Properties) (job.Relations, job.Named) {
	lists := func(keys ...string) (names []string) {
		for _, key := range keys {
			names = append(names, list(p, key)...)
		}
		return names
	}
	relations := job.Relations{
		Starts:    lists("Requires", "Requisite", "BindsTo", "Wants", "Upholds"),
		Conflicts: lists("Conflicts", "ConflictedBy"),
		Stops:     lists("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"),
		Reloads:   lists("PropagatesReloadTo"),
		After:     lists("After"),
	}
	named := job.Named{
		StoppedBy:  lists("Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom"),
		Conflicts:  lists("Conflicts"),
		ReloadedBy: lists("ReloadPropagatedFrom"),
		Before:     lists("Before"),
	}
	return relations, named
}

func list(p bus.Properties, key string) []string {
	names, _ := p[key].([]string)
	return names
}

func (u *units) wantsJobs() bool { return u.r.cfg.Units.Jobs && u.r.out.traces != nil }

func (u *units) wantsBoot() bool { return u.r.cfg.Units.Boot && u.r.out.traces != nil }

// tellJobs sends the spans of jobs that have ended.
func (u *units) tellJobs(ctx context.Context, done []*job.Job) error {
	if !u.wantsJobs() {
		return nil
	}
	traces := ptrace.NewTraces()
	for _, j := range done {
		if !u.isWatched(j.Unit) {
			continue
		}
		u.spans.job(traces, j)
		if j.InBoot && j.Type == "start" {
			if u.memory.jobs.BootJobs == nil {
				u.memory.jobs.BootJobs = map[string]uint32{}
			}
			u.memory.jobs.BootJobs[j.Unit] = j.ID
		}
	}
	err := u.r.out.sendTraces(ctx, traces)
	u.sendError(err)
	return err
}

// tellBoot sends the trace of the boot, once, when it is over.
func (u *units) tellBoot(ctx context.Context, conn *bus.Conn) {
	if u.memory.jobs.Boot || !u.wantsBoot() {
		return
	}
	manager, err := conn.Manager(ctx)
	if err != nil {
		u.readError("read the boot", err)
		return
	}
	b, over := boot.Read(manager)
	if !over {
		return
	}
	// The jobs of the boot have ended; those that wait to be told come first.
	u.settleJobs(ctx, conn, time.Now().Add(maxBootAge))
	if time.Since(b.End()) < maxBootAge {
		err := u.r.out.sendTraces(ctx, u.spans.boot(&b, u.activations(ctx, conn, &b), u.memory.jobs.BootJobs))
		u.sendError(err)
		if err != nil && ctx.Err() != nil {
			return
		}
	}
	u.memory.jobs.Boot, u.memory.jobs.BootJobs = true, nil
	u.saveError(u.memory.saveJobs(ctx))
}

// activations reads which units the boot started.
func (u *units) activations(ctx context.Context, conn *bus.Conn, b *boot.Boot) []boot.Activation {
	all, err := conn.Units(ctx)
	u.readError("list units", err)
	var started []boot.Activation
	for _, row := range all {
		if !u.isWatched(row.Name) {
			continue
		}
		p, err := conn.Properties(ctx, row.Name)
		if err != nil {
			continue // gone in the meantime
		}
		if a, ok := b.Activation(row.Name, p); ok {
			started = append(started, a)
		}
	}
	boot.Order(started)
	return started
}
