// Package pattern reads the pattern library: YAML files that say what a cause
// looks like, what follows from it and what to do about it. A pattern knows
// kinds of events and relations between entities, never names of services.
package pattern

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

//go:embed library/*.yaml
var library embed.FS

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
	// effect was seen, 0 for never: what it does may be nowhere to be seen.
	Lasts time.Duration `yaml:"lasts"`
	// MinTraces is how many requests must have been hurt, unless Alone.
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

// Condition is a test of one attribute, or of the body. Exactly one kind of test is
// set; Min and Max are one.
type Condition struct {
	Key string `yaml:"key"`
	// In: the attribute is one of these.
	In []any `yaml:"in"`
	// Not: the attribute is there and none of these.
	Not []any `yaml:"not"`
	// Present: the attribute is there (true) or not (false).
	Present *bool `yaml:"present"`
	// Contains: the text, or one of a list, holds one of these, whatever the case.
	Contains []string `yaml:"contains"`
	// Matches: the text matches this regular expression (RE2).
	Matches string `yaml:"matches"`
	// Min and Max: the number is at least, at most this.
	Min *float64 `yaml:"min"`
	Max *float64 `yaml:"max"`

	// HoldsCause: the text holds what the cause says under this key or, where it says nothing,
	// what an effect does that is required. For effects only.
	HoldsCause string `yaml:"holds_cause"`
	// IsCause: the attribute is what the cause says under this key. For effects and until only.
	IsCause string `yaml:"is_cause"`
	// OTTL is a condition on the whole record in the OpenTelemetry transformation
	// language, log context; it needs no key.
	OTTL string `yaml:"ottl"`

	matches *regexp.Regexp
	lower   []string // Contains in lower case
}

// KeyBody is the key under which conditions find the body of a record.
const KeyBody = record.KeyBody

// Holds tells whether the attributes of d meet all conditions.
func Holds(where []Condition, d *record.Detail) bool {
	_, ok := first(where, d)
	return ok
}

// Differs says which condition d does not meet, with the value that was found; "" when
// it meets all.
func Differs(where []Condition, d *record.Detail) string {
	c, ok := first(where, d)
	if ok {
		return ""
	}
	return c.differs(c.value(d))
}

// first returns the first condition that d does not meet, and true when there is none.
func first(where []Condition, d *record.Detail) (*Condition, bool) {
	for i := range where {
		if c := &where[i]; !c.holds(c.value(d)) {
			return c, false
		}
	}
	return nil, true
}

func (c *Condition) value(d *record.Detail) any {
	if d == nil {
		return nil
	}
	return d.Attr(c.Key)
}

// Bound returns the conditions with what the cause says in place of holds_cause and
// is_cause, any of several texts, and false when the cause does not say it.
func Bound(where []Condition, cause func(key string) []string) ([]Condition, bool) {
	out := where
	for i := range where {
		key := cmp.Or(where[i].HoldsCause, where[i].IsCause)
		if key == "" {
			continue
		}
		texts := cause(key)
		if len(texts) == 0 {
			return nil, false
		}
		if &out[0] == &where[0] {
			out = slices.Clone(where)
		}
		out[i].lower, out[i].In = nil, nil
		if where[i].IsCause != "" {
			for _, text := range texts {
				out[i].In = append(out[i].In, text)
			}
			continue
		}
		for _, text := range texts {
			out[i].lower = append(out[i].lower, strings.ToLower(text))
		}
	}
	return out, true
}

// differs says what was found and what was wanted.
func (c *Condition) differs(value any) string {
	if c.OTTL != "" {
		return "the ottl condition " + c.OTTL + " is not met"
	}
	found := fmt.Sprint(value)
	if value == nil {
		found = "absent"
	}
	switch {
	case c.Present != nil && *c.Present:
		return c.Key + " is absent"
	case c.Present != nil:
		return fmt.Sprintf("%s is there (%s)", c.Key, found)
	case len(c.Not) > 0:
		return fmt.Sprintf("%s is %s", c.Key, found)
	}
	if len(c.In) == 0 {
		return fmt.Sprintf("%s is %s, not %s", c.Key, found, c.wanted())
	}
	wanted := make([]string, len(c.In))
	for i, v := range c.In {
		wanted[i] = fmt.Sprint(v)
	}
	return fmt.Sprintf("%s is %s, not %s", c.Key, found, strings.Join(wanted, " or "))
}

