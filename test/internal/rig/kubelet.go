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
// pod cannot be created for the reason failed, as the records of docs/events.md.
func (c *Collector) TellNotCreated(t *testing.T, p Pod, failed error) {
	t.Helper()
	c.tell(t, p, event.K8sEvent, "Failed to create pod sandbox: "+failed.Error(), map[string]any{event.KeyK8sEventReason: "FailedCreatePodSandBox", event.KeyK8sEventCount: 1})
	c.tell(t, p, event.K8sContainerWaiting, "container "+p.Deployment+" of "+p.Name+" waits: ContainerCreating", map[string]any{event.KeyContainerReason: "ContainerCreating"})
	c.tell(t, p, event.K8sPodNotReady, "pod "+p.Name+" is not ready: containers with unready status: ["+p.Deployment+"]", nil)
}

func (c *Collector) tell(t *testing.T, p Pod, name, body string, attrs map[string]any) {
	t.Helper()
	logs := plog.NewLogs()
	rl := logs.ResourceLogs().AppendEmpty()
	require.NoError(t, rl.Resource().Attributes().FromRaw(map[string]any{
		event.KeyNamespaceName: p.Namespace, event.KeyPodName: p.Name, event.KeyDeploymentName: p.Deployment,
		event.KeyNodeName: p.Node, event.KeyServiceName: p.Deployment,
	}))
	lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	lr.SetEventName(name)
	lr.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
	lr.SetSeverityNumber(plog.SeverityNumberWarn)
	lr.Body().SetStr(body)
	require.NoError(t, lr.Attributes().FromRaw(attrs))
	c.Send(t, logs)
}
