package topology

import (
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Resource is what the attributes of an OTLP resource say about identity.
type Resource struct {
	Service, ServiceNamespace, ServiceInstance, ServiceVersion string
	Host, Criticality                                          string
	PID, VPID                                                  int64
	// Created is the start of the process in ns since 1970, 0 when unknown.
	Created                     int64
	Executable, Comm, Cgroup    string
	Container, ContainerName    string
	PodUID, PodName             string
	Namespace, Deployment, Node string
	// WorkloadKind and Workload are what owns the pod: deployment, statefulset,
	// daemonset, cronjob, job or replicaset, in this order where several are named.
	WorkloadKind, Workload string
	// K8sService is a Service object of Kubernetes.
	K8sService string
	// Unit is a unit of systemd.
	Unit string
}

// workloadKinds are the attributes that name a pod's owner, the outermost first.
var workloadKinds = []struct{ key, kind string }{
	{event.KeyDeploymentName, "deployment"},
	{event.KeyStatefulSetName, "statefulset"},
	{event.KeyDaemonSetName, "daemonset"},
	{event.KeyCronJobName, "cronjob"},
	{event.KeyJobName, "job"},
	{event.KeyReplicaSetName, "replicaset"},
}

// owner notes an attribute that names a pod's owner, if none further out is known.
func (r *Resource) owner(key, name string) {
	for _, k := range workloadKinds {
		if r.Workload != "" && r.WorkloadKind == k.kind {
			return
		}
		if k.key == key {
			r.WorkloadKind, r.Workload = k.kind, record.Text(name)
			return
		}
	}
}

// workloadKey returns the attribute that names a workload of a kind.
func workloadKey(kind string) string {
	for _, k := range workloadKinds {
		if k.kind == kind {
			return k.key
		}
	}
	return ""
}

// unknownService begins the service name that SDKs invent when none is set.
const unknownService = "unknown_service"

// ReadResource reads the identity attributes. Unknown attributes and values of
// an unexpected type are ignored.
func ReadResource(attrs pcommon.Map) Resource {
	var r Resource
	for k, v := range attrs.All() {
		switch k {
		case event.KeyServiceName:
			r.Service = record.Text(v.AsString())
		case event.KeyServiceNamespace:
			r.ServiceNamespace = record.Text(v.AsString())
		case event.KeyServiceInstanceID:
			r.ServiceInstance = record.Text(v.AsString())
		case event.KeyServiceVersion:
			r.ServiceVersion = record.Text(v.AsString())
		case event.KeyServiceCriticality:
			r.Criticality = record.Text(v.AsString())
		case event.KeyHostName:
			r.Host = record.Text(v.AsString())
		case event.KeyProcessPID:
			r.PID = integer(v)
		case event.KeyProcessVPID:
			r.VPID = integer(v)
		case event.KeyProcessCreationTime:
			if t, err := time.Parse(time.RFC3339Nano, v.Str()); err == nil {
				r.Created = t.UnixNano()
			}
		case event.KeyProcessExecutableName:
			r.Executable = record.Text(v.AsString())
		case event.KeyProcessComm:
			r.Comm = record.Text(v.AsString())
		case event.KeyProcessCgroup:
			r.Cgroup = record.Text(v.AsString())
		case event.KeyContainerID:
			r.Container = record.Text(v.AsString())
		case event.KeyContainerName:
			r.ContainerName = record.Text(v.AsString())
		case event.KeyPodUID:
			r.PodUID = record.Text(v.AsString())
		case event.KeyPodName:
			r.PodName = record.Text(v.AsString())
		case event.KeyNamespaceName:
			r.Namespace = record.Text(v.AsString())
		case event.KeyDeploymentName:
			r.Deployment = record.Text(v.AsString())
			r.owner(k, v.AsString())
		case event.KeyStatefulSetName, event.KeyDaemonSetName, event.KeyCronJobName, event.KeyJobName, event.KeyReplicaSetName:
			r.owner(k, v.AsString())
		case event.KeySystemdUnit:
			r.Unit = record.Text(v.AsString())
		case event.KeyK8sServiceName:
			r.K8sService = record.Text(v.AsString())
		case event.KeyNodeName:
			r.Node = record.Text(v.AsString())
		}
	}
	return r
}

func integer(v pcommon.Value) int64 {
	switch v.Type() {
	case pcommon.ValueTypeInt:
		return v.Int()
	case pcommon.ValueTypeStr:
		n, err := strconv.ParseInt(v.Str(), 10, 64)
		if err == nil {
			return n
		}
	}
	return 0
}
