package engine

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// maxGroup bounds the requests that wait in one group for an explanation.
	maxGroup = 1000
	// maxGroups bounds the groups.
	maxGroups = 10_000
)

// groupKey tells groups apart: who fails and how.
type groupKey struct {
	target record.EntityID
	event  string // the event that the group would be the cause of
}

// group are hurt requests that went wrong at one target and have no explanation.
type group struct {
	target     explain.Target
	requests   []*detect.Request
	operations map[record.EntityID]bool  // of the deepest hurt spans
	calls      map[record.EntityID]calls // by the address that was called
	first      int64
	last       int64
	silent     bool // its target seems to take no requests; what comes late of them is waited for
}

// calls says when the newest failed call of an address began, and when it failed.
type calls struct{ began, last int64 }

func (e *Engine) group(r *detect.Request, t explain.Target, origin detect.HurtSpan) {
	key := groupKey{t.Key(), pattern.ServiceFailing}
	switch {
	case origin.Failure == record.FailureRefused:
		key.event = pattern.CallRefused
	case !r.Failed():
		key.event = "" // the judge of visits says who is slow
	}
	g := e.groups[key]
	if g == nil {
		if len(e.groups) >= maxGroups {
			e.Counters.IncidentsDropped.Add(1)
			return
		}
		g = &group{target: t, operations: map[record.EntityID]bool{}, calls: map[record.EntityID]calls{}, first: origin.End}
		e.groups[key] = g
	}
	if slices.Contains(g.requests, r) {
		return
	}
	if len(g.requests) >= maxGroup {
		g.requests = slices.Delete(g.requests, 0, maxGroup/4)
		e.grouped -= maxGroup / 4
		e.Counters.Ungrouped.Add(maxGroup / 4)
	}
	if e.grouped >= e.options.MaxRequests {
		e.Counters.Ungrouped.Add(1)
		return
	}
	e.grouped++
	g.requests = append(g.requests, r)
	g.operations[origin.Operation] = true
	g.first, g.last = min(g.first, origin.End), max(g.last, origin.End)
	if t.Address != 0 {
		g.called(t.Address, origin)
	}
	if key.event == pattern.CallRefused {
		e.refused(g)
	}
}

// called notes a failed call of an address.
func (g *group) called(address record.EntityID, s detect.HurtSpan) {
	c, ok := g.calls[address]
	if ok || len(g.calls) < maxGroup {
		g.calls[address] = calls{began: max(c.began, s.Start), last: max(c.last, s.End)}
	}
}

// sweep forgets requests that ended before a time, and tells whether any is left.
func (g *group) sweep(before int64) bool {
	g.requests = slices.DeleteFunc(g.requests, func(r *detect.Request) bool { return r.Last < before })
	maps.DeleteFunc(g.calls, func(_ record.EntityID, c calls) bool { return c.last < before })
	g.first = g.last
	for _, r := range g.requests {
		g.first = min(g.first, r.First)
	}
	return len(g.requests) > 0
}

// refused opens an incident when enough requests failed because nothing listens
// at an address that they need.
func (e *Engine) refused(g *group) {
	p := e.patternFor(pattern.CallRefused)
	if p == nil {
		return
	}
	failed := 0
	for _, r := range g.requests {
		if _, _, ok := r.Entry(); ok {
			failed++
		}
	}
	if failed < p.MinTraces {
		return
	}
	entity := g.target.Service
	if entity == 0 {
		entity = g.target.Address
	}
	h := explain.New(e.graph, p, explain.Cause{Event: p.Cause.Event, Time: g.first, Entity: entity}, g.target.Address)
	e.offerKnown(h)
	e.openFor(h, g.requests)
}

// openFor opens an incident of requests that failed in the same way. It takes over
// the one that statistics opened for the same requests: how they failed says more.
func (e *Engine) openFor(h *explain.Hypothesis, requests []*detect.Request) *open {
	o := e.outdone(requests)
	if o == nil {
		return e.open(h)
	}
	if e.knowsWhy(o, h.Service) || slices.Contains(e.calleesOf(h.Service), o.Hypothesis.Service) {
		for _, r := range requests { // it fails because of what is wrong below it, or of what is asked of it
			if incident.Of(r) == nil {
				e.hurtBy(o, r)
			}
		}
		return o
	}
	o.Replace(h, e.now(), "How requests failed says more than that visits changed.")
	e.absorbGroups(o)
	return o
}

// patternFor returns the pattern whose cause is an event that spans tell of.
func (e *Engine) patternFor(name string) *pattern.Pattern {
	for _, p := range e.options.Patterns {
		if p.Cause.Event == name {
			return p
		}
	}
	return nil
}

// groupKeys are the keys of the groups in an order of their own: what a replay finds must
// not hang on that of a map.
func (e *Engine) groupKeys() []groupKey {
	return slices.SortedFunc(maps.Keys(e.groups), func(a, b groupKey) int {
		return cmp.Or(cmp.Compare(a.target, b.target), cmp.Compare(a.event, b.event))
	})
}

