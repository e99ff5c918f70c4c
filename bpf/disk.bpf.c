//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Block devices: requests that fail, and how long requests take. */
#include "bucket.h"
#include "disk.h"

/* block_error is attached to block_rq_complete, for want of block_rq_error. */
const volatile bool sees_all_requests = false;
/* The tracepoint hands over a blk_status_t, not an errno. */
const volatile bool status_is_blk = true;

const enum disk_kind *unused_kind __attribute__((unused));
const struct block_error_record *unused_error __attribute__((unused));
const struct latency_key *unused_key __attribute__((unused));
const struct latency *unused_latency __attribute__((unused));

/* How long requests took since the key was made. User space reads the growth and
 * deletes keys that grow no more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct latency_key);
	__type(value, struct latency);
} latencies SEC(".maps");

/* A value is too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct latency);
} latency_scratch SEC(".maps");

/* The cgroup that asked for it: of the blkio controller under cgroup v1. NULL
 * when the kernel does not know, or for the root, to which it charges what it
 * writes for all. */
static __always_inline struct cgroup *request_cgroup(struct request *rq)
{
	struct bio *bio = BPF_CORE_READ(rq, bio);
	struct cgroup *cgroup;

	if (!bio || !bpf_core_field_exists(bio->bi_blkg))
		return NULL;
	cgroup = BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup);
	if (!cgroup || !kernfs_parent(BPF_CORE_READ(cgroup, kn)))
		return NULL;
	return cgroup;
}

/* ctx: struct request *, the status, the number of bytes. */
SEC("tp_btf/block_rq_error")
int block_error(__u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	__s32 status = status_is_blk ? ctx[1] & 0xff : (__s32)ctx[1];
	__u32 operation = BPF_CORE_READ(rq, cmd_flags) & REQ_OP_MASK;
	struct block_error_record *rec;
	struct cgroup *cgroup;

	if (!status)
		return 0;
	if (sees_all_requests &&
	    (operation >= REQ_OP_DRV_IN || BPF_CORE_READ(rq, rq_flags) & RQF_QUIET))
		return 0; /* what the kernel itself does not log */
	if (!take_token(TAPIO_BLOCK_ERROR)) {
		count_suppressed(TAPIO_BLOCK_ERROR);
		return 0;
	}
	rec = bpf_ringbuf_reserve(&events, sizeof(*rec), 0);
	if (!rec) {
		count_lost(TAPIO_BLOCK_ERROR);
		return 0;
	}
	fill_header(&rec->header, TAPIO_BLOCK_ERROR);
	rec->sector = BPF_CORE_READ(rq, __sector);
	rec->bytes = BPF_CORE_READ(rq, __data_len);
	rec->operation = operation;
	rec->status = status;
	rec->pad = 0;
	rec->disk[0] = 0;
	bpf_probe_read_kernel_str(rec->disk, sizeof(rec->disk), BPF_CORE_READ(rq, q, disk, disk_name));
	rec->cgroup_id = 0;
	rec->cgroup.len = 0;
	rec->cgroup.partial = 1;
	cgroup = request_cgroup(rq);
	if (cgroup) {
		rec->cgroup_id = cgroup_id(cgroup);
		fill_path(&rec->cgroup, cgroup);
	}
	bpf_ringbuf_submit(rec, BPF_RB_FORCE_WAKEUP);
	return 0;
}

static __always_inline struct latency *latency_of(struct latency_key *key, struct gendisk *disk,
						  struct cgroup *cgroup)
{
	struct latency *l = bpf_map_lookup_elem(&latencies, key);
	__u32 zero = 0;

	if (l)
		return l;
	l = bpf_map_lookup_elem(&latency_scratch, &zero);
	if (!l)
		return NULL;
	bpf_probe_read_kernel_str(l->disk, sizeof(l->disk), &disk->disk_name);
	remember_path(key->cgroup, cgroup);
	bpf_map_update_elem(&latencies, key, l, BPF_NOEXIST); /* or another CPU was faster */
	l = bpf_map_lookup_elem(&latencies, key);
	if (!l)
		count_suppressed(TAPIO_BLOCK_LATENCY);
	return l;
}

/* From when the kernel made the request, which it notes itself, to its end: what
 * iostat calls await. No program at the beginning, no map of requests. */
SEC("tp_btf/block_rq_complete")
int block_latency(__u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	__u32 bytes = (__u32)ctx[2];
	__u64 began = BPF_CORE_READ(rq, start_time_ns), now;
	__u32 operation = BPF_CORE_READ(rq, cmd_flags) & REQ_OP_MASK;
	struct latency_key key = {};
	struct cgroup *cgroup;
	struct gendisk *disk;
	struct latency *l;

	if (!began || operation > REQ_OP_DISCARD)
		return 0; /* the device keeps no times (iostats=0), or no I/O of data */
	if (bytes < BPF_CORE_READ(rq, __data_len))
		return 0; /* the rest is yet to come */
	disk = BPF_CORE_READ(rq, q, disk);
	if (!disk)
		return 0;
	cgroup = request_cgroup(rq);
	key.device = (__u32)BPF_CORE_READ(disk, major) << 20 | (__u32)BPF_CORE_READ(disk, first_minor);
	key.operation = operation;
	if (cgroup)
		key.cgroup = cgroup_id(cgroup);
	l = latency_of(&key, disk, cgroup);
	if (!l)
		return 0;
	now = bpf_ktime_get_ns();
	count_duration(&l->histogram, now > began ? now - began : 0);
	__sync_fetch_and_add(&l->bytes, bytes);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
