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
	Host                                                       string
	PID, VPID                                                  int64
	// Created is the start of the process in ns since 1970, 0 when unknown.
	Created                     int64
	Executable, Cgroup          string
	Container, ContainerName    string
	PodUID, PodName             string
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
			r.Service = record.Text(v.AsString())
		case event.KeyServiceNamespace:
			r.ServiceNamespace = record.Text(v.AsString())
		case event.KeyServiceInstanceID:
			r.ServiceInstance = record.Text(v.AsString())
		case event.KeyServiceVersion:
			r.ServiceVersion = record.Text(v.AsString())
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
