package topology

import (
	"cmp"
	"strconv"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// creationSlack is how far two statements of one process's start may differ:
// the kernel counts it in clock ticks of 10 ms in /proc.
const creationSlack = int64(20 * time.Millisecond)

// reportSlack is how long after the end of a process, as the kernel saw it, an
// event of it can seem to happen: SDKs read the clock a little later.
const reportSlack = int64(time.Second)

// process returns the process of a resource, 0 when it names none. A process is
// known by the pid that its host gives it and, for an SDK inside a container, by
// the pid that it has there; one without a pid, because it is outside of its
// observer's pid namespace, and without a container by the time at which it began.
func (g *Graph) process(r *Resource, ref Ref, container, pod record.EntityID, at int64) record.EntityID {
	keys := processKeys(r, ref, container)
	if len(keys) == 0 {
		return 0
	}
	var p *Entity
	for _, k := range keys {
		if known := g.entity(g.byPID[k]); known != nil && known.is(r, at) {
			p = known
			break
		}
	}
	if p == nil {
		p = g.newProcess(r, ref, at)
	}
	for _, k := range keys {
		g.byPID[k] = p.ID
	}
	p.touch(at)
	p.learn(r, ref, container, pod)
	p.runs(r, at)
	g.serves(p)
	return p.ID
}

func processKeys(r *Resource, ref Ref, container record.EntityID) []pidKey {
	if r.PID <= 0 {
		if r.Created == 0 || ref.Host == 0 || container != 0 {
			return nil
		}
		return []pidKey{{scope: ref.Host, created: r.Created}}
	}
	var keys []pidKey
	if container != 0 {
		// Inside a container's pid namespace: the kernel's records carry both pids,
		// an SDK only the inner one.
		inner := r.PID
		if r.VPID > 0 {
			inner = r.VPID
		}
		keys = append(keys, pidKey{scope: container, pid: inner})
	}
	if ref.Host != 0 && (container == 0 || r.VPID > 0 || r.Cgroup != "") {
		keys = append(keys, pidKey{scope: ref.Host, pid: r.PID})
	}
	return keys
}

// is tells whether the resource can be the process e, and not a later one that
// was given the same pid.
func (e *Entity) is(r *Resource, at int64) bool {
	if r.Created != 0 && e.Created != 0 {
		d := r.Created - e.Created
		return d >= -creationSlack && d <= creationSlack
	}
	if r.Created != 0 {
		// Known from an SDK only: it is the same one if it was seen alive after
		// this start.
		return e.seen.Load() >= r.Created-creationSlack
	}
	// Without a creation time: an SDK may report after the end what it saw before,
	// but not what happened before the start or after the end; and another service
	// on the same pid is another process.
	if (e.Created != 0 && at < e.Created-creationSlack) || (e.Ended != 0 && at > e.Ended+reportSlack) {
		return false
	}
	service, _ := e.Attributes[event.KeyServiceName].(string)
	return r.Service == "" || service == "" || service == r.Service
}

func (g *Graph) newProcess(r *Resource, ref Ref, at int64) *Entity {
	name := r.Executable
	if name == "" {
		name = r.Service
	}
	host := ""
	if h := g.entity(ref.Host); h != nil {
		host = h.Name
	}
	key := "process/" + host + "/" + r.Container + "/" + strconv.FormatInt(cmp.Or(r.PID, r.Created), 10)
	return g.add(KindProcess, key, name, at)
}

// learn adds what a resource says of the process. What is known is not undone
// by a resource that says less.
func (e *Entity) learn(r *Resource, ref Ref, container, pod record.EntityID) {
	e.join(ref)
	if container != 0 {
		e.Container = container
	}
	if pod != 0 {
		e.Pod = pod
	}
	if r.Created != 0 {
		e.Created = r.Created
		e.set(event.KeyProcessCreationTime, time.Unix(0, r.Created).UTC().Format(time.RFC3339Nano))
	}
	if r.PID > 0 && (e.PID == 0 || r.Created != 0) {
		e.PID = r.PID
		e.set(event.KeyProcessPID, r.PID)
	}
	if r.VPID != 0 {
		e.VPID = r.VPID
		e.set(event.KeyProcessVPID, r.VPID)
	}
	if r.Cgroup != "" {
		e.Cgroup = r.Cgroup
		e.set(event.KeyProcessCgroup, r.Cgroup)
	}
	if r.Service != "" && !isUnknown(r.Service) {
		e.Name = r.Service
		e.set(event.KeyServiceName, r.Service)
	}
	if r.ServiceVersion != "" {
		e.Version = r.ServiceVersion
		e.set(event.KeyServiceVersion, r.ServiceVersion)
	}
	for key, value := range map[string]string{
		event.KeyServiceNamespace: r.ServiceNamespace, event.KeyServiceInstanceID: r.ServiceInstance,
		event.KeyHostName: r.Host, event.KeyContainerID: r.Container, event.KeyContainerName: r.ContainerName,
		event.KeyPodUID: r.PodUID, event.KeyPodName: r.PodName,
		event.KeyNamespaceName: r.Namespace, event.KeyNodeName: r.Node,
	} {
		e.setIf(key, value)
	}
}

// runs learns what the process runs at a time: a wrapper such as env becomes another
// program, and its process is called by that from then on. An event that comes late
// tells what it ran before. Of a process that ends, older kernels tell the name that
// they keep of it alone, which is not always that of its executable.
func (e *Entity) runs(r *Resource, at int64) {
	if r.Executable == "" || at < e.running || (e.Executable != "" && r.Executable == r.Comm && r.Comm == e.comm) {
		return
	}
	if e.Name == e.Executable || e.Name == "" {
		e.Name = r.Executable
	}
	e.Executable, e.comm, e.running = r.Executable, r.Comm, at
	e.set(event.KeyProcessExecutableName, r.Executable)
}

// End notes that a process ended.
func (g *Graph) End(process record.EntityID, at int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.entity(process); e != nil && e.Kind == KindProcess {
		e.Ended = at
	}
}
