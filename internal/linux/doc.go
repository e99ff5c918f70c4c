// Package linux holds what the receivers of kernel records share: the kernel's
// clock, what a process may load, and which pid namespace it lives in.
package linux
