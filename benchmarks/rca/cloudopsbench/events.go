package cloudopsbench

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
)

// optional turns the absence of a file into nothing.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// unix reads seconds since 1970, zero when there are none.
func unix(s string) time.Time {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f <= 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(f*1e9)).UTC()
}

// events writes each Event object when it happened first, if that was at another
// time, and when it happened last. unschedulable gets the last message of each pod
// that the scheduler refused.
func (c *cluster) events(r *records, folder string, unschedulable map[string]string) error {
	last := map[string]time.Time{}
	return optional(dataset.Table(filepath.Join(folder, "k8s_events.csv.gz"), []string{"time_unix", "reason", "kind", "name", "message"}, func(row dataset.Row) error {
		at := unix(row.Get("time_unix"))
		if at.IsZero() {
			return nil
		}
		kind, namespace, name, reason := row.Get("kind"), row.Get("namespace"), row.Get("name"), row.Get("reason")
		if key := namespace + "/" + name; reason == "FailedScheduling" && !at.Before(last[key]) {
			last[key], unschedulable[key] = at, row.Get("message")
		}
		severity := info
		if row.Get("type") == "Warning" {
			severity = warn
		}
		count := max(integer(row.Get("count")), 1)
		of := attrs{
			event.KeyK8sEventReason: reason, event.KeyK8sObjectKind: kind, event.KeyK8sObjectName: name, event.KeyK8sEventCount: count,
		}
		c.probed(of, row)
		resource := c.object(kind, namespace, name)
		if first := at.Add(time.Duration(integer(row.Get("age_s"))-integer(row.Get("first_seen_age_s"))) * time.Second); first.Before(at) {
			once := attrs{}
			for k, v := range of {
				once[k] = v
			}
			once[event.KeyK8sEventCount] = 1
			r.add(event.K8sEvent, first, severity, row.Get("message"), resource, once)
		}
		r.add(event.K8sEvent, at, severity, row.Get("message"), resource, of)
		return nil
	}))
}

var probeFailed = regexp.MustCompile(`^(Liveness|Readiness|Startup) probe (?:failed|errored)`)

// probed says which probe an event is about, and how patient it is.
func (c *cluster) probed(of attrs, row dataset.Row) {
	m := probeFailed.FindStringSubmatch(row.Get("message"))
	if m == nil {
		return
	}
	kind := strings.ToLower(m[1])
	of[event.KeyProbe] = kind
	p := c.podNamed(row.Get("namespace"), row.Get("name"))
	if p == nil {
		return
	}
	w := c.workloadNamed(p.namespace, c.ownerOf(p.namespace, p.owner))
	if w == nil {
		return
	}
	for _, x := range w.template.containers {
		for _, b := range x.probes {
			if b.kind == kind {
				of[event.KeyProbeBudget] = b.budget.Seconds()
			}
		}
	}
}

// refused writes, for each pod that has no node, what the scheduler said last.
func (c *cluster) refused(r *records, at time.Time, messages map[string]string) {
	for _, p := range c.pods {
		if p.conditions["PodScheduled"] == "False" {
			message := messages[p.namespace+"/"+p.name]
			r.add(event.K8sPodUnschedulable, at, warn, message, c.podResource(p), c.scheduling(p, message))
		}
	}
}

// conditions writes the nodes' conditions that are not as they should be.
func conditions(r *records, folder string, at time.Time) error {
	return optional(dataset.Table(filepath.Join(folder, "node_conditions.csv.gz"), []string{"node", "condition", "status"}, func(row dataset.Row) error {
		condition, status := row.Get("condition"), strings.ToLower(row.Get("status"))
		if (condition == "Ready") == (status == "true") {
			return nil
		}
		began := unix(row.Get("last_transition_unix"))
		if began.IsZero() || began.After(at) || at.Sub(began) > time.Hour {
			began = at
		}
		for _, t := range once(began, at) {
			r.add(event.K8sNodeCondition, t, fault, "node "+row.Get("node")+": "+row.Get("message"), attrs{event.KeyNodeName: row.Get("node")}, attrs{
				event.KeyNodeCondition: condition, event.KeyNodeConditionStatus: status, event.KeyK8sEventReason: row.Get("reason"),
			})
		}
		return nil
	}))
}

// once are the times at which a state is reported: when it began, and when the
// receiver looks again.
func once(began, at time.Time) []time.Time {
	if began.Equal(at) {
		return []time.Time{at}
	}
	return []time.Time{began, at}
}

// zone is where the nodes' clocks are: systemctl prints local time.
var zone = time.FixedZone("CST", 8*60*60)

// units writes the units that are not active, as the systemd receiver's snapshot does.
func units(r *records, folder string, at time.Time) error {
	return optional(dataset.Table(filepath.Join(folder, "systemd_status.csv.gz"), []string{"node", "unit", "active", "sub"}, func(row dataset.Row) error {
		active := row.Get("active")
		name := "tapio.systemd.unit.deactivated"
		switch active {
		case "failed":
			name = "tapio.systemd.unit.failed"
		case "inactive":
		default:
			return nil
		}
		began, err := time.ParseInLocation("Mon 2006-01-02 15:04:05 MST", row.Get("since_local"), zone)
		if err != nil {
			began = at
		}
		began = began.In(zone).UTC()
		if began.After(at) || at.Sub(began) > time.Hour {
			began = at
		}
		unit := row.Get("unit")
		if !strings.Contains(unit, ".") {
			unit += ".service"
		}
		for _, t := range once(began, at) {
			r.add(name, t, warn, unit+" on "+row.Get("node")+" is "+active,
				attrs{event.KeyHostName: row.Get("node"), event.KeySystemdUnit: unit},
				attrs{"systemd.unit.active_state": active, "systemd.unit.state": row.Get("sub"), "tapio.systemd.snapshot": t.Equal(at)})
		}
		return nil
	}))
}
