//go:build !unix

package ebpfreceiver

import "os"

// errProcessGone is what files of /proc say when their process has ended.
var errProcessGone = os.ErrNotExist
