//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/bpf"
)

// tlsFunctions are those of OpenSSL that move what is not encrypted, and the one that
// shows on which socket that will be; with their cookies: TLS_WRITES, TLS_EX and
// TLS_SHAKES in tls.h.
var tlsFunctions = []struct {
	name   string
	cookie uint64
}{{"SSL_read", 0}, {"SSL_write", 1}, {"SSL_read_ex", 2}, {"SSL_write_ex", 3}, {"SSL_do_handshake", 4}}

// sslFree ends a connection of OpenSSL.
const sslFree = "SSL_free"

// libssl matches the names of OpenSSL's library, also as Python's wheels rename it;
// libssl3.so is that of NSS, which is another one.
var libssl = regexp.MustCompile(`^libssl(-[0-9a-zA-Z.]+)?\.so`)

var errNoTLSFunctions = errors.New("no SSL_read and SSL_write in its tables of symbols")

// maxSymbols bounds each table of symbols, and of their names, that is read of a file.
const maxSymbols = 64 << 20

// readTLSFunctions says where in an executable or library those functions begin, by name.
func readTLSFunctions(f io.ReaderAt) (at map[string]uint64, err error) {
	defer func() {
		// The parser is not written for hostile files.
		if problem := recover(); problem != nil {
			at, err = nil, fmt.Errorf("%w: %v", errNoTLSFunctions, problem)
		}
	}()
	file, err := elf.NewFile(f)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	at = map[string]uint64{}
	for _, table := range []struct {
		section elf.SectionType
		symbols func() ([]elf.Symbol, error)
	}{{elf.SHT_DYNSYM, file.DynamicSymbols}, {elf.SHT_SYMTAB, file.Symbols}} {
		if s := file.SectionByType(table.section); s == nil || s.Size > maxSymbols || int(s.Link) >= len(file.Sections) || file.Sections[s.Link].Size > maxSymbols {
			continue
		}
		symbols, err := table.symbols()
		if err != nil {
			continue // it is damaged: perhaps the other one is not
		}
		addTLSFunctions(at, file, symbols)
		if hasTLSFunctions(at) {
			return at, nil
		}
	}
	return nil, errNoTLSFunctions
}

func hasTLSFunctions(at map[string]uint64) bool {
	_, reads := at["SSL_read"]
	_, writes := at["SSL_write"]
	return reads && writes
}

func addTLSFunctions(at map[string]uint64, file *elf.File, symbols []elf.Symbol) {
	wanted := func(name string) bool {
		for _, f := range tlsFunctions {
			if f.name == name {
				return true
			}
		}
		return name == sslFree
	}
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF || elf.ST_TYPE(s.Info) != elf.STT_FUNC || !wanted(s.Name) {
			continue
		}
		if _, offset, err := codeAt(file, s.Value, 1); err == nil {
			at[s.Name] = offset
		}
	}
}

// tlsProbes puts the programs of the group tls into OpenSSL where processes that serve
// HTTP have it. Used by the tracer's goroutine only, but counts and close.
type tlsProbes struct {
	log             *zap.Logger
	proc            string
	probes          *uprobes
	call, ret, free *ebpf.Program
	// executables says of those that were read whether OpenSSL is in them.
	executables map[executableKey]bool
	// waiting are processes that have not loaded OpenSSL, since when they are known.
	waiting map[processInfo]time.Time
}

// Bounds of those that wait, and for how long it is looked again.
const (
	maxWaitingForTLS = 1024
	waitForTLS       = time.Minute
)

func newTLSProbes(proc string, log *zap.Logger) *tlsProbes {
	return &tlsProbes{log: log, proc: proc, probes: newUprobes(), executables: map[executableKey]bool{}, waiting: map[processInfo]time.Time{}}
}

// follow puts probes into the OpenSSL of a process, or looks again later.
func (p *tlsProbes) follow(who processInfo) {
	if p.call == nil || p.ret == nil || p.free == nil {
		return
	}
	if p.use(who) {
		delete(p.waiting, who)
	} else if _, ok := p.waiting[who]; !ok && len(p.waiting) < maxWaitingForTLS {
		p.waiting[who] = time.Now()
	}
}

// lookAgain follows what has loaded OpenSSL since, and takes the probes out of what
// nobody runs any more.
func (p *tlsProbes) lookAgain(runs func(processInfo) bool) {
	for who, since := range p.waiting {
		if time.Since(since) > waitForTLS || !runs(who) || p.use(who) {
			delete(p.waiting, who)
		}
	}
	p.probes.sweep(runs)
}

