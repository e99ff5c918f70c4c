// Package incident makes one finding of one incident: it counts whom a cause
// hurt, once each, and writes the revisions of the finding.
package incident

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/axiomhq/hyperloglog"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// maxNames bounds the services and operations that a finding lists.
const maxNames = 50

// Options are what all incidents share.
type Options struct {
	Weights explain.Weights
	// UserAttribute and ValueAttribute are the keys that findings name when no
	// user or value was seen.
	ValueAttribute string
	// MaxTraces bounds the hurt traces that a finding lists.
	MaxTraces int
}

// Incident is one cause and what it did.
type Incident struct {
	Hypothesis *explain.Hypothesis

	options  Options
	graph    *topology.Graph
	id       finding.ID
	revision int
	detected int64
	updated  int64
	resolved int64
	// witnessed: visits of the cause's service changed.
	witnessed bool
	// predicted: the cause has no effect yet.
	predicted bool
	// withdrawn: another incident explains this one.
	withdrawn bool

	failed, slow int64
	users        *hyperloglog.Sketch
	userKey      string
	value        float64
	valuable     int64 // failed requests with a value
	gaps         []finding.Gap
	services     map[string]bool
	hurt         map[record.EntityID]bool // the services of those names
	operations   map[string]bool
	business     *finding.Link
	entryKey     string
	traces       []finding.HurtTrace
	// said is the root cause of the last revision, earlier are those before.
	said    finding.EarlierCause
	earlier []finding.EarlierCause
	// ending says why it is over.
	ending string
	// processor is whose incident it is, for those who keep findings; before are the
	// traces, and lost the hypotheses that lost, of the revisions before a restart.
	processor string
	before    map[string]bool
	lost      []finding.Hypothesis
	// unvalued are the last traces whose value has not come.
	unvalued []string
	// Dirty: there is more to say than the last revision said.
	Dirty bool
	// Rejected and Notes are what the engine adds to the next revision: the
	// hypotheses that lost, and evidence that is missing for want of a receiver.
	Rejected []finding.Hypothesis
	Notes    []string
	// Criticality and Objectives are those of the services that Services returns.
	Criticality string
	Objectives  []finding.Objective
}

// counted says what of a request was counted. Of one that shares it, another incident says
// how it ended: this one made it slower.
type counted struct {
	incident                             *Incident
	listed, request, user, value, shares bool
}

// assignment is whose a request is, nil for nobody's, and who else made it slower.
type assignment struct {
	owner  *counted
	shared []*counted
}

// of returns the assignment of a request.
func of(r *detect.Request) *assignment {
	a, ok := r.Assigned.(*assignment)
	if !ok {
		a = &assignment{}
		r.Assigned = a
	}
	return a
}

// by returns what an incident counted of a request, nil where it is not one of its.
func (a *assignment) by(i *Incident) *counted {
	if a.owner != nil && a.owner.incident == i {
		return a.owner
	}
	for _, c := range a.shared {
		if c.incident == i {
			return c
		}
	}
	return nil
}

// drop makes a request none of an incident's.
func (a *assignment) drop(i *Incident) {
	if a.owner != nil && a.owner.incident == i {
		a.owner = nil
	}
	a.shared = slices.DeleteFunc(a.shared, func(c *counted) bool { return c.incident == i })
}

// Of returns the incident that a request was assigned to, nil for none.
func Of(r *detect.Request) *Incident {
	if a, ok := r.Assigned.(*assignment); ok && a.owner != nil {
		return a.owner.incident
	}
	return nil
}

// Shared returns the other incidents that made a request slower.
func Shared(r *detect.Request) []*Incident {
	a, ok := r.Assigned.(*assignment)
	if !ok || len(a.shared) == 0 {
		return nil
	}
	out := make([]*Incident, len(a.shared))
	for n, c := range a.shared {
		out[n] = c.incident
	}
	return out
}

// Unassign takes a request from the incident that it was assigned to.
func Unassign(r *detect.Request) { of(r).owner = nil }

