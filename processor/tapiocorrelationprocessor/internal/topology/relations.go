package topology

import (
	"cmp"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// maxOwners is how many owners of one address are remembered, and how many departures.
	maxOwners = 8
	// maxCalls bounds the service graph; further calls are not learned.
	maxCalls = 100_000
	// maxAddress is the length of the longest DNS name.
	maxAddress = 253
	// otherOperation takes the spans of operations beyond the bound.
	otherOperation = "(other operations)"
)

// ServiceName returns the name of the service that an entity belongs to, else
// the entity's own name, else "".
func (g *Graph) ServiceName(id record.EntityID) string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.entity(id)
	if e == nil {
		return ""
	}
	if s := g.entity(g.serviceOf(e)); s != nil {
		return s.Name
	}
	return e.Name
}

// Known tells whether an entity is held.
func (g *Graph) Known(id record.EntityID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.entity(id) != nil
}

// Key returns what identifies an entity across restarts of the engine, "" for an
// id that is 0 or forgotten.
func (g *Graph) Key(id record.EntityID) string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if e := g.entity(id); e != nil {
		return e.Key
	}
	return ""
}

// ServiceOf returns the service that an entity belongs to, 0 when unknown.
func (g *Graph) ServiceOf(id record.EntityID) record.EntityID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if e := g.entity(id); e != nil {
		return g.serviceOf(e)
	}
	return 0
}

// kindWords tell operations of one name apart, by record.SpanKind.
var kindWords = [...]string{record.SpanInternal: "internal", record.SpanServer: "server", record.SpanClient: "client"}

// Waits is above which duration spans are slow that wait for work on purpose: none is.
const Waits = math.MaxInt64

// Operation returns the entity of a span name of a service (or, without one, of
// the subject), above which duration its spans are slow (ns, 0: not known), and whether
// it is new.
func (g *Graph) Operation(of record.EntityID, kind record.SpanKind, name string, at int64) (id record.EntityID, slowOver int64, created bool) {
	e, slowOver, created := g.operation(of, kind, name, at)
	return e.ID, slowOver, created
}

func (g *Graph) operation(of record.EntityID, kind record.SpanKind, name string, at int64) (e *Entity, slowOver int64, created bool) {
	key := operationKey{of, kind, name[:min(len(name), record.MaxText)]}
	g.mu.RLock()
	e, ok := g.operations[key]
	g.mu.RUnlock()
	if !ok {
		e, created = g.newOperation(key, at)
		return e, 0, created // nor of those beyond the bound, which have nothing in common
	}
	e.touch(at)
	return e, e.SlowOver.Load(), false
}

func (g *Graph) newOperation(key operationKey, at int64) (e *Entity, created bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.operations[key]; ok {
		return e, false
	}
	if g.perService[key.service] >= g.limits.OperationsPerService {
		g.overflow++
		key.name = otherOperation
		if e, ok := g.operations[key]; ok {
			return e, false
		}
	}
	key.name = strings.Clone(key.name)
	name := record.Text(key.name)
	if s := g.entity(key.service); s != nil {
		name = s.Name + " " + name
	}
	e = g.add(KindOperation, "", record.Text(key.name), at)
	e.Key = "operation/" + name + "/" + kindWords[key.kind]
	e.Service, e.Serves = key.service, key.kind == record.SpanServer
	g.operations[key] = e
	g.perService[key.service]++
	return e, key.name != otherOperation
}

// Waits tells whether spans of the operation wait for work on purpose.
func (g *Graph) Waits(operation record.EntityID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.entity(operation)
	return e != nil && e.SlowOver.Load() == Waits
}

// SetSlowOver sets above which duration (ns) a span of the operation is slow. It returns
// false, and sets nothing, when the operation waits or is not there.
func (g *Graph) SetSlowOver(operation record.EntityID, ns int64) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.entity(operation)
	if e == nil || e.SlowOver.Load() == Waits {
		return false
	}
	e.SlowOver.Store(ns)
	return true
}

// Address returns the entity of an address and port as seen from a network (see
// Ref), 0 when either is missing or cannot be one. A loopback address is another
// one in each pod, container and host, and unknown where none of them is; an
// address of the default container bridge or of a link is another on each host.
func (g *Graph) Address(network record.EntityID, address string, port, at int64) record.EntityID {
	if !validPort(port) {
		return 0
	}
	return g.addressAt(network, address, port, at)
}

