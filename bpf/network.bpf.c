//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* TCP connections that could not be opened. */
#include "process.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7

const struct connect_record *unused_connect __attribute__((unused));

struct attempt {
	struct process_id process;
	__u64 begun;
};

/* Who opens which socket. The answer may come in an interrupt, where the
 * current task is anybody. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct attempt);
} attempts SEC(".maps");

/* Paths of the cgroups that open connections: read once per cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, __u64);
	__type(value, struct cgroup_path);
} paths SEC(".maps");

/* A path is too big for the stack. Only connect(2) uses this, in the task's
 * own context. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cgroup_path);
} scratch SEC(".maps");

static __always_inline void remember_path(struct task_struct *task, __u64 id)
{
	__u32 zero = 0;
	struct cgroup_path *path;

	if (bpf_map_lookup_elem(&paths, &id))
		return;
	path = bpf_map_lookup_elem(&scratch, &zero);
	if (!path)
		return;
	fill_path(path, task_cgroup(task));
	bpf_map_update_elem(&paths, &id, path, BPF_ANY);
}

static __always_inline void connect_begins(__u64 key)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct attempt a = {};

	a.begun = bpf_ktime_get_boot_ns();
	fill_process(&a.process, task, BPF_CORE_READ(task, mm));
	remember_path(task, a.process.cgroup_id);
	bpf_map_update_elem(&attempts, &key, &a, BPF_ANY);
}

static __always_inline void fill_attempt(struct connect_record *rec, struct attempt *a)
{
	struct cgroup_path *path;

	rec->begun = 0;
	rec->cgroup.len = 0;
	rec->cgroup.partial = 1;
	if (!a) {
		__builtin_memset(&rec->process, 0, sizeof(rec->process));
		return;
	}
	rec->begun = a->begun;
	rec->process = a->process;
	path = bpf_map_lookup_elem(&paths, &a->process.cgroup_id);
	if (path)
		bpf_probe_read_kernel(&rec->cgroup, sizeof(rec->cgroup), path);
}

static __always_inline void fill_addresses(struct connect_record *rec, const struct sock *sk)
{
	const struct inet_sock *inet = (const void *)sk;

	__builtin_memset(rec->local, 0, sizeof(rec->local));
	__builtin_memset(rec->peer, 0, sizeof(rec->peer));
	rec->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	rec->local_port = __builtin_bswap16(BPF_CORE_READ(inet, inet_sport));
	rec->peer_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (rec->family == AF_INET) {
		bpf_core_read(rec->local, 4, &inet->inet_saddr);
		bpf_core_read(rec->peer, 4, &sk->__sk_common.skc_daddr);
	} else if (rec->family == AF_INET6) {
		bpf_core_read(rec->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(rec->peer, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

static __always_inline void connect_failed(const struct sock *sk, __u64 key)
{
	struct connect_record *rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);

	if (!rec) {
		count_lost(TAPIO_CONNECT);
		return;
	}
	fill_header(&rec->header, TAPIO_CONNECT);
	fill_attempt(rec, bpf_map_lookup_elem(&attempts, &key));
	fill_addresses(rec, sk);
	rec->socket_state = BPF_CORE_READ(sk, sk_socket, state);
	rec->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	rec->error = BPF_CORE_READ(sk, sk_err);
	bpf_ringbuf_submit(rec, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_connect, const struct sock *sk, int oldstate, int newstate)
{
	__u64 key = (__u64)sk;

	if (oldstate != TCP_SYN_SENT && newstate != TCP_SYN_SENT)
		return 0;
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (newstate == TCP_SYN_SENT) {
		connect_begins(key);
		return 0;
	}
	if (newstate == TCP_CLOSE)
		connect_failed(sk, key);
	bpf_map_delete_elem(&attempts, &key);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