// New opens an incident.
func New(g *topology.Graph, h *explain.Hypothesis, o Options) *Incident {
	return &Incident{
		Hypothesis: h, options: o, graph: g, id: idOf(g, h),
		users: hyperloglog.New14(), services: map[string]bool{}, hurt: map[record.EntityID]bool{}, operations: map[string]bool{},
		updated: h.Cause.Time, Dirty: true,
	}
}

// ID returns the finding's id.
func (i *Incident) ID() finding.ID { return i.id }

// Emitted tells whether the incident has had a revision.
func (i *Incident) Emitted() bool { return i.revision > 0 }

// Resolved tells whether the incident is over.
func (i *Incident) Resolved() bool { return i.resolved != 0 }

// Resolve ends the incident; why is a sentence.
func (i *Incident) Resolve(at int64, why string) {
	i.resolved, i.ending = at, why
	i.Dirty = true
}

// Predict makes the incident a warning: it is expected, and has not happened yet.
func (i *Incident) Predict() {
	i.predicted = true
	i.Hypothesis.Predicted = true
}

// Confirm makes an incident of a warning, at the time at which it came true.
func (i *Incident) Confirm(at int64) {
	i.predicted = false
	i.Hypothesis.Predicted = false
	i.Hypothesis.Happened(at)
	i.Dirty = true
}

// Predicted tells whether the incident is only expected.
func (i *Incident) Predicted() bool { return i.predicted }

// Withdraw ends the incident because a deeper cause explains its own (what it counted
// is that one's) or because what was expected is not to be any more; why is a sentence.
func (i *Incident) Withdraw(at int64, why string) {
	i.withdrawn = true
	i.Resolve(at, why)
}

// Withdrawn tells whether the incident was withdrawn.
func (i *Incident) Withdrawn() bool { return i.withdrawn }

// Reopen goes on with an incident that was resolved too early.
func (i *Incident) Reopen() {
	i.resolved, i.ending, i.withdrawn = 0, "", false
	i.Dirty = true
}

// idOf derives the id from the cause.
func idOf(g *topology.Graph, h *explain.Hypothesis) finding.ID {
	e, _ := g.Entity(cmp.Or(h.Network(), h.Cause.Entity)) // several networks of a node can fail at once
	return finding.NewID(h.Cause.Event, e.Key, record.UTC(h.Cause.Time))
}

// Replace gives the incident a better cause, at the engine's time; why is a sentence. It
// keeps what it counted, and its id and the cause that it named once somebody has seen
// them.
func (i *Incident) Replace(h *explain.Hypothesis, at int64, why string) {
	old := i.Hypothesis.Cause.Occurrence
	i.Hypothesis = h
	switch {
	case i.Emitted() && old != nil && old == h.Cause.Occurrence: // more is known of the same cause
	case i.Emitted():
		i.replaced(h, at, why)
	default:
		i.id = idOf(i.graph, h)
	}
	h.Count(i.failed, i.slow)
	i.Dirty = true
}

// replaced notes the cause that the last revision named.
func (i *Incident) replaced(h *explain.Hypothesis, at int64, why string) {
	was := i.said
	now := explain.EntityOf(i.graph, h.Cause.Entity)
	if n := len(i.earlier); n > 0 && i.earlier[n-1].Revision == i.revision {
		i.earlier = i.earlier[:n-1] // nobody has seen what came between
	}
	if was.Pattern == h.Pattern.ID && was.Entity.Kind == now.Kind && was.Entity.Name == now.Name {
		return
	}
	was.Revision, was.Until, was.Reason = i.revision, record.UTC(at), why
	i.earlier = append(i.earlier[max(0, len(i.earlier)-finding.MaxEarlierCauses+1):], was)
}

// says is the root cause of a revision in the form in which a later one lists it.
func says(f *finding.Finding) finding.EarlierCause {
	return finding.EarlierCause{
		Pattern: f.Pattern, Title: f.Title, Event: f.RootCause.Event, Entity: f.RootCause.Entity, Confidence: f.Confidence.Score,
	}
}

