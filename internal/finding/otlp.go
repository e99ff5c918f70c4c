package finding

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// Attribute keys of a finding's log record. What backends filter and group by
// is flat and typed; what only a reader of the finding needs as a whole (chain,
// rejected hypotheses, hurt traces) is one JSON string each, because several
// backends drop nested attributes.
const (
	KeyID            = "tapio.finding.id"
	KeyRevision      = "tapio.finding.revision"
	KeyState         = "tapio.finding.state"
	KeyPattern       = "tapio.finding.pattern"
	KeyTitle         = "tapio.finding.title"
	KeyStartedAt     = "tapio.finding.started_at"
	KeyDetectedAt    = "tapio.finding.detected_at"
	KeyMendedAt      = "tapio.finding.mended_at"
	KeyResolvedAt    = "tapio.finding.resolved_at"
	KeyConfidence    = "tapio.finding.confidence"
	KeyCompleteness  = "tapio.finding.confidence.completeness"
	KeyReliability   = "tapio.finding.confidence.reliability"
	KeyTiming        = "tapio.finding.confidence.timing"
	KeyCauseEvent    = "tapio.finding.root_cause.event"
	KeyCauseKind     = "tapio.finding.root_cause.entity.kind"
	KeyCauseName     = "tapio.finding.root_cause.entity.name"
	KeyCauseSentence = "tapio.finding.root_cause.description"
	KeyCauseEvidence = "tapio.finding.root_cause.evidence"
	// KeyCauseLastLines is JSON.
	KeyCauseLastLines = "tapio.finding.root_cause.last_lines"
	KeyFailedRequests = "tapio.impact.failed_requests"
	KeySlowRequests   = "tapio.impact.slow_requests"
	KeyUsers          = "tapio.impact.users"
	KeyUserAttribute  = "tapio.impact.user_attribute"
	KeyValue          = "tapio.impact.value"
	KeyValueAttribute = "tapio.impact.value_attribute"
	KeyValueRequests  = "tapio.impact.value_requests"
	KeyServices       = "tapio.impact.services"
	KeyOperations     = "tapio.impact.operations"
	KeyCriticality    = "tapio.impact.criticality"
	// KeyGaps is JSON.
	KeyGaps = "tapio.impact.gaps"
	// KeyObjectives is JSON.
	KeyObjectives = "tapio.impact.objectives"
	KeyImmediate  = "tapio.actions.immediate"
	KeyShortTerm  = "tapio.actions.short_term"
	KeyLongTerm   = "tapio.actions.long_term"
	KeyMissing    = "tapio.finding.missing"
	KeyChain      = "tapio.finding.chain"
	KeyRejected   = "tapio.finding.rejected"
	KeyHurtTraces = "tapio.finding.hurt_traces"
	// KeyEarlierCauses is JSON.
	KeyEarlierCauses = "tapio.finding.earlier_causes"
	KeyEnding        = "tapio.finding.ending"
)

// ErrNotFinding is returned by FromLog for a record that is no finding.
var ErrNotFinding = errors.New("not a " + event.Finding + " record")

