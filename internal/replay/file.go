package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxMessage bounds one line or length-prefixed message of a file, compressed or
	// not: far above what an exporter sends at once. It is also what tells a length
	// from the first bytes of something else.
	maxMessage = 64 << 20
	// lengthBytes is the size of the length before a message, big endian.
	lengthBytes = 4
)

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// file reads the messages of one file as the collector's file exporter writes
// them. What it is, its contents tell: JSON lines, or messages with a length of 4
// bytes before each (protobuf; JSON too when each message is compressed); as a
// whole compressed by gzip or zstd, or each message by zstd, or not at all.
type file struct {
	path   string
	raw    *os.File
	size   int64
	read   int64 // of raw
	in     *bufio.Reader
	close  []func() error
	offset int64 // in the uncompressed contents, where the next message begins
	lines  bool
	begun  bool
	zstd   *zstd.Decoder // for single messages, made when first needed
}

// Read implements io.Reader, counting what is read of the file on disk.
func (f *file) Read(b []byte) (int, error) {
	n, err := f.raw.Read(b)
	f.read += int64(n)
	return n, err
}

// openFile opens a file and looks at how it is compressed.
func openFile(path string) (*file, error) {
	raw, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, raw: raw, close: []func() error{raw.Close}}
	info, err := raw.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s: is a directory: name its files", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.size = info.Size()
	if err := f.decompress(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return f, nil
}

func (f *file) decompress() error {
	f.in = bufio.NewReader(f)
	head, err := f.in.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(f.in)
		if err != nil {
			return err
		}
		f.in = bufio.NewReader(z)
	case bytes.HasPrefix(head, zstdMagic):
		z, err := newZstd(f.in)
		if err != nil {
			return err
		}
		f.in = bufio.NewReader(z)
		f.close = append(f.close, func() error { z.Close(); return nil })
	}
	return nil
}

// newZstd returns a decoder of a stream, or, with a nil reader, of single messages.
func newZstd(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxMessage))
}

// Close implements io.Closer.
func (f *file) Close() error {
	var errs []error
	if f.zstd != nil {
		f.zstd.Close()
	}
	for _, c := range f.close {
		errs = append(errs, c())
	}
	f.close = nil
	return errors.Join(errs...)
}

// next returns the next message, or io.EOF after the last. Other errors name the
// file and the offset at which it cannot be read. The message is valid until the
// next call.
func (f *file) next() ([]byte, error) {
	message, n, err := f.message()
	if err != nil && !errors.Is(err, errEnd) {
		return nil, f.fail(err)
	}
	f.offset += n
	if err != nil {
		return nil, io.EOF
	}
	return message, nil
}

// errEnd says that a file ends where a message could begin.
var errEnd = errors.New("end of file")

// fail names where in the file something is wrong.
func (f *file) fail(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends in the middle of a message")
	}
	return fmt.Errorf("%s: offset %d of the uncompressed contents: %w", f.path, f.offset, err)
}

// message returns the next message and how many bytes of the contents it takes.
func (f *file) message() (message []byte, n int64, err error) {
	if !f.begun {
		skipped, err := f.begin()
		f.offset += skipped
		if err != nil {
			return nil, 0, err
		}
	}
	if f.lines {
		return f.line()
	}
	return f.prefixed()
}

// begin tells from the first byte whether the file has lines.
func (f *file) begin() (skipped int64, err error) {
	for {
		head, err := f.in.Peek(1)
		if errors.Is(err, io.EOF) {
			return skipped, errEnd
		}
		if err != nil {
			return skipped, err
		}
		switch head[0] {
		case ' ', '\t', '\r', '\n':
			_, _ = f.in.Discard(1)
			skipped++
			continue
		}
		f.begun, f.lines = true, head[0] == '{'
		return skipped, nil
	}
}

// line returns the next line that is not empty.
func (f *file) line() (line []byte, n int64, err error) {
	for {
		part, err := f.in.ReadSlice('\n')
		n += int64(len(part))
		if len(line)+len(part) > maxMessage {
			return nil, n, fmt.Errorf("a line is longer than %d bytes: not what the file exporter writes", maxMessage)
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, n, err
		}
		ended := err != nil
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, n, nil
		}
		if ended {
			return nil, n, errEnd
		}
	}
}

// prefixed returns the next message with a length before it.
func (f *file) prefixed() (message []byte, n int64, err error) {
	var head [lengthBytes]byte
	if read, err := io.ReadFull(f.in, head[:]); err != nil {
		if read == 0 && errors.Is(err, io.EOF) {
			return nil, 0, errEnd
		}
		return nil, 0, err
	}
	length := int64(binary.BigEndian.Uint32(head[:]))
	if length > maxMessage {
		return nil, 0, fmt.Errorf("neither a line of JSON nor a message of at most %d bytes begins with %q: not what the file exporter writes", maxMessage, head)
	}
	// Not allocated by the length that a damaged file claims.
	var b bytes.Buffer
	if _, err := io.CopyN(&b, f.in, length); err != nil {
		return nil, 0, err
	}
	message = b.Bytes()
	if bytes.HasPrefix(message, zstdMagic) {
		if message, err = f.unzstd(message); err != nil {
			return nil, 0, err
		}
	}
	return message, lengthBytes + length, nil
}

func (f *file) unzstd(message []byte) ([]byte, error) {
	if f.zstd == nil {
		z, err := newZstd(nil)
		if err != nil {
			return nil, err
		}
		f.zstd = z
	}
	return f.zstd.DecodeAll(message, nil)
}
