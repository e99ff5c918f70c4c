// Package pattern reads the pattern library: YAML files that say what a cause
// looks like, what follows from it and what to do about it. A pattern knows
// kinds of events and relations between entities, never names of services.
package pattern

import (
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Events that the engine derives from spans. Everything else that a pattern
// names is the EventName of a log record.
const (
	// CallFailed is a client span that failed, seen from the one who was called.
	CallFailed = "tapio.call.failed"
	// CallRefused is one that failed because nothing listened at the address.
	CallRefused = "tapio.call.refused"
	// RequestFailed is a server or internal span that failed.
	RequestFailed = "tapio.request.failed"
	// RequestSlow is a span that was slow against its operation's own past.
	RequestSlow = "tapio.request.slow"
	// NotResponding: a service takes no request any more, and its callers wait in vain.
	NotResponding = "tapio.service.not_responding"
	// ServiceFailing: a service's operation fails more than it used to.
	ServiceFailing = "tapio.service.failing"
	// ServiceSlow: the metrics of a service, of which there are no spans, say that its
	// requests take longer than they used to.
	ServiceSlow = "tapio.service.slow"
	// StatementVanished: visits of an operation no longer reach a step (a log
	// statement, a call) that nearly every one of them reached.
	StatementVanished = "tapio.visit.step_vanished"
	// CalleeUnanswered: several services no longer get their calls through to one.
	CalleeUnanswered = "tapio.visit.callee_unanswered"
	// StatementAppeared: visits of an operation reach a step that they never did.
	StatementAppeared = "tapio.visit.step_appeared"
	// OperationFailing: spans of an operation fail more than they used to.
	OperationFailing = "tapio.visit.failing"
	// CallDelayed: calls take longer than the one that is called works.
	CallDelayed = "tapio.visit.call_delayed"
	// StepSlow: a step that calls no other service takes longer than it used to.
	StepSlow = "tapio.visit.step_slow"
	// OperationSlow: a service's own time in an operation is longer than it was.
	OperationSlow = "tapio.visit.slow"
	// CallsMultiplied: visits make many more calls than they used to.
	CallsMultiplied = "tapio.visit.calls_multiplied"
	// RetryStorm: callers that do not wait for the answer ask again and again.
	RetryStorm = "tapio.visit.retry_storm"
	// ThunderingHerd: very many ask at the same moment.
	ThunderingHerd = "tapio.visit.thundering_herd"
	// CascadingFailure: those who wait for a slow service fail others for want of threads.
	CascadingFailure = "tapio.visit.cascading_failure"
	// ResourceAbnormal: a metric of the service changed, and nothing else did.
	ResourceAbnormal = "tapio.visit.resource_abnormal"
	// ErrorsLogged: a service without spans logs many more errors than it ever did.
	ErrorsLogged = "tapio.log.errors"
	// Log is a log record without an event name, told apart by its body. A cause or
	// effect that names it must have a condition on the body; all other records of
	// logs are not looked at.
	Log = "tapio.log"
)

// Relation is how an effect must touch the cause's entity.
type Relation string

// The relations.
const (
	// RelationSame: the same process, or its container or pod.
	RelationSame Relation = "same"
	// RelationAddress: towards an address at which the entity answered.
	RelationAddress Relation = "address"
	// RelationCalls: a call whose callee is the entity or its service.
	RelationCalls Relation = "calls"
	// RelationTrace: in the same trace as a failed call to the entity.
	RelationTrace Relation = "trace"
	// RelationOwner: of the same workload: its pods, containers, processes, service.
	RelationOwner Relation = "owner"
	// RelationNode: on the same node or host: its units, pods, processes.
	RelationNode Relation = "node"
	// RelationNamespace: in the same Kubernetes namespace.
	RelationNamespace Relation = "namespace"
	// RelationCluster: anywhere in the cluster, as a fault of the control plane is.
	RelationCluster Relation = "cluster"
)

var relations = []Relation{
	RelationSame, RelationAddress, RelationCalls, RelationTrace,
	RelationOwner, RelationNode, RelationNamespace, RelationCluster,
}

// Pattern is one entry of the library.
type Pattern struct {
	// ID is what findings and configuration call it.
	ID string `yaml:"id"`
	// Title is a few words, Description a sentence: text/template over Values.
	Title       string `yaml:"title"`
	Description string `yaml:"description"`
	Cause       Cause  `yaml:"cause"`
	// Alone: the cause is a finding even if no request was seen to fail.
	Alone bool `yaml:"alone"`
	// Harmful: it is a finding only when one of its effects was seen, whichever.
	Harmful bool `yaml:"harmful"`
	// Lasts is after what time a cause that goes on is a finding though it is Harmful and no
	// effect was seen, or is not Alone and no request was hurt, 0 for never: what it does may
	// be nowhere to be seen. LastsWhere are conditions on the cause for that.
	Lasts      time.Duration `yaml:"lasts"`
	LastsWhere []Condition   `yaml:"lasts_where"`
	// MinTraces is how many requests must have been hurt, unless Alone or see Lasts.
	MinTraces int `yaml:"min_traces"`
	// Effects are what one expects to see of it.
	Effects []Effect `yaml:"effects"`
	// Until are events that say that the cause is over: what begins later than Settles
	// after one of them is no effect of it.
	Until []Until `yaml:"until"`
	// Settles is how long effects can be seen after the cause is over: others catch up, by
	// retries and back-offs.
	Settles time.Duration `yaml:"settles"`
	// Apart is how long a cause must have been over for the same again to be another
	// incident, 0 for never: it is another round.
	Apart time.Duration `yaml:"apart"`
	// StartsOver is how the one to whom the cause happened begins anew.
	StartsOver StartsOver `yaml:"starts_over"`
	// Changes are what people did to it, which findings say of the time before the cause.
	Changes []Change `yaml:"changes"`
	// NotObserved says, as templates, what no receiver can see of this.
	NotObserved []string `yaml:"not_observed"`
	Actions     Actions  `yaml:"actions"`
	// Runbook is a link for people, http or https, which findings give as the first
	// immediate action; "" for none.
	Runbook string `yaml:"runbook"`
	// File is where the pattern was read from.
	File string `yaml:"-"`

	title, description *template.Template
	notObserved        []*template.Template
	immediate          []*template.Template
	shortTerm          []*template.Template
	longTerm           []*template.Template
}

// Cause is the event that the pattern names as the root.
type Cause struct {
	Event string `yaml:"event"`
	// Or are further events that are the same cause.
	Or    []string      `yaml:"or"`
	Layer finding.Layer `yaml:"layer"`
	Where []Condition   `yaml:"where"`
	// Within is how long after the cause its first effect can come.
	Within time.Duration `yaml:"within"`
	// Reliability, in (0,1], is how often such an event is the root and not
	// itself a symptom of something that was not seen.
	Reliability float64 `yaml:"reliability"`
	// Scope is how near to whoever was called the cause must have happened.
	Scope Scope `yaml:"scope"`
	// Before is how much earlier than the cause's own record an effect can have been
	// seen: a state is noticed after it began. 0: effects follow.
	Before time.Duration `yaml:"before"`
	// Impairs: whoever it happened to goes on taking requests. Without it, one who took
	// a request since is well again, and later failures are no effects.
	Impairs bool `yaml:"impairs"`
	// Answers: whoever it happened to is there and answers: what fails are requests that it
	// took, and no call that found nobody.
	Answers bool `yaml:"answers"`
	// Outbound: calls by whoever it happened to suffer as well, those of a service that says
	// why while it says so, as those of a node do that
	// lost its network.
	Outbound bool `yaml:"outbound"`
	// Entity is what the finding names: the cause's own entity when empty, else its
	// pod, workload, node or namespace.
	Entity Level `yaml:"entity"`
	// Identity are attributes in which two events of one entity must agree to be the same
	// cause again.
	Identity []string `yaml:"identity"`
	// MinCount is how often the cause must be seen at the entity within CountWithin; 0
	// and 1 are once.
	MinCount    int           `yaml:"min_count"`
	CountWithin time.Duration `yaml:"count_within"`
}

// Is tells whether an event of that name can be the cause.
func (c *Cause) Is(name string) bool { return c.Event == name || slices.Contains(c.Or, name) }

// Level is what of a cause's surroundings a finding names.
type Level string

// The levels.
const (
	LevelPod       Level = "pod"
	LevelWorkload  Level = "workload"
	LevelNode      Level = "node"
	LevelNamespace Level = "namespace"
	// LevelNetwork is the pod whose network the event is about, or the node where it is
	// about that of all of its pods.
	LevelNetwork Level = "network"
)

var levels = []Level{"", LevelPod, LevelWorkload, LevelNode, LevelNamespace, LevelNetwork}

// Scope is how near to whoever was called a cause must have happened.
type Scope string

// The scopes.
const (
	// ScopeProcess: to the process that was called, where it is known.
	ScopeProcess Scope = "process"
	// ScopeContainer: to any process of its container or pod.
	ScopeContainer Scope = "container"
	// ScopeName: to the caller, which could not look up the name that it called.
	ScopeName Scope = "name"
)

// Effect is an event that follows from the cause.
type Effect struct {
	Event    string        `yaml:"event"`
	Layer    finding.Layer `yaml:"layer"`
	Where    []Condition   `yaml:"where"`
	Relation Relation      `yaml:"relation"`
	// Within is how long after the cause it can happen.
	Within time.Duration `yaml:"within"`
	// Weight is its share of the completeness of the evidence.
	Weight float64 `yaml:"weight"`
	// Precursor: not an effect but a deeper cause. Where it is seen another pattern
	// names it as the root; where it is not, this one is the less sure.
	Precursor bool `yaml:"precursor"`
	// Optional: not every installation can see it, so that its absence takes nothing
	// from the completeness of the evidence.
	Optional bool `yaml:"optional"`
	// Unless is another effect of the pattern that is enough: where that was seen, the
	// absence of this one takes nothing from the completeness.
	Unless string `yaml:"unless"`
	// Required: without it there is no finding, however sure the cause is.
	Required bool `yaml:"required"`
	// Workloads is to how many workloads or units a required effect must have happened, 0 for
	// one: what several suffer together has a cause that they share. Where the cause is such an
	// event itself, its own counts.
	Workloads int `yaml:"workloads"`
	// Spreads: to whom it happened fails its own callers, so that calls to that one (its
	// pod, workload, unit or service) are effects too.
	Spreads bool `yaml:"spreads"`
	// Missing is what to say when it was not seen.
	Missing string `yaml:"missing"`

	missing *template.Template
}

// OfPodNetwork tells whether the cause is about the network of pods, over which nothing
// goes that a process sends to a loopback address. Connections are tracked there, too.
func (p *Pattern) OfPodNetwork() bool {
	return strings.HasPrefix(p.Cause.Event, "tapio.cni.") && !strings.HasPrefix(p.Cause.Event, "tapio.cni.conntrack.")
}

// Relations are those through which the pattern looks for events.
func (p *Pattern) Relations() []Relation {
	out := make([]Relation, 0, len(p.Effects)+len(p.Until))
	for i := range p.Effects {
		out = append(out, p.Effects[i].Relation)
	}
	for i := range p.Until {
		out = append(out, p.Until[i].Relation)
	}
	for i := range p.Changes {
		out = append(out, p.Changes[i].Relation)
	}
	return out
}

// MayLast tells whether a cause is a finding when it goes on, though nothing is seen of what
// it does.
func (p *Pattern) MayLast(cause *record.Detail) bool {
	return p.Lasts > 0 && Holds(p.LastsWhere, cause)
}

// StandsAlone tells whether a cause is a finding though no request was hurt: at once, or when
// it goes on.
func (p *Pattern) StandsAlone(cause *record.Detail) bool { return p.Alone || p.MayLast(cause) }

// Requires tells whether any effect is required.
func (p *Pattern) Requires() bool {
	return slices.ContainsFunc(p.Effects, func(e Effect) bool { return e.Required })
}

// OnCauseAlone returns the pattern without what it wants beside its cause: hurt requests
// and effects.
func (p *Pattern) OnCauseAlone() *Pattern {
	out := *p
	out.Alone, out.Harmful, out.Effects = true, false, slices.Clone(p.Effects)
	for i := range out.Effects {
		out.Effects[i].Required, out.Effects[i].Workloads = false, 0
	}
	return &out
}

// Spreads tells whether any effect does.
func (p *Pattern) Spreads() bool {
	return slices.ContainsFunc(p.Effects, func(e Effect) bool { return e.Spreads })
}

// Until is an event that ends a cause.
type Until struct {
	Event    string      `yaml:"event"`
	Where    []Condition `yaml:"where"`
	Relation Relation    `yaml:"relation"`
}

// StartsOver is an event of the one to whom a cause happened with which it begins anew, no
// Event for none: what was before it is no effect of a later cause, and an earlier cause
// explains nothing more once such a later one was seen.
type StartsOver struct {
	Event string      `yaml:"event"`
	Where []Condition `yaml:"where"`
	// Lasts is how long it must go well then: one that fails again sooner goes on failing.
	Lasts time.Duration `yaml:"lasts"`
	// Stopped is an event with which it ends in good order, "" for none. After it, too, it
	// begins anew, however soon it fails then, if it was well before (see Until).
	Stopped string `yaml:"stopped"`
}

// Is tells whether an event is such a beginning.
func (s *StartsOver) Is(name string, d *record.Detail) bool {
	return s.Event != "" && s.Event == name && Holds(s.Where, d)
}

// Change is an event that tells of what was done to the one to whom the cause happened,
// or to what it runs on. Nothing says that the cause follows from it.
type Change struct {
	Event    string      `yaml:"event"`
	Where    []Condition `yaml:"where"`
	Relation Relation    `yaml:"relation"`
	// Within is how long before the cause it is worth a word.
	Within time.Duration `yaml:"within"`
	// Text says what was done, as a template, such as "it was started".
	Text string `yaml:"text"`

	text *template.Template
}

// Actions are templates of what to do.
type Actions struct {
	Immediate []string `yaml:"immediate"`
	ShortTerm []string `yaml:"short_term"`
	LongTerm  []string `yaml:"long_term"`
}
