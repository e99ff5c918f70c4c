package gauge

import (
	"hash/maphash"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
)

// seed makes keys differ from process to process; they leave it nowhere.
var seed = maphash.MakeSeed()

// source is whose metrics a resource carries.
type source struct {
	// key is the same for all resources that describe the same thing, whichever
	// receiver made them.
	key uint64
	// workload is the key of what replicas have in common, 0 when unknown.
	workload uint64
	// container is the container of a pod; the topology may know the pod only.
	container string
}

// identity is what of a resource's attributes tells things apart.
type identity struct {
	podUID, podName, namespace, containerName, containerID string
	pid, instance, service, serviceNamespace               string
	host, node, owner, ownerKind                           string
}

// sourceOf reads the identity of a resource.
func sourceOf(attrs pcommon.Map) source {
	var id identity
	for k, v := range attrs.All() {
		id.read(k, v)
	}
	s := source{key: id.key(), workload: id.workload()}
	if id.podUID != "" || id.podName != "" {
		s.container = id.containerName
	}
	return s
}

func (id *identity) read(k string, v pcommon.Value) {
	switch k {
	case event.KeyPodUID:
		id.podUID = v.Str()
	case event.KeyPodName:
		id.podName = v.Str()
	case event.KeyNamespaceName:
		id.namespace = v.Str()
	case event.KeyContainerName:
		id.containerName = v.Str()
	case event.KeyContainerID:
		id.containerID = v.Str()
	case event.KeyProcessPID:
		id.pid = v.AsString()
	case event.KeyServiceInstanceID:
		id.instance = v.Str()
	case event.KeyServiceName:
		id.service = v.Str()
	case event.KeyServiceNamespace:
		id.serviceNamespace = v.Str()
	case event.KeyHostName:
		id.host = v.Str()
	case event.KeyNodeName:
		id.node = v.Str()
	case event.KeyDeploymentName, "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name":
		id.owner, id.ownerKind = v.Str(), k
	case "k8s.replicaset.name", "k8s.job.name":
		// Behind these is often a deployment or a cron job, which is the workload.
		if id.owner == "" {
			id.owner, id.ownerKind = v.Str(), k
		}
	}
}

// key prefers what every receiver that knows the thing reports: kubelet, API server
// and the k8sattributes processor agree on pod and container name, not on the
// container's id; the node of a pod and the service of a container come and go.
func (id *identity) key() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	switch {
	case id.podUID != "":
		write(&h, "pod", id.podUID, id.containerName, id.pid, id.instance)
	case id.podName != "":
		write(&h, "pod name", id.namespace, id.podName, id.containerName, id.pid, id.instance)
	case id.containerID != "":
		write(&h, "container", id.containerID, id.pid)
	case id.pid != "":
		write(&h, "process", id.host, id.pid, id.instance)
	case id.instance != "":
		write(&h, "instance", id.serviceNamespace, id.service, id.instance)
	case id.service != "":
		write(&h, "service", id.serviceNamespace, id.service, id.host)
	case id.host != "":
		write(&h, "host", id.host)
	default:
		write(&h, "node", id.node)
	}
	return h.Sum64()
}

// workload is the owner of a pod, or else the service.
func (id *identity) workload() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	switch {
	case id.owner != "":
		write(&h, id.ownerKind, id.namespace, id.owner, id.containerName)
	case id.service != "":
		write(&h, "service", id.serviceNamespace, id.service, id.containerName)
	default:
		return 0
	}
	return h.Sum64()
}

func write(h *maphash.Hash, texts ...string) {
	for _, s := range texts {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
}

// seriesKey is the key of one resource of a source.
func seriesKey(source uint64, class Class, part, instance string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, source)
	_ = h.WriteByte(byte(class))
	write(&h, part, instance)
	return h.Sum64()
}
