package rig

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Dump writes down the log records that hold a text.
func (c *Collector) Dump(t *testing.T, text string) {
	t.Helper()
	data, _ := os.ReadFile(filepath.Join(c.dir, "logs.json"))
	n := 0
	for line := range strings.Lines(string(data)) {
		if i := strings.Index(line, text); i >= 0 && n < 5 {
			n++
			t.Log(line[max(0, i-1500):min(len(line), i+1500)])
		}
	}
	t.Logf("%d records hold %q", n, text)
}

// Missing writes down the spans of failed orders that no finding lists.
func Missing(t *testing.T, c *Collector, r Report) {
	t.Helper()
	listed := map[string]bool{}
	for _, f := range c.Findings(t) {
		for _, h := range f.HurtTraces {
			listed[h.TraceID] = true
		}
	}
	missing := slices.DeleteFunc(slices.Clone(r.FailedTraceIDs), func(id string) bool { return listed[id] })
	data, _ := os.ReadFile(filepath.Join(c.dir, "traces.json"))
	for line := range strings.Lines(string(data)) {
		var request struct {
			ResourceSpans []struct {
				Resource   any
				ScopeSpans []struct {
					Spans []map[string]any
				}
			}
		}
		if json.Unmarshal([]byte(line), &request) != nil {
			continue
		}
		for _, rs := range request.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					if slices.Contains(missing, s["traceId"].(string)) {
						t.Logf("not explained: %v of %v", s, rs.Resource)
					}
				}
			}
		}
	}
}
