package linux

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnOwnThread runs f on a thread of its own and waits for it. The thread ends
// with f, so that f may change what belongs to a thread, such as its network
// namespace. It is never the process's first thread: Go cannot end that one and
// parks it as it is, and it is the one that /proc/self, /proc/net and, to other
// processes, /proc/PID show.
func OnOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			OnOwnThread(f) // on another one, for this one is held
			return
		}
		f()
	}()
	<-done
}
