package cloudopsbench

const (
	admission      = "Admission_Fault"
	infrastructure = "Infrastructure_Fault"
	performance    = "Performance_Fault"
	runtime        = "Runtime_Fault"
	scheduling     = "Scheduling_Fault"
	routing        = "Service_Routing_Fault"
	startup        = "Startup_Fault"
)

// causes are the patterns of the library in the words of this data set. A pattern
// that is not here names no cause that the data set knows.
var causes = map[string]cause{
	"k8s-quota-cpu":                  {admission, []string{"namespace_cpu_quota_exceeded"}},
}
