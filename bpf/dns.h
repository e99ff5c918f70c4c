/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Questions of the domain name system on their way, and how they ended. */
#ifndef TAPIO_DNS_H
#define TAPIO_DNS_H

#include "network.h"

/* include/uapi/linux/in.h, if_ether.h, icmp.h, icmpv6.h */
#define IPPROTO_ICMP 1
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4

#define DNS_PORT 53
#define DNS_HEADER 12
/* RFC 1035: a name is at most 255 bytes, its root label included. */
#define DNS_NAME 256
/* An address of IPv6 backwards, under ip6.arpa, has 34 labels; none has more by
 * custom. */
#define DNS_LABELS 40
#define DNS_NXDOMAIN 3
#define DNS_TYPES 4

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	struct sock *sk;
	unsigned int len, data_len;
	__be16 protocol;
	__u16 network_header;
	unsigned char *head, *data;
};

typedef struct {
	unsigned int val;
} kuid_t;

struct nsproxy {
	struct net *net_ns;
};

struct task_struct___namespaces {
	struct nsproxy *nsproxy;
};

struct cred___file {
	kuid_t fsuid;
};

struct sock___owner {
	kuid_t sk_uid;
};

struct sock___bound {
	unsigned char sk_userlocks : 4;
};

#pragma clang attribute pop

/* include/net/sock.h */
#define SOCK_BINDPORT_LOCK 8

enum udp_kind {
	TAPIO_UDP_LISTEN = 52,
};

/* A process sends datagrams from an address and port that it chose: a server. */
struct udp_listen_record {
	struct record_header header;
	struct process_id process;
	struct cgroup_path cgroup;
	struct endpoints socket;
};

/* Whom an address of a socket was told of. */
struct udp_server {
	__u64 sk;
	__u8 local[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct udp_server);
	__type(value, __u64); /* start of the process */
} udp_servers SEC(".maps");

/* How a question ended: the response code of its answer, or one of these. */
enum dns_end {
	TAPIO_DNS_REFUSED = 0x100,     /* no one listens at the server's port */
	TAPIO_DNS_UNREACHABLE = 0x101, /* the network says that the server is not reached */
	TAPIO_DNS_TIMEOUT = 0x102,     /* user space says it: no answer for long */
	TAPIO_DNS_SLOW = 0x103,	       /* answered, but late */
	TAPIO_DNS_CLOSED = 0x104,      /* the connection ended before the answer */
};

/* name is as it was sent: labels, each after its length; label and hash are of
 * its first one and of all, in which upper and lower case are the same. */
struct dns_question {
	__u64 hash;
	__u64 label;
	__u16 type;
	__u16 len;
	__u32 pad;
	__u8 name[DNS_NAME];
};

/* Of one client's port, the number of a question is unique until it is answered.
 * The server's address is not in it: where addresses are translated the answer
 * comes from another one. */
struct dns_key {
	__u8 client[16];
	__u16 port;
	__u16 id;
	__u32 tcp; /* 1: the port is one of TCP */
};

struct dns_query {
	struct process_id process;
	__u64 sent; /* for the first time */
	__u8 server[16];
	__u16 server_port;
	__u16 tcp;
	__u32 netns;
	struct dns_question question;
};

/* hash is the question's; of names that do not exist that of the first label,
 * which all names have that a resolver tries with a list of domains to search. */
struct dns_end_key {
	__u64 start;
	__u64 hash;
	__u32 pid;
	__u32 code;
};

/* lookups and resolved only grow; those that are in the first and not in the
 * second failed, but for the last one until the time until. A lookup is a
 * question, or, of a name that does not exist, all that the resolver tried. */
struct dns_outcome {
	struct process_id process;
	__u8 server[16];
	__u16 server_port;
	__u16 types[DNS_TYPES]; /* that were asked for; 0: no more */
	__u16 tcp;		/* the last one was asked over TCP */
	__u32 netns;
	__u64 lookups;
	__u64 resolved;
	__u64 longest; /* nanoseconds from question to answer */
	__u64 last;    /* time of the last answer */
	__u64 until;   /* 0: the last lookup is over */
	__u64 first;   /* hash and type of the first question of the last lookup */
	struct dns_question question;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct dns_key);
	__type(value, struct dns_query);
} dns_queries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct dns_end_key);
	__type(value, struct dns_outcome);
} dns_outcomes SEC(".maps");

struct dns_scratch {
	struct dns_query query;
	struct dns_outcome outcome;
	__u64 label[8];
	__u8 raw[512];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_scratch);
} dns_scratch SEC(".maps");

