/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Packets that the kernel threw away, counted by why and whose they were. */
#ifndef TAPIO_DROPS_H
#define TAPIO_DROPS_H

#include "network.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_UDP 17

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net_device {
	possible_net_t nd_net;
};

struct sk_buff {
	struct sock *sk;
	struct net_device *dev;
	__be16 protocol;
	__u16 network_header;
	unsigned char *head;
};

#pragma clang attribute pop

/* port is the socket's own where there is one, else that to which the packet went; 0
 * for neither. */
struct drop_key {
	__u64 start;
	__u32 pid;
	__u32 reason; /* enum skb_drop_reason */
	__u32 netns;
	__u16 port;
	__u8 protocol; /* of IP; 0: not known */
	__u8 has_socket;
};

/* count only grows. */
struct drop {
	struct process_id process;
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct drop_key);
	__type(value, struct drop);
} drops SEC(".maps");

/* Of ports at which nobody listens. Whoever scans a machine makes one of each: then
 * the others are counted together, without their port. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct drop_key);
	__type(value, struct drop);
} closed_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop);
} drop_scratch SEC(".maps");

#endif
