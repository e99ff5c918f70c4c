package ebpfreceiver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
)

// The process context of OTEP 4719, by which SDKs publish their resource in the
// process's own memory: a mapping of this name, which begins with a header.
const (
	contextName       = "OTEL_CTX"
	contextSignature  = "OTEL_CTX"
	contextVersion    = 2
	contextHeaderSize = 32
	// maxContext bounds the payload; a resource takes some hundred bytes.
	maxContext = 64 << 10
	// maxMaps bounds what is read of a list of mappings: the kernel's default of
	// 65530 of them is less.
	maxMaps = 8 << 20
	// contextTries is how often a context is read that is being written.
	contextTries = 3
)

var (
	errNoContext        = errors.New("process context is none, or of another version")
	errContextMalformed = errors.New("process context is malformed")
	errContextChanging  = errors.New("process context changes all the time")
)

// readContext reads the service that a process publishes; the name is empty when
// it publishes none.
func (s *services) readContext(pid uint32) (serviceName, error) {
	maps, err := os.Open(s.file(pid, "maps"))
	if err != nil {
		return serviceName{}, err
	}
	defer maps.Close()
	addresses, err := contextMappings(io.LimitReader(maps, maxMaps))
	if err != nil || len(addresses) == 0 {
		return serviceName{}, err
	}
	mem, err := os.Open(s.file(pid, "mem"))
	if err != nil {
		return serviceName{}, err
	}
	defer mem.Close()
	for _, address := range addresses {
		payload, err := contextPayload(mem, address)
		if errors.Is(err, errNoContext) {
			continue
		}
		if err != nil {
			return serviceName{}, err
		}
		return parseContext(payload)
	}
	return serviceName{}, nil
}

// contextMappings finds in a /proc/PID/maps where mappings of the context begin.
// The kernel names a memfd "/memfd:OTEL_CTX (deleted)" and anonymous memory
// "[anon:OTEL_CTX]" or "[anon_shmem:OTEL_CTX]".
func contextMappings(maps io.Reader) (addresses []uint64, err error) {
	const most = 4
	lines := bufio.NewScanner(maps)
	for lines.Scan() && len(addresses) < most {
		line := lines.Bytes()
		if !bytes.Contains(line, []byte(contextName)) {
			continue
		}
		const path = 5 // address, permissions, offset, device, inode, path
		fields := bytes.Fields(line)
		if len(fields) <= path || !isContextName(string(fields[path])) {
			continue
		}
		begin, _, _ := bytes.Cut(fields[0], []byte{'-'})
		if address, err := strconv.ParseUint(string(begin), 16, 63); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses, lines.Err()
}

func isContextName(path string) bool {
	switch path {
	case "/memfd:" + contextName, "[anon:" + contextName + "]", "[anon_shmem:" + contextName + "]":
		return true
	}
	return false
}

// contextPayload reads what a header points to. The publisher writes 0 as the time
// while it changes something, and then a new time.
func contextPayload(mem io.ReaderAt, address uint64) ([]byte, error) {
	var before, after [contextHeaderSize]byte
	for range contextTries {
		if _, err := mem.ReadAt(before[:], int64(address)); err != nil {
			return nil, err
		}
		if string(before[:8]) != contextSignature || binary.NativeEndian.Uint32(before[8:]) != contextVersion {
			return nil, errNoContext
		}
		if binary.NativeEndian.Uint64(before[16:]) == 0 {
			continue
		}
		size, at := binary.NativeEndian.Uint32(before[12:]), binary.NativeEndian.Uint64(before[24:])
		if size > maxContext || at > 1<<62 {
			return nil, errContextMalformed
		}
		payload := make([]byte, size)
		if _, err := mem.ReadAt(payload, int64(at)); err != nil {
			return nil, err
		}
		if _, err := mem.ReadAt(after[:], int64(address)); err != nil {
			return nil, err
		}
		if after == before {
			return payload, nil
		}
	}
	return nil, errContextChanging
}

// parseContext reads the service out of a ProcessContext (opentelemetry-proto,
// processcontext/v1development): its field 1 is a Resource. Before the message was
// specified, publishers wrote the Resource itself.
func parseContext(payload []byte) (serviceName, error) {
	var s serviceName
	err := eachMessage(payload, func(resource []byte) error { return readResource(resource, &s) })
	if err != nil || s.name == "" {
		var bare serviceName
		if readResource(payload, &bare) == nil && bare.name != "" {
			return bare, nil
		}
	}
	if err != nil || s.name == "" {
		return serviceName{}, err // a namespace alone names nothing
	}
	return s, nil
}

// readResource reads the attributes of a Resource: KeyValue messages in field 1.
func readResource(resource []byte, s *serviceName) error {
	return eachMessage(resource, func(attribute []byte) error {
		var key, value string
		err := eachField(attribute, func(field int, b []byte) error {
			switch field {
			case 1:
				key = string(b)
			case 2: // an AnyValue, of which field 1 is a string
				return eachField(b, func(field int, b []byte) error {
					if field == 1 {
						value = string(b[:min(len(b), maxServiceName)])
					}
					return nil
				})
			}
			return nil
		})
		switch key {
		case "service.name":
			s.name = serviceText(value)
		case "service.namespace":
			s.namespace = serviceText(value)
		}
		return err
	})
}

// eachMessage calls f with each message in field 1.
func eachMessage(b []byte, f func([]byte) error) error {
	return eachField(b, func(field int, b []byte) error {
		if field != 1 {
			return nil
		}
		return f(b)
	})
}

// eachField calls f with each field of a protobuf message that has a length (texts
// and messages), and passes over the others.
func eachField(b []byte, f func(field int, b []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
			return errContextMalformed
		}
		b = b[n:]
		var size int
		switch tag & 7 {
		case 0: // a number
			_, size = binary.Uvarint(b)
			if size <= 0 {
				return errContextMalformed
			}
		case 1:
			size = 8
		case 5:
			size = 4
		case 2:
			length, n := binary.Uvarint(b)
			if n <= 0 || length > uint64(len(b)-n) {
				return errContextMalformed
			}
			if err := f(int(tag>>3), b[n:n+int(length)]); err != nil {
				return err
			}
			size = n + int(length)
		default: // groups are gone since proto3
			return errContextMalformed
		}
		if size > len(b) {
			return errContextMalformed
		}
		b = b[size:]
	}
	return nil
}
