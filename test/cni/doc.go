// Package cni holds end-to-end tests of the receiver tapio_cni against real
// plugins: they make a node of their own, in network namespaces and directories
// of their own, add and delete pods with libcni, and break what can break.
//
// They need root and the plugins of github.com/containernetworking/plugins
// (Debian: containernetworking-plugins). Without them they are skipped, with the
// reason; with CI=true they fail instead.
package cni
