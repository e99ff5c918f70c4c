package event

// Records of the state of a Kubernetes cluster: the contract of the receiver
// tapio_kubernetes. Each says one thing that the API objects themselves show, never
// why: causes are the processor's to find. The resource names the object by
// k8s.namespace.name and, as far as known, k8s.deployment.name (or statefulset,
// daemonset, job, cronjob, replicaset), k8s.pod.name, k8s.service.name and
// k8s.node.name, with service.name for a workload's pods; the body is a sentence.
//
// A state that is wrong is reported when it begins, when the receiver starts, and
// again at each resync (one minute) while it lasts.
const (
	// K8sEvent is an Event object (events.k8s.io); its body is the event's message.
	K8sEvent = "tapio.k8s.event"
	// K8sContainerWaiting: a container does not run; k8s.container.status.reason and,
	// in the body, the message of its state.
	K8sContainerWaiting = "tapio.k8s.container.waiting"
	// K8sContainerTerminated: a container ended, with reason and exit code.
	K8sContainerTerminated = "tapio.k8s.container.terminated"
	// K8sPodNotReady: a pod that was scheduled is not ready.
	K8sPodNotReady = "tapio.k8s.pod.not_ready"
	// K8sPodPending: a pod waits and no scheduler has looked at it: it has neither a
	// node nor a PodScheduled condition.
	K8sPodPending = "tapio.k8s.pod.pending"
	// K8sPodUnschedulable: the scheduler found no node for a pod; the body is its
	// message, the attributes are what the message and the nodes say.
	K8sPodUnschedulable = "tapio.k8s.pod.unschedulable"
	// K8sPortConflict: two containers of a pod, or a container and the proxy that is
	// injected beside it, are to listen on one port.
	K8sPortConflict = "tapio.k8s.pod.port_conflict"
	// K8sWorkloadUnavailable: fewer pods of a workload are available than it wants.
	K8sWorkloadUnavailable = "tapio.k8s.workload.unavailable"
	// K8sWorkloadChanged: a new revision of a workload's pods is rolled out.
	K8sWorkloadChanged = "tapio.k8s.workload.changed"
	// K8sConfigChanged: a config map or secret that the pods of a workload use was changed:
	// one record for each workload that uses it, which the resource names, with
	// KeyReferenceKind (configmap, secret) and KeyReferenceName.
	K8sConfigChanged = "tapio.k8s.config.changed"
	// K8sServiceNoEndpoints: a service with a selector has no ready endpoint.
	K8sServiceNoEndpoints = "tapio.k8s.service.no_endpoints"
	// K8sServicePortMismatch: a service's target port is none that a container of the
	// pods behind it declares.
	K8sServicePortMismatch = "tapio.k8s.service.port_mismatch"
	// K8sProbePortMismatch: a probe asks a port that its container does not declare.
	K8sProbePortMismatch = "tapio.k8s.probe.port_mismatch"
	// K8sReferenceMissing: an object names another one (secret, config map, service
	// account, claim, storage class, service) that does not exist.
	K8sReferenceMissing = "tapio.k8s.reference.missing"
	// K8sClaimPending: a persistent volume claim is not bound.
	K8sClaimPending = "tapio.k8s.claim.pending"
	// K8sQuotaReached: nothing more of a resource fits a namespace's quota.
	K8sQuotaReached = "tapio.k8s.quota.reached"
	// K8sNodeCondition: a node's condition is not as it should be.
	K8sNodeCondition = "tapio.k8s.node.condition"
)

