package event

// Names of what the correlation processor sees in resource metrics. No receiver
// emits them: patterns name them as causes, effects and precursors. Their attributes
// are the tapio.metric.* keys below.
const (
	// MetricCPUHigh: far more CPU than in its own past, below its limit.
	MetricCPUHigh = "tapio.metric.cpu_high"
	// MetricCPUSaturated: at its CPU limit, or a node at all of its cores.
	MetricCPUSaturated = "tapio.metric.cpu_saturated"
	// MetricCPUThrottled: the CPU limit stops it in many scheduling periods.
	MetricCPUThrottled = "tapio.metric.cpu_throttled"
	// MetricMemoryNearLimit: memory that cannot be reclaimed is close to the limit.
	MetricMemoryNearLimit = "tapio.metric.memory_near_limit"
	// MetricHeapNearLimit: a runtime's heap is nearly full after collections.
	MetricHeapNearLimit = "tapio.metric.heap_near_limit"
	// MetricGCPressure: garbage collection takes much of the time.
	MetricGCPressure = "tapio.metric.gc_pressure"
	// MetricDiskFull: a file system has next to no space left.
	MetricDiskFull = "tapio.metric.disk_full"
	// MetricInodesExhausted: a file system has next to no inodes left.
	MetricInodesExhausted = "tapio.metric.inodes_exhausted"
	// MetricDiskSaturated: a disk is busy nearly all of the time.
	MetricDiskSaturated = "tapio.metric.disk_saturated"
	// MetricNetworkErrors: packets in error or dropped.
	MetricNetworkErrors = "tapio.metric.network_errors"
	// MetricConnectionsExhausted: a client's connection pool is at its maximum.
	MetricConnectionsExhausted = "tapio.metric.connections_exhausted"
	// MetricConntrackFull: the kernel's connection tracking table is nearly full.
	MetricConntrackFull = "tapio.metric.conntrack_full"
	// MetricFDsExhausted: a process has nearly as many files open as it may.
	MetricFDsExhausted = "tapio.metric.fds_exhausted"
	// MetricThreadsExhausted: nearly as many threads as allowed.
	MetricThreadsExhausted = "tapio.metric.threads_exhausted"
	// MetricQueueGrowing: a queue grows steadily, or is nearly at its capacity.
	MetricQueueGrowing = "tapio.metric.queue_growing"
	// MetricRequestsSlow: the requests of a service take much longer than they did.
	MetricRequestsSlow = "tapio.metric.requests_slow"
	// MetricLimitPredicted: at this slope a resource reaches its limit soon.
	MetricLimitPredicted = "tapio.metric.limit_predicted"
)

// KeyServiceCriticality is critical, high, medium or low, by semantic conventions.
const KeyServiceCriticality = "service.criticality"

// Keys of what is seen in resource metrics.
const (
	// KeyMetricClass is the resource that a metric measures: cpu, memory, disk, ...
	KeyMetricClass = "tapio.metric.class"
	// KeyMetricInstance tells resources of one class apart: a mount point, a pool.
	KeyMetricInstance = "tapio.metric.instance"
	// KeyMetricValue, KeyMetricBefore and KeyMetricLimit are its value now, the
	// median of its past and its limit, in KeyMetricUnit.
	KeyMetricValue  = "tapio.metric.value"
	KeyMetricBefore = "tapio.metric.before"
	KeyMetricLimit  = "tapio.metric.limit"
	// KeyMetricUnit is a UCUM unit.
	KeyMetricUnit = "tapio.metric.unit"
	// KeyMetricZ is the change against its own past, or its peers, as a z score.
	KeyMetricZ = "tapio.metric.z"
	// KeyMetricEntityKind is the kind of entity that it is of: host, pod, service, ...
	KeyMetricEntityKind = "tapio.metric.entity.kind"
	// KeyMetricFactor is how many times its past a value is.
	KeyMetricFactor = "tapio.metric.factor"
	// KeyMetricSlope is the growth per second, KeyMetricETA the seconds until the
	// limit at that slope, KeyMetricLimitAt the time of day (UTC) at which that is, for
	// people who read it later, KeyMetricConsistency the share of pairs of samples of
	// which the later one is the larger.
	KeyMetricSlope       = "tapio.metric.slope"
	KeyMetricETA         = "tapio.metric.eta"
	KeyMetricLimitAt     = "tapio.metric.limit_at"
	KeyMetricConsistency = "tapio.metric.consistency"
)