// ToLog writes the finding into rl (an empty ResourceLogs): the resource is the
// root-cause entity, the record carries the rest. Observed is set as the
// record's ObservedTimestamp.
func (f *Finding) ToLog(rl plog.ResourceLogs, observed time.Time) error {
	if err := rl.Resource().Attributes().FromRaw(f.RootCause.Entity.Attributes); err != nil {
		return fmt.Errorf("finding %s: root cause entity: %w", f.ID, err)
	}
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(event.FindingScope)
	r := sl.LogRecords().AppendEmpty()
	r.SetEventName(event.Finding)
	r.SetTimestamp(pcommon.NewTimestampFromTime(f.UpdatedAt))
	r.SetObservedTimestamp(pcommon.NewTimestampFromTime(observed))
	r.SetTraceID(pcommon.TraceID(f.ID))
	r.SetSeverityNumber(plog.SeverityNumberError)
	switch f.State {
	case StatePredicted, StateMended:
		r.SetSeverityNumber(plog.SeverityNumberWarn)
	case StateResolved, StateWithdrawn:
		r.SetSeverityNumber(plog.SeverityNumberInfo)
	}
	r.SetSeverityText(r.SeverityNumber().String())
	r.Body().SetStr(f.Summary)

	a := r.Attributes()
	a.PutStr(KeyID, f.ID.String())
	a.PutInt(KeyRevision, int64(f.Revision))
	a.PutStr(KeyOrigin, origin(f.ID.String(), strconv.Itoa(f.Revision)))
	a.PutStr(KeyState, string(f.State))
	a.PutStr(KeyPattern, f.Pattern)
	a.PutStr(KeyTitle, f.Title)
	a.PutStr(KeyStartedAt, f.StartedAt.UTC().Format(time.RFC3339Nano))
	a.PutStr(KeyDetectedAt, f.DetectedAt.UTC().Format(time.RFC3339Nano))
	if f.MendedAt != nil {
		a.PutStr(KeyMendedAt, f.MendedAt.UTC().Format(time.RFC3339Nano))
	}
	if f.ResolvedAt != nil {
		a.PutStr(KeyResolvedAt, f.ResolvedAt.UTC().Format(time.RFC3339Nano))
	}
	if f.Ending != "" {
		a.PutStr(KeyEnding, f.Ending)
	}
	a.PutDouble(KeyConfidence, f.Confidence.Score)
	a.PutDouble(KeyCompleteness, f.Confidence.Completeness)
	a.PutDouble(KeyReliability, f.Confidence.Reliability)
	a.PutDouble(KeyTiming, f.Confidence.Timing)
	a.PutStr(KeyCauseEvent, f.RootCause.Event)
	a.PutStr(KeyCauseKind, f.RootCause.Entity.Kind)
	a.PutStr(KeyCauseName, f.RootCause.Entity.Name)
	a.PutStr(KeyCauseSentence, f.RootCause.Description)
	f.impactToLog(a)
	putStrings(a, KeyImmediate, f.Actions.Immediate)
	putStrings(a, KeyShortTerm, f.Actions.ShortTerm)
	putStrings(a, KeyLongTerm, f.Actions.LongTerm)
	putStrings(a, KeyMissing, f.Missing)
	return errors.Join(
		putJSON(a, KeyGaps, f.Impact.Gaps, len(f.Impact.Gaps)),
		putJSON(a, KeyObjectives, f.Impact.Objectives, len(f.Impact.Objectives)),
		putJSON(a, KeyCauseEvidence, f.RootCause.Evidence, len(f.RootCause.Evidence)),
		putJSON(a, KeyCauseLastLines, f.RootCause.LastLines, len(f.RootCause.LastLines)),
		putJSON(a, KeyChain, f.Chain, len(f.Chain)),
		putJSON(a, KeyRejected, f.Rejected, len(f.Rejected)),
		putJSON(a, KeyEarlierCauses, f.EarlierCauses, len(f.EarlierCauses)),
		putJSON(a, KeyHurtTraces, f.HurtTraces, len(f.HurtTraces)),
	)
}

func (f *Finding) impactToLog(a pcommon.Map) {
	a.PutInt(KeyFailedRequests, f.Impact.FailedRequests)
	a.PutInt(KeySlowRequests, f.Impact.SlowRequests)
	// The keys are written without the numbers too: they say what was looked for.
	if f.Impact.Users != nil {
		a.PutInt(KeyUsers, *f.Impact.Users)
	}
	if f.Impact.UserAttribute != "" {
		a.PutStr(KeyUserAttribute, f.Impact.UserAttribute)
	}
	if f.Impact.Value != nil {
		a.PutDouble(KeyValue, *f.Impact.Value)
	}
	if f.Impact.ValueAttribute != "" {
		a.PutStr(KeyValueAttribute, f.Impact.ValueAttribute)
	}
	if f.Impact.ValueRequests > 0 {
		a.PutInt(KeyValueRequests, f.Impact.ValueRequests)
	}
	putStrings(a, KeyServices, f.Impact.Services)
	putStrings(a, KeyOperations, f.Impact.Operations)
	if f.Impact.Criticality != "" {
		a.PutStr(KeyCriticality, f.Impact.Criticality)
	}
}

