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
	// OOMKill says that the kernel chose a process as the victim of an
	// out-of-memory condition.
	OOMKill = "tapio.oom.kill"
	// TCPConnectFailed says that an active TCP open ended without a connection.
	TCPConnectFailed = "tapio.tcp.connect_failed"
	// EBPFStarted says which kernel programs of a host run, and which do not.
	EBPFStarted = "tapio.ebpf.started"
	// Finding is one revision of a finding of the correlation processor.
	Finding = "tapio.finding"
)

// Keys of semantic conventions that more than one component reads or writes.
const (
	KeyServiceName       = "service.name"
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
	KeyProcessExitCode  = "process.exit.code"
	KeySystemdUnit      = "systemd.unit.name"
	KeyContainerID      = "container.id"
	KeyPodUID           = "k8s.pod.uid"
	KeyPodName          = "k8s.pod.name"
	KeyNamespaceName    = "k8s.namespace.name"
	KeyNodeName         = "k8s.node.name"
	KeyContainerName    = "k8s.container.name"
	KeyDeploymentName   = "k8s.deployment.name"
	KeyLocalAddress     = "network.local.address"
	KeyLocalPort        = "network.local.port"
	KeyPeerAddress      = "network.peer.address"
	KeyPeerPort         = "network.peer.port"
	KeyNetworkTransport = "network.transport"
	KeyNetworkType      = "network.type"
	KeyServerAddress    = "server.address"
	KeyServerPort       = "server.port"
	KeyErrorType        = "error.type"
	KeyUserID           = "user.id"
	KeyEndUserID        = "enduser.id"
)

// Keys of Tapio's own, for what no convention names. Sizes are bytes.
const (
	// KeyExitSignal is the number of the signal that ended the process.
	KeyExitSignal = "tapio.process.exit.signal"
	// KeyExitSignalName is its name, such as SIGKILL.
	KeyExitSignalName = "tapio.process.exit.signal_name"
	// KeyCoreDumped is true when the kernel dumped the core of the process.
	KeyCoreDumped = "tapio.process.exit.core_dumped"
	// KeyProcessComm is the name of the process as the kernel keeps it, at most 15 bytes.
	KeyProcessComm = "tapio.process.comm"
	// KeyConnectDuration is the time from connect(2) to its failure, in seconds.
	KeyConnectDuration = "tapio.tcp.connect.duration"
	// KeyEBPFPrograms is a slice: the names of the kernel programs that run.
	KeyEBPFPrograms = "tapio.ebpf.programs"
	// KeyEBPFFailed is a slice: "name: reason" of each that is enabled and does not.
	KeyEBPFFailed = "tapio.ebpf.failed"
	// KeyOOMScope is "cgroup" when a memory cgroup was at its limit, "node" when
	// the machine itself was out of memory.
	KeyOOMScope = "tapio.oom.scope"
	// KeyOOMRSS is the resident size of the victim when it was chosen.
	KeyOOMRSS = "tapio.oom.victim.rss"
	// KeyOOMScoreAdj is the oom_score_adj of the victim.
	KeyOOMScoreAdj = "tapio.oom.victim.score_adj"
	// KeyMemoryCgroup is the path of the memory cgroup that was at its limit.
	KeyMemoryCgroup = "tapio.memory.cgroup"
	// KeyMemoryLimit is the limit of that cgroup.
	KeyMemoryLimit = "tapio.memory.limit"
	// KeyMemoryUsage is what was charged to it at that moment.
	KeyMemoryUsage = "tapio.memory.usage"
	// KeyMemoryPeak is the most that was ever charged to it.
	KeyMemoryPeak = "tapio.memory.peak"
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

// FindingScope is the instrumentation scope of findings, as log records and as
// spans. The processor passes them by, should they be fed back to it.
const FindingScope = "github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
