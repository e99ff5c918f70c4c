package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/yairfalse/tapio/internal/finding"
)

// table lists findings, one a line. The title comes last, cut to the width on a
// terminal and whole elsewhere.
func table(findings []*finding.Finding, t terminal) string {
	if len(findings) == 0 {
		return "No findings.\n"
	}
	rows := [][]string{{"STARTED (UTC)", "STATE", "CONF", "FAILED", "USERS", "ID", "TITLE"}}
	for _, f := range findings {
		rows = append(rows, []string{
			f.StartedAt.UTC().Format(dateTime), clean(string(f.State)), percentText(f.Confidence.Score),
			strconv.FormatInt(f.Impact.FailedRequests, 10), knownOr(f.Impact.Users, "?"), f.ID.String(), clean(f.Title),
		})
	}
	widths := columnWidths(rows)
	var b strings.Builder
	for i, row := range rows {
		b.WriteString(line(row, widths, t, i == 0))
	}
	return b.String()
}

// columnWidths returns the width of each column but the last.
func columnWidths(rows [][]string) []int {
	widths := make([]int, len(rows[0])-1)
	for _, row := range rows {
		for i := range widths {
			widths[i] = max(widths[i], len([]rune(row[i])))
		}
	}
	return widths
}

func line(row []string, widths []int, t terminal, header bool) string {
	var cells []string
	used := 0
	for i, w := range widths {
		cells = append(cells, pad(row[i], w))
		used += w + 2
	}
	title := row[len(widths)]
	if t.interactive {
		title = cut(title, max(t.width-used, 10))
	}
	style := t.style()
	if header {
		return style.paint(sgrBold, strings.TrimRight(strings.Join(append(cells, title), "  "), " ")) + "\n"
	}
	cells[1] = style.paint(stateColor(finding.State(row[1])), cells[1])
	return strings.Join(append(cells, title), "  ") + "\n"
}

// knownOr writes the number, or otherwise when no telemetry carried it.
func knownOr(n *int64, otherwise string) string {
	if n == nil {
		return otherwise
	}
	return fmt.Sprint(*n)
}
