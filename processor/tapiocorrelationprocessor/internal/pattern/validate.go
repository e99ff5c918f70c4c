package pattern

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"

	"github.com/yairfalse/tapio/internal/finding"
)

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
	if p.Lasts < 0 || p.Lasts > 0 && p.Alone && !p.Harmful {
		errs = append(errs, fmt.Errorf("lasts: %v: want a duration above 0, of a pattern that is harmful or not alone", p.Lasts))
	}
	if len(p.LastsWhere) > 0 && p.Lasts == 0 {
		errs = append(errs, errors.New("lasts_where: want lasts, too: after what time it is a finding"))
	}
	errs = append(errs, conditions("lasts_where", p.LastsWhere))
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
