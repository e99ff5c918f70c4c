package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// maxRejected bounds the hypotheses that a finding lists as rejected.
const maxRejected = 8

// alternatives lists what else could have explained an incident and why it does
// not: other causes at the same place, what the root calls, and who calls it.
func (e *Engine) alternatives(o *open) []finding.Hypothesis {
	out := slices.Concat(e.otherCauses(o), e.otherSuspects(o), e.otherSlow(o))
	if caller := o.Hypothesis.Caller(); caller != "" {
		out = append(out, finding.Hypothesis{
			Pattern: "callee-failing", Entity: finding.Entity{Kind: "service", Name: caller},
			Reason: "its failed requests each hold a failed call to " + e.graph.ServiceName(o.Hypothesis.Cause.Entity) + ": it passes the failure on",
		})
	}
	out = append(append(out, e.callees(o)...), e.unseenCauses(o)...)
	slices.SortStableFunc(out, func(a, b finding.Hypothesis) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	return out[:min(len(out), maxRejected)]
}

// otherCauses are the events at the same entities that another pattern names, or
// would name but for one condition.
func (e *Engine) otherCauses(o *open) []finding.Hypothesis {
	h := o.Hypothesis
	var out []finding.Hypothesis
	said := map[string]int{}   // where in out, from 1
	before := map[string]int{} // what was said is of an earlier outage: how often, as of this one there may be more to say
	for _, id := range h.Entities() {
		for _, c := range e.occurrences.Of(id) {
			if c.Time > h.LastEffect || c.Time < h.Cause.Time-int64(e.options.Window) {
				continue
			}
			for _, p := range e.options.Patterns {
				again := said[p.ID] > 0
				if p == h.Pattern || again && (before[p.ID] == 0 || before[p.ID] >= maxCompared || !explain.Matches(p, c)) || !p.Cause.Is(c.Name) {
					continue
				}
				x, over, of := e.otherCause(o, p, c)
				if !of {
					continue
				}
				if over {
					before[p.ID]++
				} else {
					before[p.ID] = 0
				}
				if again {
					out[said[p.ID]-1] = x
					continue
				}
				out = append(out, x)
				said[p.ID] = len(out)
			}
		}
	}
	return out
}

// otherCause says why an event is not the cause that a pattern would name, whether that is
// for being over before, and false where it has nothing to do with the incident.
func (e *Engine) otherCause(o *open, p *pattern.Pattern, c *detect.Occurrence) (x finding.Hypothesis, over, of bool) {
	x = finding.Hypothesis{Pattern: p.ID, Entity: explain.EntityOf(e.graph, c.Subject)}
	if !explain.Matches(p, c) {
		x.Reason = "ruled out: " + pattern.Differs(p.Cause.Where, c.Detail)
		return x, false, true
	}
	other := e.hypothesis(p, c, o.Hypothesis.Addresses()...)
	if e.beside(o, other) {
		return x, false, false
	}
	x.Score = other.Confidence(e.options.Weights).Score
	x.Reason = e.whyNot(o, c, other)
	return x, other.OverBefore(o.Hypothesis.Began()), true
}

// unseenCauses are the patterns that would explain the cause itself, had their
// own cause been seen.
func (e *Engine) unseenCauses(o *open) []finding.Hypothesis {
	h := o.Hypothesis
	if h.Cause.Occurrence == nil {
		return nil
	}
	var out []finding.Hypothesis
	for _, p := range e.options.Patterns {
		would := slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool {
			return !f.Precursor && f.Event == h.Cause.Event && pattern.Holds(f.Where, h.Cause.Occurrence.Detail)
		})
		seen := slices.ContainsFunc(e.occurrences.Of(h.Cause.Entity), func(c *detect.Occurrence) bool { return p.Cause.Is(c.Name) })
		if would && !seen {
			out = append(out, finding.Hypothesis{
				Pattern: p.ID, Entity: explain.EntityOf(e.graph, h.Cause.Entity),
				Reason: "it would explain the cause, but no " + p.Cause.Event + " of it was seen",
			})
		}
	}
	return out
}

// whyNot says why an event is not what an incident is traced back to, though a pattern knows
// it as a cause; other is the hypothesis that it makes.
func (e *Engine) whyNot(o *open, c *detect.Occurrence, other *explain.Hypothesis) string {
	h := o.Hypothesis
	of := e.causeOf(c)
	later := time.Duration(c.Time - h.Cause.Time).Round(100 * time.Microsecond)
	score, own := other.Confidence(e.options.Weights).Score, h.Confidence(e.options.Weights).Score
	switch {
	case h.Explains(c) && later < 0:
		return fmt.Sprintf("it follows from the cause: same entity, told of %s before it", -later)
	case h.Explains(c):
		return fmt.Sprintf("it follows from the cause: same entity, %s later", later)
	case of == o:
		return "it is the cause itself, of which this pattern says less"
	case of != nil:
		return "it has a finding of its own, " + of.ID().String()
	case other.OverBefore(h.Began()):
		return "it was over before this began, at " + pattern.Clock(other.OverSince())
	}
	if n, all := e.sharedRequests(o, other); n < all {
		return fmt.Sprintf("it explains %d of the %d requests that were hurt", n, all)
	}
	if n, all := other.Shares(h); n < all {
		return fmt.Sprintf("it explains %d of the %d events that follow from the cause", n, all)
	}
	switch difference := int(math.Round(100*own)) - int(math.Round(100*score)); {
	case difference > 0:
		return fmt.Sprintf("it explains less: confidence %.2f against %.2f", score, own)
	case later > 0:
		return fmt.Sprintf("it explains no more, and happened %s later", later)
	}
	return "it explains no more than the cause, of which was told first"
}

