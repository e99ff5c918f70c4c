package cloudopsbench

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

const (
	info  = plog.SeverityNumberInfo
	warn  = plog.SeverityNumberWarn
	fault = plog.SeverityNumberError
)

// facts writes what the objects show at the moment at which they were read.
func (c *cluster) facts(r *records, at time.Time) {
	for _, w := range c.workloads {
		c.workloadFacts(r, at, w)
	}
	for _, p := range c.pods {
		c.podFacts(r, at, p)
	}
	for _, s := range c.services {
		c.serviceFacts(r, at, s)
	}
	for _, x := range c.claims {
		c.claimFacts(r, at, x)
	}
	for _, q := range c.quotas {
		quotaFacts(r, at, q)
	}
}

// available counts the pods of a workload that are ready, for kinds whose status does
// not say it.
func (c *cluster) available(w *workload) int64 {
	if w.kind == "deployment" {
		return w.available
	}
	var n int64
	for _, p := range c.pods {
		if p.namespace == w.namespace && p.owner == (owner{w.kind, w.name}) && p.conditions["Ready"] == "True" {
			n++
		}
	}
	return n
}

func (c *cluster) workloadFacts(r *records, at time.Time, w *workload) {
	if have := c.available(w); have < w.desired {
		r.add(event.K8sWorkloadUnavailable, at, fault, fmt.Sprintf("%d of %d pods of %s %s are available", have, w.desired, w.kind, w.name),
			w.resource(), attrs{event.KeyReplicasDesired: w.desired, event.KeyReplicasAvailable: have})
	}
	for _, x := range w.template.containers {
		c.probeFacts(r, at, w, x)
		c.addressFacts(r, at, w, x)
	}
	c.missing(r, at, w, "persistentvolumeclaim", w.template.claims)
}

func (c *cluster) probeFacts(r *records, at time.Time, w *workload, x *container) {
	for _, p := range x.probes {
		if _, err := strconv.Atoi(p.port); err != nil || len(x.ports) == 0 || slices.Contains(x.ports, p.port) {
			continue
		}
		r.add(event.K8sProbePortMismatch, at, warn,
			fmt.Sprintf("the %s probe of container %s asks port %s; declared: %s", p.kind, x.name, p.port, strings.Join(x.ports, ", ")),
			w.resource(), attrs{
				event.KeyProbe: p.kind, event.KeyPort: p.port, event.KeyPortsDeclared: x.ports, event.KeyContainerName: x.name,
			})
	}
}

// address is a value that names a service of the same namespace and a port of it.
var address = regexp.MustCompile(`^(?:[a-z]+://)?([a-z](?:[-a-z0-9]*[a-z0-9])?)(?:\.([-a-z0-9]+)(?:\.svc(?:\.cluster\.local)?)?)?:(\d+)(?:/.*)?$`)

// addressFacts checks the services that a container is told to call.
func (c *cluster) addressFacts(r *records, at time.Time, w *workload, x *container) {
	keys := make([]string, 0, len(x.env))
	for k := range x.env {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		m := address.FindStringSubmatch(x.env[k])
		if m == nil || m[1] == "localhost" || (m[2] != "" && m[2] != w.namespace) {
			continue
		}
		kind, name := "service", m[1]
		if s := c.serviceNamed(w.namespace, name); s != nil {
			if slices.ContainsFunc(s.ports, func(p servicePort) bool { return p.port == m[3] }) {
				continue
			}
			kind, name = "service port", m[1]+":"+m[3]
		}
		r.add(event.K8sReferenceMissing, at, warn, fmt.Sprintf("%s of container %s names %s %s, which does not exist", k, x.name, kind, name),
			w.resource(), attrs{
				event.KeyReferenceKind: kind, event.KeyReferenceName: name, event.KeyReferenceFrom: "env " + k, event.KeyContainerName: x.name,
			})
	}
}

func (c *cluster) serviceNamed(namespace, name string) *service {
	for _, s := range c.services {
		if s.namespace == namespace && s.name == name {
			return s
		}
	}
	return nil
}

