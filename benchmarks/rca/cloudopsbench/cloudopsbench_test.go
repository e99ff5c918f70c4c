package cloudopsbench

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/patterns"
)

// What kubectl describe prints of a pod that waits, its deployment, a service that
// selects nothing, and a node.
const (
	podText = `Name:             pay-6d5c9-x2x4z
Namespace:        shop
Node:             <none>
Labels:           app=pay
                  pod-template-hash=6d5c9
Annotations:      <none>
Status:           Pending
Controlled By:    ReplicaSet/pay-6d5c9
Containers:
  app:
    Image:      registry.example.com/pay:1
    Port:       8081/TCP
    Liveness:   http-get http://:8082/healthz delay=1s timeout=1s period=1s #success=1 #failure=1
    Environment:
      LEDGER_ADDR:  ledger:9999
Conditions:
  Type           Status
  PodScheduled   False
Node-Selectors:  disk=ssd
`
	deploymentText = `Name:                   pay
Namespace:              shop
Replicas:               1 desired | 1 updated | 1 total | 0 available | 1 unavailable
Pod Template:
  Labels:           app=pay
  Containers:
   app:
    Image:      registry.example.com/pay:1
    Port:       8081/TCP
    Liveness:   http-get http://:8082/healthz delay=1s timeout=1s period=1s #success=1 #failure=1
    Environment:
      LEDGER_ADDR:  ledger:9999
`
	replicaSetText = "Name:           pay-6d5c9\nNamespace:      shop\nControlled By:  Deployment/pay\n"
	serviceText    = `Name:        pay
Namespace:   shop
Selector:    app=paiement
Port:        http  80/TCP
TargetPort:  8081/TCP
Endpoints:   
`
	ledgerText = `Name:        ledger
Namespace:   shop
Selector:    <none>
Port:        http  80/TCP
TargetPort:  8081/TCP
Endpoints:   10.0.0.9:8081
`
	nodeText = "Name:  n1\nLabels:  disk=ssd\nTaints:  <none>\nUnschedulable:  true\n"
	message  = "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
)

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	_, err = z.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
}

// folder writes a data set of one case.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	one := filepath.Join(dir, "one")
	require.NoError(t, os.Mkdir(one, 0o700))
	state, err := json.Marshal(map[string]any{"collected_local_utc+8": "2026-01-01T20:00:00.5", "kubectl": map[string]string{
		"kubectl describe pods pay-6d5c9-x2x4z -n shop": podText, "kubectl describe deployments pay -n shop": deploymentText,
		"kubectl describe replicasets pay-6d5c9 -n shop": replicaSetText, "kubectl describe services pay -n shop": serviceText,
		"kubectl describe services ledger -n shop": ledgerText, "kubectl describe nodes n1 -n shop": nodeText,
		"kubectl get services -n shop": "NAME TYPE AGE\npay ClusterIP 109s\nledger ClusterIP 3d2h\n",
	}})
	require.NoError(t, err)
	write(t, filepath.Join(one, stateFile), string(state))
	write(t, filepath.Join(one, "k8s_events.csv.gz"), "time_unix,age_s,first_seen_age_s,count,type,reason,kind,name,namespace,component,message\n"+
		`1767268760,40,90,3,Warning,FailedScheduling,pod,pay-6d5c9-x2x4z,shop,default-scheduler,"`+message+"\"\n")
	write(t, filepath.Join(one, "node_conditions.csv.gz"), "node,condition,status,last_heartbeat_unix,last_transition_unix,reason,message\nn1,Ready,Unknown,1,1767268700,NodeStatusUnknown,gone\nn1,DiskPressure,False,1,1,x,y\n")
	write(t, filepath.Join(one, "systemd_status.csv.gz"), "node,unit,active,sub,since_local,raw\nn1,kubelet,inactive,dead,Thu 2026-01-01 19:58:00 CST,x\nn1,containerd,active,running,,x\n")
	write(t, filepath.Join(one, "logs.csv.gz"), "time_unix_nano,service,severity,body\n1767268790000000000,pay,ERROR,it broke\n,pay,INFO,when?\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "labels.json"), []byte(`[{"case":"one","fault_object":"app/pay","root_cause":"node_cordon_mismatch","fault_taxonomy":"Scheduling_Fault"}]`), 0o600))
	return dir
}