// beside tells whether a hypothesis has nothing to do with an incident, but that it happened
// on the node that this is about.
func (e *Engine) beside(o *open, other *explain.Hypothesis) bool {
	h := o.Hypothesis
	if h.Node() == 0 || other.Cause.Entity == h.Cause.Entity || h.Explains(other.Cause.Occurrence) {
		return false
	}
	events, _ := other.Shares(h)
	requests, _ := e.sharedRequests(o, other)
	return events == 0 && requests == 0
}

// causeOf returns the incident of an event, nil where it is the cause of none that anybody
// has heard of.
func (e *Engine) causeOf(c *detect.Occurrence) *open {
	for _, i := range e.incidents {
		if i.Hypothesis.Cause.Occurrence == c && i.Emitted() {
			return i
		}
	}
	return nil
}

// sharedRequests is how many of an incident's requests another hypothesis covers, too.
func (e *Engine) sharedRequests(o *open, other *explain.Hypothesis) (n, all int) {
	e.requests.Each(func(r *detect.Request) {
		if incident.Of(r) != o.Incident {
			return
		}
		all++
		if t, origin := explain.TargetOf(e.graph, r); other.Covers(t, origin.End) && !other.Precedes(r) {
			n++
		}
	})
	return n, all
}

// callees are the services that the root calls, each with what it answered.
func (e *Engine) callees(o *open) []finding.Hypothesis {
	var out []finding.Hypothesis
	h := o.Hypothesis
	for _, callee := range e.graph.Callees(h.Service, h.Cause.Time-int64(e.options.Window)) {
		if callee == h.Service {
			continue
		}
		var v detect.Verdict
		for _, operation := range e.graph.Operations(callee) {
			w := e.baselines.Judge(operation, e.latest())
			v.Window.Requests += w.Window.Requests
			v.Window.Failed += w.Window.Failed
		}
		reason := "no hurt request shows a failure below " + e.graph.ServiceName(h.Cause.Entity)
		if v.Window.Requests > 0 {
			reason += fmt.Sprintf("; it answered %.0f requests in the last minute, %.0f of them with an error",
				v.Window.Requests, v.Window.Failed)
		}
		out = append(out, finding.Hypothesis{Pattern: "callee-failing", Entity: explain.EntityOf(e.graph, callee), Reason: reason})
	}
	slices.SortFunc(out, func(a, b finding.Hypothesis) int { return strings.Compare(a.Entity.Name, b.Entity.Name) })
	return out
}

// kernel is what is known of a host's kernel receiver.
type kernel struct {
	at               int64
	programs, failed []string
}

// started notes which kernel programs a host's receiver says it runs.
func (e *Engine) started(o *detect.Occurrence) {
	k := &kernel{at: o.Time}
	k.programs, _ = o.Detail.Attr(event.KeyEBPFPrograms).([]string)
	k.failed, _ = o.Detail.Attr(event.KeyEBPFFailed).([]string)
	host := o.Subject
	if x, ok := e.graph.Entity(host); ok && x.Host != 0 { // a resource that also names the collector's process or pod
		host = x.Host
	}
	e.host(host, k)
}

// reasons joins "name: reason" texts, each reason once with all names before it.
func reasons(failed []string) string {
	names := map[string][]string{}
	var order []string
	for _, f := range failed {
		name, reason, ok := strings.Cut(f, ": ")
		if !ok {
			name, reason = f, "no reason given"
		}
		if names[reason] == nil {
			order = append(order, reason)
		}
		names[reason] = append(names[reason], name)
	}
	for i, reason := range order {
		order[i] = strings.Join(names[reason], ", ") + ": " + reason
	}
	return strings.Join(order, "; ")
}

// reports notes that a host has a kernel receiver when an event of it arrives: a
// receiver says only once, when it starts, what it runs, maybe before this engine was.
func (e *Engine) reports(o *detect.Occurrence) {
	switch o.Name {
	case event.ProcessExec, event.ProcessExit, event.OOMKill, event.TCPConnectFailed, event.SyscallFailed:
	default:
		return
	}
	if x, ok := e.graph.Entity(o.Subject); ok && x.Host != 0 && e.hosts[x.Host] == nil {
		e.host(x.Host, &kernel{at: o.Time, programs: []string{o.Name}})
	}
}

// maxHosts bounds the hosts whose kernel receivers are known.
const maxHosts = 10_000

