//go:generate go tool -modfile=../../tools/go.mod mdatagen metadata.yaml
// For a component with events and neither metrics nor resource attributes,
// mdatagen v0.159.0 writes imports that do not fit what it generates.
//go:generate sed -i /collector.filter/d internal/metadata/generated_logs.go
//go:generate sed -i -e /go-cmp/d -e "s#\t.go.*/confmaptest.#\t\"go.opentelemetry.io/collector/confmap\"\\n&#" internal/metadata/generated_config_test.go

// Package cnireceiver watches the container network of this machine, from
// outside: the configuration and the plugins of CNI, the address pools, and the
// interfaces, addresses and routes of every network namespace. What is wrong
// becomes a log record, and a fact about each pod's interface tells others whose
// an address is.
//
// The way of an event: inotify and netlink say that something changed; read
// takes a picture of everything (package snapshot), which is I/O and decides
// nothing; package state compares the picture with what it should be and with
// the one before, which is pure; encode makes log records.
package cnireceiver
