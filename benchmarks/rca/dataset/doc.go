// Package dataset is what the harness knows of a set of labelled failures: the
// recordings, each as OTLP, and a judge for what the engine says of them. What
// the files of one data set look like is the business of that set's own package.
package dataset
