package docscheck

import (
	"path"
	"regexp"
	"strings"
	"testing"
)

// ownMetric is the name of a metric that a component of Tapio counts of itself. One that
// ends in * or _ stands for several.
var ownMetric = regexp.MustCompile("otelcol_(?:receiver_tapio|processor_tapiocorrelation|exporter_tapio|extension_tapio)[a-z0-9_]*")

// TestOwnMetricsExist: docs/telemetry.md, which is generated, has every metric that a page
// names.
func TestOwnMetricsExist(t *testing.T) {
	all := pages(t)
	known := map[string]bool{}
	for _, name := range ownMetric.FindAllString(all[path.Join("docs", "telemetry.md")], -1) {
		known[name] = true
	}
	if len(known) == 0 {
		t.Fatal("docs/telemetry.md names no metric: the expression that finds them is wrong")
	}
	named := 0
	for page, text := range all {
		if path.Base(page) == "telemetry.md" {
			continue
		}
		for _, name := range ownMetric.FindAllString(text, -1) {
			named++
			if !known[name] && !beginsOne(name, known) {
				t.Errorf("%s: %s: no component counts that", page, name)
			}
		}
	}
	if named == 0 {
		t.Error("no page names a metric of Tapio's own: the expression that finds them is wrong")
	}
}

// beginsOne tells whether a name stands for several.
func beginsOne(name string, known map[string]bool) bool {
	if !strings.HasSuffix(name, "_") {
		return false
	}
	for k := range known {
		if strings.HasPrefix(k, name) {
			return true
		}
	}
	return false
}
