// Package kmsg names what the kernel says: rules turn a line of its log into an
// event with attributes. The kernel has no tracepoint for most of what it prints
// in need, so that its text is the only witness of a soft lockup, a damaged
// filesystem or a broken memory module.
//
// The rules are data (rules.yaml, and files of the user's own in the same form).
// Where a line comes from does not matter: Open reads /dev/kmsg, ParseRecord one
// record of it, and the journal has the same lines with _TRANSPORT=kernel.
package kmsg

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.yaml.in/yaml/v3"
)

//go:embed rules.yaml
var builtIn []byte

// Bounds of what a rule may be and of what is read of a line.
const (
	// maxRules bounds a file of rules.
	maxRules = 1000
	// maxLine is as much of a line as rules see; the kernel's own limit is 1024.
	maxLine = 4096
)

// Severities that a rule may name.
var severities = map[string]plog.SeverityNumber{
	"info": plog.SeverityNumberInfo, "warn": plog.SeverityNumberWarn,
	"error": plog.SeverityNumberError, "fatal": plog.SeverityNumberFatal,
}

// eventName is what an event may be called.
var eventName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)

// named is a line that begins with the name of a process, which may be 15 bytes of
// anything, and in group 1 what the kernel writes behind it: longer than a name, so
// that no name within another line looks like it.
var named = regexp.MustCompile(`(?s)^.{0,15}(\[\d+\]: segfault at |\[\d+\]: unhandled (?:signal|exception)|\[\d+\] bad frame in |\[\d+\] vsyscall attempted |` +
	` \(\d+\)(?:: drop_caches: | used greatest stack depth| uses deprecated )| invoked oom-killer: |: page allocation (?:failure|stalls)|: vmalloc error: size |: potentially unexpected fatal signal )`)

// Event is what a line says.
type Event struct {
	// Name is the event's name, such as tapio.kernel.soft_lockup.
	Name     string
	Severity plog.SeverityNumber
	// Attributes are in the order of the rule.
	Attributes []Attribute
}

// Attribute is one attribute of an event.
type Attribute struct {
	Key string
	// Text is the value, unless IsInt says that Int is.
	Text  string
	Int   int64
	IsInt bool
}

// Rule recognises one kind of line.
type Rule struct {
	// Event is the name of the event.
	Event string `yaml:"event"`
	// Severity is info, warn, error or fatal.
	Severity string `yaml:"severity"`
	// Contains is a text that every such line has; it is looked for first.
	Contains string `yaml:"contains"`
	// Pattern is a regular expression (RE2) that must match somewhere in the line;
	// without one, Contains decides. Of a line that begins with the name of a process,
	// Contains must be in what the kernel wrote behind that name.
	Pattern string `yaml:"pattern"`
	// Attributes are keys with the name of a group of Pattern, "int(group)" when
	// the value is a number, or "=text" for a fixed text. A group that matched
	// nothing, or no number, gives no attribute.
	Attributes yaml.Node `yaml:"attributes"`

	severity   plog.SeverityNumber
	pattern    *regexp.Regexp
	attributes []source
}

// source says where an attribute comes from.
type source struct {
	key, fixed string
	group      int
	isInt      bool
}

// Rules recognise lines; the first that fits counts. They are safe for
// concurrent use.
type Rules []Rule

// BuiltIn returns the rules of this package.
func BuiltIn() Rules {
	rules, err := ParseRules(builtIn)
	if err != nil { // tested
		panic(err)
	}
	return rules
}

