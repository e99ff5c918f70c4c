//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml
// For a component with events and neither metrics nor resource attributes,
// mdatagen v0.159.0 writes imports that do not fit what it generates.
//go:generate sed -i /collector.filter/d internal/metadata/generated_logs.go
//go:generate sed -i -e /go-cmp/d -e "s#\t.go.*/confmaptest.#\t\"go.opentelemetry.io/collector/confmap\"\\n&#" internal/metadata/generated_config_test.go

// Package ebpfreceiver turns events of the kernel into OTLP log records: a
// process begins, ends or is killed for want of memory, a TCP connection cannot
// be opened.
//
// The way of an event: a kernel program (package bpf) writes a record into a
// ring buffer; decode reads it into a kernelEvent, without looking at anything
// but the bytes; queue holds it, bounded; encoder makes the log record; sender
// hands batches to the next component. What cannot be attached is reported and
// left out; the rest works on.
package ebpfreceiver
