package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/yairfalse/tapio/examples/checkout/internal/load"
	"github.com/yairfalse/tapio/examples/checkout/internal/memlimit"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

const (
	// afterFailure is how long orders are sent on once the first failed.
	afterFailure = 4 * time.Second
	// findingWait bounds the wait for a finding that has counted all.
	findingWait = 20 * time.Second
	// settle is how long a healthy run waits for a finding that must not come:
	// longer than spans take from the shop through the collector.
	settle = 3 * time.Second
	// poll is the interval of asking files and APIs.
	poll = 100 * time.Millisecond
	// grace is how long a process may take to stop when asked.
	grace = 10 * time.Second
	// apiTimeout bounds one request to the findings API.
	apiTimeout = 5 * time.Second
)

// valueConfig is what Tapio cannot know of this shop: which attribute is money.
const valueConfig = "yaml:processors::tapiocorrelation::impact::value_attribute: " + string(load.KeyAmount)

// ErrInterrupted is returned when the context ended before the finding was there.
var ErrInterrupted = errors.New("interrupted")

// demo is one run.
type demo struct {
	Options
	out       io.Writer
	begin     time.Time
	dir       string
	temporary bool
	self      string
	launcher  *launcher
	started   []*process
	collector *process
	payment   *process
	cgroup    *memlimit.Cgroup
	state     State
	api       *findingsapi.Client
}

// Run does all of it, telling out about it. It fails when the options are wrong,
// when something does not start, and when there is no finding (with FaultNone:
// when there is one). Whatever happens, what it started is stopped and what it
// made is removed, except the files in Options.OutputDir.
func Run(ctx context.Context, o Options, out io.Writer) (err error) {
	if err := o.Validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &demo{Options: o, out: &output{w: out, gone: cancel}, begin: time.Now(), launcher: newLauncher()}
	d.state = State{Fault: o.Fault, PID: os.Getpid(), PIDs: map[string]int{}}
	if d.self, err = self(); err != nil {
		return err
	}
	if d.dir, d.temporary, err = o.makeDir(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanup()) }()
	if err := d.run(ctx); err != nil {
		if ctx.Err() != nil {
			return ErrInterrupted
		}
		return err
	}
	return nil
}

func (d *demo) run(ctx context.Context) error {
	if err := d.startCollector(ctx); err != nil {
		return err
	}
	if err := d.startShop(ctx); err != nil {
		return err
	}
	gen, err := d.startLoad()
	if err != nil {
		return err
	}
	d.say("sending %v orders a second from %d users", d.Rate, d.Users)
	if d.Fault == FaultNone {
		err = d.healthy(ctx, gen)
	} else {
		err = d.broken(ctx, gen)
	}
	if err != nil || !d.KeepRunning {
		return err
	}
	d.hold(ctx)
	return nil
}

func (d *demo) startCollector(ctx context.Context) error {
	var err error
	if d.state.Collector, err = newCollectorState(ctx, d.dir); err != nil {
		return err
	}
	if d.api, err = findingsapi.NewClient(d.state.Collector.API, "", apiTimeout); err != nil {
		return err
	}
	d.say("starting the collector")
	argv := []string{d.Collector}
	for _, c := range append(slices.Clone(d.Config), valueConfig) {
		argv = append(argv, "--config", c)
	}
	p, err := d.start("otelcol-tapio", argv, append(os.Environ(), d.state.Collector.Env()...))
	if err != nil {
		return err
	}
	d.collector = p
	return waitReady(ctx, p, "http://"+d.state.Collector.Health, collectorStart)
}

// healthy lets the load run to its end and expects that Tapio has nothing to say.
func (d *demo) healthy(ctx context.Context, gen *process) error {
	d.say("nothing is broken on purpose: waiting %s for the load to end", d.Duration)
	r, err := d.waitReport(ctx, gen)
	if err != nil {
		return err
	}
	d.say("%d orders sent, %d failed", r.Sent, r.Failed)
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	all, err := d.saveFindings(ctx)
	if err != nil {
		return err
	}
	for _, f := range all {
		if !Elsewhere(f, d.state.PIDs) {
			return fmt.Errorf("nothing was broken, yet Tapio found: %s", f.Summary)
		}
		d.say("this happened on the machine, and not to the shop: %s", f.Summary)
	}
	d.say("no finding about the shop, as it should be")
	return nil
}

// broken waits for the failure and for Tapio's explanation of it, and prints that.
func (d *demo) broken(ctx context.Context, gen *process) error {
	if err := d.waitFailure(ctx, gen); err != nil {
		return err
	}
	d.say("the first order failed; sending orders for %s more", afterFailure)
	if err := sleep(ctx, afterFailure); err != nil {
		return err
	}
	gen.stop(grace)
	r, err := d.waitReport(ctx, gen)
	if err != nil {
		return err
	}
	if err := d.notePayment(); err != nil {
		return err
	}
	d.say("%d orders sent, %d failed: %d users, orders worth %s", r.Sent, r.Failed, len(r.FailedUsers), r.FailedAmount)
	traceID := r.FailedTraceIDs[0]
	d.say("waiting for the finding that explains trace %s", traceID)
	f, err := d.waitFinding(ctx, traceID, r)
	if err != nil {
		return err
	}
	if _, err := d.saveFindings(ctx); err != nil {
		return err
	}
	if err := writeJSON(d.file(FindingFile), f); err != nil {
		return err
	}
	return d.correlate(ctx, traceID)
}