// wanted says what a condition on a text or a number asks for.
func (c *Condition) wanted() string {
	switch {
	case len(c.Contains) > 0:
		return "containing " + strings.Join(c.Contains, " or ")
	case c.Matches != "":
		return "matching " + c.Matches
	case c.Min != nil && c.Max != nil:
		return fmt.Sprintf("%v to %v", *c.Min, *c.Max)
	case c.Min != nil:
		return fmt.Sprintf("at least %v", *c.Min)
	case c.Max != nil:
		return fmt.Sprintf("at most %v", *c.Max)
	}
	if c.IsCause != "" {
		return "what the cause says under " + c.IsCause
	}
	return "holding what the cause says under " + c.HoldsCause
}

// compile prepares a condition that is tested on text.
func (c *Condition) compile() (err error) {
	for _, part := range c.Contains {
		c.lower = append(c.lower, strings.ToLower(part))
	}
	if c.Matches != "" {
		c.matches, err = regexp.Compile(c.Matches)
	}
	return err
}

func (c *Condition) holdsText(value any) bool {
	if list, ok := value.([]string); ok {
		return slices.ContainsFunc(list, func(s string) bool { return c.holdsText(s) })
	}
	text, ok := value.(string)
	if !ok {
		return false
	}
	if c.matches != nil {
		return c.matches.MatchString(text)
	}
	text = strings.ToLower(text)
	return slices.ContainsFunc(c.lower, func(part string) bool { return strings.Contains(text, part) })
}

func (c *Condition) holds(value any) bool {
	is := func(want any) bool { return equal(want, value) }
	switch {
	case c.matches != nil || len(c.lower) > 0:
		return c.holdsText(value)
	case c.Min != nil || c.Max != nil:
		n, ok := asNumber(value)
		return ok && (c.Min == nil || n >= *c.Min) && (c.Max == nil || n <= *c.Max)
	case c.Present != nil:
		return (value != nil) == *c.Present
	case len(c.Not) > 0:
		return value != nil && !slices.ContainsFunc(c.Not, is)
	default:
		return value != nil && slices.ContainsFunc(c.In, is)
	}
}

// equal compares a value of the YAML file with one of an event: numbers by
// value, everything else as it is.
func equal(want, got any) bool {
	if a, ok := asNumber(want); ok {
		b, ok := asNumber(got)
		return ok && a == b
	}
	if _, ok := got.([]string); ok {
		return false // not comparable
	}
	return want == got
}

