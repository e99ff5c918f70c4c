//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml

// Package findingsexporter hands the findings among the logs of a pipeline to the
// store of the tapio extension. All other records pass by uncopied.
package findingsexporter
