// Package event holds the names that Tapio's components share: the EventName of
// every log record that a Tapio receiver emits, and the attribute keys that no
// OpenTelemetry semantic convention defines. Everything else is written with the
// keys of semantic conventions v1.44, repeated here where more than one
// component needs them, so that a typing error is a compile error.
package event

// Names of events, as found in the EventName field of a log record.
const (
	// ProcessExec says that a process began to run a program.
	ProcessExec = "tapio.process.exec"
	// ProcessExit says that the last thread of a process ended.
	ProcessExit = "tapio.process.exit"
	// ProcessSignal says that somebody else sent a process a signal that ends it.
	ProcessSignal = "tapio.process.signal"
	// OOMKill says that the kernel chose a process as the victim of an
	// out-of-memory condition.
	OOMKill = "tapio.oom.kill"
	// TCPConnectFailed says that an active TCP open ended without a connection.
	TCPConnectFailed = "tapio.tcp.connect_failed"
	// TCPListen says that a process listens at an address, or does no more.
	TCPListen = "tapio.tcp.listen"
	// UDPListen says that a process serves at an address of UDP.
	UDPListen = "tapio.udp.listen"
	// TCPReset says that a connection was reset, by this end or the other.
	TCPReset = "tapio.tcp.reset"
	// TCPRetransmit says that segments of a connection had to be sent again.
	TCPRetransmit = "tapio.tcp.retransmit"
	// TCPListenOverflow says that connections were dropped because too many waited
	// to be accepted.
	TCPListenOverflow = "tapio.tcp.listen_overflow"
	// TCPConnections counts the connections of a process with one peer.
	TCPConnections = "tapio.tcp.connections"
	// SyscallFailed says that a system call failed because something ran out or
	// broke: no space, no memory, no file descriptor, a disk error, read-only.
	SyscallFailed = "tapio.syscall.failed"
	// SyscallFailures counts the failed system calls of a cgroup, by call and error.
	SyscallFailures = "tapio.syscall.failures"
	// BlockIOError says that a block device could not be read or written.
	BlockIOError = "tapio.block_io.error"
	// BlockIOLatency counts how long the requests of a cgroup to a block device took.
	BlockIOLatency = "tapio.block_io.latency"
	// BlockIOSlow says that a block device takes much longer than it used to.
	BlockIOSlow = "tapio.block_io.slow"
	// MemoryGrowth says that a process grows steadily.
	MemoryGrowth = "tapio.memory.growth"
	// MemoryReclaim counts the stalls of a cgroup's tasks that had to free memory
	// before they got some.
	MemoryReclaim = "tapio.memory.reclaim"
	// ProcessForks counts what began in a cgroup; ProcessForkStorm says that it is far
	// more than usual.
	ProcessForks     = "tapio.process.forks"
	ProcessForkStorm = "tapio.process.fork_storm"
	// CPURunQueue counts how long the tasks of a cgroup waited for a processor;
	// CPUStarved says that it is much longer than usual.
	CPURunQueue = "tapio.cpu.run_queue"
	CPUStarved  = "tapio.cpu.starved"
	// CPUThrottled says that a cgroup used up its CPU quota.
	CPUThrottled = "tapio.cpu.throttled"
	// EBPFStarted says which kernel programs of a host run, and which do not.
	EBPFStarted = "tapio.ebpf.started"
	// CNIStarted says what a host's tapio_cni receiver watches and cannot see.
	CNIStarted = "tapio.cni.started"
	// CNIConfigChanged, CNIConfigInvalid and CNIConfigMissing are about network configurations.
	CNIConfigChanged = "tapio.cni.config.changed"
	CNIConfigInvalid = "tapio.cni.config.invalid"
	CNIConfigMissing = "tapio.cni.config.missing"
	// CNIPluginMissing and CNIPluginReplaced are about the executables of plugins.
	// CNIPluginsMissing is where none was ever found.
	CNIPluginMissing  = "tapio.cni.plugin.missing"
	CNIPluginsMissing = "tapio.cni.plugins.missing"
	CNIPluginReplaced = "tapio.cni.plugin.replaced"
	// CNIPoolHigh and CNIPoolExhausted say how full an address pool is.
	CNIPoolHigh      = "tapio.cni.pool.high"
	CNIPoolExhausted = "tapio.cni.pool.exhausted"
	// CNIAddressLeaked: reserved, and nothing that lives has it.
	CNIAddressLeaked = "tapio.cni.address.leaked"
	// CNIAddressDuplicate: two interfaces that can reach each other have it.
	CNIAddressDuplicate = "tapio.cni.address.duplicate"
	// CNIAddressMissing: the interface has not what its plugin gave it.
	CNIAddressMissing = "tapio.cni.address.missing"
	// CNIInterface is a fact: this pod has this interface and address.
	CNIInterface = "tapio.cni.interface"
	// CNIInterfaceRemoved: it has it no longer.
	CNIInterfaceRemoved     = "tapio.cni.interface.removed"
	CNIInterfaceDown        = "tapio.cni.interface.down"
	CNIInterfaceCarrierLost = "tapio.cni.interface.carrier_lost"
	CNIInterfaceMTUMismatch = "tapio.cni.interface.mtu_mismatch"
	// CNIInterfaceLeaked: a veth of the host leads to no pod that lives.
	CNIInterfaceLeaked = "tapio.cni.interface.leaked"
	// CNINamespaceLeaked: a sandbox's network namespace without a process.
	CNINamespaceLeaked = "tapio.cni.namespace.leaked"
	CNIRouteMissing    = "tapio.cni.route.missing"
	// CNIConntrackHigh and CNIConntrackFull say how full the table of tracked connections is.
	CNIConntrackHigh = "tapio.cni.conntrack.high"
	CNIConntrackFull = "tapio.cni.conntrack.full"
	// CNIOperation says that a plugin could not do what the runtime asked of it.
	CNIOperation = "tapio.cni.operation"
	// CNIRecovered: what the event named in KeyCNIRecovered said holds no longer.
	CNIRecovered = "tapio.cni.recovered"
	// What systemd says of a unit, over D-Bus or in its journal.
	SystemdUnitFailed           = "tapio.systemd.unit.failed"
	SystemdUnitOOMKilled        = "tapio.systemd.unit.oom_killed"
	SystemdUnitStartLimitHit    = "tapio.systemd.unit.start_limit_hit"
	SystemdUnitWatchdog         = "tapio.systemd.unit.watchdog"
	SystemdUnitRestarting       = "tapio.systemd.unit.restarting"
	SystemdUnitDependencyFailed = "tapio.systemd.unit.dependency_failed"
	SystemdUnitActivated        = "tapio.systemd.unit.activated"
	SystemdUnitDeactivated      = "tapio.systemd.unit.deactivated"
	SystemdUnitRunning          = "tapio.systemd.unit.running"
	SystemdJobTimedOut          = "tapio.systemd.job.timed_out"
	// SystemdProcessOOMKilled: one process of a unit was killed for want of
	// memory; whether the unit fails for that depends on its OOMPolicy.
	SystemdProcessOOMKilled = "tapio.systemd.unit.process_oom_killed"
	// SystemdExecFailed: an executable that a unit names could not be run.
	SystemdExecFailed = "tapio.systemd.unit.exec_failed"
	// ProcessCoreDumped: systemd-coredump took down a process that crashed.
	ProcessCoreDumped = "tapio.process.core_dumped"
	// Of the machine as a whole.
	SystemTimeChanged = "tapio.system.time_changed"
	SystemBooted      = "tapio.system.boot_completed"
	SystemShutdown    = "tapio.system.shutdown"
	SystemSuspended   = "tapio.system.suspended"
	SystemResumed     = "tapio.system.resumed"
	// JournalSuppressed: journald left out messages of a unit that wrote too many.
	JournalSuppressed = "tapio.journal.messages_suppressed"
	// JournalMissed: journald did not get messages of the kernel.
	JournalMissed = "tapio.journal.messages_missed"
	// Finding is one revision of a finding of the correlation processor.
	Finding = "tapio.finding"
)

