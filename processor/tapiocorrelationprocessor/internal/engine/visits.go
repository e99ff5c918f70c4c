package engine

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/decode"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

// intake holds what decoding left for the judge of visits until Run takes it.
type intake struct {
	mu      sync.Mutex
	spans   []visit.Span
	logs    []visit.Log
	heard   []visit.Log
	dropped atomic.Int64
}

// maxIntake bounds the items that wait; more come only when Run is held up.
const maxIntake = 1 << 16

func (in *intake) put(b *decode.Batch) {
	if len(b.Spans)+len(b.Logs)+len(b.Heard) == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.spans)+len(in.logs)+len(in.heard) >= maxIntake {
		in.dropped.Add(int64(len(b.Spans) + len(b.Logs)))
		return
	}
	in.spans = append(in.spans, b.Spans...)
	in.logs = append(in.logs, b.Logs...)
	in.heard = append(in.heard, b.Heard...)
}

func (in *intake) take(to *visit.Analyzer) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, h := range in.heard {
		to.Arrived(h.Service, h.Instance, h.Time)
	}
	for _, s := range in.spans {
		to.Span(s)
	}
	for _, l := range in.logs {
		to.Log(l)
	}
	in.spans, in.logs, in.heard = in.spans[:0], in.logs[:0], in.heard[:0]
}

const (
	// judgeEvery is how often the visits of the last minute are compared with the past.
	judgeEvery = 5 * time.Second
	// minHurt is how many visits must have changed: two are an anecdote.
	minHurt = 3
	// calm is the score at which a service that was suspected is well again.
	calm = visit.Alarm / 2
)

// judgeVisits opens an incident for the service whose visits changed most, and
// keeps the incidents going whose services have not recovered.
func (e *Engine) judgeVisits(now int64) {
	if now-e.judged < int64(judgeEvery) && now >= e.judged {
		return
	}
	e.judged = now
	e.suspects = e.visits.Judge(now)
	for i := range e.suspects {
		s := &e.suspects[i]
		o := e.suspected(s)
		if o == nil && s.Score >= visit.Alarm && !anecdotal(s) {
			o = e.recurs(s, now)
		}
		switch {
		case o != nil && e.saysWhy(s, o):
			if e.whyOf(s) == nil {
				e.accuse(s, o)
			}
			e.takesOver(s)
		case o != nil && e.outgrows(s, o):
			e.accuse(s, o)
			e.withdrawEnds(s, o)
		case o != nil && (o.Emitted() || s.Score < visit.Alarm):
			e.persists(o, s, now)
		case s.Score >= visit.Alarm && !anecdotal(s) && !e.calleesDelay(s) && !e.undecided(s, now):
			if o == nil {
				o = e.shallower(s)
			}
			e.accuse(s, o)
		}
	}
	e.judgeNodes(now)
	e.compare()
}

// outgrow is how many times the score of the end of slow calls that was named first the
// other end must have to be named in its stead.
const outgrow = 1.5

// outgrows tells whether a suspect is the other end of the slow calls of an incident,
// and by now clearly the cause: which end it is, the first calls may not tell.
func (e *Engine) outgrows(s *visit.Suspect, o *open) bool {
	h := o.Hypothesis
	if h.Cause.Certainty == 0 || h.Cause.Event != pattern.CallDelayed || h.Service == s.Service || o.Resolved() {
		return false
	}
	_, delayed := e.delayed(s)
	return delayed && s.Score >= max(visit.Alarm, outgrow*e.scoreOf(h.Service)) && !anecdotal(s) && !e.calleesDelay(s)
}

// why are the events that tell why a service is in trouble, where others tell that it is.
var why = []string{pattern.RetryStorm, pattern.ThunderingHerd, pattern.CascadingFailure}

// saysWhy tells whether a suspect's visits show why it is in trouble, and an incident of
// its own, or of whom it gives up on, of which only spans tell, does not say that. What
// began before a herd has another cause.
func (e *Engine) saysWhy(s *visit.Suspect, o *open) bool {
	h, g := o.Hypothesis, &s.Signals[0]
	return slices.Contains(why, signalEvents[g.Kind]) && !slices.Contains(why, h.Cause.Event) &&
		(h.Service == s.Service || g.Kind == visit.Retries && h.Service == g.Peer) &&
		h.Cause.Occurrence == nil && !o.Resolved() && s.Score >= visit.Alarm && !anecdotal(s) && (g.Kind != visit.Herd || h.Cause.Time >= s.Since-explain.Slack)
}

