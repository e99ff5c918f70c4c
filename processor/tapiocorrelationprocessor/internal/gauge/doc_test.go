package gauge

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md")

// The tables of docs/metrics.md are those of the code. go test -update writes them.
func TestDocumentation(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "docs", "metrics.md")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	page := string(b)
	for name, table := range map[string]string{"classes": classTable(), "metrics": metricTable()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
		i, j := strings.Index(page, begin), strings.Index(page, end)
		require.True(t, i >= 0 && j > i, "%s has no place for the table of %s", path, name)
		if *update {
			page = page[:i+len(begin)] + table + page[j:]
			continue
		}
		assert.Equal(t, table, page[i+len(begin):j], "go test ./processor/tapiocorrelationprocessor/internal/gauge -update")
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(page), 0o600))
	}
}

func classTable() string {
	var b strings.Builder
	b.WriteString("| class | unit | event: when | predicted | in the score of the service |\n|---|---|---|---|---|\n")
	for c := Class(1); c < classEnd; c++ {
		sp := &specs[c]
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", sp.name, sp.unit, strings.Join(sp.conditions(), "; "), yes(sp.goal > 0), yes(sp.scores))
	}
	return b.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// conditions describes when a class has an event.
func (sp *spec) conditions() (out []string) {
	switch {
	case sp.grows:
		out = append(out, fmt.Sprintf("`%s`: above three times its past plus %g, and growing", sp.change.event, sp.floor))
	case sp.change.event != "" && sp.leastShare > 0:
		out = append(out, fmt.Sprintf("`%s`: z >= %g, from %g %% of the limit (%g without one)", sp.change.event, sp.score, 100*sp.leastShare, sp.least))
	case sp.change.event != "":
		out = append(out, fmt.Sprintf("`%s`: z >= %g, from %g", sp.change.event, sp.score, sp.least))
	}
	if sp.at > 0 {
		out = append(out, fmt.Sprintf("`%s`: from %g %% of the limit, until below %g %%", sp.ceiling.event, 100*sp.at, 100*sp.clear))
	}
	return out
}

func metricTable() string {
	var b strings.Builder
	b.WriteString("| class | role | metric | attributes | instance |\n|---|---|---|---|---|\n")
	for c := Class(1); c < classEnd; c++ {
		for r := Role(1); r < roleEnd; r++ {
			for i := range builtin {
				if builtin[i].Class == c && builtin[i].Role == r {
					fmt.Fprintf(&b, "| %s | %s | `%s`%s | %s | %s |\n", c, r, builtin[i].Metric, rate(&builtin[i]), attributes(&builtin[i]), strings.Join(builtin[i].Instance, ", "))
				}
			}
		}
	}
	return b.String()
}

func rate(r *Rule) string {
	if r.Rate {
		return " per second"
	}
	return ""
}

func attributes(r *Rule) string {
	var out []string
	for k, values := range r.Attributes {
		out = append(out, k+": "+strings.Join(values, ", "))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}
