//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"debug/buildinfo"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// runtimeKind is what runs in a process: it decides how requests are told apart.
type runtimeKind uint32

const (
	runtimeGo runtimeKind = iota + 1
	runtimeNode
	runtimeOther
)

// traceeInfo is what the kernel programs must know of a process that serves HTTP.
type traceeInfo struct {
	runtime runtimeKind
	// goidOffset is where in a goroutine's descriptor its number is; 0 when that is
	// not known, and then no event of the process has a request.
	goidOffset uint32
	// curgOffset is where in a thread's descriptor its goroutine is; 0 when that is
	// not known.
	curgOffset uint32
	// hasSDK says that it makes spans itself, or may.
	hasSDK bool
	// isSDKKnown: there is no doubt, since a Go program lists its modules.
	isSDKKnown bool
}

// executables inspects processes by their executables. What was found of one is
// kept, since many processes may run the same.
type executables struct {
	proc  string // /proc
	known map[executableKey]traceeInfo
}

// executableKey identifies a file, and its content by size and time.
type executableKey struct {
	device, inode   uint64
	size, timestamp int64
}

// maxExecutables bounds what is kept; then it begins anew.
const maxExecutables = 512

func newExecutables(proc string) *executables {
	return &executables{proc: proc, known: map[executableKey]traceeInfo{}}
}

// inspect looks at a process.
func (e *executables) inspect(pid uint32) (traceeInfo, error) {
	folder := filepath.Join(e.proc, strconv.FormatUint(uint64(pid), 10))
	f, err := os.Open(filepath.Join(folder, "exe"))
	if err != nil {
		return traceeInfo{}, err
	}
	defer f.Close()
	info, err := e.executable(f)
	if err != nil || info.isSDKKnown {
		return info, err
	}
	environ, err := readAtMost(filepath.Join(folder, "environ"), maxEnviron)
	if err != nil {
		return traceeInfo{}, err
	}
	maps, err := readAtMost(filepath.Join(folder, "maps"), maxMapsRead)
	if err != nil {
		return traceeInfo{}, err
	}
	if info.runtime == runtimeOther && bytes.Contains(maps, []byte("/libnode.so")) {
		info.runtime = runtimeNode
	}
	info.hasSDK = info.hasSDK || environNamesSDK(environ) || mapsNameSDK(maps)
	return info, nil
}

// maxMapsRead bounds what is read of /proc/PID/maps.
const maxMapsRead = 4 << 20

func readAtMost(name string, n int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}

func (e *executables) executable(f *os.File) (traceeInfo, error) {
	key, err := keyOfFile(f)
	if err != nil {
		return traceeInfo{}, err
	}
	if exe, ok := e.known[key]; ok {
		return exe, nil
	}
	exe := readExecutable(f)
	if len(e.known) >= maxExecutables {
		clear(e.known)
	}
	e.known[key] = exe
	return exe, nil
}

func keyOfFile(f *os.File) (executableKey, error) {
	info, err := f.Stat()
	if err != nil {
		return executableKey{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return executableKey{}, fmt.Errorf("%s has no inode", f.Name())
	}
	return executableKey{stat.Dev, stat.Ino, info.Size(), info.ModTime().UnixNano()}, nil
}

// readExecutable tells what an executable is. Whatever the file holds, it does
// not fail: what cannot be read is "other".
func readExecutable(f io.ReaderAt) (info traceeInfo) {
	info.runtime = runtimeOther
	defer func() {
		// The parsers of the standard library are not written for hostile files.
		if recover() != nil {
			info = traceeInfo{runtime: runtimeOther}
		}
	}()
	build, err := buildinfo.Read(f)
	if err == nil {
		info.runtime = runtimeGo
		info.hasSDK, info.isSDKKnown = modulesHaveSDK(build), build.Main.Path != ""
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return info
	}
	defer file.Close()
	if build != nil {
		info.goidOffset, info.curgOffset = offsetsOf(file, build.GoVersion)
		return info
	}
	if isNode(file) {
		info.runtime = runtimeNode
	}
	return info
}

// isNode says that an executable is Node.js: it exports the embedder API that its
// addons are linked against.
func isNode(file *elf.File) bool {
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return false
	}
	hasNode, hasLibuv := false, false
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF {
			continue
		}
		hasNode = hasNode || s.Name == "napi_create_function"
		hasLibuv = hasLibuv || s.Name == "uv_run"
	}
	return hasNode && hasLibuv
}

// sdkModules are Go modules that make spans of requests.
var sdkModules = []string{
	"go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/auto", "gopkg.in/DataDog/dd-trace-go", "github.com/DataDog/dd-trace-go",
	"go.opencensus.io", "github.com/openzipkin/zipkin-go", "github.com/uber/jaeger-client-go", "go.elastic.co/apm",
	"github.com/newrelic/go-agent", "github.com/getsentry/sentry-go", "github.com/honeycombio/beeline-go",
}

