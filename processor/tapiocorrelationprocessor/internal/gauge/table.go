package gauge

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Rule says what one metric, or the data points of it that have certain
// attributes, means. The fields are also what users write to add their own.
type Rule struct {
	// Metric is the name of the metric.
	Metric string `mapstructure:"metric"`
	// Class is the resource that it measures, Role what it says of it.
	Class Class `mapstructure:"class"`
	Role  Role  `mapstructure:"role"`
	// Rate is set for counters: the value is their increase per second. Of a
	// histogram or a summary it is that of its sum.
	Rate bool `mapstructure:"rate"`
	// Scale turns the metric's unit into that of the class; 0 is 1.
	Scale float64 `mapstructure:"scale"`
	// Attributes lists the values that each of these attributes of a data point must
	// have one of. Points that no rule takes are ignored.
	Attributes map[string][]string `mapstructure:"attributes"`
	// Instance are attributes, of the data point or else of the resource, that tell
	// resources of the class apart, such as a mount point. Points that differ in
	// other attributes are added up.
	Instance []string `mapstructure:"instance"`

	// base marks the use that RoleUtilization is a share of, where that is not the
	// use that is judged.
	base bool
	// part tells apart what several metrics say of one resource and class.
	part string
	// take is what of a data point that holds several values the rule reads.
	take taken
}

// taken is what a rule reads of a histogram or a summary.
type taken uint8

const (
	takeSum       taken = iota // its sum, or the value of a plain number
	takeCount                  // how many values it counts
	takeQuantiles              // the quantiles that it has from 0.5 to 0.95
)

// Validate says what is wrong with a rule.
func (r *Rule) Validate() error {
	var errs []error
	if r.Metric == "" {
		errs = append(errs, errors.New("metric: must be set"))
	}
	if r.Class == 0 || r.Class >= classEnd {
		errs = append(errs, fmt.Errorf("class: must be set, to one of %v", classNames()))
	}
	if r.Role == 0 || r.Role >= roleEnd {
		errs = append(errs, fmt.Errorf("role: must be set, to one of %v", roleNames[1:]))
	}
	if r.Scale < 0 || math.IsNaN(r.Scale) || math.IsInf(r.Scale, 0) {
		errs = append(errs, fmt.Errorf("scale: %v: must be a positive number, or 0 for 1", r.Scale))
	}
	if len(r.Instance) > maxInstanceKeys {
		errs = append(errs, fmt.Errorf("instance: %d attributes: at most %d", len(r.Instance), maxInstanceKeys))
	}
	for k, values := range r.Attributes {
		if len(values) == 0 {
			errs = append(errs, fmt.Errorf("attributes: %s: needs at least one value", k))
		}
	}
	return errors.Join(errs...)
}

// maxInstanceKeys bounds the attributes that make up an instance.
const maxInstanceKeys = 4

// rule is a Rule as the decoder uses it.
type rule struct {
	Rule
	// id is its place in the table; of two that say the same of a resource, the
	// lower one counts.
	id uint16
	// match is Attributes as a slice, in a fixed order.
	match []match
}

type match struct {
	key    string
	values []string
}

// table finds the rules of a metric by its name.
type table map[string][]*rule

// newTable returns the built-in rules with those of the user before them. A metric
// that the user has a rule for has none of the built-in ones.
func newTable(extra []Rule) (table, error) {
	t := table{}
	for i := range extra {
		if err := extra[i].Validate(); err != nil {
			return nil, fmt.Errorf("rule %d (%s): %w", i, extra[i].Metric, err)
		}
		t.add(extra[i], i)
	}
	for i := range builtin {
		if !slices.ContainsFunc(extra, func(r Rule) bool { return r.Metric == builtin[i].Metric }) {
			t.add(builtin[i], len(extra)+i)
		}
	}
	return t, nil
}

