// Package kernels runs the kernel programs on other kernels than that of this
// machine: it boots the kernels of Debian under QEMU without acceleration, with
// the kernel tests of the receiver tapio_ebpf as the current tree has them and
// nothing else, and prints which program ran how often on which kernel. A program
// that is on by default must load, attach and run in each.
//
// It needs qemu-system-x86 and busybox-static, and apt-get to download kernels,
// but no root. What is downloaded is kept in the user's cache directory
// (tapio/kernels). Where something is missing it is skipped with the reason; with
// CI=true it fails instead.
package kernels