// host keeps what is known of a host's kernel receiver, within the bound.
func (e *Engine) host(id record.EntityID, k *kernel) {
	if _, known := e.hosts[id]; !known && len(e.hosts) >= maxHosts {
		e.Counters.HostsDropped.Add(1)
		return
	}
	e.hosts[id] = k
}

// howToSeeTheKernel ends the sentences that say kernel evidence is missing.
const howToSeeTheKernel = "run the collector there with the tapio_ebpf receiver, as root or with CAP_BPF and CAP_PERFMON, on a kernel with BTF"

// missingReceivers says which evidence nobody could have seen, for want of a
// receiver, when the cause had to be inferred from spans.
func (e *Engine) missingReceivers(o *open) []string {
	h := o.Hypothesis
	if h.Cause.Occurrence != nil {
		return nil
	}
	host := e.hostOf(h)
	for _, id := range e.graph.Hosts(h.Service) { // whom nobody sees counts
		if host == 0 || e.hosts[id] == nil {
			host = id
		}
	}
	name := "the host of " + e.graph.ServiceName(h.Cause.Entity)
	if x, ok := e.graph.Entity(host); ok {
		name = x.Name
	}
	switch k := e.hosts[host]; {
	case k == nil:
		return []string{"Kernel evidence is missing: no kernel receiver reports from " + name + "; " + howToSeeTheKernel + "."}
	case len(k.programs) == 0:
		return []string{"Kernel evidence is missing: the kernel receiver on " + name + " runs no program (" + reasons(k.failed) + "); " + howToSeeTheKernel + "."}
	case len(k.failed) > 0:
		return []string{"Kernel evidence is incomplete: on " + name + " these programs do not run: " + reasons(k.failed) + "."}
	}
	return nil
}

// hostOf returns the host of the first entity of a hypothesis that has one.
func (e *Engine) hostOf(h *explain.Hypothesis) record.EntityID {
	for _, id := range append(h.Entities(), h.Addresses()...) {
		if x, ok := e.graph.Entity(id); ok && x.Host != 0 {
			return x.Host
		}
	}
	return 0
}

// maxGrace is how long after it was asked to a process may take to end: more
// than the longest stop timeout of a service manager that is usual (systemd's 90
// seconds).
const maxGrace = 2 * time.Minute

// sender adds to the end of a process who sent it the last signal that asks for
// it: the signal that ended it, or, of one that ended itself in good order, any.
func (e *Engine) sender(exit *detect.Occurrence) {
	ended, bySignal := exit.Detail.Attr(event.KeyExitSignal).(int64)
	if class := exit.Detail.Attr(keyExitClass); class != exitStopped && class != exitKilled {
		return
	}
	sent := e.occurrences.Of(exit.Subject)
	for _, o := range slices.Backward(sent) {
		number, _ := o.Detail.Attr(event.KeySignal).(int64)
		if o.Name != event.ProcessSignal || o.Time > exit.Time || exit.Time-o.Time > int64(maxGrace) || (bySignal && number != ended) {
			continue
		}
		for _, a := range o.Detail.Attrs {
			if len(exit.Detail.Attrs) < maxAttributes {
				exit.Detail.Attrs = append(exit.Detail.Attrs, a)
			}
		}
		return
	}
}

// maxAttributes bounds the attributes of an event with those that the engine adds.
const maxAttributes = 64

// The classes of process exits that patterns tell apart.
const (
	keyExitClass = "tapio.process.exit.class"
	exitStopped  = "stopped" // in good order, or asked to stop
	exitError    = "error"   // by itself, with a code that is not 0
	exitFault    = "fault"   // by a fault: an invalid access, an abort
	exitKilled   = "killed"  // by a signal from outside
	exitUnknown  = "unknown" // the event says neither a code nor a signal
	// exitNotRun is that of a process of systemd's own that could not execute the program of
	// its unit, as the code says why.
	exitNotRun = "not_run"
)

// exitClass tells how a process ended. A process that is asked to stop by SIGTERM,
// SIGINT or SIGHUP and does was stopped, also when it reports that as 128 plus the
// number of the signal, as shells and the JVM do.
func exitClass(d *record.Detail, executable string) string {
	if signal, ok := d.Attr(event.KeyExitSignal).(int64); ok && signal != 0 {
		switch signal {
		case 1, 2, 15:
			return exitStopped
		case 3, 4, 5, 6, 7, 8, 11, 31: // QUIT ILL TRAP ABRT BUS FPE SEGV SYS
			return exitFault
		}
		return exitKilled
	}
	code, ok := d.Attr(event.KeyProcessExitCode).(int64)
	if !ok {
		return exitUnknown
	}
	switch code {
	case 0, 128 + 1, 128 + 2, 128 + 15:
		return exitStopped
	}
	if code >= minSetupCode && code <= maxSetupCode && slices.Contains([]string{"systemd", "systemd-executor"}, executable) {
		return exitNotRun
	}
	return exitError
}

// The exit codes of a process that systemd has made and that could not become what the unit
// is to run (systemd.exec, "Process Exit Codes").
const (
	minSetupCode = 200
	maxSetupCode = 245
)
