package gauge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
)

// Class is the resource that a metric measures.
type Class uint8

// The classes of resources.
const (
	// ClassCPU is the use of processors, in cores.
	ClassCPU Class = iota + 1
	// ClassThrottling is the share of scheduling periods in which a CPU limit stopped
	// the processes, a ratio.
	ClassThrottling
	// ClassMemory is the memory that cannot be reclaimed, in bytes.
	ClassMemory
	// ClassHeap is the heap of a runtime that is in use after a collection, in bytes.
	ClassHeap
	// ClassGC is the share of time that garbage collection takes, a ratio.
	ClassGC
	// ClassDisk is the space of a file system, in bytes.
	ClassDisk
	// ClassInodes is the inodes of a file system.
	ClassInodes
	// ClassDiskIO is the share of time that a disk is busy, a ratio.
	ClassDiskIO
	// ClassNetwork is packets in error or dropped, per second.
	ClassNetwork
	// ClassConnections is the connections of a client pool that are in use.
	ClassConnections
	// ClassConntrack is the entries of the kernel's connection tracking table.
	ClassConntrack
	// ClassFDs is the open file descriptors of a process.
	ClassFDs
	// ClassThreads is the threads of a process.
	ClassThreads
	// ClassQueue is the items that wait in a queue.
	ClassQueue
	// ClassDuration is how long the requests of a service take, in seconds: their mean,
	// or a quantile where a summary has some.
	ClassDuration
	classEnd
)

// change says how a value is compared with its own past.
type change struct {
	// floor is added to values before the logarithm, in the unit of the class: what
	// is small beside it is noise.
	floor float64
	// least is the value, and leastShare the share of the limit where one is known,
	// below which no change matters.
	least, leastShare float64
	// score is the z score from which the change is an event; 0 for never.
	score float64
	// event names a change that is not at a limit; "" when it is no event.
	event string
}

// ceiling says what it means to be at the limit.
type ceiling struct {
	// at is the share of the limit from which the resource is exhausted, clear the
	// share below which it no longer is.
	at, clear float64
	// event names it.
	event string
	// usual: a value that is always there, such as a busy pool of fixed size, is no
	// event; the median of the past must be below this share of the limit.
	usual float64
}

// spec is all that the judge knows of a class.
type spec struct {
	name, unit string
	// ratio: the signal is use divided by limit over the same interval, and 1 is its
	// limit.
	ratio bool
	// mean: the signal is use divided by limit, and has no limit itself.
	mean bool
	// absolute: what is small beside the peers is no noise. One service takes a
	// millisecond for what another takes a second.
	absolute bool
	// scores: changes count in the score of the service (signal M). The others vary
	// too much by themselves: they support a cause and raise no alarm alone.
	scores bool
	// alarms: the score alone can make a service a suspect. The others have events that
	// are causes of their own.
	alarms bool
	change
	ceiling
	// goal is the share of the limit which a steadily growing value is foretold to
	// reach; 0 for never.
	goal float64
	// grows: a value that grows steadily, several times above its past, is the event
	// of change, whatever its z score.
	grows bool
}

