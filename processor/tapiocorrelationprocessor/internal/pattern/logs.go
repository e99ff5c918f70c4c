package pattern

import (
	"bytes"
	"regexp"
	"slices"
)

// LogTexts are the texts by which patterns tell log records apart. It is safe for
// concurrent use.
type LogTexts struct {
	parts   [][]byte // in lower case
	regexps []*regexp.Regexp
}

// TextsOf collects what patterns look for in the bodies of log records, nil when none
// does.
func TextsOf(patterns []*Pattern) *LogTexts {
	t := &LogTexts{}
	add := func(event string, where []Condition) {
		if event != Log {
			return
		}
		for i := range where {
			if where[i].Key == KeyBody {
				t.add(&where[i])
			}
		}
	}
	for _, p := range patterns {
		if p.Cause.Is(Log) {
			add(Log, p.Cause.Where)
		}
		for i := range p.Effects {
			add(p.Effects[i].Event, p.Effects[i].Where)
		}
	}
	if len(t.parts)+len(t.regexps) == 0 {
		return nil
	}
	return t
}

func (t *LogTexts) add(c *Condition) {
	for _, part := range c.lower {
		if b := []byte(part); !slices.ContainsFunc(t.parts, func(p []byte) bool { return bytes.Equal(p, b) }) {
			t.parts = append(t.parts, b)
		}
	}
	if c.matches != nil {
		t.regexps = append(t.regexps, c.matches)
	}
}

// Find returns which of the texts a body holds first, from 1; 0 for none.
func (t *LogTexts) Find(body []byte) int {
	for i, p := range t.regexps {
		if p.Match(body) {
			return len(t.parts) + i + 1
		}
	}
	for i, b := range body {
		if b >= 'A' && b <= 'Z' {
			body[i] = b + 'a' - 'A'
		}
	}
	for i, p := range t.parts {
		if bytes.Contains(body, p) {
			return i + 1
		}
	}
	return 0
}
