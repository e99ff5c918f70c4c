//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"debug/buildinfo"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf"
	"golang.org/x/arch/x86/x86asm"

	"github.com/yairfalse/tapio/bpf"
)

// goroutineStart is where a Go program starts goroutines, as offsets in its file:
// an instruction of runtime.newproc1 that finds its arguments in their registers,
// and those that return from it. What is put in the place of its return address, as
// for C, the runtime would take for a damaged stack.
type goroutineStart struct {
	call    uint64
	returns []uint64
}

// newproc1 has been called that since before Go 1.17.
const newproc1 = "runtime.newproc1"

// Bounds of what is read of an executable to find that function.
const (
	maxFunctionTable = 256 << 20
	maxFunction      = 64 << 10
)

var (
	errNoNewproc1   = errors.New("no " + newproc1 + " in its tables of symbols and functions")
	errNotNewproc1  = errors.New("what its table of functions says of " + newproc1 + " is no function")
	errOldGo        = errors.New("goroutines are followed to those that they start from Go 1.18 on")
	errNoGoidOffset = errors.New("where a goroutine keeps its number is not known for this version of Go, and the program has no debugging information")
)

// readGoroutineStart finds it in executables with symbols and without.
func readGoroutineStart(f io.ReaderAt) (start *goroutineStart, err error) {
	defer func() {
		// The parsers are not written for hostile files.
		if problem := recover(); problem != nil {
			start, err = nil, fmt.Errorf("%w: %v", errNoNewproc1, problem)
		}
	}()
	build, err := buildinfo.Read(f)
	if err != nil {
		return nil, err
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return findGoroutineStart(file, build.GoVersion)
}

func findGoroutineStart(file *elf.File, version string) (*goroutineStart, error) {
	if m := releasedGo.FindStringSubmatch(version); m != nil {
		if minor, _ := strconv.Atoi(m[1]); minor < 18 { // 1.17 hands over the caller elsewhere
			return nil, errOldGo
		}
	}
	begin, end, err := functionOf(file, newproc1)
	if err != nil {
		return nil, err
	}
	if end <= begin || end-begin > maxFunction {
		return nil, fmt.Errorf("%s of %d bytes: %w", newproc1, end-begin, errNotNewproc1)
	}
	code, offset, err := codeAt(file, begin, end-begin)
	if err != nil {
		return nil, err
	}
	first, returns, err := probePoints(file.Machine, code)
	if err != nil {
		return nil, err
	}
	s := &goroutineStart{call: offset + uint64(first)}
	for _, at := range returns {
		s.returns = append(s.returns, offset+uint64(at))
	}
	return s, nil
}

// functionOf says at which addresses a function of a Go program begins and ends.
func functionOf(file *elf.File, name string) (begin, end uint64, err error) {
	symbols, err := file.Symbols()
	if err == nil {
		for _, s := range symbols {
			if s.Name == name && s.Size > 0 {
				return s.Value, s.Value + s.Size, nil
			}
		}
	}
	return functionOfTable(file, name)
}

// functionOfTable reads the table by which the runtime itself knows its functions:
// it is there in a stripped program too.
func functionOfTable(file *elf.File, name string) (begin, end uint64, err error) {
	section := file.Section(".gopclntab")
	if section == nil {
		section = file.Section(".data.rel.ro.gopclntab") // of position-independent executables
	}
	text := file.Section(".text")
	if section == nil || text == nil || section.Size > maxFunctionTable {
		return 0, 0, errNoNewproc1
	}
	data, err := section.Data()
	if err != nil {
		return 0, 0, err
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, textStart(data, text.Addr)))
	if err != nil {
		return 0, 0, err
	}
	f := table.LookupFunc(name)
	if f == nil {
		return 0, 0, errNoNewproc1
	}
	return f.Entry, f.End, nil
}

// textStart is what addresses in a table of functions are relative to. Programs
// that a C linker has linked have something else before it; the table itself says
// it from Go 1.18 to 1.25, if it is not for the dynamic linker to fill in.
func textStart(table []byte, section uint64) uint64 {
	const at = 8 + 2*8
	if len(table) >= at+8 {
		if start := binary.LittleEndian.Uint64(table[at:]); start > section && start < section+maxFunction {
			return start
		}
	}
	return section
}

// codeAt reads the machine code at an address, and says where in the file that is.
func codeAt(file *elf.File, address, size uint64) (code []byte, offset uint64, err error) {
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_X == 0 || address < p.Vaddr || address-p.Vaddr > p.Filesz || size > p.Filesz-(address-p.Vaddr) {
			continue
		}
		code = make([]byte, size)
		if _, err := p.ReadAt(code, int64(address-p.Vaddr)); err != nil {
			return nil, 0, err
		}
		return code, p.Off + address - p.Vaddr, nil
	}
	return nil, 0, errNotNewproc1
}