// Keys of semantic conventions that more than one component reads or writes.
const (
	KeyServiceName       = "service.name"
	KeyFilePath          = "file.path"
	KeyInterfaceName     = "network.interface.name"
	KeyPodIP             = "k8s.pod.ip"
	KeyServiceNamespace  = "service.namespace"
	KeyServiceInstanceID = "service.instance.id"
	KeyServiceVersion    = "service.version"
	KeyHostName          = "host.name"
	KeyHostID            = "host.id"
	KeyProcessPID        = "process.pid"
	KeyProcessVPID       = "process.vpid"
	KeyProcessParentPID  = "process.parent_pid"
	// KeyProcessCreationTime is the start of the process, RFC 3339 in UTC with
	// nanoseconds; pid and creation time identify a process on a host.
	KeyProcessCreationTime   = "process.creation.time"
	KeyProcessCommand        = "process.command"
	KeyProcessCommandLine    = "process.command_line"
	KeyProcessExecutableName = "process.executable.name"
	KeyProcessExecutablePath = "process.executable.path"
	KeyProcessCgroup         = "process.linux.cgroup"
	// KeyProcessExitCode is the code that the process passed to exit(2); absent
	// when a signal ended it.
	KeyProcessExitCode = "process.exit.code"
	KeySystemdUnit     = "systemd.unit.name"
	// KeySystemdUnitCommand is the setting whose process made a unit fail, where that was
	// not the main one.
	KeySystemdUnitCommand = "tapio.systemd.unit.command"
	KeyContainerID        = "container.id"
	KeyPodUID             = "k8s.pod.uid"
	KeyPodName            = "k8s.pod.name"
	KeyNamespaceName      = "k8s.namespace.name"
	KeyNodeName           = "k8s.node.name"
	KeyContainerName      = "k8s.container.name"
	KeyDeploymentName     = "k8s.deployment.name"
	KeyLocalAddress       = "network.local.address"
	KeyLocalPort          = "network.local.port"
	KeyPeerAddress        = "network.peer.address"
	KeyPeerPort           = "network.peer.port"
	KeyNetworkTransport   = "network.transport"
	// KeyIODirection is "transmit" or "receive".
	KeyIODirection     = "network.io.direction"
	KeyConnectionState = "network.connection.state"
	KeyNetworkType     = "network.type"
	KeyServerAddress   = "server.address"
	KeyServerPort      = "server.port"
	KeyErrorType       = "error.type"
	KeyUserID          = "user.id"
	KeyEndUserID       = "enduser.id"
)

