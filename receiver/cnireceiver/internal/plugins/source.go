package plugins

import "time"

// Output says when what plugins read and write is looked at. The kernel has no
// cheaper place for that than the beginning and end of all system calls of the
// machine, each of which then costs some ten nanoseconds more.
type Output string

// Allowed returns the values of Output, for the reader of the configuration.
func (Output) Allowed() []string {
	return []string{string(OutputOnDemand), string(OutputAlways), string(OutputNever)}
}

// The values of Output.
const (
	// OutputOnDemand looks while a plugin runs and for linger after the last one. Of
	// the first plugin after a pause it may come too late.
	OutputOnDemand Output = "on_demand"
	// OutputAlways looks all the time.
	OutputAlways Output = "always"
	// OutputNever never looks: no network names and no messages of plugins.
	OutputNever Output = "never"
)

// linger is how long OutputOnDemand goes on after the last plugin began. Runtimes
// run several, and the kubelet tries again what failed after seconds.
const linger = 30 * time.Second

// Stats are counts since the start.
type Stats struct {
	// Lost records did not fit in the ring buffer, by what they were: exec, data
	// or exit.
	Lost map[string]int64
	// Skipped execs, by reason: unscanned had more variables than are looked at,
	// unprivileged had CNI_COMMAND and not the rights that a plugin needs.
	Skipped map[string]int64
	// Missed calls of a program were skipped by the kernel, by program.
	Missed map[string]int64
}
