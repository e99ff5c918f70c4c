// Package plugins watches the CNI plugins of this machine through kernel
// programs (package bpf): it is where the records of package operation come from.
package plugins
