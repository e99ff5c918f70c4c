package patterns

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// whyNot says why a scenario gives no finding of a pattern. It plays the scenario again
// with that pattern asking for its cause alone and any confidence being enough, and says
// what the best hypothesis lacks; where there is none, what differs from the cause.
func whyNot(ctx context.Context, s *Scenario, id string, config func() (*tapiocorrelationprocessor.Config, error)) (string, error) {
	cfg, err := config()
	if err != nil {
		return "", err
	}
	all, err := pattern.LoadAll(cfg.Patterns.Directory)
	if err != nil {
		return "", err
	}
	n := slices.IndexFunc(all, func(p *pattern.Pattern) bool { return p.ID == id })
	if n < 0 {
		return fmt.Sprintf("there is no pattern %s", id), nil
	}
	wanted := cfg.MinScore
	cfg.MinScore, cfg.Patterns.OnCauseAlone = 0, []string{id}
	found, err := Play(ctx, s, cfg)
	if err != nil {
		return "", err
	}
	var best *finding.Finding
	var others []string
	for _, f := range found {
		switch {
		case f.Pattern != id:
			others = append(others, f.Pattern)
		case best == nil || f.Confidence.Score > best.Confidence.Score:
			best = f
		}
	}
	if best != nil {
		return lacks(best, all[n], wanted), nil
	}
	reason, err := causeDiffers(s, all[n])
	switch {
	case err != nil || reason != "":
		return reason, err
	case len(others) > 0:
		return "its cause is seen, but explained by " + strings.Join(others, ", "), nil
	case all[n].Cause.MinCount > 1:
		return fmt.Sprintf("its cause is seen, but not %d times of one entity within %v (min_count, count_within)", all[n].Cause.MinCount, all[n].Cause.CountWithin), nil
	}
	return "its cause is seen, but the processor makes nothing of it: are severity (17 is ERROR) and resource those of a real record?", nil
}

// lacks says what keeps a hypothesis from being a finding.
func lacks(f *finding.Finding, p *pattern.Pattern, minScore float64) string {
	e := f.RootCause.Entity
	parts := []string{fmt.Sprintf("its best hypothesis is of %s %s with a confidence of %.2f (completeness %.2f, reliability %.2f, timing %.2f)",
		e.Kind, e.Name, f.Confidence.Score, f.Confidence.Completeness, f.Confidence.Reliability, f.Confidence.Timing)}
	if f.Confidence.Score < minScore {
		parts = append(parts, fmt.Sprintf("min_score is %v", minScore))
	}
	if hurt := f.Impact.FailedRequests + f.Impact.SlowRequests; !p.Alone && hurt < int64(p.MinTraces) {
		parts = append(parts, fmt.Sprintf("min_traces is %d, and %d requests are seen to be hurt by it (a failed one is a server span with an error status: see requests in the README of the processor)", p.MinTraces, hurt))
	}
	if len(parts) == 1 {
		parts = append(parts, "that is enough, but what it explains is another finding's")
	}
	seen := map[string]bool{}
	for _, l := range f.Chain {
		seen[l.Event] = true
	}
	for _, x := range p.Effects {
		if !seen[x.Event] {
			parts = append(parts, "not seen: "+effect(x))
		}
	}
	return strings.Join(parts, "; ")
}

// effect is an effect in a few words.
func effect(x pattern.Effect) string {
	kind := ""
	switch {
	case x.Required:
		kind = "required "
	case x.Optional:
		kind = "optional "
	case x.Precursor:
		kind = "precursor "
	}
	return fmt.Sprintf("%s%s (%s, within %v, weight %v)", kind, x.Event, x.Relation, x.Within, x.Weight)
}

// causeDiffers says how the events of a scenario differ from the cause of a pattern, ""
// when one does not.
func causeDiffers(s *Scenario, p *pattern.Pattern) (string, error) {
	records, err := pattern.RecordsOf([]*pattern.Pattern{p})
	if err != nil {
		return "", err
	}
	reason := fmt.Sprintf("no event is its cause, %s", p.Cause.Event)
	if len(s.Metrics)+len(s.Requests) > 0 {
		reason += ", and none is derived from metrics or requests"
	}
	for i := range s.Events {
		e := &s.Events[i]
		if !p.Cause.Is(e.name()) {
			continue
		}
		d, err := e.detail(records)
		if err != nil {
			return "", err
		}
		differs := pattern.Differs(p.Cause.Where, d)
		if differs == "" {
			return "", nil
		}
		reason = fmt.Sprintf("events[%d] is not its cause: %s", i, differs)
	}
	return reason, nil
}

// detail is what conditions see of the event.
func (e *Event) detail(records *pattern.Records) (*record.Detail, error) {
	ld, err := e.logs()
	if err != nil {
		return nil, err
	}
	d := &record.Detail{Body: e.Body}
	rl := ld.ResourceLogs().At(0)
	r := rl.ScopeLogs().At(0).LogRecords().At(0)
	for key, v := range r.Attributes().All() {
		d.Attrs = append(d.Attrs, record.Attr{Key: key, Value: v.AsRaw()})
	}
	if records != nil {
		met, _ := records.Met(e.name(), rl, rl.ScopeLogs().At(0), r)
		for _, key := range met {
			d.Attrs = append(d.Attrs, record.Attr{Key: key, Value: true})
		}
	}
	return d, nil
}

// name is the name by which patterns know the event.
func (e *Event) name() string {
	if e.Event == "" {
		return pattern.Log
	}
	return e.Event
}
