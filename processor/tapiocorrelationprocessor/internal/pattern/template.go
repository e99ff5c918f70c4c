package pattern

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/exitstatus"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Values are what a pattern's templates can name: {{.Service}}, {{.Entity}} (the
// cause's entity in words), {{.Caller}} (the first service whose calls failed),
// {{.Address}}, {{.Failed}}, {{.Slow}} (hurt requests), {{.Since}} (the cause's
// time), {{failed}} for "12 requests have failed", and {{attr "key"}} for an attribute of the cause's event, {{bytes
// "key"}} for one that is a size, {{has "key"}}, {{amount "key"}} for one in the unit that
// tapio.metric.unit names, {{raise "key" 1.5}} for a
// size times a factor, {{ended}} for how a unit's process ended ("" when that is not known),
// {{notrun}} for why systemd did not even run it ("" when it did), and {{with seen "event"}} for the last effect of that name: {{.Body}}, {{.At}}, {{.Attr
// "key"}}.
type Values struct {
	Service, Version, Entity, Caller, Address string
	Failed, Slow                              int64
	Since                                     string
	// Predicted: the cause has no effect yet.
	Predicted bool
	// FailedUnits are "on ", the host of the cause, and its units that are failed, each with
	// since when; "" for none known.
	FailedUnits string
	// Attributes are those of the cause's event and entity.
	Attributes map[string]any
	// Seen are the last effects, by the name of their event.
	Seen map[string]*Seen
}

// Seen is an effect as templates see it: what it says, and when it was, for people.
type Seen struct {
	Body, At string
	detail   *record.Detail
}

// NewSeen returns what templates see of an event.
func NewSeen(at int64, d *record.Detail) *Seen { return &Seen{d.Body, Clock(at), d} }

// Attr is an attribute of the effect in words.
func (s *Seen) Attr(key string) string { return words(s.detail.Attr(key)) }

// funcs are bound to no values: they are there for parsing and replaced at
// execution.
var funcs = (&Values{}).funcs()

func (v *Values) funcs() template.FuncMap {
	return template.FuncMap{
		"has":    func(key string) bool { return v.Attributes[key] != nil },
		"attr":   func(key string) string { return words(v.Attributes[key]) },
		"bytes":  func(key string) string { return v.size(key, 1) },
		"raise":  v.size,
		"amount": v.amount,
		"seen":   func(name string) *Seen { return v.Seen[name] },
		"ended":  v.ended,
		"notrun": v.notRun,
		"failed": func() string {
			if v.Failed == 1 {
				return "1 request has failed"
			}
			return fmt.Sprintf("%d requests have failed", v.Failed)
		},
	}
}

// ended says how the process of a unit ended.
func (v *Values) ended() string {
	who := "its main process"
	if command := v.Attributes[event.KeySystemdUnitCommand]; command != nil {
		who = "the process of its " + words(command)
	}
	if code, ok := v.Attributes[event.KeyProcessExitCode].(int64); ok {
		return who + " ended with exit code " + exitstatus.Words(code)
	}
	if name := v.Attributes[event.KeyExitSignalName]; name != nil {
		return who + " ended by " + words(name)
	}
	return ""
}

// notRun says what systemd could not do before it ran the process of a unit.
func (v *Values) notRun() string {
	code, _ := v.Attributes[event.KeyProcessExitCode].(int64)
	_, meaning := exitstatus.Name(code)
	return meaning
}

// amount writes an attribute in the unit that tapio.metric.unit names.
func (v *Values) amount(key string) string {
	n, ok := asNumber(v.Attributes[key])
	if !ok {
		return "unknown"
	}
	switch unit := words(v.Attributes["tapio.metric.unit"]); unit {
	case "By":
		return Bytes(n)
	case "1":
		return fmt.Sprintf("%.0f %%", 100*n)
	default:
		return fmt.Sprintf("%.3g %s", n, strings.Trim(unit, "{}"))
	}
}

func words(v any) string {
	switch v := v.(type) {
	case nil:
		return "unknown"
	case []string:
		return strings.Join(v, ", ")
	}
	return fmt.Sprint(v)
}

func (v *Values) size(key string, factor float64) string {
	n, ok := asNumber(v.Attributes[key])
	if !ok {
		return "unknown"
	}
	return Bytes(n * factor)
}

// Bytes writes a size the way people say it: 64.0 MiB.
func Bytes(n float64) string {
	unit, units := 0, []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for n >= 1024 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}

func (p *Pattern) compile() error {
	var errs []error
	one := func(key, text string) *template.Template {
		t, err := template.New(key).Funcs(funcs).Option("missingkey=error").Parse(text)
		if err == nil {
			// Run it once: a field that does not exist is an error now, not at night.
			_, err = render(t, &Values{Attributes: map[string]any{}})
		}
		if err != nil {
			errs = append(errs, err)
		}
		return t
	}
	all := func(key string, texts []string) (out []*template.Template) {
		for i, text := range texts {
			out = append(out, one(fmt.Sprintf("%s[%d]", key, i), text))
		}
		return out
	}
	p.title, p.description = one("title", p.Title), one("description", p.Description)
	p.notObserved = all("not_observed", p.NotObserved)
	p.immediate = all("actions.immediate", p.Actions.Immediate)
	p.shortTerm = all("actions.short_term", p.Actions.ShortTerm)
	p.longTerm = all("actions.long_term", p.Actions.LongTerm)
	for i := range p.Changes {
		p.Changes[i].text = one(fmt.Sprintf("changes[%d].text", i), p.Changes[i].Text)
	}
	for i := range p.Effects {
		p.Effects[i].missing = one(fmt.Sprintf("effects[%d].missing", i), p.Effects[i].Missing)
	}
	return errors.Join(errs...)
}

func render(t *template.Template, v *Values) (string, error) {
	clone, err := t.Clone()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := clone.Funcs(v.funcs()).Execute(&b, v); err != nil {
		return "", err
	}
	return strings.Join(strings.Fields(b.String()), " "), nil
}

// text renders a template that compile has run before; an error that only these
// values cause is shown in its place instead of hiding the finding.
func text(t *template.Template, v *Values) string {
	s, err := render(t, v)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return s
}

func texts(ts []*template.Template, v *Values) []string {
	var out []string
	for _, t := range ts {
		if s := text(t, v); s != "" { // a conditional action can be empty
			out = append(out, s)
		}
	}
	return out
}

// TitleFor renders the title.
func (p *Pattern) TitleFor(v *Values) string { return text(p.title, v) }

// DescriptionFor renders the description.
func (p *Pattern) DescriptionFor(v *Values) string { return text(p.description, v) }

// NotObservedFor renders what no receiver can see.
func (p *Pattern) NotObservedFor(v *Values) []string { return texts(p.notObserved, v) }

// ActionsFor renders the actions.
func (p *Pattern) ActionsFor(v *Values) finding.Actions {
	immediate := texts(p.immediate, v)
	if p.Runbook != "" {
		immediate = append([]string{"Follow the runbook: " + p.Runbook}, immediate...)
	}
	return finding.Actions{
		Immediate: immediate, ShortTerm: texts(p.shortTerm, v), LongTerm: texts(p.longTerm, v),
	}
}

// TextFor renders what was done.
func (c *Change) TextFor(v *Values) string { return text(c.text, v) }

// MissingFor renders what to say when the effect was not seen, "" for nothing.
func (e *Effect) MissingFor(v *Values) string { return text(e.missing, v) }

// Clock writes a time of day for people, in UTC.
func Clock(ns int64) string { return time.Unix(0, ns).UTC().Format("15:04:05.000 UTC") }
