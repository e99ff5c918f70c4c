package snapshot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// machines are those whose programs the kernel of a Go architecture runs by itself: the
// 32-bit ones of its processor, too.
var machines = map[string][]elf.Machine{
	"amd64": {elf.EM_X86_64, elf.EM_386},
	"arm64": {elf.EM_AARCH64, elf.EM_ARM},
}

// binfmt is where the kernel lists the interpreters that it runs other machines' programs by.
const binfmt = "/proc/sys/fs/binfmt_misc"

// interpreters says that some interpreter is registered there.
func (r *Reader) interpreters() bool {
	entries, err := os.ReadDir(r.host(binfmt))
	return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != "register" && e.Name() != "status" })
}

// executableProblem says why the kernel runs no such file, "" when it may. It looks at
// nothing else: whether there is an interpreter of a script, or a library, is seen
// differently by the host and by a collector in a container. interpreters says that
// another machine's programs may run.
func executableProblem(f io.ReaderAt, size int64, interpreters bool) string {
	head := make([]byte, elf.EI_NIDENT+4) // and e_type, e_machine
	n, err := f.ReadAt(head, 0)
	switch {
	case err != nil && n == 0:
		return ""
	case bytes.HasPrefix(head, []byte("#!")):
		return ""
	case !bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return "it is neither a program (ELF) nor a script (#!)"
	case n < len(head):
		return "it is cut short"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	machine := elf.Machine(order.Uint16(head[elf.EI_NIDENT+2:]))
	if own := machines[runtime.GOARCH]; len(own) > 0 && !slices.Contains(own, machine) && !interpreters {
		return fmt.Sprintf("it is a program for another processor (%s, not %s)", machineName(machine), machineName(own[0]))
	}
	if elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return ""
	}
	if end, ok := programEnd(f, order); !ok || end > uint64(size) {
		return "it is cut short"
	}
	return ""
}

// machineName is the name of a processor as uname(1) has it.
func machineName(m elf.Machine) string { return strings.ToLower(strings.TrimPrefix(m.String(), "EM_")) }

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
