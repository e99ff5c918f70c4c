package topology

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// maxRemembered bounds the entities of one list, with all that they are part of.
const maxRemembered = 256

// Nth is a place in a list of remembered entities, counted from 1; 0 is none.
type Nth int

// Remembered is an entity in a form that outlives the engine: what it is part of are
// places in the same list.
type Remembered struct {
	Key        string         `json:"key"`
	Entity     finding.Entity `json:"entity"`
	Service    Nth            `json:"service,omitempty"`
	Container  Nth            `json:"container,omitempty"`
	Pod        Nth            `json:"pod,omitempty"`
	Host       Nth            `json:"host,omitempty"`
	Workload   Nth            `json:"workload,omitempty"`
	Namespace  Nth            `json:"namespace,omitempty"`
	Version    string         `json:"version,omitempty"`
	Executable string         `json:"executable,omitempty"`
	Cgroup     string         `json:"cgroup,omitempty"`
	PID        int64          `json:"pid,omitempty"`
	VPID       int64          `json:"vpid,omitempty"`
	Created    int64          `json:"created,omitempty"`
	Ended      int64          `json:"ended,omitempty"`
	Seen       int64          `json:"seen"`
	// Address, Port and Network (whose loopback interface it is on) are those of an
	// address, Owner is who answered there last, from First to Last.
	Address string `json:"address,omitempty"`
	Port    int64  `json:"port,omitempty"`
	Network Nth    `json:"network,omitempty"`
	Owner   Nth    `json:"owner,omitempty"`
	First   int64  `json:"first,omitempty"`
	Last    int64  `json:"last,omitempty"`
}

// Remember returns entities, and what they are part of, for Recall, and where in the
// list each of them is. Ids that are 0 or forgotten, and those beyond the bound, are in
// neither.
func (g *Graph) Remember(ids ...record.EntityID) ([]Remembered, map[record.EntityID]Nth) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var list []Remembered
	at := map[record.EntityID]Nth{}
	var add func(id record.EntityID) Nth
	add = func(id record.EntityID) Nth {
		if n, ok := at[id]; ok {
			return n
		}
		e := g.entity(id)
		if e == nil || len(list) >= maxRemembered {
			return 0
		}
		list = append(list, Remembered{})
		n := Nth(len(list))
		at[id] = n
		r := Remembered{
			Key: e.Key, Entity: finding.Entity{Kind: e.Kind.String(), Name: e.Name, Attributes: maps.Clone(e.Attributes)},
			Version: e.Version, Executable: e.Executable, Cgroup: e.Cgroup,
			PID: e.PID, VPID: e.VPID, Created: e.Created, Ended: e.Ended, Seen: e.seen.Load(),
			Address: e.Address, Port: e.Port,
			Service: add(e.Service), Container: add(e.Container), Pod: add(e.Pod), Host: add(e.Host),
			Workload: add(e.Workload), Namespace: add(e.Namespace), Network: add(e.network),
		}
		if o := e.ownerAt(math.MaxInt64); o.entity != 0 {
			r.Owner, r.First, r.Last = add(o.entity), o.first, o.last
		}
		list[n-1] = r
		return n
	}
	for _, id := range ids {
		add(id)
	}
	return list, at
}

// Recall makes the entities of a list known again and returns their ids, one for each,
// 0 for one that is damaged. One that is known already is not changed, but for what was
// not known of it.
func (g *Graph) Recall(list []Remembered) []record.EntityID {
	g.mu.Lock()
	defer g.mu.Unlock()
	list = list[:min(len(list), maxRemembered)]
	ids := make([]record.EntityID, len(list))
	id := func(n Nth) record.EntityID {
		if n < 1 || int(n) > len(ids) {
			return 0
		}
		return ids[n-1]
	}
	// A process is known by its host and container, an address by its network.
	kinds := []string{KindProcess.String(), KindAddress.String()}
	for _, turn := range []int{-1, 0, 1} {
		for i := range list {
			if slices.Index(kinds, list[i].Entity.Kind) == turn {
				ids[i] = g.recall(&list[i], id)
			}
		}
	}
	for i := range list {
		r, e := &list[i], g.entity(ids[i])
		if e == nil {
			continue
		}
		e.Service, e.Container, e.Pod = cmp.Or(e.Service, id(r.Service)), cmp.Or(e.Container, id(r.Container)), cmp.Or(e.Pod, id(r.Pod))
		e.Host, e.Workload, e.Namespace = cmp.Or(e.Host, id(r.Host)), cmp.Or(e.Workload, id(r.Workload)), cmp.Or(e.Namespace, id(r.Namespace))
		if by := id(r.Owner); by != 0 && e.Kind == KindAddress && len(e.owners) == 0 {
			e.owners = append(e.owners, owner{by, r.First, r.Last})
		}
		g.index(e)
	}
	return ids
}

// recall returns an entity that was remembered, making it when it is not known.
func (g *Graph) recall(r *Remembered, id func(Nth) record.EntityID) record.EntityID {
	kind := Kind(max(slices.Index(kindNames[:], r.Entity.Kind), 0))
	if kind == 0 || kind == KindOperation || r.Key == "" {
		return 0
	}
	key := addressKey{id(r.Network), r.Address, r.Port}
	switch known := g.addresses[key]; {
	case kind == KindAddress && known != nil:
		return known.ID
	case kind == KindProcess:
		for _, k := range g.processKeysOf(r, id) {
			if p := g.entity(g.byPID[k]); p != nil && p.Created == r.Created {
				return p.ID
			}
		}
	case kind != KindAddress && g.entity(g.byKey[r.Key]) != nil:
		return g.byKey[r.Key]
	}
	e := g.add(kind, record.Text(r.Key), record.Text(r.Entity.Name), r.Seen)
	e.Version, e.Executable, e.Cgroup = r.Version, r.Executable, r.Cgroup
	e.PID, e.VPID, e.Created, e.Ended = r.PID, r.VPID, r.Created, r.Ended
	e.Address, e.Port, e.network = r.Address, r.Port, key.network
	for k, v := range r.Entity.Attributes {
		e.set(k, v)
	}
	switch kind {
	case KindAddress:
		g.addresses[key] = e
	case KindProcess:
		for _, k := range g.processKeysOf(r, id) {
			if g.entity(g.byPID[k]) == nil {
				g.byPID[k] = e.ID
			}
		}
	default:
		g.byKey[r.Key] = e.ID
	}
	return e.ID
}

func (g *Graph) processKeysOf(r *Remembered, id func(Nth) record.EntityID) []pidKey {
	resource := Resource{PID: r.PID, VPID: r.VPID, Created: r.Created, Cgroup: r.Cgroup}
	return processKeys(&resource, Ref{Host: id(r.Host)}, id(r.Container))
}

// index adds the other names by which a pod and a node are known.
func (g *Graph) index(e *Entity) {
	text := func(key string) string { s, _ := e.Attributes[key].(string); return s }
	var names []string
	switch e.Kind {
	case KindPod:
		if name := text(event.KeyPodName); name != "" {
			names = append(names, "pod/"+text(event.KeyNamespaceName)+"/"+name)
		}
		if uid := text(event.KeyPodUID); uid != "" {
			names = append(names, "pod/"+uid)
		}
	case KindHost:
		if node := text(event.KeyNodeName); node != "" {
			names = append(names, "host/"+node)
		}
	}
	for _, name := range names {
		if g.entity(g.byKey[name]) == nil {
			g.byKey[name] = e.ID
		}
	}
}
