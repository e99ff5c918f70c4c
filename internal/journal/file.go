package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
)

const (
	// maxCached and maxCachedBytes bound the fields that a file keeps decoded,
	// those that more than one entry refers to.
	maxCached      = 1024
	maxCachedBytes = 128 << 10
	// maxCachedValue is the largest value worth keeping.
	maxCachedValue = 1 << 10
	// maxEntry bounds the values of an entry together, unless maxField is larger.
	maxEntry = 1 << 20
	// compressedMore is how much more of a compressed payload is read than what is
	// wanted of its content: some blocks of the compressed form, none of which is
	// larger than its content.
	compressedMore = 1 << 20
	// arrayChunk is how many offsets of an entry array are read at once.
	arrayChunk = 512
	// unlimited is the settled part of a file to which nothing will be added.
	unlimited = math.MaxUint64
)

var (
	// errEnd is the error of next when all entries were read.
	errEnd = errors.New("no more entries")
	// errOld is the error of an entry that is not wanted, as it is too old.
	errOld = errors.New("old entry")
)

// file reads the entries of one file in order. It is not safe for concurrent use.
type file struct {
	in     io.ReaderAt
	pool   *pool
	decode *decompressor
	// maxField is the largest value that is read whole.
	maxField int
	// Of the first old entries those from before since, in µs since 1970, are not
	// wanted.
	since, old uint64

	header header
	// settled is the offset below which nothing changes any more.
	settled uint64
	recent  *window

	// read is how many entries were read, well or badly.
	read uint64
	// array is the entry array that holds the next entry, arrayEnd where it ends,
	// arrayCap its capacity, arrayAt how many of it were read; chunk holds its next
	// offsets.
	array, arrayEnd, arrayCap, arrayAt uint64
	chunk                              []byte
	chunkBuffer                        [arrayChunk * 8]byte

	cached      map[uint64]Field
	cachedBytes int
	// badFields and cutFields count since the file was opened.
	badFields, cutFields uint64
}

// newFile reads the header of a journal file.
func newFile(in io.ReaderAt, p *pool, d *decompressor, maxField int) (*file, error) {
	f := &file{in: in, pool: p, decode: d, maxField: maxField, cached: map[uint64]Field{}}
	if err := f.reread(); err != nil {
		return nil, err
	}
	return f, nil
}

// readHeader reads the first bytes of in.
func readHeader(in io.ReaderAt) (header, error) {
	var b [headerSize]byte
	n, err := in.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	h, err := parseHeader(b[:n])
	if file, ok := in.(interface{ Stat() (fs.FileInfo, error) }); ok && err == nil {
		if info, err := file.Stat(); err == nil {
			h.size = uint64(max(info.Size(), 0))
		}
	}
	return h, err
}

// reread reads the header again, and with it how many entries there are.
func (f *file) reread() error {
	h, err := readHeader(f.in)
	if err != nil {
		return err
	}
	if !f.header.file.IsZero() && h.file != f.header.file {
		return fmt.Errorf("%w: another file was written over it", errCorrupt)
	}
	f.header = h
	f.settled = f.settledEnd()
	return nil
}

// settledEnd returns up to where the file is complete. journald fills an object
// after it moved the tail to it, so that only the last can be unfinished.
func (f *file) settledEnd() uint64 {
	switch f.header.state {
	case stateArchived:
		return unlimited
	case stateOnline:
		return f.header.tailObject
	}
	var b [objectHeaderSize]byte
	if _, err := f.in.ReadAt(b[:], int64(f.header.tailObject)); err != nil {
		return f.header.tailObject
	}
	size := parseObject(b[:]).size
	if size > math.MaxUint32 {
		return f.header.tailObject
	}
	return f.header.tailObject + size
}

// bytes returns n bytes at offset, valid until the next call.
func (f *file) bytes(offset, n uint64) ([]byte, error) {
	if offset > math.MaxInt64 || n > math.MaxInt32 {
		return nil, errCorrupt
	}
	index, at := offset/windowSize, offset%windowSize
	if at+n <= windowSize {
		w, err := f.pool.get(f, index, offset+n)
		if err != nil {
			return nil, err
		}
		if at+n > uint64(len(w.data)) {
			return nil, f.beyond(offset, n)
		}
		return w.data[at : at+n : at+n], nil
	}
	b := f.pool.buffer(n)
	if _, err := f.in.ReadAt(b, int64(offset)); err != nil {
		if errors.Is(err, io.EOF) {
			err = f.beyond(offset, n)
		}
		return nil, err
	}
	return b, nil
}

