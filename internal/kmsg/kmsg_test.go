package kmsg

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

type lineCase struct {
	Line       string         `yaml:"line"`
	Event      string         `yaml:"event"`
	Attributes map[string]any `yaml:"attributes"`
}

func readLines(t testing.TB) []lineCase {
	t.Helper()
	text, err := os.ReadFile("testdata/lines.yaml")
	require.NoError(t, err)
	var cases []lineCase
	require.NoError(t, yaml.Unmarshal(text, &cases))
	return cases
}

func TestBuiltInRules(t *testing.T) {
	rules := BuiltIn()
	unseen := map[string]bool{}
	for _, name := range rules.Events() {
		unseen[name] = true
	}
	for _, c := range readLines(t) {
		ev, ok := rules.Match(c.Line)
		assert.Equal(t, c.Event, ev.Name, c.Line)
		assert.Equal(t, c.Event != "", ok, c.Line)
		delete(unseen, ev.Name)
		if c.Attributes != nil {
			assert.Equal(t, c.Attributes, attributesOf(ev), c.Line)
		}
	}
	assert.Empty(t, unseen, "events of which testdata/lines.yaml has no line")
}

func attributesOf(ev Event) map[string]any {
	m := map[string]any{}
	for _, a := range ev.Attributes {
		if a.IsInt {
			m[a.Key] = int(a.Int)
		} else {
			m[a.Key] = a.Text
		}
	}
	return m
}

func TestParseRulesNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key": {"rules:\n- {event: a.b, severity: warn, contains: x, regex: y}", "field regex not found"},
		"event":       {"rules:\n- {event: Bad, severity: warn, contains: x}", `rules[0] (Bad): event: "Bad" is not a name`},
		"severity":    {"rules:\n- {event: a.b, severity: loud, contains: x}", `severity: "loud" is not info, warn, error or fatal`},
		"contains":    {"rules:\n- {event: a.b, severity: warn}", "contains: is empty"},
		"pattern":     {"rules:\n- {event: a.b, severity: warn, contains: x, pattern: '('}", "pattern: error parsing regexp"},
		"group":       {"rules:\n- {event: a.b, severity: warn, contains: x, pattern: '(?P<c>.)', attributes: {k: int(d)}}", `attributes: k: "int(d)" names no group of the pattern (c)`},
		"attributes":  {"rules:\n- {event: a.b, severity: warn, contains: x, attributes: [k]}", "is not a mapping"},
		"too many":    {"rules:\n" + strings.Repeat("- {event: a.b, severity: warn, contains: x}\n", maxRules+1), "1001 are more than 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseRules([]byte(c.text))
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestParseRulesOfUsers(t *testing.T) {
	rules, err := ParseRules([]byte(`
rules:
  - event: acme.disk.slow
    severity: warn
    contains: "acme: "
    pattern: 'acme: disk (?P<disk>\w+)(?: took (?P<ms>\w+) ms)?'
    attributes: {acme.disk: disk, acme.ms: int(ms), acme.kind: "=slow"}
`))
	require.NoError(t, err)

	ev, ok := rules.Match("acme: disk a took 12 ms")
	assert.True(t, ok)
	assert.Equal(t, map[string]any{"acme.disk": "a", "acme.ms": 12, "acme.kind": "slow"}, attributesOf(ev))

	ev, ok = rules.Match("acme: disk a took many ms")
	assert.True(t, ok)
	assert.Equal(t, map[string]any{"acme.disk": "a", "acme.kind": "slow"}, attributesOf(ev), "no number, no attribute")

	assert.Equal(t, []string{"acme.disk", "acme.kind", "acme.ms"}, rules.Keys("acme.disk.slow"))
	empty, err := ParseRules(nil)
	assert.NoError(t, err)
	assert.Empty(t, empty)
}

func FuzzMatch(f *testing.F) {
	rules := BuiltIn()
	for _, c := range readLines(f) {
		f.Add(c.Line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		ev, ok := rules.Match(line)
		if ok != (ev.Name != "") {
			t.Errorf("%q: %v, %q", line, ok, ev.Name)
		}
		for _, a := range ev.Attributes {
			if !utf8.ValidString(a.Text) || a.Key == "" {
				t.Errorf("%q: %+v", line, a)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	rules := BuiltIn()
	for name, line := range map[string]string{
		"everyday": "docker0: port 1(veth0) entered disabled state",
		"segfault": "nginx[8812]: segfault at 0 ip 00007f2a sp 00007ffd error 4 in libc.so.6[7f2a00000000+195000]",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rules.Match(line)
			}
		})
	}
}
