// Package finding defines the finding: what broke, why, whom it hurts and what
// to do. It is the one thing that Tapio's processor produces and that its
// exporter, store, API and command line read, so its Go form, its JSON form
// (the struct tags) and its OTLP form (otlp.go) live together here.
package finding

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is where an incident stands.
type State string

// The states of a finding. One that is predicted becomes open when what it said
// happens, or is withdrawn; one that is open becomes mended, where an event says that its
// cause is over, and resolved. One that is mended is open again when the cause is back.
const (
	// StatePredicted: it has not happened yet, but its cause is on the way.
	StatePredicted State = "predicted"
	// StateWithdrawn: what was predicted did not happen and is no longer on the way, or
	// the cause of another finding turned out to be the cause of this one, too.
	StateWithdrawn State = "withdrawn"
	// StateOpen: the incident goes on.
	StateOpen State = "open"
	// StateMended: the cause is over, as an event says; what it did can still be seen.
	StateMended State = "mended"
	// StateResolved: no further effect was seen for the configured quiet time, or the cause
	// has been over for as long as its effects can last.
	StateResolved State = "resolved"
)

// States are all states, in the order in which a finding can have them.
var States = []State{StatePredicted, StateOpen, StateMended, StateResolved, StateWithdrawn}

// Check returns an error that names the allowed states if s is none of them.
func (s State) Check() error {
	if slices.Contains(States, s) {
		return nil
	}
	return fmt.Errorf("state %q: want predicted, open, mended, resolved or withdrawn", string(s))
}

// Over tells whether no more revisions are expected.
func (s State) Over() bool { return s == StateResolved || s == StateWithdrawn }

// Layer is the part of the stack in which a link of the chain happened.
type Layer string

// The layers, from the bottom up.
const (
	LayerKernel     Layer = "KERNEL"
	LayerNetwork    Layer = "NET"
	LayerSystem     Layer = "SYS"
	LayerKubernetes Layer = "K8S"
	LayerApp        Layer = "APP"
	LayerBusiness   Layer = "BIZ"
)

// Layers are all layers, from the bottom up.
var Layers = []Layer{LayerKernel, LayerNetwork, LayerSystem, LayerKubernetes, LayerApp, LayerBusiness}

// ID identifies a finding; it is also the trace id of the finding's own trace.
type ID [16]byte

// NewID derives the id from what makes an incident the same incident: the
// pattern's cause event, the entity that it happened to and when. Engines that
// see the same cause, after a restart, on another gateway or in a replay, give
// it the same id.
func NewID(causeEvent, entity string, at time.Time) ID {
	h := sha256.New()
	h.Write([]byte(causeEvent))
	h.Write([]byte{0})
	h.Write([]byte(entity))
	h.Write([]byte{0})
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], uint64(at.UnixNano()))
	h.Write(t[:])
	var id ID
	copy(id[:], h.Sum(nil))
	return id
}

// ParseID reads the 32 hexadecimal digits that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("%q is not a finding id: want 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("%q is not a finding id: %w", s, err)
	}
	if id == (ID{}) {
		return ID{}, errors.New("a finding id is never all zero")
	}
	return id, nil
}

// minIDPrefix is from how many digits on a beginning of an id is accepted: fewer are rather
// a typing error.
const minIDPrefix = 4

// ParseIDPrefix reads an id or its beginning of at least four digits, in either case, and
// returns it in lower case.
func ParseIDPrefix(s string) (string, error) {
	s = strings.ToLower(s)
	if len(s) == hex.EncodedLen(len(ID{})) {
		id, err := ParseID(s)
		return id.String(), err
	}
	if len(s) < minIDPrefix || len(s) > hex.EncodedLen(len(ID{})) || strings.Trim(s, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is not a finding id: want 32 hexadecimal digits, or the first %d or more of them", s, minIDPrefix)
	}
	return s, nil
}

