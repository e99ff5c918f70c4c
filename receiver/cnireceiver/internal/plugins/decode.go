//go:build linux && (amd64 || arm64)

package plugins

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
)

// headerSize is how far a record must reach for its kind to be read.
const headerSize = 16

var errShortRecord = errors.New("record is too short")

// decode reads one record of the ring buffer. The error says what is wrong with
// its bytes; nothing of raw is kept.
func decode(raw []byte) (operation.Record, error) {
	if len(raw) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errShortRecord, len(raw), headerSize)
	}
	switch kind := bpf.CNICniKind(binary.NativeEndian.Uint32(raw[8:])); kind {
	case bpf.CNICniKindTAPIO_CNI_EXEC:
		return decodeAs(raw, decodeExec)
	case bpf.CNICniKindTAPIO_CNI_DATA:
		return decodeAs(raw, decodeData)
	case bpf.CNICniKindTAPIO_CNI_EXIT:
		return decodeAs(raw, decodeExit)
	default:
		return nil, fmt.Errorf("record has the unknown kind %d", kind)
	}
}

// decodeAs copies the bytes into the type that bpf2go made of the C struct:
// same machine, same layout.
func decodeAs[R any](raw []byte, read func(*R) operation.Record) (operation.Record, error) {
	var rec R
	size := int(unsafe.Sizeof(rec))
	if len(raw) < size {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errShortRecord, len(raw), size)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&rec)), size), raw)
	return read(&rec), nil
}

func decodeID(id bpf.CNICniProcess) operation.ID {
	return operation.ID{PID: id.Tgid, Start: id.Start}
}

func decodeExec(r *bpf.CNICniExecRecord) operation.Record {
	return operation.Exec{
		At: r.Header.Time, ID: decodeID(r.Id), Parent: r.Id.Parent,
		PID: r.Process.Pid, ParentPID: r.Process.Parent,
		Path: text(r.Path[:]), Dir: directory(r),
		Env: bytes.Clone(r.Env[:min(int(r.EnvLen), len(r.Env))]),
	}
}

func decodeData(r *bpf.CNICniDataRecord) operation.Record {
	return operation.Data{
		At: r.Header.Time, ID: decodeID(r.Id), Stream: operation.Stream(r.Stream), Offset: int(r.Offset),
		Bytes: bytes.Clone(r.Data[:min(int(r.Len), len(r.Data))]), More: r.More != 0,
	}
}

func decodeExit(r *bpf.CNICniExitRecord) operation.Record {
	return operation.Exit{At: r.Header.Time, ID: decodeID(r.Id), Status: uint32(r.Code)}
}

// directory is where a relative path begins, "" when that is not known.
func directory(r *bpf.CNICniExecRecord) string {
	names := strings.Split(string(r.Cwd[:min(int(r.CwdLen), len(r.Cwd))]), "\x00")
	if len(names) < 2 && r.IsRoot == 0 {
		return ""
	}
	slices.Reverse(names) // what follows the last NUL comes first and is empty
	return "/" + strings.Join(names[1:], "/")
}

// text reads up to the first NUL.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
