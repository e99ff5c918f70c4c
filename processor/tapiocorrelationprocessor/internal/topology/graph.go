// Package topology knows who is who and who depends on whom. It learns from
// every event: a resource's attributes are aliases of one entity (a process is
// host and pid and creation time, a container its id, a service its name), a
// client span and its server span are a call, and the address that the client
// dialled belongs to the process that answered. Every fact has the time at
// which it held: an address that moved explains nothing afterwards.
package topology

import (
	"cmp"
	"sync"
	"sync/atomic"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Kind is what an entity is.
type Kind uint8

// The kinds of entities.
const (
	KindProcess Kind = iota + 1
	KindContainer
	KindPod
	KindService
	KindHost
	KindAddress
	KindOperation
	KindUnknown
	// KindWorkload is a deployment, stateful set or another owner of pods.
	KindWorkload
	KindNamespace
	// KindK8sService is a Service object of Kubernetes.
	KindK8sService
	// KindUnit is a unit of systemd on a host.
	KindUnit
	// KindNetwork is a container network on a host.
	KindNetwork
)

var kindNames = [...]string{"", "process", "container", "pod", "service", "host", "address", "operation", "unknown", "workload", "namespace", "k8s.service", "unit", "network"}

// String returns the word that findings use.
func (k Kind) String() string { return kindNames[k] }

// Entity is somebody to whom things happen. The identifying fields do not change
// once the entity is made; the others grow while the graph learns and are read
// and written under the graph's lock.
type Entity struct {
	ID   record.EntityID
	Kind Kind
	// Key identifies the entity across restarts of the engine.
	Key string
	// Name is what people call it.
	Name string

	// The entities that it is part of, 0 when unknown.
	Service, Container, Pod, Host, Workload, Namespace record.EntityID
	// Version is the service.version that it reported.
	Version string
	// Executable, Cgroup, PID and VPID describe a process.
	Executable, Cgroup string
	PID, VPID          int64
	// comm is the name that the kernel keeps of it, running when it was seen to run
	// its executable, in ns.
	comm    string
	running int64
	// Created and Ended bound the life of a process, in ns, 0 when unknown.
	Created, Ended int64
	// Attributes are identifying resource attributes, for the finding.
	Attributes map[string]any

	// Address and Port are those of an address.
	Address string
	Port    int64
	network record.EntityID // see addressKey
	owners  []owner
	// networks are the names of the container networks of which it had an interface.
	networks []string
	left     []departure // when owners of all ports of an address had it no longer, as a container network says
	// listener is who listens at an address as the kernel tells it, since first.
	listener owner

	// Serves: an operation of server spans.
	Serves bool
	// SlowOver is above which duration (ns) a span of an operation is slow, 0 while
	// not enough is known, Waits when it waits on purpose.
	SlowOver atomic.Int64

	seen atomic.Int64 // ns, the newest event that named it
}

// owner says who answered at an address, and when.
type owner struct {
	entity      record.EntityID
	first, last int64
}

// departure says that an owner had an address no longer at a time.
type departure struct {
	entity record.EntityID
	at     int64
}

// Ref is what a resource resolved to.
type Ref struct {
	// Subject is the most specific entity, Service the service it reports for,
	// Host where it runs; 0 when unknown.
	Subject, Service, Host record.EntityID
	// Network is whose loopback interface it has: its pod's, its container's, or
	// its host's. That of a process outside of its observer's pid namespace may be
	// another one on the same host: the process itself stands for it.
	Network record.EntityID
	// Workload and Namespace are the Kubernetes objects that the resource names.
	Workload, Namespace record.EntityID
}

type addressKey struct {
	network record.EntityID // of a loopback address: whose loopback interface it is on
	address string
	port    int64
}

type operationKey struct {
	service record.EntityID
	kind    record.SpanKind
	name    string
}

type pidKey struct {
	scope record.EntityID // the host, or the container for a virtual pid
	pid   int64
	// created is when a process began that has no pid where it was seen from, else 0.
	created int64
}

// Limits bound the graph.
type Limits struct {
	// Entities is how many entities are held.
	Entities int
	// OperationsPerService is how many span names a service can have; further
	// ones share one operation.
	OperationsPerService int
}

// Graph is the topology. All methods are safe for concurrent use.
type Graph struct {
	limits Limits

	mu         sync.RWMutex
	entities   map[record.EntityID]*Entity
	last       record.EntityID // ids are never used twice
	byKey      map[string]record.EntityID
	addresses  map[addressKey]*Entity
	operations map[operationKey]*Entity
	perService map[record.EntityID]int
	byPID      map[pidKey]record.EntityID // the newest process with that pid
	calls      map[[2]record.EntityID]*Call
	linker     linker
	evicted    uint64
	overflow   uint64
	drops      atomic.Uint64 // how many entities were forgotten
}

// Call says that one service called another.
type Call struct {
	Caller, Callee record.EntityID
	First, Last    int64
}

// New returns an empty graph.
func New(limits Limits) *Graph {
	return &Graph{
		limits:     limits,
		entities:   map[record.EntityID]*Entity{},
		byKey:      map[string]record.EntityID{},
		addresses:  map[addressKey]*Entity{},
		operations: map[operationKey]*Entity{},
		perService: map[record.EntityID]int{},
		byPID:      map[pidKey]record.EntityID{},
		calls:      map[[2]record.EntityID]*Call{},
		linker:     newLinker(),
	}
}

// Entity returns a copy of what is known of an entity, and false for an id that
// is 0 or forgotten.
func (g *Graph) Entity(id record.EntityID) (Snapshot, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.entity(id)
	if e == nil {
		return Snapshot{}, false
	}
	return snapshot(e), true
}

// Snapshot is a copy of an entity's facts.
type Snapshot struct {
	ID                            record.EntityID
	Kind                          Kind
	Key, Name                     string
	Service, Container, Pod, Host record.EntityID
	Workload, Namespace           record.EntityID
	Version, Executable, Cgroup   string
	PID, VPID, Created, Ended     int64
	Address                       string
	Port                          int64
	Serves                        bool
	Attributes                    map[string]any
}

func snapshot(e *Entity) Snapshot {
	attributes := make(map[string]any, len(e.Attributes))
	for k, v := range e.Attributes {
		attributes[k] = v
	}
	return Snapshot{
		ID: e.ID, Kind: e.Kind, Key: e.Key, Name: e.Name,
		Service: e.Service, Container: e.Container, Pod: e.Pod, Host: e.Host, Workload: e.Workload, Namespace: e.Namespace,
		Version: e.Version, Executable: e.Executable, Cgroup: e.Cgroup,
		PID: e.PID, VPID: e.VPID, Created: e.Created, Ended: e.Ended,
		Address: e.Address, Port: e.Port, Serves: e.Serves, Attributes: attributes,
	}
}

func (g *Graph) entity(id record.EntityID) *Entity { return g.entities[id] }

// Stats are the graph's sizes and losses.
type Stats struct {
	Entities, Calls int
	// Evicted counts entities that were forgotten for want of space, Overflow
	// spans whose operation was counted under the shared one.
	Evicted, Overflow uint64
}

// Stats returns the graph's sizes and losses.
func (g *Graph) Stats() Stats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return Stats{Entities: len(g.entities), Calls: len(g.calls), Evicted: g.evicted, Overflow: g.overflow}
}

