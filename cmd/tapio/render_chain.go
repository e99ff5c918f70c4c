package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/yairfalse/tapio/internal/finding"
)

// chain writes the links, each with what happened, its detail and how it was
// linked to the one that it follows from.
func (p *page) chain(f *finding.Finding) {
	if len(f.Chain) == 0 {
		p.hanging("  ", 2, "the finding carries no chain", sgrDim)
		return
	}
	number := make(map[string]int, len(f.Chain)) // of each link, by its key
	layer := 0                                   // width of the widest layer
	for i, l := range f.Chain {
		number[l.Key] = i + 1
		layer = max(layer, utf8.RuneCountInString(layerText(l.Layer)))
	}
	for i, l := range f.Chain {
		p.link(i+1, l, f.StartedAt, layer, number)
	}
}

func (p *page) link(n int, l finding.Link, started time.Time, layerWidth int, number map[string]int) {
	at := clockText(l.Time, started)
	tag := layerText(l.Layer)
	lead := fmt.Sprintf("%3d. %s  ", n, at)
	prefix := lead + p.style.paint(layerColors[l.Layer], tag) + strings.Repeat(" ", layerWidth-utf8.RuneCountInString(tag)+2)
	indent := utf8.RuneCountInString(lead) + layerWidth + 2
	if p.style.width < indent+30 { // too narrow for a column of its own
		p.put(strings.TrimRight(prefix, " ") + "\n")
		prefix, indent = "     ", 5
	}
	p.hanging(prefix, indent, clean(l.Title)+repeated(l, started), sgrBold)
	margin := strings.Repeat(" ", indent)
	if l.Detail != "" {
		p.hanging(margin, indent, clean(l.Detail), "")
	}
	p.hanging(margin, indent, linkedText(l, number), sgrDim)
}

// maxLayer bounds the name of a layer; Tapio's own have up to 6 characters.
const maxLayer = 12

func layerText(l finding.Layer) string { return "[" + cut(clean(string(l)), maxLayer) + "]" }

// repeated says how many events the link stands for, when it is more than one.
func repeated(l finding.Link, started time.Time) string {
	switch {
	case l.Count <= 1:
		return ""
	case l.Last.After(l.Time):
		return fmt.Sprintf(" (x%d until %s)", l.Count, clockText(l.Last, started))
	}
	return fmt.Sprintf(" (x%d)", l.Count)
}

// linkedText says what the link follows from and how that is known.
func linkedText(l finding.Link, number map[string]int) string {
	if l.Parent == "" && l.LinkedBy == "" {
		return "root cause"
	}
	text := "linked"
	if n, ok := number[l.Parent]; ok {
		text = fmt.Sprintf("linked to %d", n)
	}
	if l.LinkedBy != "" {
		text += " by " + clean(string(l.LinkedBy))
	}
	if l.LinkedOn != "" {
		text += ": " + clean(l.LinkedOn)
	}
	return text
}