// The thresholds: 0.2 of the limit and the formula of the z score come from the
// Nezha TrainTicket cases, where CPU counted for nothing below. The kubelet evicts
// at 10 % of free disk, and most file systems slow down or keep the last 5 % for
// root. A container that is throttled in a quarter of its periods loses at least
// 25 ms of 100 at each of them. A request is slow from 20 ms on, as in the judge of
// visits. Ten percent of time in collections is the point at
// which the JVM's own default for throughput (GCTimeRatio 12 of G1: 8 %) is missed.
var specs = [classEnd]spec{
	ClassCPU: {
		name: "cpu", unit: "{cpu}", scores: true, alarms: true,
		change:  change{floor: 0.001, least: 0.1, leastShare: 0.2, score: 4.5, event: event.MetricCPUHigh},
		ceiling: ceiling{at: 0.9, clear: 0.8, usual: 0.8, event: event.MetricCPUSaturated},
	},
	ClassThrottling: {
		name: "throttling", unit: "1", ratio: true, scores: true, alarms: true,
		change: change{floor: 0.05, least: 0.25, score: 2.5, event: event.MetricCPUThrottled},
	},
	ClassMemory: {
		name: "memory", unit: "By", goal: reached,
		ceiling: ceiling{at: 0.9, clear: 0.85, usual: 0.87, event: event.MetricMemoryNearLimit},
	},
	ClassHeap: {
		name: "heap", unit: "By", goal: reached,
		ceiling: ceiling{at: 0.9, clear: 0.85, usual: 0.87, event: event.MetricHeapNearLimit},
	},
	ClassGC: {
		name: "gc", unit: "1", scores: true,
		change: change{floor: 0.02, least: 0.1, score: 4.5, event: event.MetricGCPressure},
	},
	ClassDisk: {
		name: "disk", unit: "By", goal: 0.95,
		ceiling: ceiling{at: 0.95, clear: 0.93, usual: 0.949, event: event.MetricDiskFull},
	},
	ClassInodes: {
		name: "inodes", unit: "{inode}", goal: 0.95,
		ceiling: ceiling{at: 0.95, clear: 0.93, usual: 0.949, event: event.MetricInodesExhausted},
	},
	ClassDiskIO: {
		name: "disk_io", unit: "1",
		change: change{floor: 0.1, least: 0.8, score: 4.5, event: event.MetricDiskSaturated},
	},
	ClassNetwork: {
		name: "network", unit: "{packet}/s",
		change: change{floor: 1, least: 1, score: 4.5, event: event.MetricNetworkErrors},
	},
	ClassConnections: {
		name: "connections", unit: "{connection}", scores: true, goal: reached,
		change:  change{floor: 1, least: 5, leastShare: 0.5},
		ceiling: ceiling{at: 1, clear: 0.9, usual: 0.9, event: event.MetricConnectionsExhausted},
	},
	ClassConntrack: {
		name: "conntrack", unit: "{entry}", goal: 0.95,
		ceiling: ceiling{at: 0.95, clear: 0.9, usual: 0.9, event: event.MetricConntrackFull},
	},
	ClassFDs: {
		name: "fds", unit: "{file_descriptor}", goal: 0.95,
		ceiling: ceiling{at: 0.95, clear: 0.9, usual: 0.9, event: event.MetricFDsExhausted},
	},
	ClassThreads: {
		name: "threads", unit: "{thread}", goal: 0.95,
		ceiling: ceiling{at: 0.95, clear: 0.9, usual: 0.9, event: event.MetricThreadsExhausted},
	},
	ClassQueue: {
		name: "queue", unit: "{item}", grows: true,
		change:  change{floor: 10, least: 20, event: event.MetricQueueGrowing},
		ceiling: ceiling{at: 0.95, clear: 0.8, usual: 0.9, event: event.MetricQueueGrowing},
	},
	ClassDuration: {
		name: "request_duration", unit: "s", mean: true, absolute: true,
		change: change{floor: 0.001, least: 0.02, score: 4.5, event: event.MetricRequestsSlow},
	},
}

// String returns the name of the class, as configurations and findings have it.
func (c Class) String() string {
	if c == 0 || c >= classEnd {
		return "unknown"
	}
	return specs[c].name
}

// Unit returns the UCUM unit of the values of the class.
func (c Class) Unit() string {
	if c == 0 || c >= classEnd {
		return ""
	}
	return specs[c].unit
}

// Scores tells whether a change counts in the score of a service. The others
// (memory, disk, file descriptors, ...) support a cause, and raise no alarm alone.
func (c Class) Scores() bool { return c < classEnd && specs[c].scores }

// UnmarshalText reads the name of a class, for configurations.
func (c *Class) UnmarshalText(text []byte) error {
	for i := Class(1); i < classEnd; i++ {
		if specs[i].name == string(text) {
			*c = i
			return nil
		}
	}
	return fmt.Errorf("class %q: want one of %s", text, strings.Join(classNames(), ", "))
}

// MarshalText writes the name of the class.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func classNames() []string {
	var names []string
	for i := Class(1); i < classEnd; i++ {
		names = append(names, specs[i].name)
	}
	slices.Sort(names)
	return names
}

// Role is what a metric says of a resource.
type Role uint8

// The roles of metrics.
const (
	// RoleUse is how much is used.
	RoleUse Role = iota + 1
	// RoleFree is how much is left.
	RoleFree
	// RoleLimit is how much there is; for ratios, what use is divided by.
	RoleLimit
	// RoleUtilization is the share of the limit that is used, as a ratio.
	RoleUtilization
	// RoleWaiting is how many wait for the resource.
	RoleWaiting
	roleEnd
)

var roleNames = [roleEnd]string{RoleUse: "use", RoleFree: "free", RoleLimit: "limit", RoleUtilization: "utilization", RoleWaiting: "waiting"}

// String returns the name of the role.
func (r Role) String() string {
	if r >= roleEnd {
		return ""
	}
	return roleNames[r]
}

// UnmarshalText reads the name of a role, for configurations.
func (r *Role) UnmarshalText(text []byte) error {
	if i := slices.Index(roleNames[1:], string(text)); i >= 0 {
		*r = Role(i + 1)
		return nil
	}
	return fmt.Errorf("role %q: want one of %s", text, strings.Join(roleNames[1:], ", "))
}

// MarshalText writes the name of the role.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
