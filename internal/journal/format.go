package journal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Sizes and offsets of the file format. All numbers are little-endian; every
// object begins at a multiple of 8.
const (
	signature = "LPKSHHRH"
	// headerMinSize is the header of the first version of the format, headerSize
	// as much of newer ones as is used here.
	headerMinSize = 208
	headerSize    = 208

	objectHeaderSize     = 16
	entryHeaderSize      = 64
	entryArrayHeaderSize = 24
	dataHeaderSize       = 64
	dataHeaderCompact    = 72
)

// Types of objects.
const (
	objectData       = 1
	objectEntry      = 3
	objectEntryArray = 6
)

// Flags of a data object: how its payload is compressed.
const (
	compressedXZ   = 1
	compressedLZ4  = 2
	compressedZSTD = 4
)

// Incompatible flags of a file. Who does not know one of them must not read it.
const (
	flagCompact = 1 << 4
	flagsKnown  = 1<<5 - 1 // xz, lz4, keyed hash, zstd, compact
)

// States of a file.
const (
	stateOnline   = 1
	stateArchived = 2
)

// maxEntryFields is the largest number of fields that an entry may have; journald
// itself takes at most 1024 from a client and adds some of its own.
const maxEntryFields = 4096

// Errors of a file as a whole.
var (
	// ErrNotJournal is the error of a file that does not begin like a journal.
	ErrNotJournal = errors.New("not a journal file")
	// ErrUnsupported is the error of a file with a feature that is not known here.
	ErrUnsupported = errors.New("journal file with an unknown feature")
	// errCorrupt is the error of an object that is not what it should be.
	errCorrupt = errors.New("corrupt journal object")
	// errTruncated is the error of an object that should be there and is beyond
	// the end of the file: it was cut off, or is still being copied.
	errTruncated = errors.New("journal file ends too early")
)

// ID is a 128-bit identifier: of a machine, a boot, a file.
type ID [16]byte

// String returns the 32 hexadecimal digits that systemd prints.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says that the identifier is not set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what ParseID reads.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// ParseID reads 32 hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return ID{}, fmt.Errorf("%q is not 32 hexadecimal digits", s)
	}
	copy(id[:], b)
	return id, nil
}

// header is what is used of a file's header. Times are µs since 1970.
type header struct {
	state                             uint8
	compact                           bool
	file, machine, sequence           ID
	headerSize, arenaSize, tailObject uint64
	entries, entryArray               uint64
	tailSeqnum, headSeqnum            uint64
	headRealtime, tailRealtime        uint64
	// size is that of the whole file in bytes, 0 when it is not known.
	size uint64
}

// parseHeader reads the first bytes of a file.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerMinSize || string(b[:8]) != signature {
		return header{}, ErrNotJournal
	}
	le := binary.LittleEndian
	if flags := le.Uint32(b[12:]); flags&^flagsKnown != 0 {
		return header{}, fmt.Errorf("%w: incompatible flags %#x", ErrUnsupported, flags&^flagsKnown)
	}
	h := header{
		state:        b[16],
		compact:      le.Uint32(b[12:])&flagCompact != 0,
		headerSize:   le.Uint64(b[88:]),
		arenaSize:    le.Uint64(b[96:]),
		tailObject:   le.Uint64(b[136:]),
		entries:      le.Uint64(b[152:]),
		tailSeqnum:   le.Uint64(b[160:]),
		headSeqnum:   le.Uint64(b[168:]),
		entryArray:   le.Uint64(b[176:]),
		headRealtime: le.Uint64(b[184:]),
		tailRealtime: le.Uint64(b[192:]),
	}
	copy(h.file[:], b[24:])
	copy(h.machine[:], b[40:])
	copy(h.sequence[:], b[72:])
	if h.headerSize < headerMinSize || h.file.IsZero() {
		return header{}, fmt.Errorf("%w: header of %d bytes", ErrNotJournal, h.headerSize)
	}
	// A number that cannot be would be told as lost, or as the backlog.
	h.entries = min(h.entries, h.arenaSize/(entryHeaderSize+h.entryItemSize()))
	return h, nil
}

// plausibleEntries is how many entries there are, to be counted and not read: no
// more than the numbers that their writer gave out in the meantime. Where the header
// contradicts itself, no more than there is room for in what is there of the file; else it
// is believed, also of a file that was cut off.
func (h *header) plausibleEntries() uint64 {
	if span := h.tailSeqnum - h.headSeqnum; h.headSeqnum > 0 && h.tailSeqnum >= h.headSeqnum && span < h.entries {
		return span + 1
	}
	if h.size > 0 && !h.isSound() {
		return min(h.entries, h.size/(entryHeaderSize+h.entryItemSize()))
	}
	return h.entries
}

const (
	// maxHeader and maxArena bound what any journald has written: its header has some
	// hundred bytes, its files at most 4 GiB.
	maxHeader = 4096
	maxArena  = 1 << 40
)

// isSound says that the numbers of a header can belong together.
func (h *header) isSound() bool {
	return h.headerSize <= maxHeader && h.arenaSize <= maxArena &&
		h.tailObject >= h.headerSize && h.tailObject < h.headerSize+h.arenaSize &&
		h.headSeqnum > 0 && h.tailSeqnum >= h.headSeqnum && h.headRealtime <= maxRealtime && h.tailRealtime <= maxRealtime
}

// maxRealtime is a time in the year 3111, in µs since 1970.
const maxRealtime = 1 << 55

// isCut says that a file of that size ends before its last object.
func (h *header) isCut(size int64) bool { return uint64(max(size, 0)) < h.tailObject+objectHeaderSize }

// object is the header of any object.
type object struct {
	kind, flags uint8
	size        uint64
}

func parseObject(b []byte) object {
	return object{kind: b[0], flags: b[1], size: binary.LittleEndian.Uint64(b[8:])}
}

// itemSize is the size of one offset in an entry array.
func (h *header) itemSize() uint64 {
	if h.compact {
		return 4
	}
	return 8
}

// entryItemSize is the size of one item of an entry: an offset, and in regular
// files a hash.
func (h *header) entryItemSize() uint64 {
	if h.compact {
		return 4
	}
	return 16
}

// payload is where the payload of a data object begins.
func (h *header) payload() uint64 {
	if h.compact {
		return dataHeaderCompact
	}
	return dataHeaderSize
}

// offsetAt reads an offset of an entry or of an entry array.
func (h *header) offsetAt(b []byte) uint64 {
	if h.compact {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}
