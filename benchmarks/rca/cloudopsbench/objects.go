package cloudopsbench

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// cluster is what the objects of one case say.
type cluster struct {
	pods      []*pod
	workloads []*workload
	services  []*service
	nodes     []*node
	claims    []*claim
	volumes   []*volume
	quotas    []*quota
	// exists are the names of the objects of a kind in a namespace, nil when the
	// recording does not list that kind.
	exists map[string]map[string]bool
	// ages are how old objects are, by kind and name; changed is when the endpoints of
	// a service changed last.
	ages    map[string]time.Duration
	changed map[string]time.Time
	// owners of replica sets, by namespace/name.
	replicaSets map[string]owner
}

type owner struct{ kind, name string }

type pod struct {
	namespace, name, node, phase string
	labels, annotations          map[string]string
	owner                        owner
	containers                   []*container
	conditions                   map[string]string
	nodeSelector                 map[string]string
	claims                       []string
}

type container struct {
	name, image string
	ports       []string
	state, last state
	ready       bool
	restarts    int64
	env         map[string]string
	envFrom     []reference
	probes      []probe
}

type state struct {
	kind, reason      string
	exit              int64
	started, finished time.Time
}

type reference struct{ kind, name, from string }

type probe struct {
	kind, handler, port string
	budget              time.Duration
}

type workload struct {
	kind, namespace, name string
	desired, available    int64
	template              pod
}

type service struct {
	namespace, name string
	selector        map[string]string
	ports           []servicePort
	endpoints       []string
}

type servicePort struct{ name, port, target string }

type node struct {
	name          string
	labels        map[string]string
	taints        []string
	unschedulable bool
}

type claim struct {
	namespace, name, class, status string
	usedBy                         []string
}

type volume struct{ name, class, status, claim string }

type quota struct {
	namespace, name string
	rows            [][3]string // resource, used, hard
}

func readPod(f *field) *pod {
	p := &pod{
		namespace: f.get("Namespace").text(), name: f.get("Name").text(), phase: f.get("Status").text(),
		labels: pairs(f.get("Labels").list()), annotations: annotations(f.get("Annotations")),
		nodeSelector: pairs(f.get("Node-Selectors").list()), conditions: map[string]string{},
	}
	p.node, _, _ = strings.Cut(f.get("Node").text(), "/")
	if kind, name, ok := strings.Cut(f.get("Controlled By").text(), "/"); ok {
		p.owner = owner{strings.ToLower(kind), name}
	}
	for _, c := range f.get("Containers").below {
		p.containers = append(p.containers, readContainer(c))
	}
	for _, c := range f.get("Conditions").below {
		if w := strings.Fields(c.raw); len(w) == 2 {
			p.conditions[w[0]] = w[1]
		}
	}
	for _, v := range f.get("Volumes").below {
		if name := v.get("ClaimName").text(); name != "" {
			p.claims = append(p.claims, name)
		}
	}
	return p
}

// annotations reads "key: value" lines; the first is on the line of the name.
func annotations(f *field) map[string]string {
	out := map[string]string{}
	for _, line := range f.list() {
		if k, v, ok := strings.Cut(line, ": "); ok {
			out[k] = v
		}
	}
	return out
}

var (
	probeLine = regexp.MustCompile(`^(\S+)\s+(.*?)\s+delay=(\S+) timeout=(\S+) period=(\S+) #success=(\d+) #failure=(\d+)$`)
	portOf    = regexp.MustCompile(`:([0-9]+|[a-z][a-z0-9-]*)(/|$)`)
)

func readContainer(f *field) *container {
	c := &container{
		name: f.key, image: f.get("Image").text(), ready: f.get("Ready").text() == "True",
		restarts: integer(f.get("Restart Count").text()), env: map[string]string{},
		state: readState(f.get("State")), last: readState(f.get("Last State")),
	}
	for _, key := range []string{"Port", "Ports"} {
		for _, p := range strings.Split(f.get(key).text(), ",") {
			if p, _, _ = strings.Cut(strings.TrimSpace(p), "/"); p != "" {
				c.ports = append(c.ports, p)
			}
		}
	}
	for _, kind := range []string{"Liveness", "Readiness", "Startup"} {
		m := probeLine.FindStringSubmatch(f.get(kind).text())
		if m == nil {
			continue
		}
		p := probe{kind: strings.ToLower(kind), handler: m[1] + " " + m[2], budget: seconds(m[3]) + time.Duration(integer(m[7]))*seconds(m[5])}
		target := m[2]
		if i := strings.Index(target, "://"); i >= 0 {
			target = target[i+len("://"):]
		}
		if port := portOf.FindStringSubmatch(target); port != nil {
			p.port = port[1]
		}
		c.probes = append(c.probes, p)
	}
	for _, e := range f.get("Environment").below {
		if e.key != "" {
			c.env[e.key] = e.text()
		}
	}
	for _, e := range f.get("Environment Variables from").below {
		if w := strings.Fields(e.raw); len(w) >= 2 {
			c.envFrom = append(c.envFrom, reference{strings.ToLower(w[1]), w[0], "envFrom"})
		}
	}
	return c
}

func readState(f *field) state {
	return state{
		kind: strings.ToLower(f.text()), reason: f.get("Reason").text(), exit: integer(f.get("Exit Code").text()),
		started: moment(f.get("Started").text()), finished: moment(f.get("Finished").text()),
	}
}

