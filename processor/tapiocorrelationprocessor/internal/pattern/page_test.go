package pattern

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = "../../../../docs/patterns.md"

// TestPage compares docs/patterns.md with the library; UPDATE=1 writes it anew.
func TestPage(t *testing.T) {
	patterns, err := Library()
	require.NoError(t, err)
	want := pageOf(patterns)
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o600))
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Equal(t, want, string(got), "run UPDATE=1 go test -run TestPage ./processor/tapiocorrelationprocessor/internal/pattern")
}

// pageOf writes the page.
func pageOf(patterns []*Pattern) string {
	var b strings.Builder
	b.WriteString(head)
	for _, p := range patterns {
		needs := fmt.Sprintf("%d hurt requests", p.MinTraces)
		if p.MinTraces == 1 {
			needs = "1 hurt request"
		}
		if p.Lasts > 0 {
			needs += fmt.Sprintf(", or that it goes on for %v%s", p.Lasts, whereWords(p.LastsWhere))
		}
		if p.Alone {
			needs = "nothing more"
		}
		if p.Harmful {
			needs = "one of the effects"
		}
		var effects []string
		for _, e := range p.Effects {
			effects = append(effects, effectWords(&e))
			if e.Required {
				needs = "what is required"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %v | %s |\n", p.ID, causeWords(&p.Cause), needs, p.Cause.Reliability, strings.Join(effects, ", "))
	}
	return b.String()
}

func causeWords(c *Cause) string {
	out := "`" + strings.Join(append([]string{c.Event}, c.Or...), "`, `") + "`"
	return out + whereWords(c.Where)
}

// whereWords are conditions in a few words.
func whereWords(where []Condition) (out string) {
	for i := range where {
		w := &where[i]
		switch {
		case w.Key == KeyBody:
			out += ", by its text"
		case w.Present != nil && !*w.Present:
		case w.Present != nil:
			out += ", " + w.Key
		case len(w.In) > 0:
			out += fmt.Sprintf(", %s %s", w.Key, strings.Trim(strings.ReplaceAll(fmt.Sprint(w.In), " ", ", "), "[]"))
		case len(w.Not) > 0:
			out += fmt.Sprintf(", %s not %s", w.Key, strings.Trim(strings.ReplaceAll(fmt.Sprint(w.Not), " ", ", "), "[]"))
		default:
			out += fmt.Sprintf(", %s %s", w.Key, strings.ReplaceAll(w.wanted(), "|", `\|`))
		}
	}
	return out
}

func effectWords(e *Effect) string {
	flag := ""
	for name, is := range map[string]bool{"optional": e.Optional, "required": e.Required, "precursor": e.Precursor} {
		if is {
			flag = ", " + name
		}
	}
	return fmt.Sprintf("`%s` (%s, %v%s)", e.Event, e.Relation, e.Weight, flag)
}

const head = `# Patterns

What the processor tapiocorrelation knows of causes. This page is generated from the library,
[processor/tapiocorrelationprocessor/internal/pattern/library](../processor/tapiocorrelationprocessor/internal/pattern/library); what the
language of patterns is, and how you add your own, is in [the processor's README](../processor/tapiocorrelationprocessor/README.md#patterns).

- **needs**: what must have been seen for a finding besides the cause;
- **rel.**: how often such a cause is the root, and not itself a symptom of something that nobody saw;
- **effects**: what is expected to follow, with how it must touch the cause, and its weight in the completeness of the evidence. The
  absence of an optional one takes nothing from it; a precursor is a deeper cause.

| pattern | cause | needs | rel. | effects |
|---|---|---|---|---|
`