// whyOf returns the open incident that says why a suspect is in trouble, nil for none.
func (e *Engine) whyOf(s *visit.Suspect) *open {
	for _, o := range e.incidents {
		if h := o.Hypothesis; h.Service == s.Service && h.Cause.Event == signalEvents[s.Signals[0].Kind] && slices.Contains(why, h.Cause.Event) && !o.Resolved() {
			return o
		}
	}
	return nil
}

// takesOver makes one finding of what says why a suspect is in trouble and of those that
// tell only that it is or, of a storm of retries, that those fail who give up on it.
func (e *Engine) takesOver(s *visit.Suspect) {
	root := e.whyOf(s)
	if root == nil {
		return
	}
	e.replaceAll(root, func(i *open) bool {
		h := i.Hypothesis
		same := h.Service == s.Service || h.Cause.Event == pattern.ServiceFailing && s.Signals[0].Kind == visit.Retries && h.Service == s.Signals[0].Peer
		return same && h.Cause.Occurrence == nil && !slices.Contains(why, h.Cause.Event) && !i.Resolved()
	})
}

// givesUp tells whether a request failed because its caller gave up on a service of which
// an incident says that retries storm it: who was called knows of no failure.
func (e *Engine) givesUp(o *open, t explain.Target, origin detect.HurtSpan) bool {
	h := o.Hypothesis
	return h.Cause.Event == pattern.RetryStorm && origin.Failed && origin.Kind == record.SpanClient && t.Address == 0 &&
		!h.OverBefore(origin.Start) && origin.End >= h.Cause.Time-explain.Slack && slices.Contains(e.calleesOf(t.Service), h.Service)
}

// knowsWhy tells whether an incident says why a service is in trouble.
func (e *Engine) knowsWhy(o *open, service record.EntityID) bool {
	h := o.Hypothesis
	return slices.Contains(why, h.Cause.Event) &&
		(h.Service == service || h.Cause.Event == pattern.RetryStorm && slices.Contains(e.calleesOf(h.Service), service))
}

// withdrawEnds ends the other incidents of slow calls that a suspect has outgrown, now
// that it is the cause of one.
func (e *Engine) withdrawEnds(s *visit.Suspect, of *open) {
	if of.Hypothesis.Service != s.Service {
		return
	}
	e.incidents = slices.DeleteFunc(e.incidents, func(o *open) bool {
		if o == of || !e.isEnd(s, o) || !e.outgrows(s, o) {
			return false
		}
		if o.Emitted() {
			o.Withdraw(e.now(), fmt.Sprintf("By now the calls show that %s is slow: finding %s.", e.graph.ServiceName(s.Service), of.ID()))
			e.revise(o, e.now())
		}
		return true
	})
}

// isEnd tells whether a suspect is one of the two ends of the slow calls of an incident.
func (e *Engine) isEnd(s *visit.Suspect, o *open) bool {
	callee, delayed := e.delayed(s)
	h := o.Hypothesis
	return delayed && h.Cause.Event == pattern.CallDelayed &&
		(h.Service == callee || h.Service == s.Signals[0].Peer || slices.Contains(e.calleesOf(s.Service), h.Service))
}

// shallower returns the incident that was opened for a caller whose trouble a suspect
// explains, nil for none: it goes on with the deeper cause.
func (e *Engine) shallower(s *visit.Suspect) *open {
	for _, o := range e.incidents {
		if h := o.Hypothesis; h.Cause.Certainty > 0 && slices.Contains(s.Explains, h.Service) && e.scoreOf(h.Service) < s.Score {
			return o
		}
	}
	return nil
}

// loud tells whether all that there is against a suspect are its own log records.
func loud(s *visit.Suspect) bool { return len(s.Signals) > 0 && s.Signals[0].Kind == visit.Errors }

// anecdotal tells whether too few visits changed to say anything: a resource that is
// busy and hurts nobody is no incident.
func anecdotal(s *visit.Suspect) bool {
	g := &s.Signals[0]
	return s.Hurt < minHurt || (g.Kind != visit.Resource && g.Now.N < minHurt)
}