// Keys of Tapio's own, for what no convention names. Sizes are bytes.
const (
	// KeyExitSignal is the number of the signal that ended the process.
	KeyExitSignal = "tapio.process.exit.signal"
	// KeyExitSignalName is its name, such as SIGKILL.
	KeyExitSignalName = "tapio.process.exit.signal_name"
	// KeySignal and KeySignalName are the number and the name of a signal that was
	// sent, KeySignalOrigin is "user" or "kernel".
	KeySignal       = "tapio.process.signal.number"
	KeySignalName   = "tapio.process.signal.name"
	KeySignalOrigin = "tapio.process.signal.origin"
	// KeySenderPID, KeySenderName (of its executable), KeySenderCgroup, KeySenderUnit
	// and KeySenderContainer say who sent it.
	KeySenderPID       = "tapio.process.signal.sender.pid"
	KeySenderName      = "tapio.process.signal.sender.name"
	KeySenderCgroup    = "tapio.process.signal.sender.cgroup"
	KeySenderUnit      = "tapio.process.signal.sender.unit"
	KeySenderContainer = "tapio.process.signal.sender.container.id"
	// KeyCoreDumped is true when the kernel dumped the core of the process.
	KeyCoreDumped = "tapio.process.exit.core_dumped"
	// KeyProcessComm is the name of the process as the kernel keeps it, at most 15 bytes.
	KeyProcessComm = "tapio.process.comm"
	// KeySyscall is the name of a system call, KeySyscallCount how often it failed
	// within KeyInterval seconds.
	KeySyscall      = "tapio.syscall.name"
	KeySyscallCount = "tapio.syscall.count"
	KeyInterval     = "tapio.interval"
	// KeyConnectDuration is the time from connect(2) to its failure, in seconds.
	KeyConnectDuration = "tapio.tcp.connect.duration"
	// KeyTCPRole is "client" where the process opened the connections, "server" where
	// it accepted them.
	KeyTCPRole = "tapio.tcp.role"
	// KeyTCPOpened, KeyTCPClosed, KeyTCPSent and KeyTCPReceived count connections and
	// bytes within KeyInterval seconds.
	KeyTCPOpened   = "tapio.tcp.opened"
	KeyTCPClosed   = "tapio.tcp.closed"
	KeyTCPSent     = "tapio.tcp.sent"
	KeyTCPReceived = "tapio.tcp.received"
	// KeyTCPRetransmits counts segments that were sent again, since the last event
	// of the connection or within KeyInterval; KeyTCPRetransmitsTotal all of a connection.
	KeyTCPRetransmits      = "tapio.tcp.retransmits"
	KeyTCPRetransmitsTotal = "tapio.tcp.retransmits_total"
	// KeyTCPRTT is the smoothed round-trip time in seconds.
	KeyTCPRTT = "tapio.tcp.rtt"
	// KeyListenBacklog is how many connections may wait to be accepted, KeyListenQueue
	// how many do, KeyListenDropped how many were dropped for that.
	KeyListenBacklog = "tapio.tcp.listen.backlog"
	KeyListenQueue   = "tapio.tcp.listen.queue"
	KeyListenDropped = "tapio.tcp.listen.dropped"
	// KeyListenExisting is true for a listener older than the receiver.
	KeyListenExisting = "tapio.tcp.listen.existing"
	// KeyResetReason is why the kernel sent a reset, in its own words.
	KeyResetReason = "tapio.tcp.reset.reason"
	// KeyBlockDevice is a block device as the kernel names it, KeyBlockOperation READ,
	// WRITE, FLUSH, ..., KeyBlockSector where, KeyBlockErrno what programs get of it.
	KeyBlockDevice    = "tapio.block.device"
	KeyBlockOperation = "tapio.block.operation"
	KeyBlockSector    = "tapio.block.sector"
	KeyBlockErrno     = "tapio.block.errno"
	// KeyBlockRequests counts requests within KeyInterval; KeyBlockRequestsUsual is how
	// many there usually are.
	KeyBlockRequests      = "tapio.block.requests"
	KeyBlockRequestsUsual = "tapio.block.requests.usual"
	KeyBlockBytes         = "tapio.block.bytes"
	// KeyBlockLatencyP50, P90 and P99 are percentiles of the time of a request in
	// seconds, KeyBlockLatencyUsual the 90th that is usual.
	KeyBlockLatencyMean  = "tapio.block.latency.mean"
	KeyBlockLatencyP50   = "tapio.block.latency.p50"
	KeyBlockLatencyP90   = "tapio.block.latency.p90"
	KeyBlockLatencyP99   = "tapio.block.latency.p99"
	KeyBlockLatencyUsual = "tapio.block.latency.usual"
	// KeyBlockBusiestCgroup is the cgroup with most requests, KeyBlockBusiestShare its
	// part of them.
	KeyBlockBusiestCgroup = "tapio.block.busiest.cgroup"
	KeyBlockBusiestShare  = "tapio.block.busiest.share"
	// KeyEBPFPrograms is a slice: the names of the kernel programs that run.
	KeyEBPFPrograms = "tapio.ebpf.programs"
	// KeyEBPFFailed is a slice: "names: reason" of those that are enabled and do not, each
	// reason once.
	KeyEBPFFailed = "tapio.ebpf.failed"
	// KeyOOMScope is "cgroup" when a memory cgroup was at its limit, "node" when
	// the machine itself was out of memory.
	KeyOOMScope = "tapio.oom.scope"
	// KeyOOMRSS is the resident size of the victim when it was chosen.
	KeyOOMRSS = "tapio.oom.victim.rss"
	// KeyOOMScoreAdj is the oom_score_adj of the victim.
	KeyOOMScoreAdj = "tapio.oom.victim.score_adj"
	// KeyOOMSurvives is true when the victim was a child in its container, which
	// lives on; false when the container ends with it.
	KeyOOMSurvives = "tapio.oom.container.survives"
	// KeyOOMTriggerName (of the executable), KeyOOMTriggerPID and KeyOOMTriggerCgroup
	// say who asked for the memory that was not there.
	KeyOOMTriggerName   = "tapio.oom.trigger.name"
	KeyOOMTriggerPID    = "tapio.oom.trigger.pid"
	KeyOOMTriggerCgroup = "tapio.oom.trigger.cgroup"
	// KeyMemoryCgroup is the path of the memory cgroup that was at its limit.
	KeyMemoryCgroup = "tapio.memory.cgroup"
	// KeyMemoryLimit is the limit of that cgroup.
	KeyMemoryLimit = "tapio.memory.limit"
	// KeyMemoryUsage is what was charged to it at that moment.
	KeyMemoryUsage = "tapio.memory.usage"
	// KeyMemoryPeak is the most that was ever charged to it.
	KeyMemoryPeak = "tapio.memory.peak"
	// KeyMemoryRSS is the resident size of a process, KeyMemoryGrowth by how much it grew
	// within KeyInterval, KeyMemorySlope bytes a second, KeyMemoryTimeToLimit the
	// seconds until the limit at that slope.
	KeyMemoryRSS         = "tapio.memory.rss"
	KeyMemoryGrowth      = "tapio.memory.growth"
	KeyMemorySlope       = "tapio.memory.slope"
	KeyMemoryTimeToLimit = "tapio.memory.time_to_limit"
	// KeyReclaimStalls counts stalls, KeyReclaimTime is their sum in seconds,
	// KeyReclaimShare that by KeyInterval, KeyReclaimFreed what was freed.
	KeyReclaimStalls = "tapio.memory.reclaim.stalls"
	KeyReclaimTime   = "tapio.memory.reclaim.time"
	KeyReclaimShare  = "tapio.memory.reclaim.share"
	KeyReclaimFreed  = "tapio.memory.reclaim.freed"
	// KeyProcessForks counts processes, KeyProcessForksUsual how many are usual.
	KeyProcessForks      = "tapio.process.forks"
	KeyProcessForksUsual = "tapio.process.forks.usual"
	// KeyCPUWaiting is how many tasks waited for a processor on average, KeyCPUWaitP90
	// the 90th percentile of their waits in seconds, KeyCPUWaitUsual what is usual.
	KeyCPUWaiting   = "tapio.cpu.waiting"
	KeyCPUWaitP90   = "tapio.cpu.wait.p90"
	KeyCPUWaitUsual = "tapio.cpu.wait.usual"
	// KeyCPULimit is a quota in CPUs, KeyCPUPeriods its periods in KeyInterval,
	// KeyCPUThrottledPeriods in how many of them the cgroup was stopped,
	// KeyCPUThrottledShare their part and KeyCPUThrottledTime for how many seconds.
	KeyCPULimit            = "tapio.cpu.limit"
	KeyCPUCgroup           = "tapio.cpu.cgroup"
	KeyCPUPeriods          = "tapio.cpu.periods"
	KeyCPUThrottledPeriods = "tapio.cpu.throttled.periods"
	KeyCPUThrottledShare   = "tapio.cpu.throttled.share"
	KeyCPUThrottledTime    = "tapio.cpu.throttled.time"
	// KeyCNINetwork is the name of a network in the configuration.
	KeyCNINetwork = "tapio.cni.network"
	// KeyCNIPlugin is the type of a plugin, the name of its executable;
	// KeyCNIPlugins all of a network.
	KeyCNIPlugin  = "tapio.cni.plugin"
	KeyCNIPlugins = "tapio.cni.plugins"
	// KeyCNIReason is what is wrong, for people.
	KeyCNIReason = "tapio.cni.reason"
	// KeyCNIConfigLine is a line of a file, from 1.
	KeyCNIConfigLine = "tapio.cni.config.line"
	// KeyCNIConfigInUse is true for the file that runtimes take.
	KeyCNIConfigInUse = "tapio.cni.config.in_use"
	// KeyCNIPoolUsed and KeyCNIPoolSize count addresses.
	KeyCNIPoolUsed = "tapio.cni.pool.used"
	KeyCNIPoolSize = "tapio.cni.pool.size"
	// KeyCNIPoolLeaked counts those of the used addresses that nobody who lives has.
	KeyCNIPoolLeaked = "tapio.cni.pool.leaked"
	// KeyCNIAddress is an IP address; KeyCNIAddresses all of an interface, with prefix.
	KeyCNIAddress   = "tapio.cni.address"
	KeyCNIAddresses = "tapio.cni.addresses"
	// KeyCNIAge is how old a leaked thing is, in seconds.
	KeyCNIAge = "tapio.cni.age"
	// KeyCNIHostInterface is the other end of a pod's interface, on the host.
	KeyCNIHostInterface = "tapio.cni.host_interface"
	// KeyCNIInterfaceState is missing, down or no_carrier.
	KeyCNIInterfaceState = "tapio.cni.interface.state"
	// KeyCNIMAC is the hardware address of a pod's interface.
	KeyCNIMAC = "tapio.cni.mac"
	// KeyCNIMTU and KeyCNIMTUExpected are in bytes.
	KeyCNIMTU         = "tapio.cni.mtu"
	KeyCNIMTUExpected = "tapio.cni.mtu.expected"
	// KeyCNINetns is the path by which a network namespace is pinned.
	KeyCNINetns = "tapio.cni.netns"
	// KeyCNIOther is who else has a duplicate address, or the other side of a mismatch, in
	// words; the others identify it where it is a pod or container.
	KeyCNIOther             = "tapio.cni.other"
	KeyCNIOtherContainerID  = "tapio.cni.other.container.id"
	KeyCNIOtherPodName      = "tapio.cni.other.pod.name"
	KeyCNIOtherPodNamespace = "tapio.cni.other.pod.namespace"
	KeyCNIOtherPodUID       = "tapio.cni.other.pod.uid"
	// KeyCNIRoute is the destination of a route, as address/prefix.
	KeyCNIRoute = "tapio.cni.route"
	// KeyCNIConntrackCount and KeyCNIConntrackMax count connections.
	KeyCNIConntrackCount = "tapio.cni.conntrack.count"
	KeyCNIConntrackMax   = "tapio.cni.conntrack.max"
	// KeyCNIRecovered is the name of the event whose condition holds no longer.
	KeyCNIRecovered = "tapio.cni.recovered"
	// KeyCNICommand is ADD, DEL, CHECK, GC or STATUS.
	KeyCNICommand = "tapio.cni.command"
	// KeyCNIErrorCode, KeyCNIErrorMessage and KeyCNIErrorDetails are the error that
	// a plugin wrote.
	KeyCNIErrorCode    = "tapio.cni.error.code"
	KeyCNIErrorMessage = "tapio.cni.error.message"
	KeyCNIErrorDetails = "tapio.cni.error.details"
	// KeyCNIDuration is how long an operation took, in seconds.
	KeyCNIDuration = "tapio.cni.duration"
	// KeyCNIInfraContainerID is the sandbox that Kubernetes names, when it is not
	// the container of the request.
	KeyCNIInfraContainerID = "tapio.cni.infra_container_id"
	// KeyCNIWatched and KeyCNIUnseen are slices: what a receiver watches, and
	// "what: reason" for what it cannot see.
	KeyCNIWatched = "tapio.cni.watched"
	KeyCNIUnseen  = "tapio.cni.unseen"
	// KeyTraceAssociation says how an event of the kernel was joined to the trace of
	// a request, for which there are these values.
	KeyTraceAssociation       = "tapio.trace.association"
	AssociationGoroutine      = "goroutine"
	AssociationGoroutineChild = "goroutine_child"
	AssociationThread         = "thread"
	AssociationSocket         = "socket"
	AssociationSDK            = "sdk"
	// KeyNetworkNamespace is the inode number of the network namespace.
	KeyNetworkNamespace = "tapio.network.namespace"
)

