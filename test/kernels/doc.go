// Package kernels runs the kernel programs on other kernels than that of this
// machine: it boots the kernels of Debian under QEMU without acceleration, with
// kernel tests of the receiver tapio_ebpf as the current tree has them, and prints
// which program ran how often on which kernel. A program that is on by default must
// load, attach and run in each, those of the groups that are off by default too.
//
// Of the tests of the receiver those that the variable tests names run there: one or
// more for each kind of event, so that every program is exercised and every field
// that is read from the kernel is compared with the truth. An emulated processor
// takes seconds to load the programs for each test; what the others ask (rates,
// bounds, life cycle, decoding, servers in other languages) does not depend on the
// kernel, and they run on that of the machine. TAPIO_KERNEL_TESTS=. runs all of them,
// another regular expression others.
//
// A guest that says nothing for some minutes is ended, and what it did last is told.
//
// It needs qemu-system-x86 and busybox-static, and apt-get to download kernels,
// but no root. What is downloaded is kept in the user's cache directory
// (tapio/kernels). Where something is missing it is skipped with the reason; with
// CI=true it fails instead.
package kernels