// recurs returns the incident of a suspect that visits had said is over a while ago,
// open again, nil for none: what comes and goes is one incident.
func (e *Engine) recurs(s *visit.Suspect, now int64) *open {
	for n, o := range e.resolved {
		h := o.Hypothesis
		same := h.Service == s.Service && h.Cause.Event == signalEvents[s.Signals[0].Kind]
		if h.Cause.Certainty > 0 && now-h.LastEffect <= int64(e.options.Quiet) && !o.Withdrawn() && (same || misses(s, h)) {
			return e.reopen(n)
		}
	}
	return nil
}

// misses tells whether what a suspect lost most are calls to the service that an
// incident says does not answer.
func misses(s *visit.Suspect, h *explain.Hypothesis) bool {
	g := &s.Signals[0]
	return g.Peer != 0 && g.Peer == h.Service && h.Cause.Event == pattern.CalleeUnanswered && (g.Kind == visit.Vanished || g.Kind == visit.Stopped)
}

// recovered is after what time without a change an incident that only statistics tell
// of is over, when visits went on meanwhile.
const recovered = time.Minute

// quiet is after what time without an effect an incident is over.
func (e *Engine) quiet(o *open) int64 {
	if e.hasRecovered(o) {
		return int64(min(recovered, e.options.Quiet))
	}
	return int64(e.options.Quiet)
}

// hasRecovered tells whether visits are again as they were before an incident that
// statistics tell of. After a restart nobody knows how they were.
func (e *Engine) hasRecovered(o *open) bool {
	h := o.Hypothesis
	return h.Cause.Certainty > 0 && h.Resumed() == 0 && e.scoreOf(h.Service) < calm && e.visits.Visits(h.Service) >= minHurt
}

// hearing is how long the requests that failed are waited for to say why.
const hearing = 10 * time.Second

// undecided tells whether a suspect's requests failed just now and have no incident yet:
// how they failed says more than that its visits changed.
func (e *Engine) undecided(s *visit.Suspect, now int64) bool {
	return slices.ContainsFunc(s.Traces, func(id record.TraceID) bool {
		r := e.requests.Of(id)
		return r != nil && incident.Of(r) == nil && (now-s.Since < int64(hearing) || e.silent(r))
	})
}

// compare says how probable the visits of its service make each incident, the less
// the more there is against another service: several services that change at once
// are mostly one incident, of which the others are shadows.
func (e *Engine) compare() {
	for _, o := range e.incidents {
		h := o.Hypothesis
		for i := range e.suspects {
			if s := &e.suspects[i]; s.Service == h.Service && (!loud(s) || h.Cause.Event == pattern.ErrorsLogged) && !e.othersHurt(s, o) {
				o.peak, o.rival = max(o.peak, s.Score), max(o.rival, e.rivalOf(s))
			}
		}
		if o.peak < visit.Alarm {
			continue
		}
		c := certainty(o.peak, o.rival) * e.informed(h)
		switch {
		case h.Cause.Certainty > 0:
			o.Dirty = o.Dirty || c != h.Cause.Certainty
			h.Cause.Certainty = c
		case h.Cause.Occurrence != nil: // failures that spans tell of say no more for being seen twice
			o.Dirty = o.Dirty || c != h.Support
			h.Support = c
		}
	}
}

// othersHurt tells whether what changed in a service's visits is what other incidents
// with another cause do to its requests: it says nothing for an event that happened to the
// service at the same time.
func (e *Engine) othersHurt(s *visit.Suspect, o *open) bool {
	if o.Hypothesis.Cause.Occurrence == nil {
		return false
	}
	own, others := 0, 0
	for _, id := range s.Traces {
		switch by := e.incidentOf(id); {
		case by == o:
			own++
		case by != nil && by.Hypothesis.Service != s.Service:
			others++
		}
	}
	return others > own
}

// calleesDelay tells whether a suspect is only one end of slow calls whose other
// end, the one that is called, is as suspicious.
func (e *Engine) calleesDelay(s *visit.Suspect) bool {
	callee, ok := e.delayed(s)
	return ok && callee != s.Service && e.scoreOf(callee) >= s.Score
}

// delayed returns who is called, when what makes a suspect suspicious most are
// calls that lose time on the way.
func (e *Engine) delayed(s *visit.Suspect) (callee record.EntityID, ok bool) {
	if len(s.Signals) == 0 || s.Signals[0].Kind != visit.Gap {
		return 0, false
	}
	return e.graph.ServiceOf(s.Signals[0].Other), true
}