// beyond is the error of n bytes at offset, where the file is shorter: corrupt
// when they lie outside of what its header says it has.
func (f *file) beyond(offset, n uint64) error {
	err := errTruncated
	if offset+n > f.header.headerSize+f.header.arenaSize {
		err = errCorrupt
	}
	return fmt.Errorf("%w: %d bytes at %d are beyond the end", err, n, offset)
}

// object reads the header of an object and checks its type and its size.
func (f *file) object(offset uint64, kind uint8, minimum uint64) (object, error) {
	if offset < f.header.headerSize || offset%8 != 0 {
		return object{}, fmt.Errorf("%w: offset %d", errCorrupt, offset)
	}
	b, err := f.bytes(offset, objectHeaderSize)
	if err != nil {
		return object{}, err
	}
	o := parseObject(b)
	if o.kind != kind || o.size < minimum || o.size > math.MaxInt64/2 {
		return object{}, fmt.Errorf("%w: type %d, %d bytes at %d, not type %d", errCorrupt, o.kind, o.size, offset, kind)
	}
	return o, nil
}

// openArray moves to the entry array at offset.
func (f *file) openArray(offset uint64) error {
	// journald appends arrays, so that the next one always lies behind this one;
	// offsets that lead back would never end.
	if offset < f.arrayEnd {
		return fmt.Errorf("%w: entry array at %d after the one at %d", errCorrupt, offset, f.array)
	}
	o, err := f.object(offset, objectEntryArray, entryArrayHeaderSize+f.header.itemSize())
	if err != nil {
		return err
	}
	f.array, f.arrayAt, f.chunk = offset, 0, f.chunk[:0]
	f.arrayEnd = offset + o.size
	f.arrayCap = (o.size - entryArrayHeaderSize) / f.header.itemSize()
	return nil
}

// nextArray moves to the array after the current one, or to the first.
func (f *file) nextArray() error {
	if f.array == 0 {
		return f.openArray(f.header.entryArray)
	}
	// Not through a window: it is written when the next array is there.
	var b [8]byte
	if _, err := f.in.ReadAt(b[:], int64(f.array+objectHeaderSize)); err != nil {
		return err
	}
	return f.openArray(binary.LittleEndian.Uint64(b[:]))
}

// skip moves over n entries without reading them.
func (f *file) skip(n uint64) error {
	n = min(n, f.header.entries-f.read)
	for n > 0 {
		if f.array == 0 || f.arrayAt == f.arrayCap {
			if err := f.nextArray(); err != nil {
				return err
			}
		}
		step := min(n, f.arrayCap-f.arrayAt)
		f.arrayAt += step
		f.chunk = f.chunk[:0]
		f.read += step
		n -= step
	}
	return nil
}

// nextOffset returns where the next entry is, without moving on.
func (f *file) nextOffset() (uint64, error) {
	if f.read >= f.header.entries {
		return 0, errEnd
	}
	if f.array == 0 || f.arrayAt == f.arrayCap {
		if err := f.nextArray(); err != nil {
			return 0, err
		}
	}
	size := f.header.itemSize()
	if len(f.chunk) == 0 {
		n := min(arrayChunk, f.arrayCap-f.arrayAt, f.header.entries-f.read)
		b := f.chunkBuffer[:n*size]
		read, err := f.in.ReadAt(b, int64(f.array+entryArrayHeaderSize+f.arrayAt*size))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if b = b[:uint64(read)/size*size]; len(b) == 0 {
			return 0, f.beyond(f.array, entryArrayHeaderSize)
		}
		f.chunk = b
	}
	return f.header.offsetAt(f.chunk), nil
}

// advance moves on from the entry that nextOffset returned.
func (f *file) advance() {
	f.arrayAt++
	f.read++
	f.chunk = f.chunk[f.header.itemSize():]
}

// next reads the next entry into e. The error is errEnd when all were read;
// an entryError when this entry cannot be read, and the one after it may be; anything
// else when nothing more can be read.
func (f *file) next(e *Entry) error {
	offset, err := f.nextOffset()
	if err != nil {
		return err
	}
	err = f.entry(offset, e)
	if errors.Is(err, errTruncated) {
		return err
	}
	f.advance()
	if err != nil {
		return entryError{err}
	}
	return nil
}

// entryError is the error of one entry of a file.
type entryError struct{ err error }

func (e entryError) Error() string { return e.err.Error() }
func (e entryError) Unwrap() error { return e.err }

