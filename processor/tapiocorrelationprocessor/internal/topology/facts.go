package topology

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// startSlack is how much later than the kernel systemd can note the start of a
// process: it reads the clock after it has forked.
const startSlack = int64(2 * time.Second)

// Runs notes that a process was the main one of a unit of systemd on the same host.
// created is when systemd started it, in ns. It does nothing for an entity that is no
// unit and for a pid below 1.
func (g *Graph) Runs(unit record.EntityID, pid, created, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.entity(unit)
	if u == nil || u.Kind != KindUnit || pid <= 0 {
		return
	}
	key := pidKey{scope: u.Host, pid: pid}
	p := g.entity(g.byPID[key])
	if p == nil || !p.startedAt(created) {
		r := Resource{PID: pid}
		p = g.newProcess(&r, Ref{Host: u.Host}, at)
		p.learn(&r, Ref{Host: u.Host}, 0, 0)
		p.Name = u.Name
		g.byPID[key] = p.ID
	}
	p.touch(at)
	p.Workload = u.ID
	g.serves(p)
}

// startedAt tells whether a process can be one that systemd started at that time.
func (e *Entity) startedAt(created int64) bool {
	if e.Created == 0 {
		return e.seen.Load() >= created-startSlack
	}
	d := created - e.Created
	return d >= -startSlack && d <= startSlack
}

// serves notes that a unit is the service that its process reports for.
func (g *Graph) serves(p *Entity) {
	u := g.entity(p.Workload)
	if u == nil || u.Kind != KindUnit || p.Service == 0 {
		return
	}
	u.Service = p.Service
	if s := g.entity(p.Service); s != nil {
		u.set(event.KeyServiceName, s.Name)
		u.Version = cmp.Or(p.Version, s.Version)
	}
}

// Network returns the container network of that name on a host, 0 without a host or a
// name: each node has its own pool, configuration and plugins.
func (g *Graph) Network(host record.EntityID, name string, at int64) record.EntityID {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.entity(host)
	if h == nil || h.Kind != KindHost || name == "" {
		return 0
	}
	name = record.Text(name)
	n := g.intern(KindNetwork, h.Name+"/"+name, name, at)
	n.Host = host
	n.set(event.KeyCNINetwork, name)
	n.set(event.KeyHostName, h.Name)
	return n.ID
}

// Interface is what a container network says of one interface of a pod.
type Interface struct {
	// Network is the name of its container network, "" when that is not known.
	Network string
	// Addresses are its IP addresses, with or without prefix.
	Addresses []string
	// HostInterface is its other end, Netns the path of its network namespace.
	HostInterface, Netns string
}

// Attached notes that a pod (or a container, where no pod is known) has an interface:
// its addresses are the pod's from then on, until it is detached or another pod has
// them. Calls to any port of them lead to the pod.
func (g *Graph) Attached(holder record.EntityID, i Interface, at int64) {
	for _, address := range i.Addresses {
		g.Owned(g.wholeAddress(holder, address, at), holder, at)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.entity(holder)
	if e == nil {
		return
	}
	if i.Network != "" && len(e.networks) < maxOwners && !slices.Contains(e.networks, i.Network) {
		e.networks = append(e.networks, record.Text(i.Network))
	}
	if len(i.Addresses) > 0 {
		address, _, _ := strings.Cut(i.Addresses[0], "/")
		e.setIf(event.KeyPodIP, address)
		e.setIf(event.KeyCNIHostInterface, i.HostInterface)
		e.setIf(event.KeyCNINetns, i.Netns)
	}
}

// InNetwork tells whether an entity is, or is in, a pod or container that has had an
// interface of a container network of its node. known is false where none of its networks
// is known.
func (g *Graph) InNetwork(id, network record.EntityID) (in, known bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	n, e := g.entity(network), g.entity(id)
	if n == nil || e == nil {
		return false, false
	}
	for _, at := range []*Entity{e, g.entity(e.Container), g.entity(e.Pod)} {
		if at != nil && len(at.networks) > 0 {
			known = true
			in = in || slices.Contains(at.networks, n.Name) && g.hostOfEntity(at) == n.Host
		}
	}
	return in, known
}

// Detached notes that a pod has an interface no longer: it is the Holder of its addresses
// until then. In which order that is told does not matter. Who calls them now still means
// that pod, their Owner, but it need not be remembered for that.
func (g *Graph) Detached(holder record.EntityID, i Interface, at int64) {
	for _, address := range i.Addresses {
		g.leave(g.wholeAddress(holder, address, at), departure{holder, at})
	}
}

func (g *Graph) leave(address record.EntityID, d departure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.entity(address)
	if a == nil || slices.Contains(a.left, d) {
		return
	}
	a.left = append(a.left, d)
	if len(a.left) > maxOwners {
		slices.SortFunc(a.left, func(x, y departure) int { return cmp.Compare(x.at, y.at) })
		a.left = slices.Delete(a.left, 0, 1)
	}
}

// wholeAddress returns the entity of all ports of an address that a holder has.
func (g *Graph) wholeAddress(holder record.EntityID, address string, at int64) record.EntityID {
	address, _, _ = strings.Cut(address, "/")
	return g.addressAt(holder, address, anyPort, at)
}

// keeps adds to used what must be remembered because of e: what it is part of and, of
// an address, who has it or had it last.
func (e *Entity) keeps(g *Graph, used map[record.EntityID]bool) {
	e.parts(used)
	if e.Kind != KindAddress {
		return
	}
	g.keepOwner(e, used)
	if whole := g.whole(e); whole != nil && whole != e {
		used[whole.ID] = true
		g.keepOwner(whole, used)
	}
}

func (g *Graph) keepOwner(address *Entity, used map[record.EntityID]bool) {
	if owner := g.entity(address.lastOwner()); owner != nil {
		used[owner.ID] = true
		owner.parts(used)
	}
}

// parts adds to used what e is part of.
func (e *Entity) parts(used map[record.EntityID]bool) {
	for _, id := range []record.EntityID{e.Service, e.Container, e.Pod, e.Host, e.Workload, e.Namespace} {
		used[id] = true
	}
}

func (e *Entity) lastOwner() record.EntityID { return e.ownerAt(math.MaxInt64).entity }
