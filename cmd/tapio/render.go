package main

import (
	"fmt"
	"strings"

	"github.com/yairfalse/tapio/internal/finding"
)

// render explains a finding in text, from the finding alone. Every line is at
// most style.width characters long and ends with a newline.
func render(f *finding.Finding, s style) string {
	p := &page{style: s}
	p.heading("CORRELATION SUMMARY")
	p.summary(f)
	if lines := f.RootCause.LastLines; len(lines) > 0 {
		p.heading("LAST LOG LINES")
		p.bullets(lineTexts(lines), "")
	}
	p.heading("EVENT CHAIN")
	p.chain(f)
	p.heading("RECOMMENDED ACTIONS")
	p.actions(f.Actions, f.State)
	p.heading("CONSIDERED AND REJECTED")
	p.rejected(f.Rejected)
	if len(f.EarlierCauses) > 0 {
		p.heading("NAMED AS THE CAUSE BEFORE")
		p.bullets(earlierTexts(f.EarlierCauses), "")
	}
	p.heading("MISSING EVIDENCE")
	p.bullets(f.Missing, "none reported")
	return p.text.String()
}

// earlierTexts says what a finding named as the root cause before, until when, and why
// it does not any more.
func earlierTexts(causes []finding.EarlierCause) []string {
	out := make([]string, len(causes))
	for i, c := range causes {
		out[i] = fmt.Sprintf("until %s UTC, revision %d: %s (%s, confidence %s). %s",
			c.Until.UTC().Format(dateTime), c.Revision, c.Title, c.Pattern, percentText(c.Confidence), c.Reason)
	}
	return out
}

// lineTexts writes log records, each with its time in UTC.
func lineTexts(lines []finding.LogLine) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.Time.UTC().Format("15:04:05.000") + " " + l.Text
	}
	return out
}

// page is a text under construction.
type page struct {
	text  strings.Builder
	style style
}

func (p *page) put(s string) { _, _ = p.text.WriteString(s) }

func (p *page) heading(title string) {
	if p.text.Len() > 0 {
		p.put("\n")
	}
	p.put(p.style.paint(sgrBold, title) + "\n")
}

// labelWidth is the width of the labels of the summary, with their margin.
const labelWidth = 20

// field writes a label and its text, wrapped beside it; on a narrow terminal
// below it.
func (p *page) field(label, text, color string) {
	indent := labelWidth
	if p.style.width < 2*labelWidth+10 {
		p.put("  " + p.style.paint(sgrDim, label) + "\n")
		label, indent = "", 4
	}
	margin := strings.Repeat(" ", max(0, indent-2-len(label)))
	p.hanging("  "+p.style.paint(sgrDim, label)+margin, indent, text, color)
}

// hanging writes text after a prefix, with further lines below its beginning.
// The prefix counts width characters on the screen.
func (p *page) hanging(prefix string, width int, text, color string) {
	for i, l := range wrap(text, p.style.width-width) {
		if i > 0 {
			prefix = strings.Repeat(" ", width)
		}
		p.put(prefix + p.style.paint(color, l) + "\n")
	}
}

func (p *page) bullets(texts []string, none string) {
	if len(texts) == 0 {
		p.hanging("  ", 2, none, sgrDim)
	}
	for _, t := range texts {
		p.hanging("  - ", 4, clean(t), "")
	}
}

func (p *page) actions(a finding.Actions, state finding.State) {
	type group struct {
		label string
		texts []string
	}
	groups := []group{{"IMMEDIATE", a.Immediate}, {"SHORT-TERM", a.ShortTerm}, {"LONG-TERM", a.LongTerm}}
	if state.Over() { // what was urgent is of use when it happens again
		groups = []group{groups[1], groups[2], {"IF IT HAPPENS AGAIN", a.Immediate}}
	}
	for _, group := range groups {
		p.put("  " + p.style.paint(sgrBold, group.label) + "\n")
		if len(group.texts) == 0 {
			p.hanging("    ", 4, "none for this pattern", sgrDim)
		}
		for _, t := range group.texts {
			p.hanging("    - ", 6, clean(t), "")
		}
	}
}

// rejected lists the hypotheses that lost. Patterns that fit so little that they score
// nothing are one line together; callers and callees that were cleared are not patterns
// that do not fit, and are listed.
func (p *page) rejected(hs []finding.Hypothesis) {
	if len(hs) == 0 {
		p.hanging("  ", 2, "no other explanation", sgrDim)
	}
	unfit := 0
	for _, h := range hs {
		if h.Score == 0 && h.Pattern != calleeFailing {
			unfit++
			continue
		}
		p.hanging("  - ", 4, fmt.Sprintf("%s: %s, score %.2f", clean(h.Pattern), entityText(h.Entity), h.Score), "")
		p.hanging("    ", 4, clean(h.Reason), sgrDim)
	}
	more := ""
	if unfit < len(hs) {
		more = "more "
	}
	switch {
	case unfit == 1:
		p.hanging("  - ", 4, "1 "+more+"pattern does not fit", sgrDim)
	case unfit > 1:
		p.hanging("  - ", 4, fmt.Sprintf("%d %spatterns do not fit", unfit, more), sgrDim)
	}
}

// calleeFailing is the pattern of hypotheses that a caller or callee is the root.
const calleeFailing = "callee-failing"

// entityText names an entity, such as "process payment".
func entityText(e finding.Entity) string {
	return strings.TrimSpace(clean(e.Kind) + " " + clean(e.Name))
}
