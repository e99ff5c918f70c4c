/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* What OpenSSL's SSL_read and SSL_write move, before it is encrypted and after it was
 * decrypted, and on which socket: probes in the functions of the library. */
#ifndef TAPIO_TLS_H
#define TAPIO_TLS_H

#include "http.h"

/* The group tls runs. */
const volatile bool tls_enabled = false;

/* The cookie of the probe at the beginning of a function says which one it is. */
#define TLS_WRITES 1 /* SSL_write, SSL_write_ex */
#define TLS_EX 2     /* its result is whether it worked, and its fourth argument where the length is */
#define TLS_SHAKES 4 /* SSL_do_handshake: it moves nothing, but shows the socket */

/* A thread is in one of these functions. */
struct tls_call {
	__u64 ssl;
	__u64 buffer;
	__u64 length_at; /* 0: the result is the length */
	__u64 stack;
	__u64 sk; /* of the system calls that it has made meanwhile */
	__u64 len;
	__u32 never_waits;
	__u8 is_write;
	__u8 is_mixed; /* several sockets */
	__u8 is_handshake;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct tls_call);
} tls_calls SEC(".maps");

/* A connection of OpenSSL, in one address space. */
struct tls_key {
	__u64 ssl;
	__u64 mm;
};

struct tls_socket {
	__u64 sk;
	__u32 never_waits;
	__u32 pad;
};

/* On which socket it is: what OpenSSL has read ahead it returns without any system call. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tls_key);
	__type(value, struct tls_socket);
} tls_sockets SEC(".maps");

/* Registers of C's calling convention. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs___c {
#if defined(__TARGET_ARCH_x86)
	unsigned long ax, di, si, dx, cx;
#elif defined(__TARGET_ARCH_arm64)
	__u64 regs[31];
#endif
};
#pragma clang attribute pop

#if defined(__TARGET_ARCH_x86)
#define C_ARGUMENT_1(from) BPF_CORE_READ((struct pt_regs___c *)(from), di)
#define C_ARGUMENT_2(from) BPF_CORE_READ((struct pt_regs___c *)(from), si)
#define C_ARGUMENT_4(from) BPF_CORE_READ((struct pt_regs___c *)(from), cx)
#define C_RESULT(from) ((int)BPF_CORE_READ((struct pt_regs___c *)(from), ax))
#else
#define C_ARGUMENT_1(from) BPF_CORE_READ((struct pt_regs___c *)(from), regs[0])
#define C_ARGUMENT_2(from) BPF_CORE_READ((struct pt_regs___c *)(from), regs[1])
#define C_ARGUMENT_4(from) BPF_CORE_READ((struct pt_regs___c *)(from), regs[3])
#define C_RESULT(from) ((int)BPF_CORE_READ((struct pt_regs___c *)(from), regs[0]))
#endif

static __always_inline struct tls_key tls_key_of(__u64 ssl)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct tls_key key = { .ssl = ssl, .mm = (__u64)BPF_CORE_READ(task, mm) };

	return key;
}

/* Other programs than those that serve HTTP use the library too: of them, nothing. */
static __always_inline void tls_call_begins(struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), cookie = bpf_get_attach_cookie(ctx);
	__u32 tgid = thread >> 32;
	struct tls_call c = {};

	if (!bpf_map_lookup_elem(&tracees, &tgid))
		return;
	c.ssl = C_ARGUMENT_1(ctx);
	c.buffer = C_ARGUMENT_2(ctx);
	if (cookie & TLS_EX)
		c.length_at = C_ARGUMENT_4(ctx);
	c.stack = user_stack(ctx);
	c.is_write = cookie & TLS_WRITES;
	c.is_handshake = !!(cookie & TLS_SHAKES);
	bpf_map_update_elem(&tls_calls, &thread, &c, BPF_ANY);
}

/* In which of these functions a thread is that has made a system call. It has left it,
 * by longjmp or because the probe at the return was not there yet, when it uses less of
 * the stack than then. */
static __always_inline struct tls_call *current_tls_call(struct pt_regs *regs)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct tls_call *c = tls_enabled ? bpf_map_lookup_elem(&tls_calls, &thread) : NULL;

	if (!c || user_stack(regs) < c->stack)
		return c;
	bpf_map_delete_elem(&tls_calls, &thread);
	return NULL;
}

static __always_inline void remember_tls_socket(struct tls_call *c, __u64 sk, __u32 never_waits)
{
	if (!sk) /* a file: random bytes, certificates */
		return;
	c->is_mixed |= c->sk && c->sk != sk;
	c->sk = sk;
	c->never_waits |= never_waits;
}

/* A thread is in none of these functions: nobody looks at what it has moved, or it is new
 * and the one that had its number before died there. */
static __always_inline void forget_tls_call(__u64 thread)
{
	bpf_map_delete_elem(&tls_calls, &thread);
}

/* Fills what has moved, and on which socket; false when nothing has, or that is not known. */
static __noinline int tls_call_ends(struct tls_call *out, struct pt_regs *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct tls_call *c = bpf_map_lookup_elem(&tls_calls, &thread);
	struct tls_socket socket = {}, *known;
	struct tls_key key;
	int result;

	if (!c || !out || !ctx)
		return false;
	result = C_RESULT(ctx);
	__builtin_memcpy(out, c, sizeof(*out));
	bpf_map_delete_elem(&tls_calls, &thread);
	key = tls_key_of(out->ssl);
	if (out->is_mixed) {
		bpf_map_delete_elem(&tls_sockets, &key);
		return false;
	}
	if (out->sk) {
		socket.sk = out->sk;
		socket.never_waits = out->never_waits;
		bpf_map_update_elem(&tls_sockets, &key, &socket, BPF_ANY);
	} else {
		known = bpf_map_lookup_elem(&tls_sockets, &key);
		if (!known)
			return false;
		out->sk = known->sk;
		out->never_waits = known->never_waits;
	}
	if (result <= 0 || out->is_handshake)
		return false;
	out->len = result;
	return !out->length_at || !bpf_probe_read_user(&out->len, sizeof(out->len), (void *)out->length_at);
}

/* SSL_free: the next connection may be at the same address. */
static __always_inline void tls_ends(struct pt_regs *ctx)
{
	struct tls_key key = tls_key_of(C_ARGUMENT_1(ctx));

	bpf_map_delete_elem(&tls_sockets, &key);
}

#endif
