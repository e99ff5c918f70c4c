// Package memlimit gives a process a limit of memory that the kernel enforces:
// a memory cgroup (v2 where its memory controller can be used, else v1), or,
// where none can be made, the resource limit RLIMIT_DATA.
//
// The two end differently, and that is the point: in a cgroup the kernel kills
// the process, under RLIMIT_DATA its next allocation fails.
package memlimit
