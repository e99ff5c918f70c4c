package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

const (
	// maxLZ4 bounds the memory for one lz4 field: its block cannot be read in part.
	maxLZ4 = 8 << 20
	// maxWindow bounds the history that a compressed field may ask for: journald
	// uses 2 MiB with zstd and 1 MiB with xz.
	maxWindow = 8 << 20
)

// errTooLarge is the error of a field that would take too much memory.
var errTooLarge = errors.New("field too large")

// decompressor reads compressed payloads. It is not safe for concurrent use.
type decompressor struct {
	zstd *zstd.Decoder
	// whole and out are reused from field to field.
	whole []byte
	out   bytes.Buffer
}

// read returns at most limit bytes of a payload, valid until the next call, and
// whether there are more.
func (d *decompressor) read(flags uint8, payload []byte, limit int) (out []byte, cut bool, err error) {
	switch {
	case flags&compressedZSTD != 0:
		return d.readZSTD(payload, limit)
	case flags&compressedLZ4 != 0:
		return d.readLZ4(payload, limit)
	default:
		return d.readXZ(payload, limit)
	}
}

func (d *decompressor) readZSTD(payload []byte, limit int) ([]byte, bool, error) {
	if d.zstd == nil {
		// With a concurrency of one it has no goroutine, and nothing to close.
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, false, err
		}
		d.zstd = z
	}
	var frame zstd.Header
	if frame.Decode(payload) == nil && frame.HasFCS && frame.FrameContentSize <= uint64(limit) {
		out, err := d.zstd.DecodeAll(payload, d.whole[:0])
		if err != nil {
			return nil, false, fmt.Errorf("%w: zstd: %w", errCorrupt, err)
		}
		d.whole = out
		return out[:min(len(out), limit)], len(out) > limit, nil
	}
	if err := d.zstd.Reset(bytes.NewReader(payload)); err != nil {
		return nil, false, fmt.Errorf("%w: zstd: %w", errCorrupt, err)
	}
	out, cut, err := d.readStream(d.zstd, limit)
	// A stream that was not read to its end keeps the only block decoder, for which
	// DecodeAll would wait for ever.
	if resetErr := d.zstd.Reset(nil); err == nil && resetErr != nil {
		err = fmt.Errorf("%w: zstd: %w", errCorrupt, resetErr)
	}
	return out, cut, err
}

// readLZ4 reads the size of the content and a block.
func (d *decompressor) readLZ4(payload []byte, limit int) ([]byte, bool, error) {
	if len(payload) < 8 {
		return nil, false, fmt.Errorf("%w: lz4 field of %d bytes", errCorrupt, len(payload))
	}
	size := binary.LittleEndian.Uint64(payload)
	if size > maxLZ4 {
		return nil, false, errTooLarge
	}
	d.out.Reset()
	d.out.Grow(int(size))
	out := d.out.AvailableBuffer()[:size]
	n, err := lz4.UncompressBlock(payload[8:], out)
	if err != nil {
		return nil, false, fmt.Errorf("%w: lz4: %w", errCorrupt, err)
	}
	if uint64(n) != size {
		return nil, false, fmt.Errorf("%w: lz4 block of %d bytes, not %d", errCorrupt, n, size)
	}
	return out[:min(n, limit)], n > limit, nil
}

func (d *decompressor) readXZ(payload []byte, limit int) ([]byte, bool, error) {
	dict, err := xzDictionary(payload)
	if err != nil {
		return nil, false, err
	}
	if dict > maxWindow {
		return nil, false, errTooLarge
	}
	r, err := xz.ReaderConfig{DictCap: dict, SingleStream: true}.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, false, fmt.Errorf("%w: xz: %w", errCorrupt, err)
	}
	return d.readStream(r, limit)
}

// xzDictionary returns how large a dictionary the first block of an xz stream
// asks for, which the library would allocate unasked. The block follows the
// stream header of 12 bytes: its size, flags, two optional sizes, then the id of
// the only filter (0x21, LZMA2), the length of its properties, and the property.
func xzDictionary(payload []byte) (int, error) {
	const header, lzma2 = 12, 0x21
	if len(payload) < header+2 {
		return 0, fmt.Errorf("%w: xz field of %d bytes", errCorrupt, len(payload))
	}
	flags, rest := payload[header+1], payload[header+2:]
	if flags&0x03 != 0 {
		return 0, fmt.Errorf("%w: xz field with more than one filter", errCorrupt)
	}
	for _, present := range []byte{flags & 0x40, flags & 0x80} {
		if present == 0 {
			continue
		}
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, fmt.Errorf("%w: xz block header", errCorrupt)
		}
		rest = rest[n:]
	}
	if len(rest) < 3 || rest[0] != lzma2 || rest[1] != 1 || rest[2] > 40 {
		return 0, fmt.Errorf("%w: xz block header", errCorrupt)
	}
	// 2 or 3 times a power of two, from 4 KiB.
	bits := int(rest[2])
	return min((2|bits&1)<<(bits/2+11), 1<<32-1), nil
}

func (d *decompressor) readStream(r io.Reader, limit int) ([]byte, bool, error) {
	d.out.Reset()
	// Some more, to know whether there is more.
	n, err := io.Copy(&d.out, io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, false, fmt.Errorf("%w: compressed field: %w", errCorrupt, err)
	}
	return d.out.Bytes()[:min(int(n), limit)], n > int64(limit), nil
}