// FromLog reads a finding back from the record that ToLog wrote. It returns
// ErrNotFinding for records of another event, and an error that names the
// attribute for one that is damaged. Attributes it does not know are ignored.
func FromLog(res pcommon.Resource, r plog.LogRecord) (*Finding, error) {
	if r.EventName() != event.Finding {
		return nil, ErrNotFinding
	}
	d := decoder{a: r.Attributes()}
	f := &Finding{
		Revision:  int(d.int(KeyRevision)),
		State:     State(d.str(KeyState)),
		Pattern:   d.str(KeyPattern),
		Title:     d.str(KeyTitle),
		Summary:   r.Body().AsString(),
		UpdatedAt: r.Timestamp().AsTime(),
		StartedAt: d.time(KeyStartedAt), DetectedAt: d.time(KeyDetectedAt),
		Confidence: Confidence{
			Score: d.float(KeyConfidence), Completeness: d.float(KeyCompleteness),
			Reliability: d.float(KeyReliability), Timing: d.float(KeyTiming),
		},
		RootCause: RootCause{
			Event: d.str(KeyCauseEvent), Description: d.str(KeyCauseSentence),
			Entity: Entity{Kind: d.str(KeyCauseKind), Name: d.str(KeyCauseName)},
		},
		Impact: d.impact(),
		Actions: Actions{
			Immediate: d.strings(KeyImmediate), ShortTerm: d.strings(KeyShortTerm), LongTerm: d.strings(KeyLongTerm),
		},
		Missing: d.strings(KeyMissing), Ending: d.optional(KeyEnding),
	}
	if res.Attributes().Len() > 0 {
		f.RootCause.Entity.Attributes = res.Attributes().AsRaw()
		d.finite(f.RootCause.Entity.Attributes)
	}
	f.MendedAt, f.ResolvedAt = d.optionalTime(KeyMendedAt), d.optionalTime(KeyResolvedAt)
	f.RootCause.Evidence = d.attributes(KeyCauseEvidence)
	d.json(KeyCauseLastLines, &f.RootCause.LastLines)
	d.json(KeyChain, &f.Chain)
	d.json(KeyRejected, &f.Rejected)
	d.json(KeyEarlierCauses, &f.EarlierCauses)
	d.json(KeyHurtTraces, &f.HurtTraces)
	id, err := ParseID(d.str(KeyID))
	if err != nil {
		d.fail(KeyID, err)
	}
	f.ID = id
	if f.Revision < 1 {
		d.fail(KeyRevision, errors.New("want a whole number from 1"))
	}
	if err := f.State.Check(); err != nil {
		d.fail(KeyState, err)
	}
	if d.err != nil {
		return nil, d.err
	}
	return f, nil
}

// decoder reads attributes and keeps the first error.
type decoder struct {
	a   pcommon.Map
	err error
}

func (d *decoder) fail(key string, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("%s record: attribute %s: %w", event.Finding, key, err)
	}
}

func (d *decoder) str(key string) string {
	v, ok := d.a.Get(key)
	if !ok {
		d.fail(key, errors.New("missing"))
		return ""
	}
	return v.AsString()
}

func (d *decoder) optional(key string) string {
	v, ok := d.a.Get(key)
	if !ok {
		return ""
	}
	return v.AsString()
}

func (d *decoder) int(key string) int64 {
	v, ok := d.a.Get(key)
	if !ok || v.Type() != pcommon.ValueTypeInt {
		d.fail(key, errors.New("want an integer"))
		return 0
	}
	return v.Int()
}

