//go:build unix

package journal

import (
	"io/fs"
	"syscall"
)

// inodeOf returns what identifies the file of info, read from path.
func inodeOf(_ string, info fs.FileInfo) inode {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{uint64(st.Dev), st.Ino} //nolint:unconvert // Dev is an int32 on some systems
}
