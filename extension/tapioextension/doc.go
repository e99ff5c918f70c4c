//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml

// Package tapioextension keeps the findings of the correlation processor in an
// embedded SQLite file and serves them over HTTP, to the tapio command line and
// to everything else that reads JSON.
//
// The tapio_findings exporter writes to it through FindingStore, which it finds
// among the collector's extensions.
package tapioextension
