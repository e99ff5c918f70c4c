// Package symptom finds in hindsight when a labelled failure first showed in the
// telemetry of its service. Labels say when a failure was caused, as its authors
// noted it; what can be found begins later, sometimes a minute earlier, and with few
// requests much later. The time from the first symptom to the finding is what the
// judgement takes.
//
// It knows nothing of the engine and uses what the engine does not have: the label,
// and the whole recording.
package symptom
