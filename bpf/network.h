/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* TCP sockets: whose they are, and what is said of them. */
#ifndef TAPIO_NETWORK_H
#define TAPIO_NETWORK_H

#include "bucket.h"
#include "process.h"

enum network_kind {
	TAPIO_LISTEN = 16,
	TAPIO_RESET = 17,
	TAPIO_RETRANSMIT = 18,
	TAPIO_OVERFLOW = 19,
	TAPIO_CONNECTIONS = 20, /* counted, never sent */
	TAPIO_DROPS = 21,	/* counted, never sent */
	TAPIO_DNS = 22,
};

/* include/linux/socket.h, include/uapi/linux/in.h, include/net/tcp_states.h */
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LISTEN 10

/* IPv4 addresses are in their IPv6 form, ::ffff:a.b.c.d. */
struct endpoints {
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u32 netns;
};

struct listen_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	struct endpoints socket;
	__u32 ends;	/* 1: it listens no more */
	__u32 existing; /* 1: it did before the program was attached */
	__u32 backlog;
	__u32 pad;
};

struct reset_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	struct endpoints socket;
	__u32 received; /* 0: sent */
	__u32 state;	/* enum of TCP states */
	__u32 reason;	/* enum sk_rst_reason; 0: not known */
	__u32 pad;
};

struct retransmit_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	struct endpoints socket;
	__u32 state;
	__u32 count; /* since the last record of this connection */
	__u32 total; /* of this connection */
	__u32 rtt;   /* smoothed, microseconds; 0: not known */
};

struct overflow_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	struct endpoints socket;
	__u32 dropped; /* connections, since the last look */
	__u32 queue;
	__u32 limit;
	__u32 pad;
};

/* Connections of one process with one peer. port is the peer's of those that
 * the process opened, its own of those that it accepted. */
struct pair_key {
	__u64 start;
	__u32 pid;
	__u32 netns;
	__u8 local[16];
	__u8 peer[16];
	__u16 port;
	__u16 incoming;
	__u32 pad;
};

/* All but process only grow. Times are nanoseconds, sizes bytes. */
struct pair {
	struct process_id process;
	__u64 opened;
	__u64 closed;
	__u64 connect_time;
	__u64 sent;
	__u64 received;
	__u64 retransmits;
	__u64 rtt; /* sum of what connections had when they were looked at, microseconds */
	__u64 rtts; /* how many that were */
};

struct connection {
	struct process_id process;
	struct pair_key pair; /* zero until it is established */
	__u64 begun;	      /* 0: before the program was attached */
	__u64 sent;	      /* counted in its pair */
	__u64 received;
	__u64 told; /* time of the last record of a retransmission */
	__u32 retransmits;
	__u32 over; /* 1: closed; a reset may still be sent for it */
};

struct listen_key {
	__u8 address[16];
	__u32 netns;
	__u16 port;
	__u16 pad;
};

struct listener {
	struct process_id process;
	struct listen_key at;
	__u32 drops; /* of the socket, at the last look */
	__u32 pad;
};

/* Sockets that listen at one address, with SO_REUSEPORT more than one: how many, and
 * some of them. */
#define LISTENING 8

struct listening {
	__u64 sockets[LISTENING];
	__u64 count;
};

/* Whose socket it is. What happens to one may happen in an interrupt, where the
 * current task is anybody. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct listener);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct listen_key);
	__type(value, struct listening);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct pair_key);
	__type(value, struct pair);
} pairs SEC(".maps");

/* Paths of the cgroups of those processes: read once per cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, __u64);
	__type(value, struct cgroup_path);
} paths SEC(".maps");

/* Too big for the stack. One program does not interrupt itself, and these are
 * not shared with others. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_path);
} path_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct connection);
} connection_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pair);
} pair_scratch SEC(".maps");

static __always_inline void remember_path(struct task_struct *task, __u64 id)
{
	__u32 zero = 0;
	struct cgroup_path *path;

	if (bpf_map_lookup_elem(&paths, &id))
		return;
	path = bpf_map_lookup_elem(&path_scratch, &zero);
	if (!path)
		return;
	fill_path(path, task_cgroup(task));
	bpf_map_update_elem(&paths, &id, path, BPF_ANY);
}

/* Fills who it is, from what was remembered; p may be NULL. */
static __always_inline void fill_owner(struct process_id *process, struct cgroup_path *cgroup,
				       const struct process_id *p)
{
	struct cgroup_path *path;

	cgroup->len = 0;
	cgroup->partial = 1;
	if (!p) {
		__builtin_memset(process, 0, sizeof(*process));
		return;
	}
	*process = *p;
	path = bpf_map_lookup_elem(&paths, &p->cgroup_id);
	if (path)
		bpf_probe_read_kernel(cgroup, sizeof(*cgroup), path);
}

static __always_inline void fill_mapped(__u8 *address, const __u32 *ipv4)
{
	__builtin_memset(address, 0, 16);
	address[10] = address[11] = 0xff;
	bpf_probe_read_kernel(address + 12, 4, ipv4);
}

static __always_inline void fill_endpoints(struct endpoints *e, const struct sock *sk)
{
	const struct sock_common *c = &sk->__sk_common;

	e->local_port = BPF_CORE_READ(c, skc_num);
	if (!e->local_port) /* it is being closed */
		e->local_port = __builtin_bswap16(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
	e->peer_port = __builtin_bswap16(BPF_CORE_READ(c, skc_dport));
	e->netns = BPF_CORE_READ(c, skc_net.net, ns.inum);
	if (BPF_CORE_READ(c, skc_family) == AF_INET6) {
		bpf_core_read(e->local, 16, &c->skc_v6_rcv_saddr);
		bpf_core_read(e->peer, 16, &c->skc_v6_daddr);
	} else {
		fill_mapped(e->local, __builtin_preserve_access_index(&c->skc_rcv_saddr));
		fill_mapped(e->peer, __builtin_preserve_access_index(&c->skc_daddr));
	}
}

static __always_inline bool is_tcp(const struct sock *sk)
{
	unsigned short family = BPF_CORE_READ(sk, __sk_common.skc_family);

	return (family == AF_INET || family == AF_INET6) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP;
}

#endif
