/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What the environment of a process says of its service: the two variables by which SDKs
 * of OpenTelemetry are told, and nothing else of it leaves the kernel. */
#ifndef TAPIO_ENVIRONMENT_H
#define TAPIO_ENVIRONMENT_H

#include "process.h"

/* How much of a variable is read at once, and how many variables are looked at: a bound
 * for the verifier, and for what an exec costs. Beyond, user space reads it. */
#define TAPIO_VARIABLE 1024
#define TAPIO_VARIABLES_EACH 16
#define TAPIO_VARIABLES 512

/* Room for both variables, and for the next one to look at. */
struct environment {
	__u8 kept[3 * TAPIO_VARIABLE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct environment);
} environment_scratch SEC(".maps");

/* How far the search is. */
struct environment_search {
	__u64 p;
	__u64 end;
	__u32 used;   /* bytes kept */
	__u32 inside; /* of a variable that was longer than what is read at once */
	__u32 cut;    /* one to keep was, or there are more than two */
	__u32 pad;
};

static __always_inline bool names_service(const __u8 *variable)
{
	return !__builtin_memcmp(variable, "OTEL_SERVICE_NAME=", 18) ||
	       !__builtin_memcmp(variable, "OTEL_RESOURCE_ATTRIBUTES=", 25);
}

/* Reads one variable to where the next one to keep belongs, and keeps it if it is one of
 * the two. Returns 0 while there may be another. A global function: the verifier looks at
 * it once, not once for each turn of the loop. */
__noinline int next_service_variable(struct environment_search *s)
{
	__u32 zero = 0;
	struct environment *e = bpf_map_lookup_elem(&environment_scratch, &zero);
	__u8 *at;
	long n;

	if (!s || !e || s->p >= s->end)
		return 1;
	if (s->used > 2 * TAPIO_VARIABLE) {
		s->cut = 1;
		return 1;
	}
	at = e->kept + s->used;
	n = bpf_probe_read_user_str(at, TAPIO_VARIABLE, (void *)s->p);
	if (n < 0)
		return 1;
	if (n == 0) /* so 6.1 counts an empty string, 6.18 its NUL too */
		n = 1;
	if (n > 1 && !s->inside && names_service(at)) {
		s->cut |= n == TAPIO_VARIABLE;
		s->used += n;
	}
	/* What did not fit goes on where the NUL in place of its next byte is. */
	s->inside = n == TAPIO_VARIABLE;
	s->p += n - s->inside;
	return 0;
}

__noinline int next_service_variables(struct environment_search *s)
{
	if (!s)
		return 1;
	UNROLL
	for (int i = 0; i < TAPIO_VARIABLES_EACH; i++) {
		if (next_service_variable(s))
			return 1;
	}
	return 0;
}

/* Puts both variables, each with its NUL, where there is room for TAPIO_ENVIRONMENT bytes
 * and returns how many it put there. whole tells whether all variables were looked at. */
#define TAPIO_ENVIRONMENT (3 * TAPIO_VARIABLE)

static __always_inline __u64 fill_environment(__u8 *out, __u32 *whole, struct mm_struct *mm)
{
	struct environment_search s = {
		.p = BPF_CORE_READ(mm, env_start),
		.end = BPF_CORE_READ(mm, env_end),
	};
	__u32 zero = 0;
	struct environment *e = bpf_map_lookup_elem(&environment_scratch, &zero);
	__u64 size;

	*whole = 0;
	if (!e)
		return 0;
	UNROLL
	for (int i = 0; i < TAPIO_VARIABLES / TAPIO_VARIABLES_EACH; i++) {
		if (next_service_variables(&s))
			break;
	}
	size = s.used;
	if (size > TAPIO_ENVIRONMENT || bpf_probe_read_kernel(out, size, e->kept))
		return 0;
	*whole = s.p >= s.end && !s.cut;
	return size;
}

#endif