func validPort(port int64) bool { return port > 0 && port <= 65535 }

// anyPort stands for all ports of an address.
const anyPort = 0

func (g *Graph) addressAt(network record.EntityID, address string, port, at int64) record.EntityID {
	if e := g.address(network, address, port, at); e != nil {
		return e.ID
	}
	return 0
}

func (g *Graph) address(network record.EntityID, address string, port, at int64) *Entity {
	if address == "" || len(address) > maxAddress {
		return nil
	}
	key := addressKey{address: address, port: port}
	if isLoopback(address) {
		if network == 0 {
			return nil // nobody knows whose
		}
		key.network = network
		if !strings.HasPrefix(address, "127.") {
			key.address = "127.0.0.1" // localhost and ::1 are that; 127.0.0.53 can be another's
		}
	}
	hostsOwn := isHostsOwn(address)
	g.mu.RLock()
	if hostsOwn {
		key.network = g.hostOf(network)
	}
	e, ok := g.addresses[key]
	g.mu.RUnlock()
	if !ok {
		return g.newAddress(key, at)
	}
	e.touch(at)
	return e
}

func (g *Graph) newAddress(key addressKey, at int64) *Entity {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.addresses[key]; ok {
		return e
	}
	key.address = strings.Clone(key.address)
	text := record.Text(key.address)
	name := addressName(text, key.port)
	scope, host := "", g.hostOf(key.network)
	if n := g.entity(key.network); n != nil {
		scope = n.Key
	}
	e := g.add(KindAddress, "", name, at)
	e.Key = "address/" + scope + "/" + name
	e.Host, e.Address, e.Port, e.network = host, text, key.port, key.network
	e.set(event.KeyServerAddress, text)
	if key.port != anyPort {
		e.set(event.KeyServerPort, key.port)
	}
	g.addresses[key] = e
	return e
}

func addressName(address string, port int64) string {
	if port == anyPort {
		return address
	}
	return net.JoinHostPort(address, strconv.FormatInt(port, 10))
}

// hostOf returns the host that a network is on, 0 when unknown. The caller holds
// the lock.
func (g *Graph) hostOf(network record.EntityID) record.EntityID {
	n := g.entity(network)
	switch {
	case n == nil:
		return 0
	case n.Kind == KindHost:
		return n.ID
	}
	return n.Host
}

// bridge is the network that container runtimes give their bridge by default, on
// every host the same.
var bridge = netip.MustParsePrefix("172.17.0.0/16")

// isHostsOwn tells whether an address means another thing on each host.
func isHostsOwn(address string) bool {
	if !strings.HasPrefix(address, "172.17.") && !strings.HasPrefix(address, "169.254.") && !strings.HasPrefix(address, "fe80") {
		return false
	}
	a, err := netip.ParseAddr(address)
	return err == nil && (bridge.Contains(a) || a.IsLinkLocalUnicast())
}

// Loopback tells whether an address is reached over the loopback interface of a network
// namespace.
func (g *Graph) Loopback(address record.EntityID) bool {
	a, ok := g.Entity(address)
	return ok && a.Kind == KindAddress && isLoopback(a.Address)
}

func isLoopback(address string) bool {
	if address == "localhost" {
		return true
	}
	if len(address) == 0 || (address[0] != '1' && address[0] != ':') {
		return false
	}
	a, err := netip.ParseAddr(address)
	return err == nil && a.Unmap().IsLoopback()
}

// Owned notes that an entity answered at an address or, of all ports of one, that it
// has it from then on. In which order that is told does not matter.
func (g *Graph) Owned(address, by record.EntityID, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owned(address, by, at)
}

func (g *Graph) owned(address, by record.EntityID, at int64) {
	if address == 0 || by == 0 {
		return
	}
	a := g.entity(address)
	if a == nil || a.Kind != KindAddress {
		return
	}
	a.parted(by, at)
	for i := range a.owners {
		if o := &a.owners[i]; o.entity == by && !a.otherBetween(o, at) {
			o.first, o.last = min(o.first, at), max(o.last, at)
			return
		}
	}
	a.owners = append(a.owners, owner{by, at, at})
	for len(a.owners) > maxOwners {
		oldest := 0
		for i := range a.owners {
			if a.owners[i].last < a.owners[oldest].last {
				oldest = i
			}
		}
		a.owners = slices.Delete(a.owners, oldest, oldest+1)
	}
}