// waitFailure makes the fault when it is due and returns once an order failed.
func (d *demo) waitFailure(ctx context.Context, gen *process) error {
	var inject <-chan time.Time
	switch {
	case d.injects():
		d.say("payment gets its signal after %s", d.After)
		inject = time.After(d.After)
	default:
		d.say("waiting until payment, which keeps %s of every order, is at its limit of %s", d.Leak, memlimit.Bytes(d.state.Payment.LimitBytes))
	}
	for {
		if r, err := load.ReadReport(d.file(ReportFile)); err == nil && r.Failed > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-inject:
			if err := d.inject(); err != nil {
				return err
			}
		case <-d.collector.ended:
			return d.collectorEnded()
		case <-gen.ended:
			return fmt.Errorf("no order failed in %s: raise --duration, or --rate and --leak for an earlier failure; the end of the load generator's log:\n%s",
				d.Duration, gen.logTail(logLines))
		case <-time.After(poll):
		}
	}
}

func (d *demo) inject() error {
	sig, name := syscall.SIGKILL, "SIGKILL"
	switch d.Fault {
	case FaultStop:
		sig, name = syscall.SIGTERM, "SIGTERM"
	case FaultHang:
		sig, name = syscall.SIGSTOP, "SIGSTOP"
	}
	d.say("sending %s to payment (process %d)", name, d.payment.pid())
	return d.payment.signal(sig)
}

// waitReport returns the complete report, once the load generator ended.
func (d *demo) waitReport(ctx context.Context, gen *process) (load.Report, error) {
	select {
	case <-ctx.Done():
		return load.Report{}, ctx.Err()
	case <-gen.ended:
	}
	r, err := load.ReadReport(d.file(ReportFile))
	if err != nil || !r.Complete || gen.failed() {
		return r, errors.Join(fmt.Errorf("the load generator left no complete report (%s); the end of its log:\n%s", gen.how(), gen.logTail(logLines)), err)
	}
	return r, nil
}

// notePayment takes down how payment ended, as its parent and its cgroup saw it.
func (d *demo) notePayment() error {
	s := &d.state.Payment
	if !d.payment.hasEnded() {
		d.say("payment still runs")
		return nil
	}
	s.Ended, s.EndedAt = d.payment.how(), &d.payment.endedAt
	detail := ""
	if d.cgroup != nil {
		n, err := d.cgroup.OOMKills()
		if err != nil {
			return err
		}
		s.OOMKills = &n
		detail = fmt.Sprintf("; out-of-memory kills in its cgroup: %d", n)
	}
	d.say("payment ended (%s)%s", s.Ended, detail)
	return d.writeState()
}

// waitFinding returns the finding that explains the trace, as soon as it has
// counted what the report has, or, with a word on what differs, when that takes
// too long. It fails when there is none by then.
func (d *demo) waitFinding(ctx context.Context, traceID string, r load.Report) (*finding.Finding, error) {
	deadline := time.Now().Add(findingWait)
	var f *finding.Finding
	var lastErr error
	for {
		page, err := d.api.TraceFindings(ctx, traceID)
		if err == nil && len(page.Findings) > 0 {
			f = page.Findings[0]
			if len(Differences(r, f)) == 0 {
				d.say("finding %s, revision %d, counts exactly those orders, users and values", f.ID, f.Revision)
				return f, nil
			}
		}
		if !errors.Is(err, findingsapi.ErrNotFound) {
			lastErr = err
		}
		if time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.collector.ended:
			return nil, d.collectorEnded()
		case <-time.After(poll):
		}
	}
	if f == nil {
		_, saveErr := d.saveFindings(ctx)
		return nil, errors.Join(fmt.Errorf("no finding explains trace %s after %s", traceID, findingWait), lastErr, saveErr)
	}
	for _, line := range Differences(r, f) {
		d.say("after %s the numbers differ: %s", findingWait, line)
	}
	return f, nil
}

func (d *demo) collectorEnded() error {
	return fmt.Errorf("the collector ended during the run (%s); the end of its log:\n%s", d.collector.how(), d.collector.logTail(logLines))
}

// saveFindings keeps all findings in a file and returns them.
func (d *demo) saveFindings(ctx context.Context) ([]*finding.Finding, error) {
	page, err := d.api.Findings(ctx, findingsapi.Query{Limit: findingsapi.MaxLimit})
	if err != nil {
		return nil, err
	}
	return page.Findings, writeJSON(d.file(FindingsFile), page.Findings)
}

// cleanup stops and removes all that the run started and made.
func (d *demo) cleanup() error {
	d.say("stopping everything")
	// What depends on others stops first; the collector, started first, is last
	// and hears the end of all others.
	for _, p := range slices.Backward(d.started) {
		p.stop(grace)
	}
	d.launcher.close()
	var errs []error
	if d.cgroup != nil {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		errs = append(errs, d.cgroup.Remove(ctx))
	}
	if d.temporary {
		errs = append(errs, os.RemoveAll(d.dir))
	} else {
		d.say("the files of this run are in %s", d.dir)
	}
	return errors.Join(errs...)
}

func (d *demo) writeState() error { return writeJSON(d.file(StateFile), d.state) }

func (d *demo) file(name string) string { return filepath.Join(d.dir, name) }

// say prints one line of progress, with the seconds since the start.
func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "[%5.1f s] %s\n", time.Since(d.begin).Seconds(), fmt.Sprintf(format, args...))
}

// output ends the run when nobody reads it any more, as after "| head".
type output struct {
	w    io.Writer
	gone func()
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.gone()
	}
	return n, err
}

// sleep returns early, with its error, when ctx ends.
func sleep(ctx context.Context, t time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}
