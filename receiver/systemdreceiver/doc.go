//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml
// For a component with events and neither metrics nor resource attributes,
// mdatagen v0.159.0 writes imports that do not fit what it generates.
//go:generate sed -i /collector.filter/d internal/metadata/generated_logs.go
//go:generate sed -i -e /go-cmp/d -e "s#\t.go.*/confmaptest.#\t\"go.opentelemetry.io/collector/confmap\"\\n&#" internal/metadata/generated_config_test.go

// Package systemdreceiver turns what systemd knows into OTLP: units that fail,
// restart or time out are log records, and so is the journal; jobs and the boot
// are traces.
//
// One receiver serves the logs and the traces pipelines of one component id, so
// that systemd is asked once. It is made of parts (part.go), each of which can
// be switched off.
package systemdreceiver
