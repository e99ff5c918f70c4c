package cloudopsbench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
)

// Name of the data set.
const Name = "Cloud-OpsBench"

// stateFile is in every folder of a case.
const stateFile = "k8s_state.json.gz"

// past is how much of the logs from before the snapshot is replayed: as long as a
// cluster keeps its events.
const past = time.Hour

// Is tells whether dir holds recordings of this data set.
func Is(dir string) (bool, error) {
	cases, _, err := dataset.Folders(dir, stateFile)
	return len(cases) > 0, err
}

// Open finds the cases of dir. Their telemetry is read when it is asked for.
func Open(dir string) (*dataset.Set, error) {
	folders, _, err := dataset.Folders(dir, stateFile)
	if err != nil {
		return nil, err
	}
	labels, err := dataset.Labels[label](dir)
	if err != nil {
		return nil, err
	}
	set := &dataset.Set{Name: Name}
	for _, folder := range folders {
		s, err := readSnapshot(folder)
		if err != nil {
			return nil, err
		}
		c := &dataset.Case{Recording: dataset.Recording{
			ID: filepath.Base(folder), Start: s.at.Add(-past), End: s.at,
			Load: func(shift time.Duration) (dataset.Telemetry, error) { return load(folder, shift) },
		}}
		for _, w := range readCluster(s.Kubectl).workloads {
			c.Services = append(c.Services, w.name)
		}
		slices.Sort(c.Services)
		if l, ok := labels[c.ID]; ok {
			c.Group, c.Truth = l.Cause, l
		}
		set.Cases = append(set.Cases, c)
	}
	return set, nil
}

// snapshot is the state of a cluster at one moment.
type snapshot struct {
	Collected string            `json:"collected_local_utc+8"`
	Kubectl   map[string]string `json:"kubectl"`
	at        time.Time
}

func readSnapshot(folder string) (s *snapshot, err error) {
	f, err := dataset.Gzip(filepath.Join(folder, stateFile))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s = &snapshot{}
	if err := json.NewDecoder(f).Decode(s); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", folder, stateFile, err)
	}
	s.at, err = time.ParseInLocation("2006-01-02T15:04:05.999999", s.Collected, zone)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: collected_local_utc+8: %q: %w", folder, stateFile, s.Collected, err)
	}
	s.at = s.at.UTC()
	return s, nil
}

// load turns a case into what Tapio's receivers and a reader of container logs would
// have sent.
func load(folder string, shift time.Duration) (dataset.Telemetry, error) {
	s, err := readSnapshot(folder)
	if err != nil {
		return dataset.Telemetry{}, err
	}
	c := readCluster(s.Kubectl)
	c.sort()
	r := &records{shift: shift}
	messages := map[string]string{}
	err = errors.Join(
		c.events(r, folder, messages), conditions(r, folder, s.at), units(r, folder, s.at), c.logs(r, folder, s.at.Add(-past)),
	)
	c.facts(r, s.at)
	c.refused(r, s.at, messages)
	metrics, read := c.metrics(folder, shift)
	return dataset.Telemetry{Logs: r.out, Metrics: metrics}, errors.Join(err, read)
}

// sort puts the objects in an order that does not depend on how they were read, each
// once: some are printed by two commands.
func (c *cluster) sort() {
	c.pods = unique(c.pods, func(p *pod) string { return p.namespace + "/" + p.name })
	c.workloads = unique(c.workloads, func(w *workload) string { return w.namespace + "/" + w.kind + "/" + w.name })
	c.services = unique(c.services, func(s *service) string { return s.namespace + "/" + s.name })
	c.nodes = unique(c.nodes, func(n *node) string { return n.name })
	c.claims = unique(c.claims, func(x *claim) string { return x.namespace + "/" + x.name })
	c.volumes = unique(c.volumes, func(v *volume) string { return v.name })
	c.quotas = unique(c.quotas, func(q *quota) string { return q.namespace + "/" + q.name })
}

func unique[T any](list []*T, key func(*T) string) []*T {
	slices.SortFunc(list, func(a, b *T) int { return cmp.Compare(key(a), key(b)) })
	return slices.DeleteFunc(slices.CompactFunc(list, func(a, b *T) bool { return key(a) == key(b) }), func(x *T) bool {
		k := key(x)
		return k == "" || k[len(k)-1] == '/' // "not found" instead of an object
	})
}