// use says whether a process has OpenSSL, probed or not.
func (p *tlsProbes) use(who processInfo) bool {
	folder := filepath.Join(p.proc, strconv.FormatUint(uint64(who.pid), 10))
	maps, err := readAtMost(filepath.Join(folder, "maps"), maxMapsRead)
	if err != nil {
		return false
	}
	found := false
	for _, library := range mappedLibraries(maps) {
		f, err := openMapped(folder, library)
		if err != nil {
			p.log.Warn("TLS of this program is not seen", zap.String("program", who.name()), zap.Uint32("pid", who.pid), zap.String("library", library.path), zap.Error(err))
			continue
		}
		found = true
		p.probe(who, f, library.path)
		_ = f.Close()
	}
	f, err := os.Open(filepath.Join(folder, "exe"))
	if err != nil {
		return found
	}
	defer f.Close()
	if p.isLinked(f) {
		found = true
		p.probe(who, f, "its executable")
	}
	return found
}

func (p *tlsProbes) probe(who processInfo, f *os.File, name string) {
	err := p.probes.use(who, f, func() ([]uprobe, error) {
		at, err := readTLSFunctions(f)
		if err != nil {
			return nil, err
		}
		return p.uprobes(at), nil
	})
	if err != nil {
		p.log.Warn("TLS of this program is not seen", zap.String("program", who.name()), zap.Uint32("pid", who.pid), zap.String("library", name), zap.Error(err))
	}
}

// uprobes are those at the returns first: what returns without having been called is
// passed over.
func (p *tlsProbes) uprobes(at map[string]uint64) (all []uprobe) {
	for _, f := range tlsFunctions {
		if offset, ok := at[f.name]; ok {
			all = append(all, uprobe{program: p.ret, offset: offset, atReturn: true})
		}
	}
	for _, f := range tlsFunctions {
		if offset, ok := at[f.name]; ok {
			all = append(all, uprobe{program: p.call, offset: offset, cookie: f.cookie})
		}
	}
	if offset, ok := at[sslFree]; ok {
		all = append(all, uprobe{program: p.free, offset: offset})
	}
	return all
}

// isLinked says whether OpenSSL is a part of an executable, which is read once.
func (p *tlsProbes) isLinked(f *os.File) bool {
	key, err := keyOfFile(f)
	if err != nil {
		return false
	}
	is, ok := p.executables[key]
	if !ok {
		_, err := readTLSFunctions(f)
		is = err == nil
		if len(p.executables) >= maxExecutables {
			clear(p.executables)
		}
		p.executables[key] = is
	}
	return is
}

// mapping is code that a process has mapped: where, and of which file.
type mapping struct{ addresses, path string }

// deleted is what the kernel says of a file that has no name any more.
const deleted = " (deleted)"

// mappedLibraries finds OpenSSL in /proc/PID/maps.
func mappedLibraries(maps []byte) (all []mapping) {
	for line := range bytes.Lines(maps) {
		const columns = 6 // addresses, rights, offset, device, inode, path
		fields := strings.SplitN(strings.TrimRight(string(line), "\n"), " ", columns)
		if len(fields) < columns || len(fields[1]) < 3 || fields[1][2] != 'x' {
			continue
		}
		path := strings.TrimLeft(fields[columns-1], " ")
		if libssl.MatchString(filepath.Base(strings.TrimSuffix(path, deleted))) {
			all = append(all, mapping{fields[0], path})
		}
	}
	return all
}

// openMapped opens the very file that is mapped: by the mapping where that is allowed,
// else by its name as the process sees it.
func openMapped(folder string, m mapping) (*os.File, error) {
	f, err := os.Open(filepath.Join(folder, "map_files", m.addresses))
	if err == nil || strings.HasSuffix(m.path, deleted) {
		return f, err
	}
	return os.Open(filepath.Join(folder, "root", m.path))
}

// tlsPrograms have the tracer look into OpenSSL. They wait for files in which to run.
func tlsPrograms() []program {
	attached := func(set func(*tlsProbes, *ebpf.Program)) func(*kernel, *runningProgram) {
		return func(k *kernel, p *runningProgram) { set(k.tracer.tls, p.program) }
	}
	return []program{
		{name: bpf.HTTPProgHttpTlsFree, load: bpf.LoadHTTP, attached: attached(func(t *tlsProbes, p *ebpf.Program) { t.free = p })},
		{name: bpf.HTTPProgHttpTlsReturn, load: bpf.LoadHTTP, configure: needLoop, attached: attached(func(t *tlsProbes, p *ebpf.Program) { t.ret = p })},
		{name: bpf.HTTPProgHttpTlsCall, load: bpf.LoadHTTP, attached: attached(func(t *tlsProbes, p *ebpf.Program) { t.call = p })},
	}
}
