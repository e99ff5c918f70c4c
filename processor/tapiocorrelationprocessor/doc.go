//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml

// Package tapiocorrelationprocessor finds the cause of failures in the data that
// passes through it. All data leaves unchanged; findings leave beside it, as log
// records and spans.
//
// Each step is a package of its own: decode turns pdata into records, ring holds
// the last of them, topology learns who is who, detect finds what is abnormal,
// explain judges which cause explains it by the patterns of package pattern,
// incident makes one finding of one incident, emit writes it as OTLP, and engine
// runs them.
package tapiocorrelationprocessor
