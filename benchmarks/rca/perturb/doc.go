// Package perturb changes the recordings of a data set as another system, another
// day or a worse collection of telemetry would: what the judgement says of a failure
// should not hang on names, on one lucky trace, on a clock or on where a recording
// begins. A decision that turns under such a change was a narrow one.
//
// What exporters do to the order of telemetry is not changed in the recordings but in
// their delivery: see Late.
//
// All changes are drawn from a seed, so a run can be repeated.
package perturb
