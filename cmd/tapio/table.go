package main

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/yairfalse/tapio/internal/finding"
)

const (
	// wideTable is the width from which a finding fits on one line with a title
	// that says something.
	wideTable = 110
	// maxState bounds the column of the state.
	maxState = 12
	// columns before the id and the title.
	numbers = 5
)

// table lists findings, one a line with the title at the end; two lines each on
// a terminal that is narrower. Titles are cut to the terminal's width and whole
// elsewhere.
func table(findings []*finding.Finding, t terminal) string {
	if len(findings) == 0 {
		return "No findings.\n"
	}
	rows := [][]string{{"STARTED (UTC)", "STATE", "CONF", "FAILED", "USERS", "ID", "TITLE"}}
	for _, f := range findings {
		rows = append(rows, []string{
			f.StartedAt.UTC().Format(dateTime), cut(clean(string(f.State)), maxState), percentText(f.Confidence.Score),
			strconv.FormatInt(f.Impact.FailedRequests, 10), knownOr(f.Impact.Users, "?"), f.ID.String(), clean(f.Title),
		})
	}
	widths := columnWidths(rows)
	var b strings.Builder
	for i, row := range rows {
		b.WriteString(tableRow(row, widths, t, i == 0))
	}
	return b.String()
}

// columnWidths returns the width of each column but the last.
func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0])-1)
	for _, row := range rows {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	return widths
}

func tableRow(row []string, widths []int, t terminal, header bool) string {
	const gap = "  "
	cells := make([]string, numbers)
	used := 0
	for i := range cells {
		cells[i] = pad(row[i], widths[i])
		used += widths[i] + len(gap)
	}
	s := t.style()
	if !header {
		cells[1] = s.paint(stateColor(finding.State(row[1])), cells[1])
	}
	last := gap
	if t.interactive && t.width < wideTable {
		last, used = "\n    ", 4
	}
	title := row[numbers+1]
	if t.interactive {
		title = cut(title, t.width-used-widths[numbers]-len(gap))
	}
	line := strings.Join(cells, gap) + last + pad(row[numbers], widths[numbers]) + gap + title
	if header {
		line = s.paint(sgrBold, line)
	}
	return line + "\n"
}

// knownOr writes the number, or otherwise when no telemetry carried it.
func knownOr(n *int64, otherwise string) string {
	if n == nil {
		return otherwise
	}
	return strconv.FormatInt(*n, 10)
}
