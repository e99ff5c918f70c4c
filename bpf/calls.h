/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Numbers of the system calls that the programs know: arch/x86/entry/syscalls/syscall_64.tbl
 * and include/uapi/asm-generic/unistd.h. */
#ifndef TAPIO_CALLS_H
#define TAPIO_CALLS_H

#if defined(__TARGET_ARCH_x86)
#define NR_READ 0
#define NR_WRITE 1
#define NR_POLL 7
#define NR_MMAP 9
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SELECT 23
#define NR_ACCEPT 43
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#define NR_GETSOCKOPT 55
#define NR_PTRACE 101
#define NR_EXIT_GROUP 231
#define NR_EPOLL_WAIT 232
#define NR_PSELECT6 270
#define NR_PPOLL 271
#define NR_EPOLL_PWAIT 281
#define NR_ACCEPT4 288
#define NR_IO_URING_ENTER 426
#define NR_EPOLL_PWAIT2 441
#else
#define NR_EPOLL_PWAIT 22
#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_PSELECT6 72
#define NR_PPOLL 73
#define NR_EXIT_GROUP 94
#define NR_PTRACE 117
#define NR_ACCEPT 202
#define NR_SENDTO 206
#define NR_RECVFROM 207
#define NR_GETSOCKOPT 209
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#define NR_MMAP 222
#define NR_ACCEPT4 242
#define NR_IO_URING_ENTER 426
#define NR_EPOLL_PWAIT2 441
#endif

#endif