// suspected returns the open incident that has this service's trouble as its cause
// or as an effect, nil for none.
func (e *Engine) suspected(s *visit.Suspect) *open {
	for _, id := range s.Traces {
		// What only statistics hold against another service explains nothing of this one.
		if o := e.incidentOf(id); o != nil && (o.Hypothesis.Cause.Certainty == 0 || o.Hypothesis.Service == s.Service) && !e.elsewhere(s, o) {
			return o
		}
	}
	for _, o := range e.incidents {
		if misses(s, o.Hypothesis) {
			return o
		}
	}
	for _, same := range []bool{true, false} {
		for _, o := range e.incidents {
			// The two ends of slow calls are one incident.
			if (o.Hypothesis.Service == s.Service) == same && (same || e.isEnd(s, o)) && !o.Predicted() {
				return o
			}
		}
	}
	for _, o := range e.incidents {
		h := o.Hypothesis
		if o.Predicted() || h.Service == 0 {
			continue
		}
		// A service below that has a cause of its own, or more evidence against it,
		// explains its callers.
		if slices.Contains(e.calleesOf(s.Service), h.Service) && (h.Cause.Occurrence != nil || e.scoreOf(h.Service) >= s.Score/2) {
			return o
		}
	}
	return nil
}

// elsewhere tells whether a suspect is slow by itself in another branch of the requests that
// an incident made fail, of which only spans tell: neither of the two services calls the
// other one.
func (e *Engine) elsewhere(s *visit.Suspect, o *open) bool {
	h := o.Hypothesis
	slow := len(s.Signals) > 0 && (s.Signals[0].Kind == visit.Self || s.Signals[0].Kind == visit.Slow)
	return slow && s.Score >= sure && h.Service != 0 && h.Service != s.Service && h.Cause.Occurrence == nil && !o.Resolved() &&
		!e.calls(s.Service, h.Service) && !e.calls(h.Service, s.Service)
}

// calls tells whether a service calls another one, itself or through others.
func (e *Engine) calls(service, other record.EntityID) bool {
	seen := map[record.EntityID]bool{service: true}
	for next := []record.EntityID{service}; len(next) > 0; next = next[1:] {
		for _, callee := range e.calleesOf(next[0]) {
			if callee == other {
				return true
			}
			if !seen[callee] {
				seen[callee] = true
				next = append(next, callee)
			}
		}
	}
	return false
}

// incidentOf returns the incident that hurt a trace, also one that was resolved a
// while ago; nil for none.
func (e *Engine) incidentOf(trace record.TraceID) *open {
	r := e.requests.Of(trace)
	if r == nil {
		return nil
	}
	i := incident.Of(r)
	if i == nil {
		return nil
	}
	for _, list := range [][]*open{e.incidents, e.resolved} {
		for _, o := range list {
			if o.Incident == i {
				return o
			}
		}
	}
	return nil
}

// outdone returns the open incident that statistics opened for requests which a
// hypothesis explains by what happened to them, nil for none.
func (e *Engine) outdone(requests []*detect.Request) *open {
	for _, o := range e.incidents {
		if o.Hypothesis.Cause.Certainty == 0 {
			continue
		}
		if slices.ContainsFunc(requests, func(r *detect.Request) bool { return o.Hurts(r.TraceID) }) {
			return o
		}
	}
	return nil
}

func (e *Engine) calleesOf(service record.EntityID) []record.EntityID {
	return e.graph.Callees(service, e.latest()-int64(e.options.Window))
}

func (e *Engine) scoreOf(service record.EntityID) float64 {
	for i := range e.suspects {
		if e.suspects[i].Service == service {
			return e.suspects[i].Score
		}
	}
	return 0
}

// persists notes that the trouble goes on.
func (e *Engine) persists(o *open, s *visit.Suspect, now int64) {
	if s.Score < calm || o.Resolved() {
		return
	}
	h := o.Hypothesis
	h.LastEffect = max(h.LastEffect, min(now, e.latest()))
	o.Hurt(s.Traces)
	if h.Cause.Certainty > 0 && h.Service == s.Service {
		if s.Score > o.peak && h.Cause.Event == signalEvents[s.Signals[0].Kind] {
			h.Cause.Attributes = e.evidence(s)
		}
	}
}

