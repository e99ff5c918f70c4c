package netconf

import (
	"fmt"
	"math/big"
	"net/netip"
)

// HostLocal is the type of the IPAM plugin that keeps its addresses in files.
const HostLocal = "host-local"

// IPAM is the part of a plugin that says where addresses come from.
type IPAM struct {
	// Type is the name of the executable.
	Type string
	// DataDir is where host-local keeps its addresses, empty for its default.
	DataDir string
	// Pools are what host-local gives out: each ADD gets one address of each.
	// Empty when the ranges are not in the configuration.
	Pools []Pool
}

// Pool is a set of ranges, out of which an ADD gets one address.
type Pool struct {
	Ranges []Range
}

// Range is one range of addresses, both ends included.
type Range struct {
	First, Last netip.Addr
	// Gateway is never given out.
	Gateway netip.Addr
	// Subnet is what the addresses are part of.
	Subnet netip.Prefix
}

// Contains says whether an address can come from the pool.
func (p Pool) Contains(a netip.Addr) bool {
	for _, r := range p.Ranges {
		if r.contains(a) && a != r.Gateway {
			return true
		}
	}
	return false
}

// maxPoolSize bounds the count of addresses: a /64 has more than an int64 holds.
const maxPoolSize = 1 << 62

// Size is how many addresses the pool can give out, at most 2^62.
func (p Pool) Size() int64 {
	sum := new(big.Int)
	for _, r := range p.Ranges {
		sum.Add(sum, r.size())
	}
	if limit := big.NewInt(maxPoolSize); sum.Cmp(limit) > 0 {
		return maxPoolSize
	}
	return sum.Int64()
}

// String is such as 10.22.0.2-10.22.0.254.
func (p Pool) String() string {
	text := ""
	for i, r := range p.Ranges {
		if i > 0 {
			text += ","
		}
		text += r.First.String() + "-" + r.Last.String()
	}
	return text
}

func (r Range) contains(a netip.Addr) bool {
	return a.BitLen() == r.First.BitLen() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

func (r Range) size() *big.Int {
	first, last := new(big.Int).SetBytes(r.First.AsSlice()), new(big.Int).SetBytes(r.Last.AsSlice())
	n := last.Sub(last, first)
	n.Add(n, big.NewInt(1))
	if r.contains(r.Gateway) {
		n.Sub(n, big.NewInt(1))
	}
	return n
}

// SubnetRange is all of a subnet that host-local would give out: not the first
// address, not the gateway, and for IPv4 not the last. It fails for subnets
// with less than four addresses, as host-local does.
func SubnetRange(subnet netip.Prefix) (Range, error) {
	subnet = subnet.Masked()
	if subnet.Bits() > subnet.Addr().BitLen()-2 {
		return Range{}, fmt.Errorf("%s has no address to give out", subnet)
	}
	first, last := subnet.Addr().Next(), lastOf(subnet)
	if subnet.Addr().Is4() {
		last = last.Prev() // the broadcast address
	}
	return Range{First: first, Last: last, Gateway: first, Subnet: subnet}, nil
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (r *reader) ipam(n *node, key string) *IPAM {
	if n.kind != kindObject {
		r.fail(n, "%s: is %s, not an object", key, n.kind)
		return nil
	}
	if len(n.fields) == 0 { // without addresses, on purpose
		return nil
	}
	ipam := &IPAM{Type: r.text(n, "type", key+"."), DataDir: optionalText(n, "dataDir")}
	if ipam.Type == "" {
		// The plugin may know better: calico's and others' have a default.
		return nil
	}
	if ipam.Type == HostLocal {
		ipam.Pools = r.pools(n, key)
	}
	return ipam
}

// pools reads the ranges of host-local: "ranges", or a single one in the old style.
func (r *reader) pools(n *node, key string) []Pool {
	var pools []Pool
	if n.field("subnet") != nil {
		if p, ok := r.addressRange(n, key); ok {
			pools = append(pools, Pool{Ranges: []Range{p}})
		}
	}
	sets := n.field("ranges")
	if sets == nil || sets.kind == kindNull {
		return pools
	}
	if sets.kind != kindList {
		r.fail(sets, "%s.ranges: is %s, not a list", key, sets.kind)
		return nil
	}
	for i, set := range sets.items {
		setKey := fmt.Sprintf("%s.ranges[%d]", key, i)
		if set.kind != kindList {
			r.fail(set, "%s: is %s, not a list of ranges", setKey, set.kind)
			return nil
		}
		var pool Pool
		for j, item := range set.items {
			if p, ok := r.addressRange(item, fmt.Sprintf("%s[%d]", setKey, j)); ok {
				pool.Ranges = append(pool.Ranges, p)
			}
		}
		if len(pool.Ranges) > 0 {
			pools = append(pools, pool)
		}
	}
	return pools
}

// usePodCIDR stands for the node's range where another plugin fills it in
// (calico with host-local).
const usePodCIDR = "usePodCidr"

// addressRange reads one range; false when it is wrong, or not known here.
func (r *reader) addressRange(n *node, key string) (Range, bool) {
	if n.kind != kindObject {
		r.fail(n, "%s: is %s, not an object", key, n.kind)
		return Range{}, false
	}
	text := r.text(n, "subnet", key+".")
	if text == usePodCIDR {
		return Range{}, false
	}
	subnet, err := netip.ParsePrefix(text)
	if err != nil {
		r.fail(orElse(n.field("subnet"), n), "%s.subnet: %q is not a subnet such as 10.22.0.0/16", key, text)
		return Range{}, false
	}
	if subnet != subnet.Masked() {
		r.fail(n.field("subnet"), "%s.subnet: %q has host bits set; the network is %s", key, text, subnet.Masked())
		return Range{}, false
	}
	out, err := SubnetRange(subnet)
	if err != nil {
		r.fail(n.field("subnet"), "%s.subnet: %s", key, err)
		return Range{}, false
	}
	r.address(n, key, "rangeStart", out.Subnet, &out.First)
	r.address(n, key, "rangeEnd", out.Subnet, &out.Last)
	r.address(n, key, "gateway", out.Subnet, &out.Gateway)
	if out.Last.Less(out.First) {
		r.fail(n, "%s: rangeEnd %s is before rangeStart %s", key, out.Last, out.First)
	}
	return out, r.err == nil
}

// address reads an address of subnet into target, when the key is there.
func (r *reader) address(n *node, key, name string, subnet netip.Prefix, target *netip.Addr) {
	f := n.field(name)
	text := r.text(n, name, key+".")
	if f == nil || text == "" {
		return
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !subnet.Contains(a.Unmap()) {
		r.fail(f, "%s.%s: %q is not an address of %s", key, name, text, subnet)
		return
	}
	*target = a.Unmap()
}

func orElse(n, other *node) *node {
	if n != nil {
		return n
	}
	return other
}
