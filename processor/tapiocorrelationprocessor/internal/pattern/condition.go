package pattern

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

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

func testsBody(where []Condition) bool {
	return slices.ContainsFunc(where, func(c Condition) bool {
		return c.OTTL != "" || c.Key == KeyBody && (len(c.Contains) > 0 || c.Matches != "")
	})
}