// Keys of semantic conventions and of collector-contrib for Kubernetes objects.
const (
	KeyClusterName      = "k8s.cluster.name"
	KeyStatefulSetName  = "k8s.statefulset.name"
	KeyDaemonSetName    = "k8s.daemonset.name"
	KeyReplicaSetName   = "k8s.replicaset.name"
	KeyJobName          = "k8s.job.name"
	KeyCronJobName      = "k8s.cronjob.name"
	KeyK8sServiceName   = "k8s.service.name"
	KeyK8sEventReason   = "k8s.event.reason"
	KeyK8sEventCount    = "k8s.event.count"
	KeyK8sObjectKind    = "k8s.object.kind"
	KeyK8sObjectName    = "k8s.object.name"
	KeyContainerRestart = "k8s.container.restart_count"
	KeyContainerReason  = "k8s.container.status.reason"
	KeyContainerState   = "k8s.container.status.state"
	KeyNodeCondition    = "k8s.node.condition.type"
	// KeyNodeConditionStatus is true, false or unknown.
	KeyNodeConditionStatus = "k8s.node.condition.status"
	KeyQuotaName           = "k8s.resourcequota.name"
	KeyQuotaResource       = "k8s.resourcequota.resource_name"
	KeyClaimName           = "k8s.persistentvolumeclaim.name"
	KeyImageName           = "container.image.name"
)

// Keys of Tapio's own for Kubernetes objects.
const (
	// KeyReplicasDesired and KeyReplicasAvailable count a workload's pods.
	KeyReplicasDesired   = "tapio.k8s.replicas.desired"
	KeyReplicasAvailable = "tapio.k8s.replicas.available"
	// KeyServicePods is how many pods a service's selector matches, KeyServiceWorkloads
	// how many workloads whose pods it would match, KeyServiceReplicas how many
	// replicas those want in all.
	KeyServicePods      = "tapio.k8s.service.pods"
	KeyServiceWorkloads = "tapio.k8s.service.workloads"
	KeyServiceReplicas  = "tapio.k8s.service.replicas"
	// KeyStateAge is how long, in seconds, a state has lasted as far as the objects
	// show: since the object was made or what it depends on changed last.
	KeyStateAge        = "tapio.k8s.state.age"
	KeyServiceSelector = "tapio.k8s.service.selector"
	// KeyPort is the port that is meant, as number or name; KeyPortsDeclared those
	// that are declared.
	KeyPort          = "tapio.k8s.port"
	KeyPortsDeclared = "tapio.k8s.ports.declared"
	// KeyProbe is liveness, readiness or startup.
	KeyProbe = "tapio.k8s.probe"
	// KeyProbeBudget is how long, in seconds, a probe lets its container be silent
	// after its start: the initial delay and the period times the failures allowed.
	KeyProbeBudget = "tapio.k8s.probe.budget"
	// KeyReferenceKind and KeyReferenceName are what is referred to; KeyReferenceFrom
	// says where, such as env PAYMENT_ADDR.
	KeyReferenceKind = "tapio.k8s.reference.kind"
	KeyReferenceName = "tapio.k8s.reference.name"
	KeyReferenceFrom = "tapio.k8s.reference.from"
	// KeyNodeSelector is the node selector of a pod, absent when it has none.
	KeyNodeSelector = "tapio.k8s.pod.node_selector"
	// Keys of the nodes that a scheduler's message counts, by what each refused for.
	KeyNodesTotal       = "tapio.k8s.scheduling.nodes"
	KeyNodesCordoned    = "tapio.k8s.scheduling.unschedulable"
	KeyNodesNotReady    = "tapio.k8s.scheduling.not_ready"
	KeyNodesTainted     = "tapio.k8s.scheduling.tainted"
	KeyNodesAffinity    = "tapio.k8s.scheduling.affinity_mismatch"
	KeyNodesAntiAff     = "tapio.k8s.scheduling.anti_affinity"
	KeyNodesNoCPU       = "tapio.k8s.scheduling.insufficient_cpu"
	KeyNodesNoMemory    = "tapio.k8s.scheduling.insufficient_memory"
	KeyNodesNoOther     = "tapio.k8s.scheduling.insufficient_other"
	KeyVolumesUnbound   = "tapio.k8s.scheduling.unbound_claims"
	KeyNodesWouldFit    = "tapio.k8s.scheduling.cordoned_matching"
	KeyQuotaHard        = "tapio.k8s.quota.hard"
	KeyQuotaUsed        = "tapio.k8s.quota.used"
	KeyClaimReason      = "tapio.k8s.claim.reason"
	KeyClaimClass       = "tapio.k8s.claim.storage_class"
	KeyContainerLimits  = "tapio.k8s.container.limits"
	KeyWorkloadRevision = "tapio.k8s.workload.revision"
)