// parted ends the stretch of time in which one had all ports of an address at a time at
// which another got them: those have one owner at a time. At a port several can take turns.
func (e *Entity) parted(by record.EntityID, at int64) {
	if e.Port != anyPort {
		return
	}
	for i := range e.owners {
		if o := &e.owners[i]; o.entity != by && o.first < at && at < o.last {
			e.owners = append(e.owners, owner{o.entity, o.last, o.last})
			e.owners[i].last = e.owners[i].first
		}
	}
}

// otherBetween tells whether somebody else got all ports of an address between a stretch
// of time in which one had them and another time at which he has them.
func (e *Entity) otherBetween(o *owner, at int64) bool {
	return e.Port == anyPort && slices.ContainsFunc(e.owners, func(x owner) bool {
		return x.entity != o.entity && min(o.first, at) < x.first && x.first < max(o.last, at)
	})
}

// initPID is the process that holds the sockets of services that it starts when
// somebody connects: those are not its own.
const initPID = 1

// Listens notes that a process listens at an address. It stands for the owner while
// nobody is known to have answered there, or he who did has ended. A host listens
// nowhere: which process of it does is not known then.
func (g *Graph) Listens(address, by record.EntityID, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, p := g.entity(address), g.entity(by)
	if a == nil || a.Kind != KindAddress || p == nil || p.Kind == KindHost || cmp.Or(p.PID, p.VPID) == initPID && p.Container == 0 {
		return
	}
	if a.listener.entity != by {
		a.listener = owner{by, at, at}
	}
	a.listener.first, a.listener.last = min(a.listener.first, at), max(a.listener.last, at)
}

// Owner returns who answered at an address last, not after at; while that is not
// known, who listened there; else 0. Where nobody did, or another pod was given the
// address since, it is the pod that has it.
func (g *Graph) Owner(address record.EntityID, at int64) record.EntityID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	a := g.entity(address)
	if a == nil || a.Kind != KindAddress {
		return 0
	}
	answered := a.ownerAt(at)
	if g.entity(answered.entity) == nil {
		answered = owner{}
	}
	if g.succeeds(a.listener, answered, at) {
		answered = a.listener
	}
	if a.Port == anyPort {
		return answered.entity
	}
	whole := g.whole(a)
	if whole == nil {
		return answered.entity
	}
	has := whole.ownerAt(at)
	e := g.entity(has.entity)
	if e == nil || answered.entity != 0 && (answered.last >= has.first || g.within(g.entity(answered.entity), e)) {
		return answered.entity
	}
	return has.entity
}

// Holder returns the pod (or container, where no pod is known) that has an address at a
// time, as a container network says, whoever is known to have answered there; 0 for a
// loopback address and for one that its last holder has given back, see LastHolder.
func (g *Graph) Holder(address record.EntityID, at int64) record.EntityID {
	if holder, has := g.LastHolder(address, at); has {
		return holder
	}
	return 0
}

// LastHolder returns the pod (or container) that got an address last, not after at, and
// whether it had it still; 0 and false where none is known.
func (g *Graph) LastHolder(address record.EntityID, at int64) (holder record.EntityID, has bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	a := g.entity(address)
	if a == nil || a.Kind != KindAddress {
		return 0, false
	}
	whole := g.whole(a) // a loopback address has none: it is another one in each network
	if whole == nil {
		return 0, false
	}
	e := g.entity(whole.ownerAt(at).entity)
	if e == nil {
		return 0, false
	}
	return e.ID, whole.holderAt(at) == e.ID
}

// holderAt returns who has all ports of an address at a time: who got it last, unless he
// was told to have left it since, 0 for nobody.
func (e *Entity) holderAt(at int64) record.EntityID {
	has := e.ownerAt(at)
	since := has.first
	if has.last <= at {
		since = has.last
	}
	if slices.ContainsFunc(e.left, func(d departure) bool { return d.entity == has.entity && since < d.at && d.at <= at }) {
		return 0
	}
	return has.entity
}