// Assign makes a request one of the incident's, with all of its spans so far.
func (i *Incident) Assign(r *detect.Request) {
	a := of(r)
	c := a.by(i)
	if c == nil {
		c = &counted{incident: i}
	}
	a.drop(i)
	if c.shares {
		i.uncount(c)
	}
	a.owner = c
	i.Hypothesis.AddSpans(r, r.Spans...)
	i.Count(r)
}

// uncount takes back that a request was counted as slow beside another incident: it is
// this one's own now, failed or not.
func (i *Incident) uncount(c *counted) {
	c.shares, c.value = false, false
	if !c.request {
		return
	}
	c.request = false
	i.slow--
	if i.business != nil {
		i.business.Count--
	}
	i.Hypothesis.Count(i.failed, i.slow)
}

// maxShared bounds the incidents that share a request.
const maxShared = 4

// Share counts a request of another incident that this one made slower, too. It does
// nothing where it is one of its own.
func (i *Incident) Share(r *detect.Request) {
	a := of(r)
	if a.by(i) != nil || len(a.shared) >= maxShared {
		return
	}
	a.shared = append(a.shared, &counted{incident: i, shares: true, value: true})
	if !r.Failed() {
		i.Hypothesis.AddSpans(r, r.Spans...)
	}
	i.Count(r)
}

// Unshare forgets that an incident made a request of another one slower.
func (i *Incident) Unshare(r *detect.Request) {
	if a, ok := r.Assigned.(*assignment); ok && (a.owner == nil || a.owner.incident != i) {
		a.drop(i)
	}
}

// Recount counts anew, after its cause was replaced: these are all requests that are held
// and that the new cause can have hurt. Others were over before it began, as were those,
// older still, that are not held any more.
func (i *Incident) Recount(requests []*detect.Request) {
	i.failed, i.slow, i.value, i.valuable, i.users, i.userKey = 0, 0, 0, 0, hyperloglog.New14(), ""
	i.services, i.hurt, i.operations = map[string]bool{}, map[record.EntityID]bool{}, map[string]bool{}
	i.business, i.entryKey, i.traces, i.unvalued = nil, "", nil, nil
	i.Hypothesis.Count(0, 0)
	for _, r := range requests {
		a := of(r)
		a.drop(i)
		a.owner = &counted{incident: i}
		i.Count(r)
	}
	i.Dirty = true
}

// AddSpan takes a later span of a request that is assigned already.
func (i *Incident) AddSpan(r *detect.Request, s detect.HurtSpan) {
	if c := of(r).by(i); c == nil || !c.shares || !r.Failed() {
		i.Hypothesis.AddSpans(r, s)
	}
	i.Count(r)
}

// Hurt lists traces that the cause changed, whether or not they failed.
func (i *Incident) Hurt(traces []record.TraceID) {
	for _, id := range traces {
		text := id.String()
		if len(i.traces) >= i.options.MaxTraces || slices.ContainsFunc(i.traces, func(t finding.HurtTrace) bool { return t.TraceID == text }) {
			continue
		}
		i.traces = append(i.traces, finding.HurtTrace{TraceID: text})
		i.Dirty = true
	}
}

// Services returns the services that the incident is about: the cause's and those
// of hurt requests.
func (i *Incident) Services() []record.EntityID {
	out := []record.EntityID{i.Hypothesis.Service}
	for _, id := range slices.Sorted(maps.Keys(i.hurt)) {
		if id != i.Hypothesis.Service {
			out = append(out, id)
		}
	}
	return slices.DeleteFunc(out, func(id record.EntityID) bool { return id == 0 })
}

// Witness notes that visits of the cause's service changed: it has hurt somebody,
// though perhaps no request has failed.
func (i *Incident) Witness() { i.witnessed = true }