// intern returns the entity with that key, making it when there is none.
func (g *Graph) intern(kind Kind, key, name string, at int64) *Entity {
	full := kindNames[kind] + "/" + key
	if id, ok := g.byKey[full]; ok {
		e := g.entities[id]
		e.touch(at)
		return e
	}
	e := g.add(kind, full, name, at)
	g.byKey[full] = e.ID
	return e
}

func (g *Graph) add(kind Kind, key, name string, at int64) *Entity {
	if len(g.entities) >= g.limits.Entities {
		g.evictOldest()
	}
	g.last++
	e := &Entity{ID: g.last, Kind: kind, Key: key, Name: name}
	e.seen.Store(at)
	g.entities[e.ID] = e
	return e
}

func (e *Entity) touch(at int64) {
	if at > e.seen.Load() {
		e.seen.Store(at)
	}
}

// Resolve returns the entity that a resource names, learning what the resource
// says about it. at is the time of the event that carried it.
func (g *Graph) Resolve(r *Resource, at int64) Ref {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ref Ref
	if r.Host != "" {
		h := g.intern(KindHost, r.Host, r.Host, at)
		h.set(event.KeyHostName, r.Host)
		h.setIf(event.KeyNodeName, r.Node)
		ref.Host = h.ID
	}
	g.node(r, &ref, at)
	if r.Service != "" && !isUnknown(r.Service) {
		s := g.intern(KindService, r.ServiceNamespace+"/"+r.Service, r.Service, at)
		s.set(event.KeyServiceName, r.Service)
		s.setIf(event.KeyServiceNamespace, r.ServiceNamespace)
		s.setIf(event.KeyServiceVersion, r.ServiceVersion)
		s.setIf(event.KeyServiceCriticality, r.Criticality)
		s.Version = r.ServiceVersion
		s.Service = s.ID
		ref.Service = s.ID
	}
	g.owners(r, &ref, at)
	pod := g.pod(r, ref, at)
	container := g.container(r, ref, pod, at)
	own := ref.Host
	if process := g.process(r, ref, container, pod, at); r.PID > 0 {
		ref.Subject = process
	} else if process != 0 {
		own = process // what happened to it did not happen to the host
	}
	for _, id := range []record.EntityID{container, pod, g.k8sService(r, ref, at), ref.Workload, ref.Service, own, ref.Namespace} {
		if ref.Subject == 0 {
			ref.Subject = id
		}
	}
	if e := g.entity(ref.Subject); e != nil && ref.Service == 0 {
		ref.Service = g.serviceOf(e)
	}
	if c := g.entity(container); c != nil && pod == 0 {
		pod = c.Pod
	}
	ref.Network = cmp.Or(pod, container, own)
	if ref.Subject == 0 {
		ref.Subject = g.intern(KindUnknown, "", "a source without identity", at).ID
	}
	return ref
}

