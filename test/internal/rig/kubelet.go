package rig

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// Pod is one of a deployment, whose name is also that of its service and container.
type Pod struct {
	Namespace, Name, Deployment, Node string
}

// TellNotCreated tells what a kubelet and the API server would when the sandbox of a
// pod cannot be created for the reason failed, as the records that package event names.
func (c *Collector) TellNotCreated(t *testing.T, p Pod, failed error) {
	t.Helper()
	c.tell(t, p, event.K8sEvent, "Failed to create pod sandbox: "+failed.Error(), map[string]any{event.KeyK8sEventReason: "FailedCreatePodSandBox", event.KeyK8sEventCount: 1})
	c.tell(t, p, event.K8sContainerWaiting, "container "+p.Deployment+" of "+p.Name+" waits: ContainerCreating", map[string]any{event.KeyContainerReason: "ContainerCreating"})
	c.tell(t, p, event.K8sPodNotReady, "pod "+p.Name+" is not ready: containers with unready status: ["+p.Deployment+"]", nil)
}

// TellNodeLost tells what the API server would, some time after the kubelet of a pod's
// node has spoken last: the node is not known to be ready, and neither is the pod, which
// the scheduler had given to it.
func (c *Collector) TellNodeLost(t *testing.T, p Pod) {
	t.Helper()
	c.tell(t, Pod{Node: p.Node}, event.K8sNodeCondition, p.Node+": Ready is unknown: Kubelet stopped posting node status.",
		map[string]any{event.KeyNodeCondition: "Ready", event.KeyNodeConditionStatus: "unknown"})
	c.tell(t, p, event.K8sPodNotReady, "pod "+p.Name+" is not ready", nil)
}

func (c *Collector) tell(t *testing.T, p Pod, name, body string, attrs map[string]any) {
	t.Helper()
	logs := plog.NewLogs()
	rl := logs.ResourceLogs().AppendEmpty()
	for key, value := range map[string]string{
		event.KeyNamespaceName: p.Namespace, event.KeyPodName: p.Name, event.KeyDeploymentName: p.Deployment,
		event.KeyNodeName: p.Node, event.KeyServiceName: p.Deployment,
	} {
		if value != "" {
			rl.Resource().Attributes().PutStr(key, value)
		}
	}
	lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	lr.SetEventName(name)
	lr.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	lr.SetSeverityNumber(plog.SeverityNumberWarn)
	lr.Body().SetStr(body)
	require.NoError(t, lr.Attributes().FromRaw(attrs))
	c.Send(t, logs)
}