// ParseRules reads rules: a YAML document with the key rules, a list of Rule.
// The error names the rule, the key and the value that is wrong.
func ParseRules(text []byte) (Rules, error) {
	var file struct {
		Rules []Rule `yaml:"rules"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if n := len(file.Rules); n > maxRules {
		return nil, fmt.Errorf("rules: %d are more than %d", n, maxRules)
	}
	var errs []error
	for i := range file.Rules {
		if err := file.Rules[i].compile(); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d] (%s): %w", i, file.Rules[i].Event, err))
		}
	}
	return file.Rules, errors.Join(errs...)
}

// compile checks a rule.
func (r *Rule) compile() error {
	var errs []error
	if !eventName.MatchString(r.Event) {
		errs = append(errs, fmt.Errorf("event: %q is not a name such as tapio.kernel.soft_lockup", r.Event))
	}
	var ok bool
	if r.severity, ok = severities[r.Severity]; !ok {
		errs = append(errs, fmt.Errorf("severity: %q is not info, warn, error or fatal", r.Severity))
	}
	if r.Contains == "" {
		errs = append(errs, errors.New("contains: is empty; every rule needs a text that its lines have, so that others cost nothing"))
	}
	var groups []string
	if r.Pattern != "" {
		var err error
		if r.pattern, err = regexp.Compile(r.Pattern); err != nil {
			errs = append(errs, fmt.Errorf("pattern: %w", err))
		} else {
			groups = r.pattern.SubexpNames()
		}
	}
	return errors.Join(append(errs, r.compileAttributes(groups))...)
}

// compileAttributes reads the mapping itself, to keep its order.
func (r *Rule) compileAttributes(groups []string) error {
	if r.Attributes.Kind == 0 {
		return nil
	}
	if r.Attributes.Kind != yaml.MappingNode {
		return fmt.Errorf("attributes: line %d is not a mapping of keys to groups", r.Attributes.Line)
	}
	var errs []error
	for i := 0; i+1 < len(r.Attributes.Content); i += 2 {
		s := source{key: r.Attributes.Content[i].Value}
		value := r.Attributes.Content[i+1].Value
		if fixed, ok := strings.CutPrefix(value, "="); ok {
			s.fixed = fixed
			r.attributes = append(r.attributes, s)
			continue
		}
		name := value
		if inner, ok := strings.CutPrefix(value, "int("); ok {
			name, s.isInt = strings.TrimSuffix(inner, ")"), true
		}
		if s.group = slices.Index(groups, name); s.group < 1 || name == "" {
			errs = append(errs, fmt.Errorf("attributes: %s: %q names no group of the pattern (%s)", s.key, value,
				strings.Join(slices.DeleteFunc(slices.Clone(groups), func(g string) bool { return g == "" }), ", ")))
			continue
		}
		r.attributes = append(r.attributes, s)
	}
	return errors.Join(errs...)
}

// Match returns the event that a line of the kernel's log is, if it is one.
func (rs Rules) Match(line string) (Event, bool) {
	if len(line) > maxLine {
		line = line[:maxLine]
	}
	text := line
	if name := named.FindStringSubmatch(line); name != nil {
		text = name[1]
	}
	for i := range rs {
		if !strings.Contains(text, rs[i].Contains) {
			continue
		}
		if ev, ok := rs[i].match(line); ok {
			return ev, true
		}
	}
	return Event{}, false
}

func (r *Rule) match(line string) (Event, bool) {
	var groups []string
	if r.pattern != nil {
		if groups = r.pattern.FindStringSubmatch(line); groups == nil {
			return Event{}, false
		}
	}
	ev := Event{Name: r.Event, Severity: r.severity}
	for _, s := range r.attributes {
		if a, ok := s.attribute(groups); ok {
			ev.Attributes = append(ev.Attributes, a)
		}
	}
	return ev, true
}

func (s source) attribute(groups []string) (Attribute, bool) {
	if s.fixed != "" {
		return Attribute{Key: s.key, Text: s.fixed}, true
	}
	text := strings.ToValidUTF8(strings.TrimSpace(groups[s.group]), "�")
	if !s.isInt {
		return Attribute{Key: s.key, Text: text}, text != ""
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return Attribute{Key: s.key, Int: n, IsInt: true}, err == nil
}

// Events returns the names of all events that the rules make, sorted.
func (rs Rules) Events() []string {
	var names []string
	for i := range rs {
		names = append(names, rs[i].Event)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Keys returns the attribute keys of all rules for one event, sorted.
func (rs Rules) Keys(event string) []string {
	var keys []string
	for i := range rs {
		if rs[i].Event != event {
			continue
		}
		for _, s := range rs[i].attributes {
			keys = append(keys, s.key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
