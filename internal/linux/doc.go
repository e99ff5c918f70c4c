// Package linux holds what the receivers of kernel records share: the kernel's
// clock, what a process may load, which pid namespace it lives in, and threads that
// may enter other namespaces.
package linux