// Values of error.type on tapio.tcp.connect_failed.
const (
	ErrorConnectionRefused  = "connection_refused"
	ErrorConnectionTimedOut = "connection_timed_out"
	ErrorHostUnreachable    = "host_unreachable"
	ErrorNetworkUnreachable = "network_unreachable"
	ErrorConnectionReset    = "connection_reset"
	// ErrorConnectionAborted: the application gave up while it waited.
	ErrorConnectionAborted = "connection_aborted"
	// ErrorLocal: connect(2) failed before anything was sent, for want of a free
	// local port for example.
	ErrorLocal = "local_error"
)

// Values of error.type on tapio.cni.operation, beside "incompatible_cni_version"
// and the other names of the codes of the CNI specification.
const (
	ErrorAddressPoolExhausted = "address_pool_exhausted"
	// ErrorAddressAlreadyAllocated: the sandbox has an address already.
	ErrorAddressAlreadyAllocated = "address_already_allocated"
	// ErrorPluginMissing: the executable of a delegated plugin is not there.
	ErrorPluginMissing = "plugin_missing"
	// ErrorPluginNotExecutable: the kernel runs no such file, as one for another processor.
	ErrorPluginNotExecutable = "plugin_not_executable"
	// ErrorNetnsMissing: the sandbox's network namespace is not there.
	ErrorNetnsMissing = "netns_missing"
	// ErrorInterfaceExists: the sandbox has such an interface already.
	ErrorInterfaceExists = "interface_exists"
	// ErrorAgentUnreachable: the daemon that the plugin asks does not answer.
	ErrorAgentUnreachable = "agent_unreachable"
	// ErrorKilled: a signal ended the plugin, as runtimes do after their timeout.
	ErrorKilled = "killed"
	// ErrorNotFinished: the plugin runs for minutes.
	ErrorNotFinished = "not_finished"
	// ErrorPluginFailed is everything else.
	ErrorPluginFailed = "plugin_failed"
)

// FindingScope is the instrumentation scope of findings, as log records and as
// spans. The processor passes them by, should they be fed back to it.
const FindingScope = "github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"

// KeySystemdInvocation is the run of a unit, as systemd numbers it.
const KeySystemdInvocation = "tapio.systemd.invocation_id"

// ReceiverScopes begins the instrumentation scope of all records and spans of
// Tapio's receivers.
const ReceiverScopes = "github.com/yairfalse/tapio/receiver/"