// entry reads the entry at offset with all its fields.
func (f *file) entry(offset uint64, e *Entry) error {
	o, err := f.object(offset, objectEntry, entryHeaderSize)
	if err != nil {
		return err
	}
	itemSize := f.header.entryItemSize()
	count := (o.size - entryHeaderSize) / itemSize
	if count > maxEntryFields {
		return fmt.Errorf("%w: entry at %d with %d fields", errCorrupt, offset, count)
	}
	b, err := f.bytes(offset, entryHeaderSize)
	if err != nil {
		return err
	}
	f.parseEntry(b, e)
	if e.Seqnum == 0 || e.Realtime == 0 || e.Realtime > maxRealtime {
		return fmt.Errorf("%w: entry at %d: sequence number %d, time %d µs", errCorrupt, offset, e.Seqnum, e.Realtime)
	}
	if e.Realtime < f.since && f.read < f.old {
		return errOld
	}
	e.Fields = e.Fields[:0]
	room := max(maxEntry, f.maxField)
	// An item at a time, as reading a field may move the window.
	for i := range count {
		b, err := f.bytes(offset+entryHeaderSize+i*itemSize, itemSize)
		if err != nil {
			return err
		}
		field, err := f.field(f.header.offsetAt(b))
		if errors.Is(err, errTruncated) {
			return err
		}
		if err != nil {
			f.badFields++
			continue
		}
		if len(field.Value) > room {
			// Not a part of the text, which would be kept whole.
			field.Name, field.Value = strings.Clone(field.Name), strings.Clone(field.Value[:room])
			if !field.Truncated {
				f.cutFields++
			}
			field.Truncated = true
		}
		room -= len(field.Value)
		e.Fields = append(e.Fields, field)
	}
	if len(e.Fields) == 0 {
		return fmt.Errorf("%w: entry at %d has no field that can be read", errCorrupt, offset)
	}
	return nil
}

func (f *file) parseEntry(b []byte, e *Entry) {
	le := binary.LittleEndian
	e.Machine, e.Sequence = f.header.machine, f.header.sequence
	e.Seqnum = le.Uint64(b[16:])
	e.Realtime = le.Uint64(b[24:])
	e.Monotonic = le.Uint64(b[32:])
	copy(e.Boot[:], b[40:56])
	e.Hash = le.Uint64(b[56:])
}

// field reads the data object at offset.
func (f *file) field(offset uint64) (Field, error) {
	if field, ok := f.cached[offset]; ok {
		return field, nil
	}
	start := f.header.payload()
	o, err := f.object(offset, objectData, start+1)
	if err != nil {
		return Field{}, err
	}
	b, err := f.bytes(offset, start)
	if err != nil {
		return Field{}, err
	}
	shared := binary.LittleEndian.Uint64(b[56:]) > 1
	payload, cut, err := f.payload(offset+start, o.size-start, o.flags)
	if err != nil {
		return Field{}, err
	}
	field, err := splitField(payload)
	if err != nil {
		return Field{}, fmt.Errorf("%w at %d", err, offset)
	}
	if len(field.Value) > f.maxField {
		field.Value, cut = field.Value[:f.maxField], true
	}
	if field.Truncated = cut; cut {
		f.cutFields++
	}
	if shared && len(field.Value) <= maxCachedValue {
		f.keep(offset, field)
	}
	return field, nil
}

// payload returns a payload as it was before compression, at most the longest
// name and value that are read whole, and whether there is more of it.
func (f *file) payload(offset, size uint64, flags uint8) (payload []byte, cut bool, err error) {
	limit := uint64(f.maxField) + maxNameLen + 1
	if flags&(compressedXZ|compressedLZ4|compressedZSTD) == 0 {
		payload, err = f.bytes(offset, min(size, limit))
		return payload, size > limit, err
	}
	if flags&compressedLZ4 == 0 {
		size = min(size, limit+compressedMore)
	} else if size > maxLZ4 {
		return nil, false, errTooLarge
	}
	payload, err = f.bytes(offset, size)
	if err != nil {
		return nil, false, err
	}
	return f.decode.read(flags, payload, int(limit))
}

// keep adds a field to the cache, which is emptied when it is full.
func (f *file) keep(offset uint64, field Field) {
	if len(f.cached) >= maxCached || f.cachedBytes > maxCachedBytes {
		clear(f.cached)
		f.cachedBytes = 0
	}
	f.cached[offset] = field
	f.cachedBytes += len(field.Value) + len(field.Name)
}

// maxNameLen is the longest name that journald accepts.
const maxNameLen = 64

// splitField copies name and value out of a payload.
func splitField(payload []byte) (Field, error) {
	text := string(payload)
	name, value, ok := strings.Cut(text, "=")
	if !ok || name == "" || len(name) > maxNameLen {
		return Field{}, fmt.Errorf("%w: field without a name", errCorrupt)
	}
	return Field{Name: name, Value: value}, nil
}