func isUnknown(service string) bool {
	return len(service) >= len(unknownService) && service[:len(unknownService)] == unknownService
}

// serviceOf returns the service of an entity, or of what it is part of.
func (g *Graph) serviceOf(e *Entity) record.EntityID {
	if e.Service != 0 {
		return e.Service
	}
	for _, id := range []record.EntityID{e.Container, e.Pod} {
		if up := g.entity(id); up != nil && up.Service != 0 {
			return up.Service
		}
	}
	return 0
}

func (g *Graph) pod(r *Resource, ref Ref, at int64) record.EntityID {
	key := r.PodUID
	if key == "" && r.PodName != "" {
		key = r.Namespace + "/" + r.PodName
		// The uid, once known, is the better name of the same pod.
		if id, ok := g.byKey["pod/"+key]; ok {
			g.entities[id].touch(at)
			return id
		}
	}
	if key == "" {
		return 0
	}
	name := r.PodName
	if name == "" {
		name = r.PodUID
	}
	byName := "pod/" + r.Namespace + "/" + r.PodName
	known := g.entity(g.byKey[byName])
	if _, ok := g.byKey["pod/"+key]; !ok && known != nil && known.Attributes[event.KeyPodUID] == nil {
		g.byKey["pod/"+key] = known.ID // known by its name so far
	}
	p := g.intern(KindPod, key, name, at)
	if r.PodUID != "" && r.PodName != "" {
		g.byKey[byName] = p.ID
		p.Name = r.PodName
	}
	p.setIf(event.KeyPodUID, r.PodUID)
	p.setIf(event.KeyPodName, r.PodName)
	p.setIf(event.KeyNamespaceName, r.Namespace)
	p.setIf(event.KeyDeploymentName, r.Deployment)
	p.setIf(event.KeyNodeName, r.Node)
	p.join(ref)
	return p.ID
}

func (g *Graph) container(r *Resource, ref Ref, pod record.EntityID, at int64) record.EntityID {
	if r.Container == "" {
		return 0
	}
	name := r.ContainerName
	if name == "" {
		name = r.Container[:min(12, len(r.Container))]
	}
	c := g.intern(KindContainer, r.Container, name, at)
	c.set(event.KeyContainerID, r.Container)
	c.setIf(event.KeyContainerName, r.ContainerName)
	if pod != 0 {
		c.Pod = pod
	}
	c.join(ref)
	return c.ID
}

// join notes the service and host that the resource names beside an entity.
func (e *Entity) join(ref Ref) {
	if ref.Service != 0 {
		e.Service = ref.Service
	}
	if ref.Host != 0 {
		e.Host = ref.Host
	}
	if ref.Workload != 0 {
		e.Workload = ref.Workload
	}
	if ref.Namespace != 0 {
		e.Namespace = ref.Namespace
	}
}

func (e *Entity) set(key string, value any) {
	if e.Attributes == nil {
		e.Attributes = map[string]any{}
	}
	e.Attributes[key] = value
}

func (e *Entity) setIf(key, value string) {
	if value != "" {
		e.set(key, value)
	}
}