// missing checks the objects of a kind that a workload names.
func (c *cluster) missing(r *records, at time.Time, w *workload, kind string, names []string) {
	for _, name := range names {
		if known := c.exists[kind+"s"]; known != nil && !known[name] {
			r.add(event.K8sReferenceMissing, at, warn, fmt.Sprintf("%s %s names %s %s, which does not exist", w.kind, w.name, kind, name),
				w.resource(), attrs{event.KeyReferenceKind: kind, event.KeyReferenceName: name, event.KeyReferenceFrom: "pod template"})
		}
	}
}

func (c *cluster) podFacts(r *records, at time.Time, p *pod) {
	resource := c.podResource(p)
	switch {
	case p.conditions["PodScheduled"] == "False":
		// written with the scheduler's message, see events
	case !p.scheduled() && p.phase == "Pending":
		r.add(event.K8sPodPending, at, warn, "pod "+p.name+" waits for a scheduler", resource, nil)
	case p.conditions["Ready"] == "False" && p.phase != "Succeeded":
		r.add(event.K8sPodNotReady, at, warn, "pod "+p.name+" is not ready", resource, nil)
	}
	for _, x := range p.containers {
		containerFacts(r, at, resource, x)
	}
	if port := p.conflict(); port != "" {
		r.add(event.K8sPortConflict, at, warn, "port "+port+" of pod "+p.name+" is to be listened on twice", resource, attrs{event.KeyPort: port})
	}
}

func containerFacts(r *records, at time.Time, resource attrs, x *container) {
	base := func(s state) attrs {
		return attrs{
			event.KeyContainerName: x.name, event.KeyContainerReason: s.reason, event.KeyContainerRestart: x.restarts, event.KeyImageName: x.image,
		}
	}
	if x.state.kind == "waiting" {
		r.add(event.K8sContainerWaiting, at, warn, fmt.Sprintf("container %s waits: %s", x.name, x.state.reason), resource, base(x.state))
	}
	for _, s := range []state{x.last, x.state} {
		if s.kind != "terminated" || s.finished.IsZero() || s.finished.After(at) || at.Sub(s.finished) > time.Hour {
			continue
		}
		a := base(s)
		a[event.KeyProcessExitCode] = s.exit
		r.add(event.K8sContainerTerminated, s.finished, warn, fmt.Sprintf("container %s ended: %s, exit code %d", x.name, s.reason, s.exit), resource, a)
	}
}

// statusPort is the port on which Istio's proxy answers probes, where the pod sets it.
var statusPort = regexp.MustCompile(`"?statusPort"?\s*:\s*(\d+)`)

// conflict returns a port that two of the pod's containers are to listen on.
func (p *pod) conflict() string {
	taken := map[string]bool{}
	if m := statusPort.FindStringSubmatch(p.annotations["proxy.istio.io/config"]); m != nil {
		taken[m[1]] = true
	}
	for _, x := range p.containers {
		for _, port := range x.ports {
			if taken[port] {
				return port
			}
			taken[port] = true
		}
	}
	return ""
}

func (c *cluster) serviceFacts(r *records, at time.Time, s *service) {
	if len(s.selector) == 0 {
		return
	}
	var behind []*workload
	var wanted int64
	for _, w := range c.workloads {
		if w.namespace == s.namespace && within(s.selector, w.template.labels) {
			behind = append(behind, w)
			wanted += w.desired
		}
	}
	pods := 0
	for _, p := range c.pods {
		if p.namespace == s.namespace && within(s.selector, p.labels) {
			pods++
		}
	}
	resource := attrs{}
	if len(behind) == 1 {
		resource = behind[0].resource()
	}
	resource[event.KeyNamespaceName], resource[event.KeyK8sServiceName] = s.namespace, s.name
	if len(s.endpoints) == 0 {
		r.add(event.K8sServiceNoEndpoints, at, fault, "service "+s.name+" has no ready endpoint", resource, attrs{
			event.KeyServiceSelector: join(s.selector), event.KeyServicePods: pods, event.KeyServiceWorkloads: len(behind), event.KeyServiceReplicas: wanted,
			event.KeyStateAge: c.stateAge(s, at).Seconds(),
		})
	}
	for _, p := range s.ports {
		if declared, wrong := s.mismatch(p, behind); wrong {
			r.add(event.K8sServicePortMismatch, at, warn,
				fmt.Sprintf("service %s sends port %s to %s; declared: %s", s.name, p.port, p.target, strings.Join(declared, ", ")),
				resource, attrs{event.KeyPort: p.target, event.KeyPortsDeclared: declared})
		}
	}
}

