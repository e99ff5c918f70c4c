package topology

import (
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// node resolves the node that a resource names: the host of the same name, unless
// the resource also says what the host calls itself.
func (g *Graph) node(r *Resource, ref *Ref, at int64) {
	if r.Node == "" {
		return
	}
	alias := kindNames[KindHost] + "/" + r.Node
	if ref.Host != 0 {
		if _, ok := g.byKey[alias]; !ok {
			g.byKey[alias] = ref.Host
		}
		return
	}
	h := g.intern(KindHost, r.Node, r.Node, at)
	h.set(event.KeyNodeName, r.Node)
	ref.Host = h.ID
}

// owners resolves the namespace and the workload that a resource names.
func (g *Graph) owners(r *Resource, ref *Ref, at int64) {
	if r.Namespace != "" {
		n := g.intern(KindNamespace, r.Namespace, r.Namespace, at)
		n.set(event.KeyNamespaceName, r.Namespace)
		ref.Namespace = n.ID
	}
	if r.Workload == "" {
		g.unit(r, ref, at)
		return
	}
	w := g.intern(KindWorkload, r.Namespace+"/"+r.WorkloadKind+"/"+r.Workload, r.Workload, at)
	w.set(workloadKey(r.WorkloadKind), r.Workload)
	w.setIf(event.KeyNamespaceName, r.Namespace)
	if ref.Namespace != 0 {
		w.Namespace = ref.Namespace
	}
	ref.Workload = w.ID
	if s := g.entity(ref.Service); s != nil {
		w.Service, s.Workload = s.ID, w.ID
		w.set(event.KeyServiceName, s.Name)
	}
}

// unit resolves the unit of systemd that a resource names: what a workload is to a
// pod, it is to the processes of a host.
func (g *Graph) unit(r *Resource, ref *Ref, at int64) {
	if r.Unit == "" || ref.Host == 0 || r.PodUID != "" || r.PodName != "" {
		return
	}
	host := g.entity(ref.Host)
	u := g.intern(KindUnit, host.Name+"/"+r.Unit, r.Unit, at)
	u.set(event.KeySystemdUnit, r.Unit)
	u.set(event.KeyHostName, host.Name)
	u.Host = host.ID
	ref.Workload = u.ID
}

// k8sService resolves the Service object that a resource names, 0 for none.
func (g *Graph) k8sService(r *Resource, ref Ref, at int64) record.EntityID {
	if r.K8sService == "" {
		return 0
	}
	s := g.intern(KindK8sService, r.Namespace+"/"+r.K8sService, r.K8sService, at)
	s.set(event.KeyK8sServiceName, r.K8sService)
	s.setIf(event.KeyNamespaceName, r.Namespace)
	s.join(ref)
	return s.ID
}

// isWorkload tells whether an entity stands for all pods of a workload.
func (e *Entity) isWorkload() bool {
	switch e.Kind {
	case KindWorkload, KindK8sService, KindService, KindUnit:
		return true
	}
	return false
}

// climb returns what field says of an entity, or of its container or pod.
func (g *Graph) climb(e *Entity, field func(*Entity) record.EntityID) record.EntityID {
	if id := field(e); id != 0 {
		return id
	}
	for _, id := range []record.EntityID{e.Container, e.Pod} {
		if up := g.entity(id); up != nil {
			if id := field(up); id != 0 {
				return id
			}
		}
	}
	return 0
}

func (g *Graph) workloadOf(e *Entity) record.EntityID {
	if e.Kind == KindWorkload || e.Kind == KindUnit {
		return e.ID
	}
	if id := g.climb(e, func(e *Entity) record.EntityID { return e.Workload }); id != 0 {
		return id
	}
	if s := g.entity(g.serviceOf(e)); s != nil {
		return s.Workload
	}
	return 0
}

func (g *Graph) hostOfEntity(e *Entity) record.EntityID {
	if e.Kind == KindHost {
		return e.ID
	}
	return g.climb(e, func(e *Entity) record.EntityID { return e.Host })
}

func (g *Graph) namespaceOf(e *Entity) record.EntityID {
	if e.Kind == KindNamespace {
		return e.ID
	}
	if id := g.climb(e, func(e *Entity) record.EntityID { return e.Namespace }); id != 0 {
		return id
	}
	if w := g.entity(g.workloadOf(e)); w != nil {
		return w.Namespace
	}
	return 0
}

// Place says where an entity belongs: what it is part of, 0 where unknown.
type Place struct {
	Container, Pod, Workload, Service, Host, Namespace record.EntityID
}

// UnitOf returns the unit of systemd that an entity is or belongs to, 0 for none.
func (g *Graph) UnitOf(id record.EntityID) record.EntityID {
	unit, ok := g.Entity(g.PlaceOf(id).Workload)
	if !ok || unit.Kind != KindUnit {
		return 0
	}
	return unit.ID
}

// PlaceOf returns where an entity belongs. Its own id stands where it is of that kind.
func (g *Graph) PlaceOf(id record.EntityID) Place {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.entity(id)
	if e == nil {
		return Place{}
	}
	return Place{
		Container: e.self(KindContainer), Pod: g.climb(e, func(e *Entity) record.EntityID { return e.self(KindPod) }),
		Workload: g.workloadOf(e), Service: g.serviceOf(e), Host: g.hostOfEntity(e), Namespace: g.namespaceOf(e),
	}
}

// All lists the entities of a place that are known.
func (p Place) All() []record.EntityID {
	var out []record.EntityID
	for _, id := range []record.EntityID{p.Container, p.Pod, p.Workload, p.Service, p.Host, p.Namespace} {
		if id != 0 {
			out = append(out, id)
		}
	}
	return out
}
