/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What is counted of memory and processes by cgroup. */
#ifndef TAPIO_RECLAIM_H
#define TAPIO_RECLAIM_H

#include "histogram.h"

/* Never sent: they count what found no place. */
enum count_kind {
	TAPIO_RECLAIM = 40,
	TAPIO_GROWTH = 41,
	TAPIO_FORKS = 42,
};

struct reclaim {
	struct histogram stalls;
	__u64 pages; /* that were freed */
};

struct fork_count {
	__u64 processes;
	__u64 threads;
};

#endif