func asNumber(v any) (float64, bool) {
	switch n := v.(type) {
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// Library returns the patterns that are built in, in the order of their files.
// Patterns do not change once they are read: all callers share them.
func Library() ([]*Pattern, error) {
	patterns, err := readLibrary()
	return slices.Clone(patterns), err
}

var readLibrary = sync.OnceValues(func() ([]*Pattern, error) { return Load(library, "library") })

// LoadAll returns the library with the patterns of a directory added, "" for none. A
// pattern with the id of one of the library takes its place.
func LoadAll(dir string) ([]*Pattern, error) {
	patterns, err := Library()
	if err != nil || dir == "" {
		return patterns, err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("want a directory of patterns: %w", err)
	}
	own, err := Load(os.DirFS(dir), ".")
	if err != nil {
		return nil, Within(dir, err)
	}
	for _, p := range own {
		p.File = filepath.Join(dir, p.File)
		same := func(x *Pattern) bool { return x.ID == p.ID }
		if i := slices.IndexFunc(patterns, same); i >= 0 {
			patterns[i] = p
		} else {
			patterns = append(patterns, p)
		}
	}
	return patterns, nil
}

// Load reads every *.yaml file of a folder, one pattern a file. The error names
// the file and the key.
func Load(files fs.FS, dir string) ([]*Pattern, error) {
	names, err := fs.Glob(files, path.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var patterns []*Pattern
	seen := map[string]string{}
	for _, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		p, err := Parse(b)
		if err != nil {
			return nil, Within(path.Base(name), err)
		}
		if other, ok := seen[p.ID]; ok {
			return nil, fmt.Errorf("%s: id: %q is already the id of %s", path.Base(name), p.ID, other)
		}
		seen[p.ID] = path.Base(name)
		p.File = name
		patterns = append(patterns, p)
	}
	if len(patterns) == 0 {
		return nil, errors.New("no *.yaml file")
	}
	return patterns, nil
}

// Within says of each of several errors, which are lines of their own, where it is.
func Within(where string, err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	var errs []error
	for _, e := range many.Unwrap() {
		errs = append(errs, Within(where, e))
	}
	return errors.Join(errs...)
}

// Parse reads one pattern. Unknown keys are errors.
func Parse(b []byte) (*Pattern, error) {
	p := &Pattern{}
	if err := Decode(b, p); err != nil {
		return nil, err
	}
	return p, errors.Join(p.validateID(), p.validate(), p.compile())
}

// idForm is what an id looks like: it stands in lists, attributes and file names.
var idForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (p *Pattern) validateID() error {
	if p.ID != "" && !idForm.MatchString(p.ID) {
		return fmt.Errorf("id: %q: want lower case letters, digits and dashes, such as licence-expired", p.ID)
	}
	return nil
}

func (p *Pattern) validate() error {
	var errs []error
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	for key, v := range map[string]string{
		"id": p.ID, "title": p.Title, "description": p.Description,
		"cause.event": p.Cause.Event, "cause.layer": string(p.Cause.Layer),
	} {
		if v == "" {
			bad(key, "missing")
		}
	}
	if l := p.Cause.Layer; l != "" && !slices.Contains(finding.Layers, l) {
		bad("cause.layer", "%q: want one of %v", l, finding.Layers)
	}
	if p.Cause.Within <= 0 {
		bad("cause.within", "%v: want a duration above 0, such as 30s", p.Cause.Within)
	}
	if u, err := url.Parse(p.Runbook); p.Runbook != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		bad("runbook", "%q: want a link that begins with http:// or https://", p.Runbook)
	}
	if p.Cause.Reliability <= 0 || p.Cause.Reliability > 1 {
		bad("cause.reliability", "%v: want a number above 0, at most 1", p.Cause.Reliability)
	}
	if p.Cause.Scope == "" {
		p.Cause.Scope = ScopeProcess
	}
	if s := p.Cause.Scope; s != ScopeProcess && s != ScopeContainer && s != ScopeName {
		bad("cause.scope", "%q: want %s, %s or %s", s, ScopeProcess, ScopeContainer, ScopeName)
	}
	if p.Cause.Before < 0 {
		bad("cause.before", "%v: want a duration of 0 or more", p.Cause.Before)
	}
	if !slices.Contains(levels, p.Cause.Entity) {
		bad("cause.entity", "%q: want one of %v, or leave it out for the cause's own", p.Cause.Entity, levels[1:])
	}
	if p.Cause.MinCount < 0 || (p.Cause.MinCount > 1) != (p.Cause.CountWithin > 0) {
		bad("cause.min_count", "%d with count_within %v: want both, a count of 2 or more and a duration above 0, or neither", p.Cause.MinCount, p.Cause.CountWithin)
	}
	if len(p.Effects) == 0 {
		bad("effects", "want at least one")
	}
	if !p.Alone && p.MinTraces < 1 {
		bad("min_traces", "%d: want at least 1, or alone: true", p.MinTraces)
	}
	for i := range p.Effects {
		errs = append(errs, p.Effects[i].validate(fmt.Sprintf("effects[%d]", i))...)
	}
	errs = append(errs, p.validateTimes()...)
	errs = append(errs, p.validateUnless()...)
	errs = append(errs, p.validateUntil()...)
	if slices.ContainsFunc(p.Cause.Where, func(c Condition) bool { return c.HoldsCause+c.IsCause != "" }) {
		bad("cause.where", "holds_cause, is_cause: only effects and until can be compared with their cause")
	}
	if p.Cause.Is(Log) && !testsBody(p.Cause.Where) {
		bad("cause.where", "a cause that is %s needs a condition on %s with contains or matches, or one in ottl", Log, KeyBody)
	}
	return errors.Join(append(errs, conditions("cause", p.Cause.Where))...)
}

// validateTimes says which times stand without what they are about.
func (p *Pattern) validateTimes() (errs []error) {
	if p.Lasts < 0 || p.Lasts > 0 && !p.Harmful {
		errs = append(errs, fmt.Errorf("lasts: %v: want a duration above 0, of a pattern that is harmful", p.Lasts))
	}
	if p.Apart < 0 || p.Apart > 0 && len(p.Until) == 0 {
		errs = append(errs, fmt.Errorf("apart: %v: want a duration above 0, of a pattern with until", p.Apart))
	}
	return errs
}

// validateUnless says which effects name another one that the pattern does not have.
func (p *Pattern) validateUnless() (errs []error) {
	for i, f := range p.Effects {
		if f.Unless != "" && !slices.ContainsFunc(p.Effects, func(x Effect) bool { return x.Event == f.Unless && f.Unless != f.Event }) {
			errs = append(errs, fmt.Errorf("effects[%d].unless: %q: want the event of another effect of the pattern", i, f.Unless))
		}
	}
	return errs
}

// validateUntil says what is wrong with how the cause ends, and what was before it.
func (p *Pattern) validateUntil() (errs []error) {
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	for i, u := range p.Until {
		key := fmt.Sprintf("until[%d]", i)
		if u.Event == "" || !slices.Contains(relations, u.Relation) {
			bad(key, "event %q, relation %q: want an event and one of %v", u.Event, u.Relation, relations)
		}
		errs = append(errs, conditions(key, u.Where))
	}
	if p.Settles < 0 || p.Settles > 0 && len(p.Until) == 0 && !p.Cause.Is(CallRefused) {
		bad("settles", "%v: want a duration above 0, of a pattern with until or with the cause %s", p.Settles, CallRefused)
	}
	for i, c := range p.Changes {
		key := fmt.Sprintf("changes[%d]", i)
		if c.Event == "" || c.Text == "" || c.Within <= 0 || !slices.Contains(relations, c.Relation) {
			bad(key, "event %q, text %q, within %v, relation %q: want an event, a text, a duration above 0 and one of %v", c.Event, c.Text, c.Within, c.Relation, relations)
		}
		errs = append(errs, conditions(key, c.Where))
	}
	if s := &p.StartsOver; s.Lasts < 0 || s.Event == "" && (s.Lasts > 0 || len(s.Where) > 0 || s.Stopped != "") {
		bad("starts_over", "event %q, lasts %v: want an event, and a duration of 0 or more", s.Event, s.Lasts)
	}
	errs = append(errs, conditions("starts_over", p.StartsOver.Where))
	return errs
}

// validate says what is wrong with an effect; key is where it stands in its file.
func (e *Effect) validate(key string) (errs []error) {
	bad := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	if e.Event == "" || e.Layer == "" {
		bad(key, "want event and layer")
	} else if !slices.Contains(finding.Layers, e.Layer) {
		bad(key+".layer", "%q: want one of %v", e.Layer, finding.Layers)
	}
	if !slices.Contains(relations, e.Relation) {
		bad(key+".relation", "%q: want one of %v", e.Relation, relations)
	}
	if e.Within <= 0 {
		bad(key+".within", "%v: want a duration above 0, such as 30s", e.Within)
	}
	if e.Weight <= 0 {
		bad(key+".weight", "%v: want a number above 0", e.Weight)
	}
	if e.Required && (e.Optional || e.Precursor) {
		bad(key+".required", "true: an effect that is optional or a precursor cannot be required")
	}
	if e.Workloads < 0 || e.Workloads > 0 && !e.Required {
		bad(key+".workloads", "%d: want 1 or more, of an effect that is required", e.Workloads)
	}
	if e.Event == Log && !testsBody(e.Where) {
		bad(key+".where", "an effect that is %s needs a condition on %s with contains or matches, or one in ottl", Log, KeyBody)
	}
	return append(errs, conditions(key, e.Where))
}

func conditions(key string, where []Condition) error {
	for i, c := range where {
		set := 0
		for _, is := range []bool{
			len(c.In) > 0, len(c.Not) > 0, c.Present != nil, len(c.Contains) > 0, c.Matches != "", c.Min != nil || c.Max != nil, c.HoldsCause != "", c.IsCause != "", c.OTTL != "",
		} {
			if is {
				set++
			}
		}
		if (c.Key == "") != (c.OTTL != "") || set != 1 {
			return fmt.Errorf("%s.where[%d]: want key and exactly one of in, not, present, contains, matches, min and max, holds_cause, is_cause; or ottl alone", key, i)
		}
		if c.OTTL != "" {
			if err := where[i].compileOTTL(); err != nil {
				return fmt.Errorf("%s.where[%d].ottl: %q: %w", key, i, c.OTTL, err)
			}
		}
		if err := where[i].compile(); err != nil {
			return fmt.Errorf("%s.where[%d].matches: %w", key, i, err)
		}
	}
	return nil
}

func testsBody(where []Condition) bool {
	return slices.ContainsFunc(where, func(c Condition) bool {
		return c.OTTL != "" || c.Key == KeyBody && (len(c.Contains) > 0 || c.Matches != "")
	})
}