// accuse opens an incident for a suspect: with the event that happened to it as the
// cause where there is one, else with what its visits show. An incident that did not
// get far enough to be a finding goes on with that cause.
func (e *Engine) accuse(s *visit.Suspect, o *open) {
	first := s.Since
	if first == 0 {
		first = e.latest()
	}
	var h *explain.Hypothesis
	if !loud(s) { // many records of an event are no more than one
		h = e.best(explain.Target{Service: s.Service}, first)
	}
	if h != nil {
		if root := e.explainer(h.Cause.Occurrence); root != nil { // of which this is one more effect
			root.Hurt(s.Traces)
			return
		}
	}
	if h == nil || !e.convinces(h) {
		h = e.statistical(s, first)
	}
	if h == nil {
		return
	}
	if o != nil {
		o.Replace(h, e.now(), fmt.Sprintf("By now the visits of %s have changed more.", e.graph.ServiceName(s.Service)))
		o.peak, o.rival = 0, 0
		e.relink(o)
		e.release(o)
	} else {
		o = e.open(h)
	}
	if o != nil {
		o.Witness()
		o.Hurt(s.Traces)
	}
}

// statistical is the hypothesis that a service itself is the cause, as its visits
// show.
func (e *Engine) statistical(s *visit.Suspect, first int64) *explain.Hypothesis {
	if len(s.Signals) == 0 {
		return nil
	}
	p := e.patternFor(signalEvents[s.Signals[0].Kind])
	if p == nil {
		return nil
	}
	h := explain.New(e.graph, p, explain.Cause{
		Event: p.Cause.Event, Time: first, Entity: s.Service, Attributes: e.evidence(s), Certainty: certainty(s.Score, e.rivalOf(s)),
	})
	h.Cause.Certainty *= e.informed(h)
	return h
}

// signalEvents name what visits show, for patterns.
var signalEvents = map[visit.Kind]string{
	visit.Vanished: pattern.StatementVanished, visit.Stopped: pattern.StatementVanished,
	visit.Unanswered: pattern.CalleeUnanswered,
	visit.Appeared:   pattern.StatementAppeared, visit.Failed: pattern.OperationFailing,
	visit.Gap: pattern.CallDelayed, visit.Slow: pattern.StepSlow, visit.Self: pattern.OperationSlow,
	visit.Burst: pattern.CallsMultiplied, visit.Resource: pattern.ResourceAbnormal,
	visit.Errors: pattern.ErrorsLogged, visit.Retries: pattern.RetryStorm, visit.Herd: pattern.ThunderingHerd,
	visit.Cascade: pattern.CascadingFailure,
}

// certainty is how probable it is that a suspect is the root: the more, the higher
// its score is, and the less, the higher that of another one at the same time. Just above
// the alarm about every second suspect was the root in labelled cases, from 7 on nearly
// every one (docs/accuracy.md); it begins at what findings are emitted from by default.
func certainty(score, rival float64) float64 {
	x := max(score-visit.Alarm, 0) / 3
	return (1 - 0.3*math.Exp(-x*x)) * (0.5 + 0.5*min(1, score/max(rival, 1)))
}

// uninformed is by what the certainty is multiplied that a step which vanished is the
// doing of a service without log records: it may be what an earlier answer said.
const uninformed = 0.8

// holes is how many times the share of spans that get lost the certainty of what is
// missing falls, to tornUp at the least: each visit that was judged has several spans.
const holes, tornUp = 3, 0.5

// unharmed is by what the certainty is multiplied that a service is in trouble which only
// its own log records tell of: nobody was seen to suffer from it.
const unharmed = 0.8

// informed is the part of a hypothesis' certainty that what is known of its service
// allows.
func (e *Engine) informed(h *explain.Hypothesis) float64 {
	if h.Cause.Event == pattern.ErrorsLogged {
		return unharmed
	}
	vanished := h.Cause.Event == pattern.StatementVanished || h.Cause.Event == pattern.CalleeUnanswered
	if h.Cause.Certainty == 0 || !vanished {
		return 1
	}
	known := max(1-holes*e.visits.Torn(), tornUp)
	if !e.visits.Logged(h.Service) {
		known *= uninformed
	}
	return known
}

// rivalOf returns the highest score of the other suspects that may be why this one is
// suspected.
func (e *Engine) rivalOf(s *visit.Suspect) (highest float64) {
	for i := range e.suspects {
		if x := &e.suspects[i]; x.Service != s.Service && !apart(s, x) {
			highest = max(highest, x.Score)
		}
	}
	return highest
}

// sure is the score from which nearly every suspect was the root (see certainty).
const sure = 7

