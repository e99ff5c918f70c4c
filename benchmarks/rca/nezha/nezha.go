package nezha

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// Name of the data set.
const Name = "Nezha"

// Is tells whether dir holds recordings of this data set.
func Is(dir string) (bool, error) {
	cases, baselines, err := dataset.Folders(dir, spansFile)
	return len(cases)+len(baselines) > 0, err
}

// label is an element of labels.json.
type label struct {
	InjectUnix float64 `json:"inject_unix"`
	Service    string  `json:"root_cause_service"`
	FaultType  string  `json:"fault_type"`
}

// Open reads all recordings of dir into memory.
func Open(dir string) (*dataset.Set, error) {
	folders, baselines, err := dataset.Folders(dir, spansFile)
	if err != nil {
		return nil, err
	}
	labels, err := dataset.Labels[label](dir)
	if err != nil {
		return nil, err
	}
	set := &dataset.Set{Name: Name}
	for _, folder := range folders {
		r, err := readFolder(folder)
		if err != nil {
			return nil, err
		}
		c := &dataset.Case{Recording: recording(folder, r)}
		if l, ok := labels[c.ID]; ok {
			if l.Service == "" {
				return nil, fmt.Errorf("%s: labels.json: case %s: root_cause_service: missing", dir, c.ID)
			}
			c.Group, c.Service, c.Truth = l.FaultType, l.Service, truth{service: l.Service, services: r.services()}
			if l.InjectUnix > 0 {
				c.Onset = time.Unix(0, int64(l.InjectUnix*1e9)).UTC()
			}
		}
		set.Cases = append(set.Cases, c)
	}
	set.Baselines, err = openBaselines(baselines)
	return set, err
}

// openBaselines reads the fault-free folders. A trace that is in two of them is
// left out of the one without logs, or else of the second.
func openBaselines(folders []string) ([]*dataset.Recording, error) {
	all := map[string]*rows{}
	for _, folder := range folders {
		r, err := readFolder(folder)
		if err != nil {
			return nil, err
		}
		all[folder] = r
	}
	slices.SortStableFunc(folders, func(a, b string) int { return min(len(all[b].logs), 1) - min(len(all[a].logs), 1) })
	seen := map[pcommon.TraceID]bool{}
	var out []*dataset.Recording
	for _, folder := range folders {
		r := all[folder]
		r.drop(seen)
		for _, s := range r.spans {
			seen[s.trace] = true
		}
		if len(r.spans) > 0 {
			rec := recording(folder, r)
			out = append(out, &rec)
		}
	}
	return out, nil
}

// drop removes the spans and logs of traces.
func (r *rows) drop(traces map[pcommon.TraceID]bool) {
	r.spans = slices.DeleteFunc(r.spans, func(s span) bool { return traces[s.trace] })
	r.logs = slices.DeleteFunc(r.logs, func(l record) bool { return traces[l.trace] })
}

func recording(folder string, r *rows) dataset.Recording {
	services := map[string]bool{}
	signals := min(len(r.spans), 1) + min(len(r.logs), 1) + min(len(r.metrics), 1)
	start, end := int64(0), int64(0)
	see := func(from, to int64) {
		if start == 0 || from < start {
			start = from
		}
		end = max(end, to)
	}
	for _, s := range r.spans {
		see(s.start, s.finis)
		services[s.source.service] = true
	}
	for _, l := range r.logs {
		see(l.at, l.at)
	}
	return dataset.Recording{
		ID: filepath.Base(folder), Start: time.Unix(0, start).UTC(), End: time.Unix(0, end).UTC(),
		Signals: signals, Services: slices.Sorted(maps.Keys(services)),
		Load: func(shift time.Duration) (dataset.Telemetry, error) { return r.telemetry(shift), nil },
	}
}

// services maps the names of pods to those of their services.
func (r *rows) services() map[string]string {
	out := map[string]string{}
	for _, s := range r.spans {
		out[s.source.pod] = s.source.service
	}
	for _, l := range r.logs {
		out[l.source.pod] = l.source.service
	}
	for _, g := range r.metrics {
		out[g.source.pod] = g.source.service
	}
	return out
}

// truth is the service that was broken.
type truth struct {
	service string
	// services maps pods to services.
	services map[string]string
}

var _ dataset.Truth = truth{}

// String implements dataset.Truth.
func (t truth) String() string { return t.service }

// Judge implements dataset.Truth.
func (t truth) Judge(findings []*finding.Finding) dataset.Verdict {
	rank := slices.Index(dataset.Ranking(findings, t.serviceOf), t.service) + 1
	return dataset.Verdict{Rank: rank, Exact: rank == 1}
}

// Right implements dataset.Truth.
func (t truth) Right(f *finding.Finding) bool { return t.serviceOf(&f.RootCause.Entity) == t.service }

// serviceOf returns the service that an entity is or belongs to.
func (t truth) serviceOf(e *finding.Entity) string {
	if s, ok := e.Attributes[event.KeyServiceName].(string); ok && s != "" {
		return s
	}
	if pod, ok := e.Attributes[event.KeyPodName].(string); ok && t.services[pod] != "" {
		return t.services[pod]
	}
	switch e.Kind {
	case "service":
		return e.Name
	case "pod":
		return t.services[e.Name]
	}
	return ""
}