// held tells whether an address of a container network is in use.
func (e *Entity) held() bool {
	return e.Kind == KindAddress && e.Port == anyPort && e.holderAt(math.MaxInt64) != 0
}

// whole returns the entity of all ports of an address, nil where no network told of it.
func (g *Graph) whole(a *Entity) *Entity {
	key := addressKey{address: a.Address}
	if isHostsOwn(a.Address) {
		key.network = a.Host
	}
	return g.addresses[key]
}

// succeeds tells whether who listens at an address is its owner: nobody answered
// there, or he who did has ended before.
func (g *Graph) succeeds(listener, answered owner, at int64) bool {
	if listener.first > at || g.entity(listener.entity) == nil {
		return false
	}
	e := g.entity(answered.entity)
	return e == nil || e.Ended != 0 && e.Ended <= listener.first
}

// within tells whether an entity is another one or a part of its pod.
func (g *Graph) within(e, of *Entity) bool {
	pod := func(e *Entity) record.EntityID {
		return g.climb(e, func(e *Entity) record.EntityID { return e.self(KindPod) })
	}
	return e.ID == of.ID || pod(e) != 0 && pod(e) == pod(of) || e.Container != 0 && e.Container == of.ID
}

// ownerAt returns the last owner of an address, not after at: who answered last or, of
// all ports of it, who got it last.
func (e *Entity) ownerAt(at int64) owner {
	var best owner
	for _, o := range e.owners {
		if o.first > at {
			continue
		}
		had, has := min(best.last, at), min(o.last, at)
		if e.Port == anyPort {
			had, has = best.first, o.first
		}
		if best.entity == 0 || has > had {
			best = o
		}
	}
	return best
}

// Shared tells whether several answered at an address in turns, as at that of a service that
// spreads calls over its instances: who was called there is not known.
func (g *Graph) Shared(address record.EntityID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	a := g.entity(address)
	if a == nil {
		return false
	}
	for i, x := range a.owners {
		if slices.ContainsFunc(a.owners[:i], func(y owner) bool { return y.entity != x.entity && x.first <= y.last && y.first <= x.last }) {
			return true
		}
	}
	return false
}

// Touch makes entities be remembered as if an event had named them. Ids that are 0
// or forgotten are ignored.
func (g *Graph) Touch(at int64, ids ...record.EntityID) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, id := range ids {
		if e := g.entity(id); e != nil {
			e.touch(at)
		}
	}
}

// Called notes that one service called another.
func (g *Graph) Called(caller, callee record.EntityID, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calledBy(caller, callee, at)
}

func (g *Graph) calledBy(caller, callee record.EntityID, at int64) {
	if caller == 0 || callee == 0 || caller == callee {
		return
	}
	key := [2]record.EntityID{caller, callee}
	c := g.calls[key]
	if c == nil {
		if len(g.calls) >= maxCalls {
			g.overflow++
			return
		}
		c = &Call{Caller: caller, Callee: callee, First: at}
		g.calls[key] = c
	}
	c.Last = max(c.Last, at)
}

// Callees returns the services that a service was seen to call since a time.
func (g *Graph) Callees(service record.EntityID, since int64) []record.EntityID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var out []record.EntityID
	for _, c := range g.calls {
		if c.Caller == service && c.Last >= since {
			out = append(out, c.Callee)
		}
	}
	return out
}

// Hosts returns the hosts on which instances of a service are known, in the order of
// their number.
func (g *Graph) Hosts(service record.EntityID) (hosts []record.EntityID) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, e := range g.entities {
		if e.Host != 0 && e.Service == service && !slices.Contains(hosts, e.Host) {
			hosts = append(hosts, e.Host)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// InstancesOn returns what runs on a host and belongs to a service.
func (g *Graph) InstancesOn(host record.EntityID) (instances []record.EntityID) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, e := range g.entities {
		if g.hostOfEntity(e) == host && g.serviceOf(e) != 0 {
			instances = append(instances, e.ID)
		}
	}
	return instances
}

// Operations returns the operations through which a service is called.
func (g *Graph) Operations(service record.EntityID) []record.EntityID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var out []record.EntityID
	for key, e := range g.operations {
		if key.service == service && key.kind == record.SpanServer {
			out = append(out, e.ID)
		}
	}
	return out
}