func (t table) add(r Rule, id int) {
	if r.Scale == 0 {
		r.Scale = 1
	}
	c := &rule{Rule: r, id: uint16(id)}
	for k, values := range r.Attributes {
		c.match = append(c.match, match{k, values})
	}
	slices.SortFunc(c.match, func(a, b match) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	t[r.Metric] = append(t[r.Metric], c)
}

// Attributes of the metrics below.
var (
	busyStates  = map[string][]string{"state": {"user", "system", "nice", "softirq", "interrupt", "steal"}}
	idleStates  = map[string][]string{"state": {"idle", "wait"}}
	cpuModeBusy = map[string][]string{"cpu.mode": {"user", "system", "nice", "interrupt", "steal", "kernel"}}
	cpuModeIdle = map[string][]string{"cpu.mode": {"idle", "iowait"}}
	stateUsed   = map[string][]string{"state": {"used"}}
	// Page cache is given back when somebody needs the memory.
	stateFree = map[string][]string{"state": {"free", "cached", "buffered", "inactive"}}
	// A read-only file system is as full as it was made.
	writableUsed = map[string][]string{"state": {"used"}, "mode": {"rw"}}
	writableFree = map[string][]string{"state": {"free"}, "mode": {"rw"}}
	mount        = []string{"mountpoint"}
	volume       = []string{"k8s.volume.name"}
	poolName     = []string{"pool.name"}
	dbPool       = []string{"db.client.connection.pool.name"}
	route        = []string{"http.request.method", "http.route"}
	method       = []string{"rpc.service", "rpc.method"}
	heap         = map[string][]string{"jvm.memory.type": {"heap"}}
)

// builtin are the metrics of the semantic conventions (v1.44) and of the receivers of
// collector-contrib: kubeletstats, k8s_cluster, docker_stats, hostmetrics,
// kafkametrics, rabbitmq. The first of several that say the same counts.
//
// Left out on purpose: the file system of a container or pod (kubelet reports the
// capacity of the node's, which k8s.node.filesystem.* says once), the heap between
// collections (it always fills up), bytes and packets of the network, buckets of
// histograms (a quantile between them moves in steps), requests of CPU and memory
// (exceeding them is normal).
var builtin = []Rule{
	// CPU.
	{Metric: "container.cpu.usage", Class: ClassCPU, Role: RoleUse},
	{Metric: "k8s.pod.cpu.usage", Class: ClassCPU, Role: RoleUse},
	{Metric: "k8s.node.cpu.usage", Class: ClassCPU, Role: RoleUse},
	{Metric: "container.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true},
	{Metric: "container.cpu.usage.total", Class: ClassCPU, Role: RoleUse, Rate: true, Scale: 1e-9},
	{Metric: "k8s.pod.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true},
	{Metric: "k8s.node.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true},
	{Metric: "system.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true, Attributes: busyStates},
	{Metric: "system.cpu.time", Class: ClassCPU, Role: RoleFree, Rate: true, Attributes: idleStates},
	{Metric: "system.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true, Attributes: cpuModeBusy},
	{Metric: "system.cpu.time", Class: ClassCPU, Role: RoleFree, Rate: true, Attributes: cpuModeIdle},
	{Metric: "process.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true},
	{Metric: "jvm.cpu.time", Class: ClassCPU, Role: RoleUse, Rate: true},
	{Metric: "k8s.container.cpu.limit.current", Class: ClassCPU, Role: RoleLimit},
	{Metric: "k8s.container.cpu.limit", Class: ClassCPU, Role: RoleLimit},
	{Metric: "k8s.container.cpu_limit", Class: ClassCPU, Role: RoleLimit},
	{Metric: "container.cpu.limit", Class: ClassCPU, Role: RoleLimit},
	{Metric: "k8s.node.cpu.allocatable", Class: ClassCPU, Role: RoleLimit},
	{Metric: "k8s.node.allocatable_cpu", Class: ClassCPU, Role: RoleLimit},
	{Metric: "jvm.cpu.count", Class: ClassCPU, Role: RoleLimit},
	{Metric: "k8s.container.cpu.limit.utilization", Class: ClassCPU, Role: RoleUtilization},
	{Metric: "k8s.container.cpu.limit_utilization", Class: ClassCPU, Role: RoleUtilization},
	{Metric: "k8s.container.cpu_limit_utilization", Class: ClassCPU, Role: RoleUtilization},
	{Metric: "k8s.pod.cpu_limit_utilization", Class: ClassCPU, Role: RoleUtilization},
	{Metric: "container.cpu.throttling_data.throttled_periods", Class: ClassThrottling, Role: RoleUse, Rate: true},
	{Metric: "container.cpu.throttling_data.periods", Class: ClassThrottling, Role: RoleLimit, Rate: true},
	{Metric: "container.cpu.throttling_data.throttled_time", Class: ClassThrottling, Role: RoleUtilization, Rate: true, Scale: 1e-9, part: "time"},

	// Memory.
	{Metric: "container.memory.working_set", Class: ClassMemory, Role: RoleUse},
	{Metric: "k8s.pod.memory.working_set", Class: ClassMemory, Role: RoleUse},
	{Metric: "k8s.node.memory.working_set", Class: ClassMemory, Role: RoleUse},
	{Metric: "container.memory.usage.total", Class: ClassMemory, Role: RoleUse},
	{Metric: "container.memory.usage", Class: ClassMemory, Role: RoleUse, base: true},
	{Metric: "k8s.pod.memory.usage", Class: ClassMemory, Role: RoleUse, base: true},
	{Metric: "system.memory.usage", Class: ClassMemory, Role: RoleUse, Attributes: stateUsed},
	{Metric: "system.memory.usage", Class: ClassMemory, Role: RoleFree, Attributes: stateFree},
	{Metric: "process.memory.usage", Class: ClassMemory, Role: RoleUse},
	{Metric: "container.memory.available", Class: ClassMemory, Role: RoleFree},
	{Metric: "k8s.pod.memory.available", Class: ClassMemory, Role: RoleFree},
	{Metric: "k8s.node.memory.available", Class: ClassMemory, Role: RoleFree},
	{Metric: "k8s.container.memory.limit.current", Class: ClassMemory, Role: RoleLimit},
	{Metric: "k8s.container.memory.limit", Class: ClassMemory, Role: RoleLimit},
	{Metric: "k8s.container.memory_limit", Class: ClassMemory, Role: RoleLimit},
	{Metric: "container.memory.usage.limit", Class: ClassMemory, Role: RoleLimit},
	{Metric: "k8s.container.memory_limit_utilization", Class: ClassMemory, Role: RoleUtilization},
	{Metric: "k8s.pod.memory_limit_utilization", Class: ClassMemory, Role: RoleUtilization},

	// Runtimes.
	{Metric: "jvm.memory.used_after_last_gc", Class: ClassHeap, Role: RoleUse, Attributes: heap},
	{Metric: "jvm.memory.limit", Class: ClassHeap, Role: RoleLimit, Attributes: heap},
	{Metric: "jvm.gc.duration", Class: ClassGC, Role: RoleUse, Rate: true},
	{Metric: "process.runtime.jvm.gc.duration", Class: ClassGC, Role: RoleUse, Rate: true, Scale: 1e-3},
	{Metric: "dotnet.gc.pause.time", Class: ClassGC, Role: RoleUse, Rate: true},
	{Metric: "v8js.gc.duration", Class: ClassGC, Role: RoleUse, Rate: true},
	{Metric: "go.memory.gc.pause.duration", Class: ClassGC, Role: RoleUse, Rate: true},

	// Disks.
	{Metric: "k8s.node.filesystem.usage", Class: ClassDisk, Role: RoleUse},
	{Metric: "k8s.node.filesystem.available", Class: ClassDisk, Role: RoleFree},
	{Metric: "k8s.node.filesystem.capacity", Class: ClassDisk, Role: RoleLimit},
	{Metric: "k8s.volume.available", Class: ClassDisk, Role: RoleFree, Instance: volume},
	{Metric: "k8s.volume.capacity", Class: ClassDisk, Role: RoleLimit, Instance: volume},
	{Metric: "k8s.pod.volume.available", Class: ClassDisk, Role: RoleFree, Instance: volume},
	{Metric: "k8s.pod.volume.capacity", Class: ClassDisk, Role: RoleLimit, Instance: volume},
	{Metric: "system.filesystem.usage", Class: ClassDisk, Role: RoleUse, Attributes: writableUsed, Instance: mount},
	{Metric: "system.filesystem.usage", Class: ClassDisk, Role: RoleFree, Attributes: writableFree, Instance: mount},
	{Metric: "k8s.volume.inodes.used", Class: ClassInodes, Role: RoleUse, Instance: volume},
	{Metric: "k8s.volume.inodes", Class: ClassInodes, Role: RoleLimit, Instance: volume},
	{Metric: "k8s.volume.inodes.free", Class: ClassInodes, Role: RoleFree, Instance: volume},
	{Metric: "k8s.pod.volume.inode.used", Class: ClassInodes, Role: RoleUse, Instance: volume},
	{Metric: "k8s.pod.volume.inode.count", Class: ClassInodes, Role: RoleLimit, Instance: volume},
	{Metric: "k8s.pod.volume.inode.free", Class: ClassInodes, Role: RoleFree, Instance: volume},
	{Metric: "k8s.node.filesystem.inode.count", Class: ClassInodes, Role: RoleLimit},
	{Metric: "k8s.node.filesystem.inode.free", Class: ClassInodes, Role: RoleFree},
	{Metric: "system.filesystem.inodes.usage", Class: ClassInodes, Role: RoleUse, Attributes: writableUsed, Instance: mount},
	{Metric: "system.filesystem.inodes.usage", Class: ClassInodes, Role: RoleFree, Attributes: writableFree, Instance: mount},
	{Metric: "system.disk.io_time", Class: ClassDiskIO, Role: RoleUse, Rate: true, Instance: []string{"device"}},

	// Network.
	{Metric: "k8s.pod.network.errors", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"interface"}},
	{Metric: "k8s.node.network.errors", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"interface"}},
	{Metric: "system.network.errors", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"device"}},
	{Metric: "system.network.dropped", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"device"}, part: "dropped"},
	{Metric: "system.network.packet.dropped", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"network.interface.name"}, part: "dropped"},
	{Metric: "container.network.io.usage.rx_errors", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"interface"}, part: "receive"},
	{Metric: "container.network.io.usage.tx_errors", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"interface"}, part: "transmit"},
	{Metric: "container.network.io.usage.rx_dropped", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"interface"}, part: "receive dropped"},
	{Metric: "container.network.io.usage.tx_dropped", Class: ClassNetwork, Role: RoleUse, Rate: true, Instance: []string{"interface"}, part: "transmit dropped"},
	{Metric: "system.network.conntrack.count", Class: ClassConntrack, Role: RoleUse},
	{Metric: "system.network.conntrack.max", Class: ClassConntrack, Role: RoleLimit},

	// Pools, file descriptors, threads.
	{Metric: "db.client.connection.count", Class: ClassConnections, Role: RoleUse, Instance: dbPool, Attributes: map[string][]string{"db.client.connection.state": {"used"}}},
	{Metric: "db.client.connection.max", Class: ClassConnections, Role: RoleLimit, Instance: dbPool},
	{Metric: "db.client.connection.pending_requests", Class: ClassConnections, Role: RoleWaiting, Instance: dbPool},
	{Metric: "db.client.connections.usage", Class: ClassConnections, Role: RoleUse, Instance: poolName, Attributes: stateUsed},
	{Metric: "db.client.connections.max", Class: ClassConnections, Role: RoleLimit, Instance: poolName},
	{Metric: "db.client.connections.pending_requests", Class: ClassConnections, Role: RoleWaiting, Instance: poolName},
	{Metric: "process.unix.file_descriptor.count", Class: ClassFDs, Role: RoleUse},
	{Metric: "process.open_file_descriptors", Class: ClassFDs, Role: RoleUse},
	{Metric: "process.open_file_descriptor.count", Class: ClassFDs, Role: RoleUse},
	{Metric: "jvm.file_descriptor.count", Class: ClassFDs, Role: RoleUse},
	{Metric: "jvm.file_descriptor.limit", Class: ClassFDs, Role: RoleLimit},
	{Metric: "process_open_fds", Class: ClassFDs, Role: RoleUse},
	{Metric: "process_max_fds", Class: ClassFDs, Role: RoleLimit},

	// Queues.
	{Metric: "kafka.consumer_group.lag", Class: ClassQueue, Role: RoleUse, Instance: []string{"group", "topic"}},
	{Metric: "rabbitmq.message.current", Class: ClassQueue, Role: RoleUse, Instance: []string{"rabbitmq.queue.name"}, Attributes: map[string][]string{"state": {"ready"}}},
	{Metric: "otelcol_exporter_queue_size", Class: ClassQueue, Role: RoleUse, Instance: []string{"exporter"}},
	{Metric: "otelcol_exporter_queue_capacity", Class: ClassQueue, Role: RoleLimit, Instance: []string{"exporter"}},

	// Requests that a service answers.
	{Metric: "http.server.request.duration", Class: ClassDuration, Role: RoleUse, Instance: route, take: takeQuantiles},
	{Metric: "http.server.request.duration", Class: ClassDuration, Role: RoleUse, Rate: true, Instance: route},
	{Metric: "http.server.request.duration", Class: ClassDuration, Role: RoleLimit, Rate: true, Instance: route, take: takeCount},
	{Metric: "http.server.duration", Class: ClassDuration, Role: RoleUse, Rate: true, Scale: 1e-3, Instance: route},
	{Metric: "http.server.duration", Class: ClassDuration, Role: RoleLimit, Rate: true, Instance: route, take: takeCount},
	{Metric: "rpc.server.call.duration", Class: ClassDuration, Role: RoleUse, Rate: true, Instance: method},
	{Metric: "rpc.server.call.duration", Class: ClassDuration, Role: RoleLimit, Rate: true, Instance: method, take: takeCount},
	{Metric: "rpc.server.duration", Class: ClassDuration, Role: RoleUse, Rate: true, Scale: 1e-3, Instance: method},
	{Metric: "rpc.server.duration", Class: ClassDuration, Role: RoleLimit, Rate: true, Instance: method, take: takeCount},
}
