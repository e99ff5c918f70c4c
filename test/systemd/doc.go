// Package systemd holds the end-to-end test of the receiver tapio_systemd: a
// real systemd boots in a container over a copy of this machine's files, units
// fail there in every way, and the collector that make build left in bin/ (or in
// $TAPIO_BIN) watches over D-Bus. Every event and every span is compared with
// what was done.
//
// It needs root, systemd-nspawn and dbus, and for single tests dnsmasq, redis-server, or
// containerd, runc and the plugins of CNI. Where they are missing it is skipped with the reason; with CI=true
// it fails instead.
package systemd
