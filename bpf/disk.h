/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Block devices: the parts of their kernel types, and the records of disk.bpf.c. */
#ifndef TAPIO_DISK_H
#define TAPIO_DISK_H

#include "histogram.h"

enum disk_kind {
	TAPIO_BLOCK_ERROR = 32,
	TAPIO_BLOCK_LATENCY = 33, /* never sent: counts what found no place */
};

#define TAPIO_DISK_NAME 32 /* DISK_NAME_LEN in include/linux/blkdev.h */

struct block_error_record {
	struct record_header header;
	__u64 sector;
	__u32 bytes;
	__u32 operation; /* enum req_op */
	/* A blk_status_t (positive) or, before 5.16 or so, a negative errno. */
	__s32 status;
	__u32 pad;
	__u8 disk[TAPIO_DISK_NAME];
	__u64 cgroup_id; /* 0: nobody's, as of data that is written back under cgroup v1 */
	struct cgroup_path cgroup;
};

struct latency_key {
	__u64 cgroup;
	__u32 device;
	__u32 operation;
};

struct latency {
	struct histogram histogram;
	__u64 bytes;
	__u8 disk[TAPIO_DISK_NAME];
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	int major;
	int first_minor;
	char disk_name[TAPIO_DISK_NAME];
};

struct request_queue {
	struct gendisk *disk;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct bio {
	struct blkcg_gq *bi_blkg;
};

struct request {
	struct request_queue *q;
	struct bio *bio;
	__u32 cmd_flags;
	__u32 rq_flags;
	unsigned int __data_len;
	__u64 __sector;
	__u64 start_time_ns;
};

#pragma clang attribute pop

/* include/linux/blk_types.h: the first four are the same since 4.8, those of
 * drivers since 5.14. */
#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
#define REQ_OP_FLUSH 2
#define REQ_OP_DISCARD 3
#define REQ_OP_DRV_IN 34

/* include/linux/blkdev.h, before 5.18: do not log an error. */
#define RQF_QUIET (1 << 11)

#endif