func modulesHaveSDK(build *buildinfo.BuildInfo) bool {
	for _, m := range build.Deps {
		for _, sdk := range sdkModules {
			if m.Path == sdk || strings.HasPrefix(m.Path, sdk+"/") || strings.HasPrefix(m.Path, sdk+".") {
				return true
			}
		}
	}
	return false
}

// environNamesSDK says that somebody configured an OpenTelemetry SDK for a
// process, or made its runtime load one.
func environNamesSDK(environ []byte) bool {
	found := false
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, _ := strings.Cut(string(variable), "=")
		switch {
		case name == "OTEL_SDK_DISABLED" && strings.EqualFold(value, "true"), name == "OTEL_TRACES_EXPORTER" && value == "none":
			return false
		case strings.HasPrefix(name, "OTEL_"), strings.HasPrefix(name, "DD_TRACE_"), strings.HasPrefix(name, "ELASTIC_APM_"):
			found = true
		case strings.Contains(strings.ToLower(value), "opentelemetry"):
			// NODE_OPTIONS, JAVA_TOOL_OPTIONS, PYTHONPATH, CORECLR_PROFILER_PATH, ...
			found = true
		}
	}
	return found
}

// mapsNameSDK says that a process has mapped an agent, or the process context that
// SDKs publish (OTEP 4719).
func mapsNameSDK(maps []byte) bool {
	return bytes.Contains(maps, []byte("OTEL_CTX")) || bytes.Contains(bytes.ToLower(maps), []byte("opentelemetry"))
}

// releasedGo are the versions of Go whose layout of runtime.g is the same in all
// builds: releases, their candidates, and those with a vendor's suffix.
var releasedGo = regexp.MustCompile(`^go1\.(\d+)(\.\d+|rc\d+)?$`)

// offsetsOf are the offsets of runtime.g.goid and runtime.m.curg on 64-bit machines,
// 0 where they are not known: by version, which is quick; by debugging information,
// where it is there, for versions that are newer than this table or no releases.
func offsetsOf(file *elf.File, version string) (goid, curg uint32) {
	if m := releasedGo.FindStringSubmatch(version); m != nil {
		minor, _ := strconv.Atoi(m[1])
		if goid, curg = offsetsOfVersion(minor); goid != 0 {
			return goid, curg
		}
	}
	return offsetFromDWARF(file, "runtime.g", "goid"), offsetFromDWARF(file, "runtime.m", "curg")
}

// offsetsOfVersion knows the layouts from src/runtime/runtime2.go. From 1.17 on
// the goroutine is in a register. 1.23 put syscallbp before goid, 1.25 took ret out
// of the gobuf before it, and out of that before curg.
func offsetsOfVersion(minor int) (goid, curg uint32) {
	switch minor {
	case 17, 18, 19, 20, 21, 22:
		return 152, 192
	case 23, 24:
		return 160, 192
	case 25, 26:
		return 152, 184
	}
	return 0, 0
}

// maxDebugInfo bounds the debugging information that is read of one executable.
const maxDebugInfo = 256 << 20

// offsetFromDWARF is the offset of a member of a structure of the runtime, 0 when it
// cannot be found.
func offsetFromDWARF(file *elf.File, structure, member string) uint32 {
	size := uint64(0)
	for _, s := range file.Sections {
		if strings.HasPrefix(s.Name, ".debug_") || strings.HasPrefix(s.Name, ".zdebug_") {
			size += s.Size
		}
	}
	if size == 0 || size > maxDebugInfo {
		return 0
	}
	data, err := file.DWARF()
	if err != nil {
		return 0
	}
	r := data.Reader()
	for {
		entry, err := r.Next()
		if err != nil || entry == nil {
			return 0
		}
		name, _ := entry.Val(dwarf.AttrName).(string)
		switch {
		case entry.Tag == dwarf.TagCompileUnit && name == "runtime":
			continue // look at what is in it
		case entry.Tag == dwarf.TagStructType && name == structure:
			return memberOffset(data, entry, member)
		}
		r.SkipChildren()
	}
}

func memberOffset(data *dwarf.Data, entry *dwarf.Entry, member string) uint32 {
	t, err := data.Type(entry.Offset)
	if err != nil {
		return 0
	}
	s, ok := t.(*dwarf.StructType)
	if !ok {
		return 0
	}
	for _, f := range s.Field {
		if f.Name == member && f.ByteOffset > 0 && f.ByteOffset < 4096 {
			return uint32(f.ByteOffset)
		}
	}
	return 0
}
