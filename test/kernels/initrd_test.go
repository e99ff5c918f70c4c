package kernels

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// initrd writes a file system in memory for a kernel to unpack: a cpio archive of
// the format newc (initramfs-buffer-format in the kernel's documentation).
type initrd struct {
	file *os.File
	zip  *gzip.Writer
	size int // written, for the padding to 4 bytes
	err  error
}

func createInitrd(path string) (*initrd, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	zip, err := gzip.NewWriterLevel(file, gzip.BestSpeed)
	return &initrd{file: file, zip: zip}, err
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
)

func (i *initrd) dir(name string)                 { i.entry(name, modeDir, nil) }
func (i *initrd) add(name string, content []byte) { i.entry(name, modeFile, content) }
func (i *initrd) write(content []byte, fill int) {
	for _, b := range [][]byte{content, make([]byte, fill)} {
		if i.err == nil {
			_, i.err = i.zip.Write(b)
		}
		i.size += len(b)
	}
}

func (i *initrd) entry(name string, mode int, content []byte) {
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	i.write([]byte(header), padding(i.size+len(header)))
	i.write(content, padding(i.size+len(content)))
}

// padding is how many bytes are missing to a multiple of four.
func padding(n int) int { return -n & 3 }

// addFile copies a file of this machine.
func (i *initrd) addFile(name, from string) {
	content, err := os.ReadFile(from)
	i.err = errors.Join(i.err, err)
	i.add(name, content)
}

// addTree copies what a directory of this machine holds but code: what its tests
// may read.
func (i *initrd) addTree(name, from string) {
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			i.dir(filepath.Join(name, relative))
		case !isCode(path):
			i.addFile(filepath.Join(name, relative), path)
		}
		return nil
	})
	i.err = errors.Join(i.err, err)
}

func isCode(path string) bool {
	switch filepath.Ext(path) {
	case ".go", ".c", ".h", ".o":
		return true
	}
	return false
}

func (i *initrd) close() error {
	i.entry("TRAILER!!!", 0, nil)
	return errors.Join(i.err, i.zip.Close(), i.file.Close())
}
