package kmsg

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Device is where Linux gives out its log. It needs CAP_SYSLOG where
// kernel.dmesg_restrict is 1, which is the default of many distributions.
const Device = "/dev/kmsg"

// recordSize holds the largest record: a line of 1 KiB whose every byte is
// escaped, and its dictionary.
const recordSize = 8 << 10

// Reader reads the kernel's log. One goroutine may read while another closes it.
type Reader struct {
	f    *os.File
	next uint64
	lost uint64
	buf  [recordSize]byte
}

// Open opens the kernel's log. With fromEnd only what is written from now on is
// read, else also what the kernel still holds.
func Open(path string, fromEnd bool) (*Reader, error) {
	// os.File waits by epoll, so that Close ends a Next that waits.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fromEnd {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &Reader{f: f}, nil
}

// Next waits for the next record. The error is os.ErrClosed after Close. A record
// that cannot be parsed is an error too; the one after it can be read.
func (r *Reader) Next() (Record, error) {
	for {
		n, err := r.f.Read(r.buf[:])
		if errors.Is(err, syscall.EPIPE) { // overwritten before it was read; the gap in the numbers says how many
			continue
		}
		if err != nil {
			return Record{}, err
		}
		rec, err := ParseRecord(r.buf[:n])
		if err != nil {
			return Record{}, err
		}
		if r.next != 0 && rec.Sequence > r.next {
			r.lost += rec.Sequence - r.next
		}
		r.next = rec.Sequence + 1
		return rec, nil
	}
}

// Lost returns how many records the kernel overwrote before they were read. It
// must be called by the goroutine that calls Next.
func (r *Reader) Lost() uint64 { return r.lost }

// Close closes the log.
func (r *Reader) Close() error { return r.f.Close() }
