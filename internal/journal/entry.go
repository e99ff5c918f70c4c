package journal

import (
	"cmp"
	"encoding/hex"
	"strconv"
)

// Field is one field of an entry. A name may occur more than once.
type Field struct {
	// Name is in upper case; what begins with "_" was added by journald and
	// cannot be forged by a client.
	Name string
	// Value may be any bytes.
	Value string
	// Truncated says that Value is only the beginning.
	Truncated bool
}

// Entry is one entry of the journal.
type Entry struct {
	// Machine wrote the file. Sequence and Seqnum order the entries of one writer.
	Machine, Sequence, Boot ID
	Seqnum                  uint64
	// Realtime is when journald received it, in µs since 1970; Monotonic is the
	// same in µs since the boot.
	Realtime, Monotonic uint64
	// Hash is over all fields.
	Hash uint64
	// Fields are in the order of the file.
	Fields []Field
}

// Get returns the value of the first field of that name, "" when there is none.
func (e *Entry) Get(name string) string {
	for i := range e.Fields {
		if e.Fields[i].Name == name {
			return e.Fields[i].Value
		}
	}
	return ""
}

// Cursor returns the entry's cursor as journalctl prints it (__CURSOR) and takes
// it (--cursor).
func (e *Entry) Cursor() string {
	b := make([]byte, 0, 160)
	b = append(b, "s="...)
	b = hex.AppendEncode(b, e.Sequence[:])
	b = append(b, ";i="...)
	b = strconv.AppendUint(b, e.Seqnum, 16)
	b = append(b, ";b="...)
	b = hex.AppendEncode(b, e.Boot[:])
	b = append(b, ";m="...)
	b = strconv.AppendUint(b, e.Monotonic, 16)
	b = append(b, ";t="...)
	b = strconv.AppendUint(b, e.Realtime, 16)
	b = append(b, ";x="...)
	b = strconv.AppendUint(b, e.Hash, 16)
	return string(b)
}

// compareEntries orders entries as journalctl does: by sequence number when one
// writer numbered both, else by the clock of the boot when they are of the same,
// else by the time of day.
func compareEntries(a, b *Entry) int {
	if a.Sequence == b.Sequence && a.Seqnum != b.Seqnum {
		return cmp.Compare(a.Seqnum, b.Seqnum)
	}
	if a.Boot == b.Boot && a.Monotonic != b.Monotonic {
		return cmp.Compare(a.Monotonic, b.Monotonic)
	}
	if c := cmp.Compare(a.Realtime, b.Realtime); c != 0 {
		return c
	}
	return cmp.Compare(a.Hash, b.Hash)
}