// apart tells whether a suspect has nothing to do with another one, as far as traces
// tell: visits of both changed, and never in the same trace. A weak one may be the shadow
// of what traces do not show.
func apart(s, x *visit.Suspect) bool {
	return s.Score >= sure && s.Hurt > 0 && x.Hurt > 0 && !slices.Contains(s.Beside, x.Service) && !slices.Contains(x.Beside, s.Service)
}

// evidence are the numbers of a suspect's strongest signal, and the others in words.
func (e *Engine) evidence(s *visit.Suspect) []record.Attr {
	g := &s.Signals[0]
	attrs := []record.Attr{
		{Key: "tapio.operation", Value: e.nameOf(g.Operation)},
		{Key: "tapio.step", Value: e.step(g.Template, g.Other)},
		{Key: "tapio.step.before", Value: e.step(g.AfterTemplate, g.AfterOther)},
		{Key: "tapio.peer", Value: e.nameOf(e.peerOf(s, g))},
		{Key: "tapio.window.visits", Value: int64(g.Now.N)},
		{Key: "tapio.window.with", Value: int64(g.Now.K)},
		{Key: "tapio.reference.visits", Value: int64(g.Before.N)},
		{Key: "tapio.reference.with", Value: int64(g.Before.K)},
		{Key: "tapio.duration.limit", Value: milliseconds(g.Limit)},
		{Key: "tapio.duration.median", Value: milliseconds(g.Median)},
		{Key: "tapio.duration.mean", Value: milliseconds(g.Mean)},
		{Key: "tapio.herd.after", Value: g.After},
		{Key: "tapio.score", Value: math.Round(10*s.Score) / 10},
		{Key: "tapio.score.lead", Value: math.Round(10*s.Lead) / 10},
	}
	attrs = slices.DeleteFunc(attrs, func(a record.Attr) bool { return a.Value == "" })
	if len(s.Signals) > 1 {
		var also []string
		for i := range s.Signals[1:] {
			also = append(also, e.signalWords(&s.Signals[i+1]))
		}
		attrs = append(attrs, record.Attr{Key: "tapio.also", Value: also})
	}
	return attrs
}

// peerOf returns the other service that a signal is about: whose calls it shows, 0
// for none.
func (e *Engine) peerOf(s *visit.Suspect, g *visit.Signal) record.EntityID {
	if g.Peer != 0 {
		return g.Peer
	}
	if called := e.graph.ServiceOf(g.Other); called != s.Service {
		return called
	}
	return 0
}

func milliseconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(time.Millisecond).String()
}

// step names what a visit does at one point: a statement or an operation.
func (e *Engine) step(statement uint32, operation record.EntityID) string {
	if statement != 0 {
		return e.miner.Text(statement)
	}
	return e.nameOf(operation)
}

func (e *Engine) nameOf(id record.EntityID) string {
	x, _ := e.graph.Entity(id)
	return x.Name
}

// signalWords says a signal in a few words.
func (e *Engine) signalWords(g *visit.Signal) string {
	what, in := e.step(g.Template, g.Other), ""
	if g.Operation != 0 {
		in = " in " + e.nameOf(g.Operation)
	}
	return fmt.Sprintf("%s%s: %q %.0f of %.0f, before %.0f of %.0f", g.Kind, in, what, g.Now.K, g.Now.N, g.Before.K, g.Before.N)
}

// otherSuspects are the services whose visits changed too, but less.
func (e *Engine) otherSuspects(o *open) []finding.Hypothesis {
	var out []finding.Hypothesis
	score := e.scoreOf(o.Hypothesis.Service)
	for i := range e.suspects {
		s := &e.suspects[i]
		if s.Service == o.Hypothesis.Service || len(s.Signals) == 0 {
			continue
		}
		x := finding.Hypothesis{
			Entity: explain.EntityOf(e.graph, s.Service), Score: min(certainty(s.Score, max(score, e.rivalOf(s))), s.Score/(s.Score+score+visit.Alarm)),
			Reason: fmt.Sprintf("its visits changed less than those of %s: score %.1f against %.1f (%s)",
				e.graph.ServiceName(o.Hypothesis.Cause.Entity), s.Score, score, e.signalWords(&s.Signals[0])),
		}
		if p := e.patternFor(signalEvents[s.Signals[0].Kind]); p != nil {
			x.Pattern = p.ID
		}
		out = append(out, x)
	}
	return out
}
