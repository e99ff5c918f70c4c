package cloudopsbench

import (
	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// label is an element of labels.json: which object is at fault (app/x, node/x or
// namespace/x), why, and which class of faults that is.
type label struct {
	Object string `json:"fault_object"`
	Cause  string `json:"root_cause"`
	Class  string `json:"fault_taxonomy"`
}

// String implements dataset.Truth.
func (l label) String() string { return l.Object + " " + l.Cause }

// Judge implements dataset.Truth. The answer is exact when the object, the cause and
// its class are all right.
func (l label) Judge(findings []*finding.Finding) dataset.Verdict {
	var v dataset.Verdict
	for i, name := range dataset.Ranking(findings, l.objectOf) {
		if name == l.Object {
			v.Rank = i + 1
			break
		}
	}
	v.Exact = v.Rank == 1 && causes[findings[0].Pattern].is(l)
	return v
}

// Right implements dataset.Truth.
func (l label) Right(f *finding.Finding) bool { return l.objectOf(&f.RootCause.Entity) == l.Object }

// objectOf names an entity as the labels do: an app by its workload or service, "" for
// what they have no word for.
func (l label) objectOf(e *finding.Entity) string {
	text := func(key string) string {
		s, _ := e.Attributes[key].(string)
		return s
	}
	switch e.Kind {
	case "namespace":
		return "namespace/" + e.Name
	case "host":
		return "node/" + e.Name
	case "unit":
		return "node/" + text(event.KeyHostName)
	case "service", "workload", "k8s.service":
		return "app/" + e.Name
	}
	for _, key := range []string{event.KeyDeploymentName, event.KeyStatefulSetName, event.KeyDaemonSetName, event.KeyServiceName} {
		if s := text(key); s != "" {
			return "app/" + s
		}
	}
	return ""
}

// cause is what a pattern is called in the labels.
type cause struct {
	class string
	names []string
}

func (c cause) is(l label) bool {
	for _, n := range c.names {
		if n == l.Cause {
			return c.class == l.Class
		}
	}
	return false
}
