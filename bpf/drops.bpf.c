//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
#include "drops.h"

const struct drop_key *unused_key __attribute__((unused));
const struct drop *unused_drop __attribute__((unused));

/* Reasons that are no loss, by number; those above 255 are of subsystems, such as
 * Open vSwitch. */
const volatile __u64 benign_reasons[4] = {};

/* Nobody listens where the packet went; 0: this kernel has no such reason. */
const volatile __u32 no_socket_reason = 0;

/* Since 6.12 the tracepoint says which socket was to receive the packet. */
const volatile bool drop_has_socket = false;

static __always_inline bool is_benign(__u32 reason)
{
	return reason < 256 && benign_reasons[reason >> 6 & 3] >> (reason & 63) & 1;
}

/* Protocol and destination of a packet, from its own headers. */
static __always_inline void read_packet(struct drop_key *key, const struct sk_buff *skb)
{
	const void *ip = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	__u16 protocol = __builtin_bswap16(BPF_CORE_READ(skb, protocol));
	__u32 offset = 40;
	__u8 h[20], ports[4];

	if ((protocol != ETH_P_IP && protocol != ETH_P_IPV6) || bpf_probe_read_kernel(h, sizeof(h), ip))
		return;
	/* Where the header of the network is not known yet, its version is not right. */
	if (h[0] >> 4 != (protocol == ETH_P_IP ? 4 : 6))
		return;
	key->protocol = h[6];
	if (protocol == ETH_P_IP) {
		key->protocol = h[9];
		offset = (h[0] & 0x0f) * 4;
		if (h[6] & 0x1f || h[7])
			return; /* a fragment that is not the first has no ports */
	}
	if (key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP)
		return;
	if (!bpf_probe_read_kernel(ports, sizeof(ports), ip + offset))
		key->port = (__u16)ports[2] << 8 | ports[3];
}

/* Whose a socket is: known of connections and listeners of TCP. */
static __always_inline const struct process_id *owner_of(const struct sock *sk)
{
	__u64 at = (__u64)sk;
	struct connection *c = bpf_map_lookup_elem(&connections, &at);
	struct listener *l;

	if (c)
		return &c->process;
	l = bpf_map_lookup_elem(&listeners, &at);
	return l ? &l->process : NULL;
}

/* The count of a key, made when it is the first such; NULL when the map is full. */
static __always_inline struct drop *count_of(void *map, const struct drop_key *key, const struct process_id *owner)
{
	struct drop *d = bpf_map_lookup_elem(map, key), *fresh;
	__u32 zero = 0;

	if (d)
		return d;
	fresh = bpf_map_lookup_elem(&drop_scratch, &zero);
	if (!fresh)
		return NULL;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	if (owner)
		fresh->process = *owner;
	bpf_map_update_elem(map, key, fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

static __always_inline bool is_inet(const struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	return family == AF_INET || family == AF_INET6;
}

SEC("tp_btf/kfree_skb")
int packet_dropped(__u64 *ctx)
{
	const struct sk_buff *skb = (const void *)ctx[0];
	__u32 reason = ctx[2];
	const struct process_id *owner = NULL;
	const struct sock *sk = NULL;
	struct drop_key key = {};
	struct drop *d = NULL;

	if (is_benign(reason))
		return 0;
	if (drop_has_socket)
		sk = (const void *)ctx[3];
	if (!sk)
		sk = BPF_CORE_READ(skb, sk);
	key.reason = reason;
	read_packet(&key, skb);
	if (sk && is_inet(sk)) {
		key.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
		key.port = BPF_CORE_READ(sk, __sk_common.skc_num);
		key.has_socket = 1;
		owner = owner_of(sk);
	} else if (!sk) {
		key.netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	}
	if (owner) {
		key.start = owner->start;
		key.pid = owner->pid;
	}
	if (reason == no_socket_reason && key.port && !key.has_socket) {
		d = count_of(&closed_ports, &key, NULL);
		if (!d)
			key.port = 0;
	}
	if (!d)
		d = count_of(&drops, &key, owner);
	if (!d) {
		count_suppressed(TAPIO_DROPS);
		return 0;
	}
	__sync_fetch_and_add(&d->count, 1);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