// moment reads the times that kubectl describe prints; zero when there is none.
func moment(s string) time.Time {
	t, err := time.Parse(time.RFC1123Z, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

func integer(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	return n
}

func seconds(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}

var replicas = regexp.MustCompile(`(\d+) (desired|available|total)`)

func readWorkload(kind string, f *field) *workload {
	w := &workload{kind: kind, namespace: f.get("Namespace").text(), name: f.get("Name").text()}
	for _, m := range replicas.FindAllStringSubmatch(f.get("Replicas").text(), -1) {
		switch m[2] {
		case "desired":
			w.desired = integer(m[1])
		case "available":
			w.available = integer(m[1])
		}
	}
	t := f.get("Pod Template")
	w.template = pod{
		namespace: w.namespace, labels: pairs(t.get("Labels").list()), annotations: annotations(t.get("Annotations")),
		nodeSelector: pairs(t.get("Node-Selectors").list()),
	}
	for _, c := range t.get("Containers").below {
		w.template.containers = append(w.template.containers, readContainer(c))
	}
	for _, v := range t.get("Volumes").below {
		if name := v.get("ClaimName").text(); name != "" {
			w.template.claims = append(w.template.claims, name)
		}
	}
	return w
}

func readService(f *field) *service {
	s := &service{namespace: f.get("Namespace").text(), name: f.get("Name").text(), selector: pairs(f.get("Selector").list())}
	for _, b := range f.below {
		w := strings.Fields(b.value)
		switch b.key {
		case "Port":
			p := servicePort{}
			if len(w) == 2 {
				p.name, p.port = w[0], number(w[1])
			} else if len(w) == 1 {
				p.port = number(w[0])
			}
			s.ports = append(s.ports, p)
		case "TargetPort":
			if len(s.ports) > 0 {
				s.ports[len(s.ports)-1].target = number(b.text())
			}
		case "Endpoints":
			for _, e := range strings.Split(b.text(), ",") {
				if e = strings.TrimSpace(e); e != "" {
					s.endpoints = append(s.endpoints, e)
				}
			}
		}
	}
	return s
}

// number cuts the protocol off a port.
func number(s string) string {
	s, _, _ = strings.Cut(s, "/")
	return s
}

func readNode(f *field) *node {
	n := &node{name: f.get("Name").text(), labels: pairs(f.get("Labels").list()), unschedulable: f.get("Unschedulable").text() == "true"}
	n.taints = f.get("Taints").list()
	return n
}

func readClaim(f *field) *claim {
	return &claim{
		namespace: f.get("Namespace").text(), name: f.get("Name").text(), class: f.get("StorageClass").text(),
		status: f.get("Status").text(), usedBy: f.get("Used By").list(),
	}
}

func readVolume(f *field) *volume {
	return &volume{
		name: f.get("Name").text(), class: f.get("StorageClass").text(), status: f.get("Status").text(), claim: f.get("Claim").text(),
	}
}

func readQuota(f *field) *quota {
	q := &quota{namespace: f.get("Namespace").text(), name: f.get("Name").text()}
	for _, b := range f.below {
		if w := strings.Fields(b.raw); len(w) == 3 && w[0] != "Resource" && !strings.HasPrefix(w[0], "-") {
			q.rows = append(q.rows, [3]string{w[0], w[1], w[2]})
		}
	}
	return q
}

// readCluster reads the objects from what kubectl printed, by command.
func readCluster(printed map[string]string) *cluster {
	c := &cluster{
		exists: map[string]map[string]bool{}, ages: map[string]time.Duration{}, changed: map[string]time.Time{}, replicaSets: map[string]owner{},
	}
	for command, text := range printed {
		w := strings.Fields(command)
		if len(w) < 4 || w[0] != "kubectl" {
			continue
		}
		if w[1] == "get" && w[3] == "-n" && len(w) == 5 {
			c.list(w[2], text)
		}
		if w[1] == "describe" {
			c.add(w[2], parse(text))
		}
	}
	return c
}

// list notes which objects of a kind there are.
func (c *cluster) list(kind, table string) {
	names := map[string]bool{}
	for i, line := range strings.Split(table, "\n") {
		if w := strings.Fields(line); i > 0 && len(w) > 0 {
			names[w[0]] = true
			if age, ok := age(w[len(w)-1]); ok {
				c.ages[kind+"/"+w[0]] = age
			}
		}
	}
	c.exists[kind] = names
}

var agePart = regexp.MustCompile(`(\d+)([ydhms])`)

// age reads an age as kubectl prints it: 109s, 6m49s, 3d23h.
func age(s string) (d time.Duration, ok bool) {
	units := map[string]time.Duration{"y": 8760 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second}
	for _, m := range agePart.FindAllStringSubmatch(s, -1) {
		d += time.Duration(integer(m[1])) * units[m[2]]
		ok = true
	}
	return d, ok
}

func (c *cluster) add(kind string, f *field) {
	switch kind {
	case "pods":
		c.pods = append(c.pods, readPod(f))
	case "deployments", "statefulsets", "daemonsets":
		c.workloads = append(c.workloads, readWorkload(strings.TrimSuffix(kind, "s"), f))
	case "replicasets":
		if kind, name, ok := strings.Cut(f.get("Controlled By").text(), "/"); ok {
			c.replicaSets[f.get("Namespace").text()+"/"+f.get("Name").text()] = owner{strings.ToLower(kind), name}
		}
	case "services":
		c.services = append(c.services, readService(f))
	case "endpoints":
		if t, err := time.Parse(time.RFC3339, annotations(f.get("Annotations"))["endpoints.kubernetes.io/last-change-trigger-time"]); err == nil {
			c.changed[f.get("Name").text()] = t
		}
	case "nodes":
		c.nodes = append(c.nodes, readNode(f))
	case "persistentvolumeclaims":
		c.claims = append(c.claims, readClaim(f))
	case "persistentvolumes":
		c.volumes = append(c.volumes, readVolume(f))
	case "resourcequota", "resourcequotas":
		c.quotas = append(c.quotas, readQuota(f))
	}
}