// String returns the id as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes the id a string in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// Finding is one revision of what is known about one incident. Later revisions
// have the same ID and replace earlier ones as a whole.
type Finding struct {
	ID ID `json:"id"`
	// Revision counts from 1.
	Revision int   `json:"revision"`
	State    State `json:"state"`
	// Pattern is the id of the pattern in the library that named the cause.
	Pattern string `json:"pattern"`
	// Title is the cause in a few words, Summary one sentence for people.
	Title   string `json:"title"`
	Summary string `json:"summary"`

	// StartedAt is when the incident began: when the cause happened or, where it was
	// noticed later than its first effect, when that did. UpdatedAt is when the newest
	// evidence happened; both are in event time. DetectedAt is when the first revision
	// was written, by the engine's clock; MendedAt is since when the cause is over, as an
	// event says, nil while none does; ResolvedAt is nil while the incident is predicted,
	// open or mended, then the time of its last effect or of the end of its cause, whichever
	// is later, or when it was withdrawn.
	StartedAt  time.Time  `json:"started_at"`
	DetectedAt time.Time  `json:"detected_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	MendedAt   *time.Time `json:"mended_at,omitempty"`
	ResolvedAt *time.Time `json:"resolved_at,omitempty"`

	Confidence Confidence   `json:"confidence"`
	RootCause  RootCause    `json:"root_cause"`
	Impact     Impact       `json:"impact"`
	Chain      []Link       `json:"chain"`
	Actions    Actions      `json:"actions"`
	Rejected   []Hypothesis `json:"rejected,omitempty"`
	// EarlierCauses are the root causes that earlier revisions named, oldest first, the
	// last MaxEarlierCauses of them.
	EarlierCauses []EarlierCause `json:"earlier_causes,omitempty"`
	// Missing says, in sentences, what evidence was looked for and not there.
	Missing []string `json:"missing,omitempty"`
	// HurtTraces are failed requests of this incident, oldest first, bounded;
	// Impact.FailedRequests counts them all.
	HurtTraces []HurtTrace `json:"hurt_traces,omitempty"`
	// Ending says in a sentence why the incident is over, "" while it is not.
	Ending string `json:"ending,omitempty"`
	// Resume is what the processor that wrote this revision needs to go on with the
	// incident after a restart: opaque to all others, "" when the incident is over or
	// nothing keeps findings. The processor hands it to the store directly: it is no part of
	// the OTLP form, nor of the JSON form.
	Resume string `json:"-"`
}

// TimeToDetection is the time from the start of the incident to the first revision. The
// start has the time that the sender of its record gave it, so that it is below 0 when the
// sender's clock is ahead of the engine's by at least that: then nobody knows how long it
// took.
func (f *Finding) TimeToDetection() time.Duration { return f.DetectedAt.Sub(f.StartedAt) }

// Confidence says how probable it is that the root cause is right, with the
// parts that it was computed from, each in [0,1].
type Confidence struct {
	Score        float64 `json:"score"`
	Completeness float64 `json:"completeness"`
	Reliability  float64 `json:"reliability"`
	Timing       float64 `json:"timing"`
}

// Entity is somebody to whom things happen.
type Entity struct {
	// Kind is process, container, pod, service, node, unit or address.
	Kind string `json:"kind"`
	// Name is what people call it.
	Name string `json:"name"`
	// Attributes identify it, by OpenTelemetry resource attribute keys; values
	// are string, int64, float64 or bool.
	Attributes map[string]any `json:"attributes,omitempty"`
}

// RootCause is the event that explains the incident, and to whom it happened.
type RootCause struct {
	// Event is the name of the event, such as tapio.oom.kill.
	Event  string `json:"event"`
	Entity Entity `json:"entity"`
	// Description is one sentence with the numbers of this case.
	Description string `json:"description"`
	// Evidence holds the event's attributes, such as tapio.memory.limit; values
	// are string, int64, float64 or bool.
	Evidence map[string]any `json:"evidence,omitempty"`
	// LastLines are log records of the process, run of a unit or container that ended, from
	// just before its end, the oldest first: the last ones and the last warnings, at most
	// MaxLastLines.
	LastLines []LogLine `json:"last_lines,omitempty"`
}

// MaxLastLines bounds RootCause.LastLines.
const MaxLastLines = 5

// LogLine is a log record.
type LogLine struct {
	Time time.Time `json:"time"`
	// Severity is the OpenTelemetry severity number, that of the level that the text
	// itself names where it is higher; 0 when neither says.
	Severity int `json:"severity,omitempty"`
	// Text is the body as it was received, without the middle of one that is longer than
	// 512 bytes. Whoever wrote it chose it: it may hold control characters.
	Text string `json:"text"`
}

// Impact is what the telemetry says of the users. A nil pointer means that no
// telemetry carried the number.
type Impact struct {
	FailedRequests int64 `json:"failed_requests"`
	SlowRequests   int64 `json:"slow_requests"`
	// Users is the number of distinct users, nil when no request carried one.
	Users *int64 `json:"users,omitempty"`
	// UserAttribute is the key that named the users, "" when none did.
	UserAttribute string `json:"user_attribute,omitempty"`
	// Value is the sum of ValueAttribute (an order's amount, say) over the
	// failed requests, nil when no request carried it; ValueAttribute is "" when
	// none is configured.
	Value          *float64 `json:"value,omitempty"`
	ValueAttribute string   `json:"value_attribute,omitempty"`
	// ValueRequests is how many of the failed requests carried ValueAttribute.
	ValueRequests int64 `json:"value_requests,omitempty"`
	// Gaps are times of which requests may be missing, oldest first, the last MaxGaps.
	Gaps []Gap `json:"gaps,omitempty"`
	// Services are those that failed requests passed through, without the root.
	Services []string `json:"services,omitempty"`
	// Operations are the entry operations that failed, as "service operation".
	Operations []string `json:"operations,omitempty"`
	// Criticality is the highest service.criticality among the root cause's service
	// and those that were hurt: critical, high, medium or low; "" when none says.
	Criticality string `json:"criticality,omitempty"`
	// Objectives are the service level objectives of those services, as they stand.
	Objectives []Objective `json:"objectives,omitempty"`
}

// MaxGaps bounds Impact.Gaps.
const MaxGaps = 10

// Gap is a time in which no collector ran: from the last revision before it stopped to
// its start.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Objective is how a service stands against a service level objective.
type Objective struct {
	Service string `json:"service"`
	// Promise is the objective in words, such as "99.9 % of requests in 30 days".
	Promise string `json:"promise"`
	// Severity is none, ticket or page: how much the burn matters.
	Severity string `json:"severity"`
	// Burn is the rate at which the failures that the objective allows are used up,
	// over the last BurnSeconds: at 1 they last exactly to the end of its window.
	Burn        float64 `json:"burn"`
	BurnSeconds float64 `json:"burn_seconds"`
	// Left is the share of them that is left, negative when more were used.
	Left float64 `json:"left"`
	// Requests and Bad were counted in the last CoveredSeconds.
	Requests       float64 `json:"requests"`
	Bad            float64 `json:"bad"`
	CoveredSeconds float64 `json:"covered_seconds"`
}

// Link is one step from the cause to the user. The first link is the cause.
type Link struct {
	// Key identifies the link within the finding across revisions.
	Key    string    `json:"key"`
	Time   time.Time `json:"time"`
	Layer  Layer     `json:"layer"`
	Event  string    `json:"event"`
	Entity Entity    `json:"entity"`
	// Title is one line, Detail a second one.
	Title  string `json:"title"`
	Detail string `json:"detail,omitempty"`
	// Count is how many events this link stands for, Last the time of the last.
	Count int64     `json:"count"`
	Last  time.Time `json:"last"`
	// Parent is the Key of the link that this one follows from, empty for the
	// cause; LinkedBy says through which shared identity.
	Parent   string   `json:"parent,omitempty"`
	LinkedBy LinkedBy `json:"linked_by,omitempty"`
	// Evidence of how it was linked: the shared trace id, address, pid, ...
	LinkedOn string `json:"linked_on,omitempty"`
}

// LinkedBy is the kind of identity that two linked events share.
type LinkedBy string

// The ways to link, from the surest down.
const (
	LinkedByTrace     LinkedBy = "trace"
	LinkedByProcess   LinkedBy = "process"
	LinkedByContainer LinkedBy = "container"
	LinkedByPod       LinkedBy = "pod"
	LinkedByAddress   LinkedBy = "address"
	LinkedByOwner     LinkedBy = "owner"
	LinkedByTopology  LinkedBy = "topology"
)

// Actions are what to do, most urgent first, with the numbers of this case.
type Actions struct {
	Immediate []string `json:"immediate,omitempty"`
	ShortTerm []string `json:"short_term,omitempty"`
	LongTerm  []string `json:"long_term,omitempty"`
}

// Hypothesis is an explanation that was considered and lost, best first.
type Hypothesis struct {
	Pattern string  `json:"pattern"`
	Entity  Entity  `json:"entity"`
	Score   float64 `json:"score"`
	// Reason says in a sentence why it lost.
	Reason string `json:"reason"`
}

// MaxEarlierCauses bounds Finding.EarlierCauses.
const MaxEarlierCauses = 10

// EarlierCause is a root cause that a finding named until something else was found to
// explain it better.
type EarlierCause struct {
	Pattern string `json:"pattern"`
	Title   string `json:"title"`
	Event   string `json:"event"`
	Entity  Entity `json:"entity"`
	// Confidence is the score that it had.
	Confidence float64 `json:"confidence"`
	// Revision is the last that named it, Until when it was replaced, by the engine's
	// clock.
	Revision int       `json:"revision"`
	Until    time.Time `json:"until"`
	// Reason says in a sentence why it was replaced.
	Reason string `json:"reason"`
}

// HurtTrace is a request that this incident made fail.
type HurtTrace struct {
	// TraceID and SpanID (of the span that failed first) are hexadecimal.
	TraceID string `json:"trace_id"`
	SpanID  string `json:"span_id,omitempty"`
}
