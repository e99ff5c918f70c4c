//go:build !unix

package journal

import (
	"hash/fnv"
	"io/fs"
	"os"
)

// openNonblock is nothing where no named pipe has a place among files.
const openNonblock = 0

// inodeOf returns what identifies the file of info, read from path: the path,
// where files have no number. Nothing writes a journal there; files that were
// brought there do not change.
func inodeOf(path string, _ fs.FileInfo) inode {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path))
	return inode{0, h.Sum64()}
}

// deleted says that an open file has no name any more.
func deleted(f *os.File) bool {
	_, err := os.Stat(f.Name())
	return os.IsNotExist(err)
}
