package cloudopsbench

import (
	"sort"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// records collects what the receivers would have sent.
type records struct {
	shift time.Duration
	out   []plog.Logs
}

// attrs are attributes of a resource or a record.
type attrs map[string]any

// add appends a record of its own resource.
func (r *records) add(name string, at time.Time, severity plog.SeverityNumber, body string, resource, of attrs) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	put(rl.Resource().Attributes(), resource)
	lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	lr.SetEventName(name)
	lr.SetTimestamp(pcommon.NewTimestampFromTime(at.Add(r.shift)))
	lr.SetObservedTimestamp(lr.Timestamp())
	lr.SetSeverityNumber(severity)
	lr.Body().SetStr(body)
	put(lr.Attributes(), of)
	r.out = append(r.out, ld)
}

// put writes attributes in the order of their keys; empty texts are left out.
func put(m pcommon.Map, of attrs) {
	keys := make([]string, 0, len(of))
	for k := range of {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		switch v := of[k].(type) {
		case string:
			if v != "" {
				m.PutStr(k, v)
			}
		case int:
			m.PutInt(k, int64(v))
		case int64:
			m.PutInt(k, v)
		case float64:
			m.PutDouble(k, v)
		case bool:
			m.PutBool(k, v)
		case []string:
			s := m.PutEmptySlice(k)
			for _, x := range v {
				s.AppendEmpty().SetStr(x)
			}
		}
	}
}

// workloadKeys are the attributes that name a workload.
var workloadKeys = map[string]string{
	"deployment": event.KeyDeploymentName, "statefulset": event.KeyStatefulSetName, "daemonset": event.KeyDaemonSetName,
	"job": event.KeyJobName, "cronjob": event.KeyCronJobName, "replicaset": event.KeyReplicaSetName,
}

// ownerOf follows a replica set to its deployment.
func (c *cluster) ownerOf(namespace string, o owner) owner {
	if up, ok := c.replicaSets[namespace+"/"+o.name]; ok && o.kind == "replicaset" {
		return up
	}
	return o
}

// workloadResource names a workload and, after the convention for Kubernetes, the
// service that its pods are.
func workloadResource(namespace string, o owner, labels map[string]string) attrs {
	a := attrs{event.KeyNamespaceName: namespace}
	key := workloadKeys[o.kind]
	if key == "" {
		return a
	}
	a[key] = o.name
	a[event.KeyServiceName] = o.name
	for _, label := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance"} {
		if v := labels[label]; v != "" {
			a[event.KeyServiceName] = v
		}
	}
	return a
}

func (w *workload) resource() attrs {
	return workloadResource(w.namespace, owner{w.kind, w.name}, w.template.labels)
}

func (c *cluster) podResource(p *pod) attrs {
	a := workloadResource(p.namespace, c.ownerOf(p.namespace, p.owner), p.labels)
	a[event.KeyPodName] = p.name
	if p.scheduled() {
		a[event.KeyNodeName] = p.node
	}
	return a
}

func (p *pod) scheduled() bool { return p.node != "" && p.node != "<none>" }

// podNamed returns a pod, nil when it is not among the objects.
func (c *cluster) podNamed(namespace, name string) *pod {
	for _, p := range c.pods {
		if p.namespace == namespace && p.name == name {
			return p
		}
	}
	return nil
}

func (c *cluster) workloadNamed(namespace string, o owner) *workload {
	for _, w := range c.workloads {
		if w.namespace == namespace && w.kind == o.kind && w.name == o.name {
			return w
		}
	}
	return nil
}

// object is the resource of whom an Event object is about.
func (c *cluster) object(kind, namespace, name string) attrs {
	switch kind = strings.ToLower(kind); kind {
	case "node":
		return attrs{event.KeyNodeName: name}
	case "pod":
		if p := c.podNamed(namespace, name); p != nil {
			return c.podResource(p)
		}
		return attrs{event.KeyNamespaceName: namespace, event.KeyPodName: name}
	case "service":
		return attrs{event.KeyNamespaceName: namespace, event.KeyK8sServiceName: name}
	case "persistentvolumeclaim":
		return c.claimResource(namespace, name)
	}
	o := c.ownerOf(namespace, owner{kind, name})
	var labels map[string]string
	if w := c.workloadNamed(namespace, o); w != nil {
		labels = w.template.labels
	}
	return workloadResource(namespace, o, labels)
}

// claimResource names the workload that uses a claim, where one does.
func (c *cluster) claimResource(namespace, name string) attrs {
	for _, p := range c.pods {
		if p.namespace != namespace {
			continue
		}
		for _, used := range p.claims {
			if used == name {
				return c.podResource(p)
			}
		}
	}
	return attrs{event.KeyNamespaceName: namespace}
}