/* Which question had an answer over UDP that did not fit: the resolver asks again over
 * TCP, and that is one lookup. */
struct dns_truncated {
	__u64 start;
	__u64 hash;
	__u32 pid;
	__u32 type;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, struct dns_truncated);
	__type(value, __u64); /* when it was asked */
} dns_truncated SEC(".maps");

/* Over TCP each message comes after its length, and is written and read in pieces as it
 * pleases who does. Of a question all is kept that is read of it, of an answer the header. */
#define STREAM_QUESTION (2 + DNS_HEADER + DNS_NAME + 4)
#define STREAM_ANSWER (2 + DNS_HEADER)

/* One direction of a connection. */
struct dns_stream {
	__u32 have; /* bytes of the message that is under way */
	__u32 skip; /* bytes of the one before that are not kept */
};

/* Questions of a connection that may be without an answer; of more than that the rest
 * are told when they have none for long. */
#define STREAM_PENDING 4

struct dns_connection {
	struct endpoints socket; /* whose it is: an address of the kernel may be another's by now */
	struct dns_stream sent;
	struct dns_stream received;
	__u32 pending; /* bits: which of ids are */
	__u32 lost;    /* what moves is no DNS, or was not seen whole: nothing is read any more */
	__u16 ids[STREAM_PENDING];
	/* Twice as long as what is kept: the verifier knows no more of what is added. */
	__u8 question[2 * STREAM_QUESTION + 4];
	__u8 answer[2 * STREAM_ANSWER + 4];
};

/* By socket. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct dns_connection);
} dns_connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_connection);
} dns_connection_scratch SEC(".maps");

/* A datagram, as far as it is read: addresses, ports, the header of DNS. payload is where
 * that begins, after the IP header. */
struct datagram {
	__u8 from[16], to[16];
	__u16 from_port, to_port;
	__u32 payload;
	__u8 dns[DNS_HEADER];
	__u32 len; /* of what is after the header of UDP */
};

#define dns_is_truncated(d) ((d)->dns[2] & 0x02)
#define dns_is_answer(d) ((d)->dns[2] & 0x80)
/* A standard question, or its answer. Of names there is one; an answer that refuses
 * what it has not understood may be no more than its header. */
#define dns_is_plain(d) (!((d)->dns[2] & 0x78) && !(d)->dns[4])
#define dns_names(d) ((d)->dns[5])
#define dns_code(d) ((d)->dns[3] & 0x0f)

static __always_inline void map_ipv4(__u8 *to, const __u8 *ipv4)
{
	__builtin_memset(to, 0, 16);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, ipv4, 4);
}

static __always_inline __u16 big_endian(const __u8 *b)
{
	return (__u16)b[0] << 8 | b[1];
}

/* Reads ports and DNS header of what is at udp, of which there are len bytes. */
static __always_inline bool read_udp(struct datagram *d, const void *udp, __u32 len)
{
	__u8 h[8 + DNS_HEADER];

	if (len < sizeof(h) || bpf_probe_read_kernel(h, sizeof(h), udp))
		return false;
	d->from_port = big_endian(h);
	d->to_port = big_endian(h + 2);
	d->len = big_endian(h + 4) - 8;
	if (d->len > len - 8) /* also when it is less than nothing */
		d->len = len - 8;
	__builtin_memcpy(d->dns, h + 8, DNS_HEADER);
	return true;
}

/* Reads an IP header and what follows it when that is UDP; returns the number of
 * the protocol that does, and where it begins, or 0. */
static __always_inline __u32 read_ip(struct datagram *d, const void *ip, bool is_ipv4, __u32 len, __u32 *offset)
{
	__u8 h[40];

	if (is_ipv4) {
		if (len < 20 || bpf_probe_read_kernel(h, 20, ip))
			return 0;
		if (h[9] != IPPROTO_UDP && h[9] != IPPROTO_ICMP)
			return 0;
		if (h[6] & 0x1f || h[7])
			return 0; /* a fragment that is not the first */
		*offset = (h[0] & 0x0f) * 4;
		map_ipv4(d->from, h + 12);
		map_ipv4(d->to, h + 16);
		return h[9];
	}
	if (len < 40 || bpf_probe_read_kernel(h, 40, ip))
		return 0;
	if (h[6] != IPPROTO_UDP && h[6] != IPPROTO_ICMPV6)
		return 0;
	*offset = 40;
	__builtin_memcpy(d->from, h + 8, 16);
	__builtin_memcpy(d->to, h + 24, 16);
	return h[6];
}

#endif
