package runtimelog

import (
	"bytes"
	"errors"
	"io"
	"os"
)

const (
	// maxLine is the longest line that is looked at; longer ones are skipped.
	maxLine = 64 << 10
	// maxRead is how much of a file is read at once; the rest waits for the next time.
	maxRead = 4 << 20
)

// File follows a log file over rotation, truncation and times without it. It
// begins at the end: what was written before is history.
type File struct {
	path    string
	file    *os.File
	partial []byte
	// skipping says that the line under way is too long.
	skipping bool
	// began says that a file was looked for before: one that comes later is new,
	// and read from its beginning.
	began bool
}

// Follow follows the file of that path, which need not be there yet.
func Follow(path string) *File { return &File{path: path} }

// Read calls line for every whole line since the last time. A file that is not
// there is no error.
func (f *File) Read(line func(string)) error {
	if f.file == nil {
		if err := f.open(); err != nil || f.file == nil {
			return err
		}
	}
	if atEnd, err := f.drain(line); err != nil || !atEnd {
		return err
	}
	moved, err := f.moved()
	if err != nil || !moved {
		return err
	}
	// What the writer wrote before it turned to the new file was read above.
	f.Close()
	if err := f.open(); err != nil || f.file == nil {
		return err
	}
	_, err = f.drain(line)
	return err
}

func (f *File) open() error {
	fromEnd := !f.began
	f.began = true
	fi, err := os.Stat(f.path)
	if err == nil && !fi.Mode().IsRegular() { // to open a named pipe would wait for who writes to it
		return errors.New(f.path + " is not a regular file")
	}
	var file *os.File
	if err == nil {
		file, err = os.Open(f.path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fromEnd {
		_, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.partial, f.skipping = file, nil, false
	return nil
}

// moved says whether the path is another file now, and begins anew when the
// file became shorter.
func (f *File) moved() (bool, error) {
	now, err := os.Stat(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	mine, err := f.file.Stat()
	if err != nil {
		return false, err
	}
	if !os.SameFile(now, mine) {
		return true, nil
	}
	at, err := f.file.Seek(0, io.SeekCurrent)
	if err == nil && mine.Size() < at { // truncated, as with copytruncate
		_, err = f.file.Seek(0, io.SeekStart)
		f.partial, f.skipping = nil, false
	}
	return false, err
}

// drain reads to the end of the file, or as much as is allowed at once.
func (f *File) drain(line func(string)) (atEnd bool, err error) {
	buf := make([]byte, 32<<10)
	for read := 0; read < maxRead; {
		n, err := f.file.Read(buf)
		f.split(buf[:n], line)
		read += n
		if errors.Is(err, io.EOF) || n == 0 {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// split calls line for every line that ends in data, and keeps the rest.
func (f *File) split(data []byte, line func(string)) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			f.keep(data)
			return
		}
		f.keep(data[:end])
		if !f.skipping {
			line(string(f.partial))
		}
		f.partial, f.skipping = f.partial[:0], false
		data = data[end+1:]
	}
}

func (f *File) keep(data []byte) {
	if len(f.partial)+len(data) > maxLine {
		f.partial, f.skipping = f.partial[:0], true
	}
	if !f.skipping {
		f.partial = append(f.partial, data...)
	}
}

// Close closes the file; a later Read opens it again at its beginning.
func (f *File) Close() {
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}
