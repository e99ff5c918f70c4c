package cloudopsbench

import (
	"regexp"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
)

// What a scheduler's message says of the nodes that it refused.
var (
	nodesTotal    = regexp.MustCompile(`^\d+/(\d+) nodes are available`)
	nodesCordoned = regexp.MustCompile(`(\d+) node\(s\) were unschedulable`)
	nodesTainted  = regexp.MustCompile(`(\d+) node\(s\) had (?:untolerated )?taints? (?:\{([^}]*)\}|that the pod didn't tolerate)`)
	nodesAffinity = regexp.MustCompile(`(\d+) node\(s\) didn't match (?:Pod's node affinity/selector|node selector|Pod's node affinity)`)
	nodesAnti     = regexp.MustCompile(`(\d+) node\(s\) didn't (?:match pod anti-affinity rules|satisfy existing pods anti-affinity rules)`)
	nodesLack     = regexp.MustCompile(`(\d+) Insufficient ([^\s,]*[^\s,.])`)
	tooManyPods   = regexp.MustCompile(`(\d+) Too many pods`)
	claimsUnbound = regexp.MustCompile(`unbound immediate PersistentVolumeClaims|persistentvolumeclaim "[^"]*" not found|didn't find available persistent volumes`)
)

// scheduling are the attributes of a pod that has no node: what the scheduler says,
// without its second thoughts about preemption, and what the nodes say.
func (c *cluster) scheduling(p *pod, message string) attrs {
	message, _, _ = strings.Cut(message, "preemption:")
	a := attrs{}
	if len(p.nodeSelector) > 0 {
		a[event.KeyNodeSelector] = join(p.nodeSelector)
	}
	count := func(key string, re *regexp.Regexp) int64 {
		var n int64
		for _, m := range re.FindAllStringSubmatch(message, -1) {
			n += integer(m[1])
		}
		if n > 0 {
			a[key] = n
		}
		return n
	}
	count(event.KeyNodesTotal, nodesTotal)
	count(event.KeyNodesCordoned, nodesCordoned)
	affinity := count(event.KeyNodesAffinity, nodesAffinity)
	count(event.KeyNodesAntiAff, nodesAnti)
	count(event.KeyNodesNoOther, tooManyPods)
	for _, m := range nodesTainted.FindAllStringSubmatch(message, -1) {
		// Taints of Kubernetes' own only repeat the state of the node.
		key := event.KeyNodesTainted
		switch {
		case strings.HasPrefix(m[2], "node.kubernetes.io/unreachable"), strings.HasPrefix(m[2], "node.kubernetes.io/not-ready"):
			key = event.KeyNodesNotReady
		case strings.HasPrefix(m[2], "node.kubernetes.io/"), strings.HasPrefix(m[2], "node-role.kubernetes.io/"):
			continue
		}
		n, _ := a[key].(int64)
		a[key] = n + integer(m[1])
	}
	for _, m := range nodesLack.FindAllStringSubmatch(message, -1) {
		key := event.KeyNodesNoOther
		switch m[2] {
		case "cpu":
			key = event.KeyNodesNoCPU
		case "memory":
			key = event.KeyNodesNoMemory
		}
		a[key] = integer(m[1])
	}
	if claimsUnbound.MatchString(message) {
		a[event.KeyVolumesUnbound] = true
	}
	// A node affinity is not in what kubectl describe prints: without a selector the
	// mismatch must be one, and which nodes it would match is not known.
	if affinity == 0 || len(p.nodeSelector) > 0 {
		if n := c.cordonedFor(p); n > 0 {
			a[event.KeyNodesWouldFit] = n
		}
	}
	return a
}

// cordonedFor counts the nodes that are made for pods, would do for this one by their
// labels, and are closed to new pods.
func (c *cluster) cordonedFor(p *pod) (n int64) {
	for _, x := range c.nodes {
		if x.unschedulable && !x.controlPlane() && within(p.nodeSelector, x.labels) {
			n++
		}
	}
	return n
}

func (n *node) controlPlane() bool {
	for _, label := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} {
		if _, ok := n.labels[label]; ok {
			return true
		}
	}
	return n.labels["kubernetes.io/role"] == "master"
}

// within tells whether labels hold all of a selector.
func within(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