// judgeGroups opens incidents for targets that fail against their own past, when nothing else explains their requests.
func (e *Engine) judgeGroups(now int64) {
	taken := sync.OnceValue(e.lastTaken) // most of the time nobody asks
	for _, key := range e.groupKeys() {
		g := e.groups[key]
		if g == nil { // moved into an incident that one before opened
			continue
		}
		p := e.patternFor(key.event)
		if p == nil || key.event == pattern.CallRefused || e.judgeSilence(g, taken) {
			continue
		}
		recent := 0
		for _, r := range g.requests {
			if incident.Of(r) == nil && r.Last > now-int64(time.Minute) {
				recent++
			}
		}
		if recent < p.MinTraces {
			continue
		}
		for _, operation := range slices.Sorted(maps.Keys(g.operations)) {
			v := e.baselines.Judge(operation, e.latest())
			if v.FailedZ >= detect.Alarm {
				e.openAbnormal(p, g, operation, v)
				break
			}
		}
	}
}

func (e *Engine) openAbnormal(p *pattern.Pattern, g *group, operation record.EntityID, v detect.Verdict) {
	entity := g.target.Key()
	if entity == 0 {
		return
	}
	name := ""
	if o, ok := e.graph.Entity(operation); ok {
		name = o.Name
	}
	first := e.latest()
	for _, r := range g.requests {
		if incident.Of(r) == nil && r.Last > e.latest()-int64(time.Minute) {
			first = min(first, r.First)
		}
	}
	e.openFor(explain.New(e.graph, p, explain.Cause{
		Event: p.Cause.Event, Time: first, Entity: entity,
		Attributes: []record.Attr{
			{Key: "tapio.operation", Value: name},
			{Key: "tapio.window.requests", Value: int64(v.Window.Requests)},
			{Key: "tapio.window.failed", Value: int64(v.Window.Failed)},
			{Key: "tapio.reference.requests", Value: int64(v.Reference.Requests)},
			{Key: "tapio.reference.failed", Value: int64(v.Reference.Failed)},
		},
	}, g.target.Address), g.requests)
}

// explainsGroup opens an incident when an event explains requests that wait.
func (e *Engine) explainsGroup(p *pattern.Pattern, o *detect.Occurrence) bool {
	for _, key := range e.groupKeys() {
		g := e.groups[key]
		if e.unresolvedIn(p, o, g) {
			return e.openFor(e.root(e.hypothesis(p, o, g.target.Address)), g.requests) != nil
		}
		if address, ok := e.explainsAt(p, o, g); ok {
			if h := e.hypothesis(p, o, address); !h.OverBefore(g.first) {
				return e.open(e.root(h)) != nil
			}
		}
	}
	return false
}

// explainsAt returns the address at which an event explains requests that wait, 0 where
// none is known, and false when it explains none of them.
func (e *Engine) explainsAt(p *pattern.Pattern, o *detect.Occurrence, g *group) (record.EntityID, bool) {
	if o.Time > g.last+explain.Slack || e.spared(o, g.target.Service) {
		return 0, false
	}
	t := g.target
	// Who answers at an address may have become known since.
	t.Process = cmp.Or(t.Process, t.Service, e.graph.Owner(t.Address, g.last))
	if t.Process != 0 && !e.preceded(p, o, g.target.Key(), t) && !e.spares(p, o, g.target) && e.near(o, t.Process, p) {
		return t.Address, true
	}
	for _, address := range slices.Sorted(maps.Keys(g.calls)) {
		c := g.calls[address]
		holder := e.graph.Holder(address, c.began)
		t := explain.Target{Address: address, Process: holder, Holder: holder}
		if holder != 0 && o.Time <= c.last+explain.Slack && !e.preceded(p, o, g.target.Key(), t) && !e.spares(p, o, t) && e.near(o, holder, p) {
			return address, true
		}
	}
	return 0, false
}

// minSilence is how long a target must have taken no request to be seen to take none.
const minSilence = int64(3 * time.Second)

// preceded tells whether the trouble of a target was there before an event can have begun:
// a request had failed without an explanation, as the group with that key says, and the
// target had taken none since.
func (e *Engine) preceded(p *pattern.Pattern, o *detect.Occurrence, key record.EntityID, t explain.Target) bool {
	g := e.groups[groupKey{key, pattern.ServiceFailing}]
	if g == nil {
		return false
	}
	began := o.Time - explain.Slack - int64(p.Cause.Before)
	return began-g.first >= minSilence && slices.ContainsFunc(e.witnesses(t), e.answered.Any) && !e.took(t, g.first, began)
}

// absorbGroups moves the waiting requests that an incident explains into it.
func (e *Engine) absorbGroups(o *open) {
	left := 0
	for _, key := range e.groupKeys() {
		g := e.groups[key]
		g.requests = slices.DeleteFunc(g.requests, func(r *detect.Request) bool {
			if incident.Of(r) != nil {
				return true
			}
			target, origin := explain.TargetOf(e.graph, r)
			if !e.covers(o, target, origin) && !e.slows(o, r) {
				return false
			}
			return e.hurtBy(o, r)
		})
		left += len(g.requests)
		if len(g.requests) == 0 {
			delete(e.groups, key)
		}
	}
	e.grouped = left
	e.shares(o)
}

// absorbInferred takes the place of incidents whose cause was only inferred from spans,
// where all of their requests are ones that root covers.
func (e *Engine) absorbInferred(root *open) {
	if root.Hypothesis.Cause.Occurrence == nil {
		return
	}
	e.replaceAll(root, func(i *open) bool {
		if i.Hypothesis.Cause.Occurrence != nil {
			return false
		}
		hurt, covered := false, true
		e.requests.Each(func(r *detect.Request) {
			if incident.Of(r) == i.Incident {
				target, origin := explain.TargetOf(e.graph, r)
				hurt, covered = true, covered && e.covers(root, target, origin) && !root.Hypothesis.Precedes(r)
			}
		})
		return hurt && covered
	})
}
