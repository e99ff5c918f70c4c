//go:build unix

package ebpfreceiver

import "syscall"

// errProcessGone is what files of /proc say when their process has ended.
var errProcessGone error = syscall.ESRCH