// EachServed calls do for every operation that somebody serves, and who: a service, or what
// has none. do must not call the graph.
func (g *Graph) EachServed(do func(operation, by record.EntityID)) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for key, e := range g.operations {
		if key.kind == record.SpanServer {
			do(e.ID, key.service)
		}
	}
}

// Concerns tells through which shared identity something that happened to the
// entity happened also to the target, and false when they share none. A
// process concerns itself, its container concerns it, a pod its containers.
func (g *Graph) Concerns(entity, target record.EntityID) (finding.LinkedBy, bool) {
	if entity == 0 || target == 0 {
		return "", false
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	e, t := g.entity(entity), g.entity(target)
	if e == nil || t == nil {
		return "", false
	}
	if entity == target {
		return linkOf(e.Kind), true
	}
	if id := e.self(KindContainer); id != 0 && id == t.self(KindContainer) {
		return finding.LinkedByContainer, true
	}
	if id := e.self(KindPod); id != 0 && id == t.self(KindPod) {
		return finding.LinkedByPod, true
	}
	if t.Kind == KindService && g.serviceOf(e) == target {
		return finding.LinkedByTopology, true
	}
	if e.isWorkload() || t.isWorkload() { // one pod of a workload is not the other
		if w := g.workloadOf(e); w != 0 && w == g.workloadOf(t) {
			return finding.LinkedByOwner, true
		}
	}
	return "", false
}

// self returns the entity of that kind that e is or is part of.
func (e *Entity) self(kind Kind) record.EntityID {
	switch {
	case e.Kind == kind:
		return e.ID
	case kind == KindContainer:
		return e.Container
	case kind == KindPod:
		return e.Pod
	}
	return 0
}

func linkOf(k Kind) finding.LinkedBy {
	switch k {
	case KindProcess:
		return finding.LinkedByProcess
	case KindContainer:
		return finding.LinkedByContainer
	case KindPod:
		return finding.LinkedByPod
	case KindAddress:
		return finding.LinkedByAddress
	}
	return finding.LinkedByTopology
}

// Sweep forgets entities that no event has named since a time, but for what a
// living one is part of, and for addresses in use or still called and those who have
// them or had them last.
func (g *Graph) Sweep(before int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	used := map[record.EntityID]bool{} // what a living entity is part of
	for _, e := range g.entities {
		if e.held() || e.seen.Load() >= before {
			e.keeps(g, used)
		}
	}
	for _, e := range g.entities {
		if e.seen.Load() < before && !used[e.ID] && !e.held() {
			g.drop(e)
		}
	}
	for key, c := range g.calls {
		if c.Last < before {
			delete(g.calls, key)
		}
	}
	g.dropIndexes()
}

// evictOldest makes room for one sixteenth of the bound, so that a full graph
// does not scan for every new entity.
func (g *Graph) evictOldest() {
	n := max(g.limits.Entities/16, 1)
	times := make([]int64, 0, len(g.entities))
	for _, e := range g.entities {
		times = append(times, e.seen.Load())
	}
	cut := nth(times, n)
	for _, e := range g.entities {
		if n > 0 && e.seen.Load() <= cut {
			g.drop(e)
			g.evicted++
			n--
		}
	}
	g.dropIndexes()
}

func (g *Graph) drop(e *Entity) {
	delete(g.entities, e.ID)
	g.drops.Add(1)
}

// dropIndexes removes what names dropped entities.
func (g *Graph) dropIndexes() {
	clean(g.byKey, g)
	clean(g.byPID, g)
	for key, e := range g.addresses {
		if g.entities[e.ID] == nil {
			delete(g.addresses, key)
		}
	}
	for key, e := range g.operations {
		if g.entities[e.ID] == nil {
			delete(g.operations, key)
			if g.perService[key.service]--; g.perService[key.service] <= 0 {
				delete(g.perService, key.service)
			}
		}
	}
	for key := range g.calls {
		if g.entities[key[0]] == nil || g.entities[key[1]] == nil {
			delete(g.calls, key)
		}
	}
}

func clean[K comparable](m map[K]record.EntityID, g *Graph) {
	for key, id := range m {
		if g.entities[id] == nil {
			delete(m, key)
		}
	}
}
