// Package patterns is what people who write patterns need: it lists the library and
// the patterns of a directory, checks them, and plays their scenarios through the real
// processor. A scenario is a YAML file of events in testdata/ID beside the patterns:
// fires.yaml must give a finding of pattern ID, nearly.yaml must not.
package patterns
