/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The records about CNI plugins. They go into a ring buffer of their own, so
 * their kinds are numbered by themselves. */
#ifndef TAPIO_CNI_H
#define TAPIO_CNI_H

#include "process.h"

enum cni_kind {
	TAPIO_CNI_EXEC = 1,
	TAPIO_CNI_DATA = 2,
	TAPIO_CNI_EXIT = 3,
};

/* Why an exec is no plugin's although it may look like one: index of "skipped". */
enum cni_skip {
	/* More variables than are looked at, and no CNI_COMMAND among those. */
	TAPIO_CNI_UNSCANNED = 0,
	/* CNI_COMMAND, but not the rights to enter a network namespace. Whoever
	 * runs in an ordinary pod could tell of operations that never were. */
	TAPIO_CNI_UNPRIVILEGED = 1,
	TAPIO_CNI_SKIPS = 2,
};

/* Variables looked at, the bytes kept of one (the kernel's limit for one is
 * 128 KiB), and of all that begin with CNI_. Kubernetes' CNI_ARGS is about 250. */
#define TAPIO_CNI_VARS 256
#define TAPIO_CNI_VAR 1024
#define TAPIO_CNI_ENV 2048

/* Bytes kept of a working directory, and of one name in it, both with the NULs. */
#define TAPIO_CNI_CWD 512
#define TAPIO_CNI_NAME 256

/* Bytes of one data record, and records that are sent of each stream of a process. */
#define TAPIO_CNI_CHUNK 1024
#define TAPIO_CNI_CHUNKS 4

/* File descriptors: the stream of a data record. */
#define STDIN 0
#define STDOUT 1

/* Which process. Numbers of the machine's first pid namespace, wherever the
 * collector lives: they only tell processes apart, and who is whose child. */
struct cni_process {
	__u64 start;
	__u32 tgid;
	__u32 parent;
};

struct cni_exec_record {
	struct record_header header;
	struct cni_process id;
	struct process_id process;
	__u8 path[TAPIO_FILE]; /* of a script its own, not the interpreter's */
	__u32 env_len;
	__u32 env_cut; /* a variable was longer, or all together, than what is kept */
	__u8 env[TAPIO_CNI_ENV + TAPIO_CNI_VAR]; /* NAME=value, each with its NUL */
	/* Where it was executed, when path is relative: names, each with its NUL, from
	 * the innermost to below the process's root. 0 bytes when that is not known. */
	__u32 cwd_len;
	__u32 is_root; /* it is the root itself */
	__u8 cwd[TAPIO_CNI_CWD + TAPIO_CNI_NAME];
};

struct cni_data_record {
	struct record_header header;
	struct cni_process id;
	__u32 stream;
	__u32 offset; /* of data, in what was sent of the stream so far */
	__u32 len;
	__u32 more; /* the process moved more than is sent */
	__u8 data[TAPIO_CNI_CHUNK];
};

struct cni_exit_record {
	struct record_header header;
	struct cni_process id;
	__s32 code; /* as wait(2) encodes it */
	__u32 pad;
};

#endif