// HasHurt tells whether a request was seen to be hurt.
func (i *Incident) HasHurt() bool { return i.failed+i.slow > 0 }

// Hurts tells whether a trace is listed as hurt.
func (i *Incident) Hurts(id record.TraceID) bool {
	text := id.String()
	return slices.ContainsFunc(i.traces, func(t finding.HurtTrace) bool { return t.TraceID == text })
}

// Count counts what is certain of a request and was not counted before. A
// request is failed when its root span is, or, once no more spans are waited for,
// when the server span through which it came in is.
func (i *Incident) Count(r *detect.Request) {
	c := of(r).by(i)
	if c == nil {
		return
	}
	i.updated = max(i.updated, r.Last)
	i.Dirty = true
	entry, certain, found := r.Entry()
	if !found || (!certain && !r.Settled) {
		return
	}
	if !c.request && i.countedBefore(r.TraceID) {
		c.listed, c.request, c.value = true, true, !slices.Contains(i.unvalued, r.TraceID.String())
	}
	if !c.listed && len(i.traces) < i.options.MaxTraces {
		c.listed = true
		i.traces = append(i.traces, finding.HurtTrace{TraceID: r.TraceID.String(), SpanID: r.Origin().ID.String()})
	}
	if !c.request {
		c.request = true
		i.countRequest(r, entry, r.Failed() && !c.shares)
	}
	if s, ok := find(r, entry, func(s *record.Span) bool { return s.User != "" }); ok && !c.user {
		c.user = true
		i.userKey = s.UserKey
		i.users.Insert([]byte(s.User))
	}
	if s, ok := find(r, entry, func(s *record.Span) bool { return s.HasValue }); ok && r.Failed() && !c.value {
		c.value = true
		i.valued(r.TraceID)
		if sum := i.value + s.Value; !math.IsInf(sum, 0) { // a finding is JSON, which has no infinity
			i.valuable++
			i.value = sum
		}
	}
}

// maxUnvalued bounds the traces of which it is known that their value has not come: a
// restart may come between a request's spans.
const maxUnvalued = 256

func (i *Incident) valued(id record.TraceID) {
	text := id.String()
	if n := slices.Index(i.unvalued, text); n >= 0 {
		i.unvalued = slices.Delete(i.unvalued, n, n+1)
	}
}

// find returns the entry span if it has what is sought, else the first that has.
func find(r *detect.Request, entry detect.HurtSpan, has func(*record.Span) bool) (*record.Span, bool) {
	if has(entry.Span) {
		return entry.Span, true
	}
	for _, s := range r.Spans {
		if has(s.Span) {
			return s.Span, true
		}
	}
	return nil, false
}

// businessKey is the key of the link that sums up the impact.
const businessKey = "impact"

func (i *Incident) countRequest(r *detect.Request, entry detect.HurtSpan, failed bool) {
	if failed {
		i.failed++
		i.unvalued = append(i.unvalued[max(0, len(i.unvalued)-maxUnvalued+1):], r.TraceID.String())
	} else {
		i.slow++
	}
	i.Hypothesis.Count(i.failed, i.slow)
	for _, s := range r.Spans {
		if len(i.services) < maxNames && i.graph.ServiceOf(s.Subject) != i.Hypothesis.Service {
			i.services[i.graph.ServiceName(s.Subject)] = true
			i.hurt[i.graph.ServiceOf(s.Subject)] = true
		}
	}
	if len(i.operations) < maxNames {
		i.operations[i.graph.ServiceName(entry.Subject)+" "+entry.Name] = true
	}
	at := record.UTC(entry.End)
	if i.business == nil {
		i.business = &finding.Link{
			Key: businessKey, Time: at, Last: at, Layer: finding.LayerBusiness, Event: pattern.RequestFailed,
			Entity:   explain.EntityOf(i.graph, entry.Subject),
			LinkedBy: finding.LinkedByTrace, LinkedOn: "trace " + r.TraceID.String(),
		}
		i.entryKey = i.Hypothesis.KeyOf(r, entry)
	}
	if at.Before(i.business.Time) {
		i.business.Time, i.entryKey = at, i.Hypothesis.KeyOf(r, entry)
	}
	if at.After(i.business.Last) {
		i.business.Last = at
	}
	i.business.Count++
}