// stateAge is how long a service's endpoints have been as they are.
func (c *cluster) stateAge(s *service, at time.Time) time.Duration {
	age, known := c.ages["services/"+s.name]
	if changed, ok := c.changed[s.name]; ok && !changed.After(at) && (!known || at.Sub(changed) < age) {
		age = at.Sub(changed)
	}
	return age
}

// mismatch tells whether a target port is none that the pods behind a service
// declare. A name that no container declares leaves endpoints without a port.
func (s *service) mismatch(p servicePort, behind []*workload) (declared []string, wrong bool) {
	for _, w := range behind {
		for _, x := range w.template.containers {
			declared = append(declared, x.ports...)
		}
	}
	if len(declared) == 0 || p.target == "" {
		return declared, false
	}
	if _, err := strconv.Atoi(p.target); err != nil {
		return declared, len(s.endpoints) > 0 && !slices.ContainsFunc(s.endpoints, func(e string) bool { return strings.Contains(e, ":") })
	}
	return declared, !slices.Contains(declared, p.target)
}

// Why a claim is not bound, as far as the volumes show.
const (
	classMissing  = "storage_class_not_found"
	noVolume      = "no_volume"
	volumesBound  = "volumes_bound"
	volumesMisfit = "volumes_do_not_fit"
)

func (c *cluster) claimFacts(r *records, at time.Time, x *claim) {
	if x.status != "Pending" {
		return
	}
	reason := noVolume
	if classes := c.exists["storageclasses"]; x.class != "" && classes != nil && !classes[x.class] {
		reason = classMissing
	}
	for _, v := range c.volumes {
		if reason == classMissing || v.class != x.class {
			continue
		}
		if v.status == "Available" {
			reason = volumesMisfit
		} else if reason == noVolume && v.claim != x.namespace+"/"+x.name {
			reason = volumesBound
		}
	}
	r.add(event.K8sClaimPending, at, warn, fmt.Sprintf("claim %s is not bound: %s", x.name, strings.ReplaceAll(reason, "_", " ")),
		c.claimResource(x.namespace, x.name), attrs{event.KeyClaimName: x.name, event.KeyClaimClass: x.class, event.KeyClaimReason: reason})
}

func quotaFacts(r *records, at time.Time, q *quota) {
	for _, row := range q.rows {
		used, ok := quantity(row[1])
		hard, ok2 := quantity(row[2])
		if !ok || !ok2 || used < hard {
			continue
		}
		r.add(event.K8sQuotaReached, at, warn, fmt.Sprintf("quota %s: %s of %s %s are used", q.name, row[1], row[2], row[0]),
			attrs{event.KeyNamespaceName: q.namespace},
			attrs{event.KeyQuotaName: q.name, event.KeyQuotaResource: row[0], event.KeyQuotaUsed: row[1], event.KeyQuotaHard: row[2]})
	}
}

var quantityForm = regexp.MustCompile(`^([0-9.]+)(m|k|Ki|M|Mi|G|Gi|T|Ti)?$`)

var suffixes = map[string]float64{
	"": 1, "m": 1e-3, "k": 1e3, "Ki": 1 << 10, "M": 1e6, "Mi": 1 << 20, "G": 1e9, "Gi": 1 << 30, "T": 1e12, "Ti": 1 << 40,
}

// quantity reads a number as Kubernetes writes it.
func quantity(s string) (float64, bool) {
	m := quantityForm.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	return n * suffixes[m[2]], err == nil
}

// join writes labels in the order of their keys.
func join(labels map[string]string) string {
	var out []string
	for k, v := range labels {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}
