package topology

import (
	"strconv"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
)

// Resource is what the attributes of an OTLP resource say about identity.
type Resource struct {
	Service, ServiceNamespace, ServiceInstance, ServiceVersion string
	Host                                                       string
	PID, VPID                                                  int64
	// Created is the start of the process in ns since 1970, 0 when unknown.
	Created                     int64
	Executable, Cgroup          string
	Container, ContainerName    string
	PodUID, PodName, PodIP      string
	Namespace, Deployment, Node string
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
			r.Service = v.AsString()
		case event.KeyServiceNamespace:
			r.ServiceNamespace = v.AsString()
		case event.KeyServiceInstanceID:
			r.ServiceInstance = v.AsString()
		case event.KeyServiceVersion:
			r.ServiceVersion = v.AsString()
		case event.KeyHostName:
			r.Host = v.AsString()
		case event.KeyProcessPID:
			r.PID = integer(v)
		case event.KeyProcessVPID:
			r.VPID = integer(v)
		case event.KeyProcessCreationTime:
			if t, err := time.Parse(time.RFC3339Nano, v.AsString()); err == nil {
				r.Created = t.UnixNano()
			}
		case event.KeyProcessExecutableName:
			r.Executable = v.AsString()
		case event.KeyProcessCgroup:
			r.Cgroup = v.AsString()
		case event.KeyContainerID:
			r.Container = v.AsString()
		case event.KeyContainerName:
			r.ContainerName = v.AsString()
		case event.KeyPodUID:
			r.PodUID = v.AsString()
		case event.KeyPodName:
			r.PodName = v.AsString()
		case event.KeyPodIP:
			r.PodIP = v.AsString()
		case event.KeyNamespaceName:
			r.Namespace = v.AsString()
		case event.KeyDeploymentName:
			r.Deployment = v.AsString()
		case event.KeyNodeName:
			r.Node = v.AsString()
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