func TestCase(t *testing.T) {
	dir := folder(t)
	is, err := Is(dir)
	require.NoError(t, err)
	require.True(t, is)
	set, err := Open(dir)
	require.NoError(t, err)
	require.Len(t, set.Cases, 1)
	c := set.Cases[0]
	assert.Equal(t, []string{"pay"}, c.Services)
	assert.Equal(t, time.Date(2026, 1, 1, 12, 0, 0, 5e8, time.UTC), c.End)
	telemetry, err := c.Load(0)
	require.NoError(t, err)
	count := map[string]int{}
	found := map[string]plog.LogRecord{}
	for _, ld := range telemetry.Logs {
		r := ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
		count[r.EventName()]++
		found[r.EventName()] = r
	}
	assert.Equal(t, map[string]int{
		"": 1, event.K8sEvent: 2, event.K8sNodeCondition: 2, "tapio.systemd.unit.deactivated": 2, event.K8sWorkloadUnavailable: 1,
		event.K8sProbePortMismatch: 1, event.K8sReferenceMissing: 1, event.K8sServiceNoEndpoints: 1, event.K8sPodUnschedulable: 1,
	}, count)
	assert.Equal(t, map[string]any{
		event.KeyNodesTotal: int64(1), event.KeyNodesCordoned: int64(1), event.KeyNodesWouldFit: int64(1), event.KeyNodeSelector: "disk=ssd",
	}, found[event.K8sPodUnschedulable].Attributes().AsRaw())
	assert.Equal(t, message, found[event.K8sPodUnschedulable].Body().Str())
	endpoints := found[event.K8sServiceNoEndpoints].Attributes().AsRaw()
	assert.EqualValues(t, 109, endpoints[event.KeyStateAge])
	assert.EqualValues(t, 0, endpoints[event.KeyServiceWorkloads])
	assert.Equal(t, "ledger:9999", found[event.K8sReferenceMissing].Attributes().AsRaw()[event.KeyReferenceName])
	assert.Equal(t, "8082", found[event.K8sProbePortMismatch].Attributes().AsRaw()[event.KeyPort])
}

func TestTruth(t *testing.T) {
	l := label{"app/pay", "node_cordon_mismatch", scheduling}
	of := func(id, kind, name string) *finding.Finding {
		return &finding.Finding{Pattern: id, RootCause: finding.RootCause{Entity: finding.Entity{Kind: kind, Name: name}}}
	}
	v := l.Judge([]*finding.Finding{of("k8s-nodes-cordoned", "workload", "pay")})
	assert.Equal(t, 1, v.Rank)
	assert.True(t, v.Exact)
	v = l.Judge([]*finding.Finding{of("k8s-crash-loop", "workload", "pay")})
	assert.False(t, v.Exact, "the right object for the wrong reason")
	v = l.Judge([]*finding.Finding{of("kubelet-down", "host", "n1"), of("k8s-nodes-cordoned", "workload", "pay")})
	assert.Equal(t, 2, v.Rank)
	assert.False(t, v.Exact)
	assert.True(t, label{Object: "node/n1"}.Right(of("kubelet-down", "host", "n1")))
	assert.True(t, label{Object: "namespace/shop"}.Right(of("k8s-quota-cpu", "namespace", "shop")))
}

// Every pattern of the table is one of the library.
func TestCauses(t *testing.T) {
	list, err := patterns.List("")
	require.NoError(t, err)
	known := map[string]bool{}
	for _, i := range list {
		known[i.ID] = true
	}
	for id := range causes {
		assert.Contains(t, known, id)
	}
}

func FuzzDescribe(f *testing.F) {
	for _, s := range []string{podText, deploymentText, serviceText, nodeText, replicaSetText} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		c := &cluster{changed: map[string]time.Time{}, replicaSets: map[string]owner{}}
		for _, kind := range []string{"pods", "deployments", "replicasets", "services", "endpoints", "nodes", "persistentvolumeclaims", "persistentvolumes", "resourcequota"} {
			c.add(kind, parse(s))
		}
		c.sort()
		c.facts(&records{}, time.Unix(1, 0))
		for _, p := range c.pods {
			c.scheduling(p, s)
		}
	})
}