// probePoints finds in a function of Go an instruction before anything is done, and
// those that return from it. A probe that is not on the first byte of an instruction
// would break the program: code of which anything cannot be decoded, or which does
// not begin as functions of Go do, is refused.
func probePoints(machine elf.Machine, code []byte) (first int, returns []int, err error) {
	switch machine {
	case elf.EM_X86_64:
		first, returns, err = probePointsAMD64(code)
	case elf.EM_AARCH64:
		returns, err = returnsOfARM64(code)
	default:
		return 0, nil, fmt.Errorf("machine code of %s: %w", machine, errNotNewproc1)
	}
	if err == nil && len(returns) == 0 {
		err = fmt.Errorf("it never returns: %w", errNotNewproc1)
	}
	return first, returns, err
}

// probePointsAMD64: functions of Go begin with a look at the bound of the stack, and a
// branch if that is reached. The kernel emulates a branch, which takes a tenth of
// the time that another instruction would, of which it must run a copy.
func probePointsAMD64(code []byte) (first int, returns []int, err error) {
	var before x86asm.Inst
	for at, n := 0, 0; at < len(code); n++ {
		ins, err := x86asm.Decode(code[at:], 64)
		if err != nil || ins.Op == 0 {
			return 0, nil, fmt.Errorf("no instruction at %d: %w", at, errNotNewproc1)
		}
		bound, ok := before.Args[1].(x86asm.Mem)
		if n <= 2 && ins.Op == x86asm.JBE && before.Op == x86asm.CMP && ok && bound.Base == x86asm.R14 {
			first = at
		}
		if ins.Op == x86asm.RET {
			returns = append(returns, at)
		}
		at += ins.Len
		before = ins
	}
	if first == 0 {
		return 0, nil, fmt.Errorf("it does not look at the bound of its stack: %w", errNotNewproc1)
	}
	return first, returns, nil
}

// Instructions of arm64: ret (of x30), and ldr x16, [x28, #16] with which functions
// begin.
const (
	arm64Ret       = 0xd65f03c0
	arm64LoadBound = 0xf9400b90
)

func returnsOfARM64(code []byte) (offsets []int, err error) {
	for at := 0; at+4 <= len(code); at += 4 {
		word := binary.LittleEndian.Uint32(code[at:])
		if at == 0 && word != arm64LoadBound {
			return nil, fmt.Errorf("it begins with %#x: %w", word, errNotNewproc1)
		}
		if word == arm64Ret {
			offsets = append(offsets, at)
		}
	}
	return offsets, nil
}

// goroutinePrograms have the tracer follow goroutines. They wait for executables in
// which to run.
func goroutinePrograms() []program {
	return []program{
		{name: bpf.HTTPProgHttpGoroutineReturn, load: bpf.LoadHTTP, configure: needLoop, attached: func(k *kernel, p *runningProgram) {
			k.tracer.goroutineReturn = p.program
		}},
		{name: bpf.HTTPProgHttpGoroutineCall, load: bpf.LoadHTTP, configure: needLoop, attached: func(k *kernel, p *runningProgram) {
			k.tracer.goroutineCall = p.program
		}},
	}
}

// followGoroutines has the goroutines of a process followed to those that they start.
func (r *tracer) followGoroutines(who processInfo, goidOffset uint32) error {
	if r.goroutineCall == nil || r.goroutineReturn == nil {
		return nil
	}
	f, err := os.Open(filepath.Join(r.executables.proc, strconv.FormatUint(uint64(who.pid), 10), "exe"))
	if err != nil {
		return err
	}
	defer f.Close()
	return r.probes.use(who, f, func() ([]uprobe, error) {
		if goidOffset == 0 {
			return nil, errNoGoidOffset
		}
		start, err := readGoroutineStart(f)
		if err != nil {
			return nil, err
		}
		return start.probes(r.goroutineCall, r.goroutineReturn, goidOffset), nil
	})
}

// probes are those at its returns first: what returns without having been called is
// passed over.
func (s *goroutineStart) probes(call, ret *ebpf.Program, goidOffset uint32) (all []uprobe) {
	for _, at := range append(slices.Clone(s.returns), s.call) {
		p := uprobe{program: ret, offset: at, cookie: uint64(goidOffset)}
		if at == s.call {
			p.program = call
		}
		all = append(all, p)
	}
	return all
}
