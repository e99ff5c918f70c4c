package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/axiomhq/hyperloglog"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// savedVersion is raised when what is saved changes its meaning.
const savedVersion = 1

// saved is what of an incident its finding does not say: finding.Finding.Resume, as JSON.
type saved struct {
	Version   int    `json:"version"`
	Processor string `json:"processor"`
	// Known are the entities that the rest names by their place.
	Known      []topology.Remembered `json:"known"`
	Hypothesis explain.Saved         `json:"hypothesis"`
	Users      []byte                `json:"users,omitempty"` // the sketch of those that were counted
	Hurt       []topology.Nth        `json:"hurt,omitempty"`  // services
	Unvalued   []string              `json:"unvalued,omitempty"`
	EntryKey   string                `json:"entry_key,omitempty"`
	Witnessed  bool                  `json:"witnessed,omitempty"`
	At         int64                 `json:"at,omitempty"` // when the revision was written
}

// Keep makes revisions carry what Resume needs to go on after a restart. processor says
// whose incidents they are.
func (i *Incident) Keep(processor string) { i.processor = processor }

// resume is what a next start needs, "" when nothing keeps findings or there is nothing
// to go on with.
func (i *Incident) resume(now int64) string {
	if i.processor == "" || i.resolved != 0 {
		return ""
	}
	hurt := i.Services()
	known, at := i.graph.Remember(append(i.Hypothesis.Named(), hurt...)...)
	s := saved{
		Version: savedVersion, Processor: i.processor, Known: known, Hypothesis: i.Hypothesis.Save(at),
		EntryKey: i.entryKey, Witnessed: i.witnessed, At: now,
	}
	if i.options.ValueAttribute != "" {
		s.Unvalued = slices.Clone(i.unvalued)
	}
	for _, id := range hurt {
		s.Hurt = append(s.Hurt, at[id])
	}
	if i.userKey != "" {
		s.Users, _ = i.users.MarshalBinary() // its precision is valid: cannot fail
	}
	text, err := json.Marshal(s)
	if err != nil { // an attribute that is no number: the finding can still be ended by a next start
		text, _ = json.Marshal(saved{Version: savedVersion, Processor: i.processor})
	}
	return string(text)
}

// Whose returns the processor that a finding says wrote it, "" when it does not say.
func Whose(f *finding.Finding) string {
	var s struct {
		Processor string `json:"processor"`
	}
	_ = json.Unmarshal([]byte(f.Resume), &s) // damaged: nobody's
	return s.Processor
}

// Resume makes the incident of a finding again, which an engine before had left open, to
// go on with it from now on. An error says why it cannot be followed any more.
func Resume(g *topology.Graph, p *pattern.Pattern, f *finding.Finding, o Options, now int64) (*Incident, error) {
	var s saved
	if err := json.Unmarshal([]byte(f.Resume), &s); err != nil {
		return nil, fmt.Errorf("what was kept of it is damaged: %w", err)
	}
	if s.Version != savedVersion || len(s.Known) == 0 {
		return nil, errors.New("what was kept of it is of another version")
	}
	ids := g.Recall(s.Known)
	h, err := explain.Resume(g, p, &s.Hypothesis, f.Chain, ids, now)
	if err != nil {
		return nil, err
	}
	h.LastLines = f.RootCause.LastLines
	i := New(g, h, o)
	i.id, i.revision, i.processor = f.ID, f.Revision, s.Processor
	i.detected, i.updated = f.DetectedAt.UnixNano(), f.UpdatedAt.UnixNano()
	i.witnessed, i.entryKey, i.Dirty = s.Witnessed, s.EntryKey, false
	if f.State == finding.StatePredicted {
		i.Predict()
	}
	i.said, i.earlier = says(f), slices.Clone(f.EarlierCauses)
	i.count(f, s.Users)
	i.gap(f, s.At, now)
	i.unvalued = s.Unvalued[:min(len(s.Unvalued), maxUnvalued)]
	for _, n := range s.Hurt {
		if n > 0 && int(n) <= len(ids) && ids[n-1] != 0 && ids[n-1] != h.Service {
			i.hurt[ids[n-1]] = true
		}
	}
	i.Rejected, i.lost = slices.Clone(f.Rejected), slices.Clone(f.Rejected)
	return i, nil
}

// gap notes the time in which nobody counted.
func (i *Incident) gap(f *finding.Finding, from, to int64) {
	if from == 0 { // an earlier version did not say
		from = f.UpdatedAt.UnixNano()
	}
	gaps := slices.Clone(f.Impact.Gaps)
	if from < to {
		gaps = append(gaps, finding.Gap{From: record.UTC(from), To: record.UTC(to)})
	}
	i.gaps = gaps[max(0, len(gaps)-finding.MaxGaps):]
}

// count goes on with the numbers of a finding.
func (i *Incident) count(f *finding.Finding, users []byte) {
	m := &f.Impact
	i.failed, i.slow = m.FailedRequests, m.SlowRequests
	i.Hypothesis.Count(i.failed, i.slow)
	if sketch := hyperloglog.New14(); len(users) > 0 && sketch.UnmarshalBinary(users) == nil {
		i.users, i.userKey = sketch, m.UserAttribute
	}
	if m.Value != nil {
		i.value, i.valuable = *m.Value, max(m.ValueRequests, 1) // an earlier version did not count them
	}
	for _, name := range m.Services {
		i.services[name] = true
	}
	for _, name := range m.Operations {
		i.operations[name] = true
	}
	i.traces = slices.Clone(f.HurtTraces)
	i.before = map[string]bool{}
	for _, t := range i.traces {
		i.before[t.TraceID] = t.SpanID != "" // those without were not counted as requests
	}
	for _, l := range f.Chain {
		if l.Key == businessKey {
			i.business = &l
		}
	}
}

// countedBefore tells whether a request was counted before a restart: its other spans
// came then.
func (i *Incident) countedBefore(id record.TraceID) bool {
	return i.before != nil && i.before[id.String()]
}