// Ready tells whether enough is known for a first revision.
func (i *Incident) Ready(minScore float64) bool {
	h := i.Hypothesis
	return h.Supported() && h.Confidence(i.options.Weights).Score >= minScore &&
		(h.Pattern.Alone || h.HasLasted() || i.witnessed || i.failed+i.slow >= int64(h.Pattern.MinTraces))
}

// Finding writes the next revision. now is the engine's time.
func (i *Incident) Finding(now int64) *finding.Finding {
	if i.revision == 0 {
		i.detected = now
	}
	i.revision++
	i.Dirty = false
	h := i.Hypothesis
	h.Count(i.failed, i.slow)
	v := h.Values()
	f := &finding.Finding{
		ID: i.id, Revision: i.revision, State: finding.StateOpen, Pattern: h.Pattern.ID, Title: h.Pattern.TitleFor(v),
		StartedAt: record.UTC(h.Began()), DetectedAt: record.UTC(i.detected),
		UpdatedAt:  record.UTC(max(i.updated, h.LastEffect)),
		Confidence: h.Confidence(i.options.Weights), RootCause: h.RootCause(),
		Impact: i.impact(), Chain: h.Chain(), Actions: h.Pattern.ActionsFor(v),
		Rejected: i.rejected(), Missing: append(slices.Clone(i.Notes), h.Missing()...),
		HurtTraces: slices.Clone(i.traces), Ending: i.ending, Resume: i.resume(now),
		EarlierCauses: slices.Clone(i.earlier),
	}
	i.said = says(f)
	if over := h.OverSince(); over != 0 {
		t := record.UTC(over)
		f.State, f.MendedAt = finding.StateMended, &t
	}
	if i.predicted {
		f.State = finding.StatePredicted
	}
	if i.resolved != 0 {
		t := record.UTC(i.resolved)
		f.State, f.ResolvedAt = finding.StateResolved, &t
		if i.withdrawn {
			f.State = finding.StateWithdrawn
		}
	}
	if f.State == finding.StateMended {
		f.Actions.Immediate = []string{h.Watch()}
	}
	f.Summary = summary(f)
	if i.business != nil {
		b := *i.business
		b.Title, b.Detail = businessWords(f.Impact, i.options.ValueAttribute)
		b.Parent = "cause"
		for _, l := range f.Chain {
			if l.Key == i.entryKey {
				b.Parent = l.Key
			}
		}
		f.Chain = append(f.Chain, b)
	}
	return f
}

// rejected are the hypotheses that lost; where the evidence against one was forgotten
// with a restart, what was said then.
func (i *Incident) rejected() []finding.Hypothesis {
	out := slices.Clone(i.Rejected)
	for _, x := range i.lost {
		if len(out) < len(i.lost) && !slices.ContainsFunc(out, func(y finding.Hypothesis) bool { return y.Pattern == x.Pattern && y.Entity.Name == x.Entity.Name }) {
			out = append(out, x)
		}
	}
	return out
}

func (i *Incident) impact() finding.Impact {
	m := finding.Impact{
		FailedRequests: i.failed, SlowRequests: i.slow,
		Services: sorted(i.services), Operations: sorted(i.operations),
		UserAttribute: i.userKey, ValueAttribute: i.options.ValueAttribute,
		Gaps: slices.Clone(i.gaps), Criticality: i.Criticality, Objectives: slices.Clone(i.Objectives),
	}
	if i.userKey != "" {
		n := int64(i.users.Estimate())
		m.Users = &n
	}
	if i.valuable > 0 {
		v := i.value
		m.Value, m.ValueRequests = &v, i.valuable
	}
	return m
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}
