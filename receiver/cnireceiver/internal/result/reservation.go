package result

import (
	"net/netip"
	"strings"
)

// Owner reads a file of host-local's store, whose name is an address and which
// holds the container id and, since plugins 0.7, the interface. ok is false for
// the other files in the same directory, such as lock and last_reserved_ip.0.
func Owner(name string, content []byte) (address netip.Addr, containerID, ifName string, ok bool) {
	address, err := netip.ParseAddr(name)
	if err != nil || address.Zone() != "" {
		return netip.Addr{}, "", "", false
	}
	containerID, ifName, _ = strings.Cut(strings.TrimSpace(string(content)), "\n")
	return address.Unmap(), strings.TrimSpace(containerID), strings.TrimSpace(ifName), true
}
