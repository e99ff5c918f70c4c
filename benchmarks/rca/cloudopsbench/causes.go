package cloudopsbench

const (
	admission      = "Admission_Fault"
	infrastructure = "Infrastructure_Fault"
	runtime        = "Runtime_Fault"
	scheduling     = "Scheduling_Fault"
	routing        = "Service_Routing_Fault"
	startup        = "Startup_Fault"
	performance    = "Performance_Fault"
)

// causes are the patterns of the library in the words of this data set. A pattern
// that is not here names no cause that the data set knows.
var causes = map[string]cause{
	// Requests that are slow though CPU and all else is as before: the network is the
	// one such cause that the data set knows.
	"requests-slow":                      {performance, []string{"pod_network_delay"}},
	"cpu-starvation":                     {performance, []string{"pod_cpu_overload"}},
	"k8s-service-account-missing":        {admission, []string{"missing_service_account"}},
	"k8s-quota-cpu":                      {admission, []string{"namespace_cpu_quota_exceeded"}},
	"k8s-quota-memory":                   {admission, []string{"namespace_memory_quota_exceeded"}},
	"k8s-quota-pods":                     {admission, []string{"namespace_pod_quota_exceeded"}},
	"k8s-quota-services":                 {admission, []string{"namespace_service_quota_exceeded"}},
	"k8s-quota-storage":                  {admission, []string{"namespace_storage_quota_exceeded"}},
	"container-runtime-down":             {infrastructure, []string{"containerd_unavailable"}},
	"kubelet-down":                       {infrastructure, []string{"kubelet_unavailable"}},
	"kube-proxy-down":                    {infrastructure, []string{"kube_proxy_unavailable"}},
	"scheduler-down":                     {infrastructure, []string{"kube_scheduler_unavailable"}},
	"k8s-insufficient-cpu":               {scheduling, []string{"cpu_capacity_mismatch"}},
	"k8s-insufficient-memory":            {scheduling, []string{"memory_capacity_mismatch"}},
	"k8s-anti-affinity-conflict":         {scheduling, []string{"pod_anti_affinity_conflict"}},
	"k8s-taint-not-tolerated":            {scheduling, []string{"taint_toleration_mismatch"}},
	"k8s-nodes-cordoned":                 {scheduling, []string{"node_cordon_mismatch"}},
	"k8s-node-selector-mismatch":         {scheduling, []string{"node_selector_mismatch"}},
	"k8s-node-affinity-mismatch":         {scheduling, []string{"node_affinity_mismatch"}},
	"k8s-storage-class-missing":          {scheduling, []string{"pvc_storage_class_mismatch"}},
	"k8s-volume-occupied":                {scheduling, []string{"pv_binding_occupied"}},
	"k8s-volume-misfit":                  {scheduling, []string{"pvc_capacity_mismatch", "pvc_access_mode_mismatch"}},
	"k8s-image-not-found":                {startup, []string{"incorrect_image_reference"}},
	"k8s-registry-unresolved":            {startup, []string{"image_registry_dns_failure"}},
	"k8s-image-pull-unauthorized":        {startup, []string{"missing_image_pull_secret"}},
	"k8s-secret-missing":                 {startup, []string{"missing_secret_binding"}},
	"k8s-volume-permission-denied":       {startup, []string{"volume_mount_permission_denied"}},
	"k8s-liveness-probe-wrong-port":      {runtime, []string{"liveness_probe_incorrect_port"}},
	"k8s-liveness-probe-wrong-protocol":  {runtime, []string{"liveness_probe_incorrect_protocol"}},
	"k8s-liveness-probe-too-tight":       {runtime, []string{"liveness_probe_incorrect_timing"}},
	"k8s-readiness-probe-wrong-port":     {runtime, []string{"readiness_probe_incorrect_port"}},
	"k8s-readiness-probe-wrong-protocol": {runtime, []string{"readiness_probe_incorrect_protocol"}},
	"k8s-memory-limit-too-low-to-start":  {runtime, []string{"oom_killed"}},
	"k8s-container-oom-killed":           {runtime, []string{"oom_killed"}},
	"k8s-port-conflict":                  {runtime, []string{"service_sidecar_port_conflict"}},
	"k8s-scaled-to-zero":                 {runtime, []string{"deployment_zero_replicas"}},
	"database-credentials-rejected":      {runtime, []string{"mysql_invalid_credentials"}},
	"database-unreachable":               {runtime, []string{"mysql_invalid_port"}},
	"database-read-only":                 {runtime, []string{"db_read_only"}},
	"k8s-service-selects-nothing":        {routing, []string{"service_selector_mismatch"}},
	"k8s-service-wrong-target-port":      {routing, []string{"service_port_mapping_mismatch"}},
	"k8s-address-wrong":                  {routing, []string{"service_env_var_address_mismatch"}},
	"k8s-address-wrong-port":             {routing, []string{"service_env_var_address_mismatch"}},
}
