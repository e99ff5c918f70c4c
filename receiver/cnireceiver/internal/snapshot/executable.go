package snapshot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// executableProblem says why the kernel runs no such file, "" when it may. It looks at
// nothing else: whether there is an interpreter, or another machine's programs can be
// run, is seen differently by the host and by a collector in a container.
func executableProblem(f io.ReaderAt, size int64) string {
	head := make([]byte, elf.EI_NIDENT)
	n, err := f.ReadAt(head, 0)
	switch {
	case err != nil && n == 0:
		return ""
	case bytes.HasPrefix(head, []byte("#!")):
		return ""
	case !bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return "it is neither a program (ELF) nor a script (#!)"
	case elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64:
		return ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	if end, ok := programEnd(f, order); !ok || end > uint64(size) {
		return "it is cut short"
	}
	return ""
}

// maxSegments bounds what is read of a file; programs have about ten.
const maxSegments = 1024

// programEnd is where the last of what is loaded of a 64-bit program ends in its file;
// false when not even its headers are there.
func programEnd(f io.ReaderAt, order binary.ByteOrder) (uint64, bool) {
	var header elf.Header64
	if binary.Read(io.NewSectionReader(f, 0, int64(binary.Size(header))), order, &header) != nil {
		return 0, false
	}
	segments := make([]elf.Prog64, min(header.Phnum, maxSegments))
	at := int64(header.Phoff)
	if binary.Read(io.NewSectionReader(f, at, int64(binary.Size(segments))), order, segments) != nil {
		return 0, false
	}
	var end uint64
	for _, s := range segments {
		if elf.ProgType(s.Type) == elf.PT_LOAD && s.Filesz > 0 {
			end = max(end, s.Off+s.Filesz)
		}
	}
	return end, true
}