func (d *decoder) float(key string) float64 {
	v, ok := d.a.Get(key)
	if !ok || v.Type() != pcommon.ValueTypeDouble {
		d.fail(key, errors.New("want a number"))
		return 0
	}
	x := v.Double()
	if !isFinite(x) {
		// JSON, the form in which findings are kept and served, has neither.
		d.fail(key, fmt.Errorf("want a finite number, got %v", x))
		return 0
	}
	return x
}

// finite fails on NaN and the infinities, which JSON cannot hold.
func (d *decoder) finite(m map[string]any) {
	for k, v := range m {
		if !isFinite(v) {
			d.fail(k, errors.New("want finite numbers"))
		}
	}
}

func isFinite(v any) bool {
	switch v := v.(type) {
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !isFinite(e) })
	case map[string]any:
		for _, e := range v {
			if !isFinite(e) {
				return false
			}
		}
	}
	return true
}

func (d *decoder) time(key string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, d.str(key))
	if err != nil {
		d.fail(key, err)
		return time.Time{}
	}
	if t.Before(minTime) || t.After(maxTime) {
		d.fail(key, fmt.Errorf("%s is out of range: want %d to %d", t.Format(time.RFC3339), minTime.Year(), maxTime.Year()))
		return time.Time{}
	}
	return t.UTC()
}

// optionalTime returns nil where the attribute is not there.
func (d *decoder) optionalTime(key string) *time.Time {
	if _, ok := d.a.Get(key); !ok {
		return nil
	}
	t := d.time(key)
	return &t
}

// minTime and maxTime bound what an OTLP timestamp, which counts nanoseconds
// since 1970, can hold in an int64.
var minTime, maxTime = time.Unix(0, 0).UTC(), time.Unix(0, math.MaxInt64).UTC()

func (d *decoder) strings(key string) []string {
	v, ok := d.a.Get(key)
	if !ok || v.Type() != pcommon.ValueTypeSlice {
		return nil
	}
	out := make([]string, 0, v.Slice().Len())
	for _, e := range v.Slice().All() {
		out = append(out, e.AsString())
	}
	return out
}

func (d *decoder) json(key string, into any) {
	v, ok := d.a.Get(key)
	if !ok {
		return
	}
	if err := json.Unmarshal([]byte(v.AsString()), into); err != nil {
		d.fail(key, err)
	}
}

func (d *decoder) attributes(key string) map[string]any {
	v, ok := d.a.Get(key)
	if !ok {
		return nil
	}
	m, err := decodeAttributes([]byte(v.AsString()))
	if err != nil {
		d.fail(key, err)
	}
	return m
}

func (d *decoder) impact() Impact {
	m := Impact{
		FailedRequests: d.int(KeyFailedRequests), SlowRequests: d.int(KeySlowRequests),
		Services: d.strings(KeyServices), Operations: d.strings(KeyOperations),
		UserAttribute: d.optional(KeyUserAttribute), ValueAttribute: d.optional(KeyValueAttribute),
	}
	m.Criticality = d.optional(KeyCriticality)
	d.json(KeyObjectives, &m.Objectives)
	d.json(KeyGaps, &m.Gaps)
	if _, ok := d.a.Get(KeyValueRequests); ok {
		m.ValueRequests = d.int(KeyValueRequests)
	}
	if _, ok := d.a.Get(KeyUsers); ok {
		n := d.int(KeyUsers)
		m.Users = &n
	}
	if _, ok := d.a.Get(KeyValue); ok {
		x := d.float(KeyValue)
		m.Value = &x
	}
	return m
}

func putStrings(a pcommon.Map, key string, vs []string) {
	if len(vs) == 0 {
		return
	}
	s := a.PutEmptySlice(key)
	s.EnsureCapacity(len(vs))
	for _, v := range vs {
		s.AppendEmpty().SetStr(v)
	}
}

func putJSON(a pcommon.Map, key string, v any, n int) error {
	if n == 0 {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("finding: attribute %s: %w", key, err)
	}
	a.PutStr(key, string(b))
	return nil
}
