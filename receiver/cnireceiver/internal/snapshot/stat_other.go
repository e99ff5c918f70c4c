//go:build !unix

package snapshot

import "os"

func inode(os.FileInfo) uint64 { return 0 }

func openRegular(path string) (*os.File, error) { return os.Open(path) }
