package ebpfreceiver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseEnviron(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]serviceName{
		"":                                    {},
		"PATH=/bin\x00OTEL_SERVICE_NAME=cart": {name: "cart"},
		"OTEL_SERVICE_NAME=cart\x00OTEL_RESOURCE_ATTRIBUTES=service.name=other,service.namespace=shop\x00": {"cart", "shop"},
		"OTEL_RESOURCE_ATTRIBUTES=service.namespace=shop, service.name = my%20cart ,x=1\x00":               {"my cart", "shop"},
		"OTEL_RESOURCE_ATTRIBUTES=service.namespace=shop\x00":                                              {},
		"OTEL_RESOURCE_ATTRIBUTES=service.name=%zz":                                                        {},
		"XOTEL_SERVICE_NAME=cart\x00OTEL_SERVICE_NAME":                                                     {},
		"OTEL_SERVICE_NAME=a\xffb":                                                                         {name: "a\uFFFDb"},
		"OTEL_SERVICE_NAME=" + strings.Repeat("x", 1000):                                                   {name: strings.Repeat("x", maxServiceName)},
	} {
		assert.Equal(t, want, parseEnviron([]byte(environ)), "%q", environ)
	}
}

func FuzzParseEnviron(f *testing.F) {
	f.Add([]byte("OTEL_SERVICE_NAME=cart\x00OTEL_RESOURCE_ATTRIBUTES=service.name=%20,service.namespace=shop"))
	f.Fuzz(func(t *testing.T, environ []byte) { checkService(t, parseEnviron(environ)) })
}

func checkService(t *testing.T, s serviceName) {
	t.Helper()
	for _, text := range []string{s.name, s.namespace} {
		if len(text) > 3*maxServiceName || strings.ToValidUTF8(text, "") != text {
			t.Errorf("bad text %q", text)
		}
	}
	if s.name == "" && s.namespace != "" {
		t.Error("a namespace alone")
	}
}

// message is a protobuf message of fields with a length.
func protobuf(fields ...any) (b []byte) {
	for i := 0; i < len(fields); i += 2 {
		b = binary.AppendUvarint(b, uint64(fields[i].(int))<<3|2)
		text := fmt.Sprintf("%s", fields[i+1])
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

func contextAttribute(key, value string) []byte { return protobuf(1, key, 2, protobuf(1, value)) }

// cartResource is a Resource with something before and after what is looked for.
func cartResource() []byte {
	count := []byte{2 << 3, 7} // dropped_attributes_count
	return append(count, protobuf(1, contextAttribute("host.name", "h"), 1, contextAttribute("service.name", "cart"),
		1, contextAttribute("service.namespace", "shop"), 3, "a later field")...)
}

func TestParseContext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		payload []byte
		want    serviceName
	}{
		"context":         {protobuf(1, cartResource(), 2, contextAttribute("threadlocal.schema", "x")), serviceName{"cart", "shop"}},
		"bare resource":   {cartResource(), serviceName{"cart", "shop"}},
		"no service":      {protobuf(1, protobuf(1, contextAttribute("host.name", "h"))), serviceName{}},
		"empty":           {nil, serviceName{}},
		"a namespace":     {protobuf(1, protobuf(1, contextAttribute("service.namespace", "shop"))), serviceName{}},
		"long":            {protobuf(1, protobuf(1, contextAttribute("service.name", strings.Repeat("x", 1000)))), serviceName{name: strings.Repeat("x", maxServiceName)}},
		"no value":        {protobuf(1, protobuf(1, protobuf(1, "service.name"))), serviceName{}},
		"other value":     {protobuf(1, protobuf(1, protobuf(1, "service.name", 2, []byte{2 << 3, 1}))), serviceName{}},
		"not UTF-8":       {protobuf(1, protobuf(1, contextAttribute("service.name", "a\xffb"))), serviceName{name: "a\uFFFDb"}},
		"fixed and group": {append([]byte{5<<3 | 5, 1, 2, 3, 4, 6<<3 | 1, 1, 2, 3, 4, 5, 6, 7, 8}, protobuf(1, cartResource())...), serviceName{"cart", "shop"}},
	} {
		got, err := parseContext(tc.payload)
		require.NoError(t, err, name)
		assert.Equal(t, tc.want, got, name)
	}
	whole := protobuf(1, cartResource())
	for _, payload := range [][]byte{whole[:len(whole)-1], {0}, {1<<3 | 3}, {1<<3 | 2, 0x80}, {1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f}, {3<<3 | 5, 1}, {3 << 3}} {
		_, err := parseContext(payload)
		assert.ErrorIs(t, err, errContextMalformed, "%x", payload)
	}
}

func FuzzParseContext(f *testing.F) {
	f.Add(protobuf(1, cartResource()))
	f.Add(cartResource())
	f.Fuzz(func(t *testing.T, payload []byte) {
		if s, err := parseContext(payload); err == nil {
			checkService(t, s)
		}
	})
}

func TestContextMappings(t *testing.T) {
	t.Parallel()
	const maps = `55d0c0000000-55d0c0001000 r--p 00000000 fe:00 1234 /usr/bin/OTEL_CTX
7f0000001000-7f0000002000 rw-p 00000000 00:01 99                         /memfd:OTEL_CTX (deleted)
7f0000003000-7f0000004000 rw-p 00000000 00:00 0                          [anon:OTEL_CTX]
7f0000005000-7f0000006000 rw-s 00000000 00:01 98                         [anon_shmem:OTEL_CTX]
7f0000007000-7f0000008000 rw-p 00000000 00:00 0                          [anon:OTEL_CTX_2]
nonsense OTEL_CTX
zz-7f0000008000 rw-p 00000000 00:00 0                          [anon:OTEL_CTX]
`
	got, err := contextMappings(strings.NewReader(maps))
	require.NoError(t, err)
	assert.Equal(t, []uint64{0x7f0000001000, 0x7f0000003000, 0x7f0000005000}, got)
}

// memory is what a process has at an address.
type memory map[int64][]byte

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	if n := copy(p, m[at]); n == len(p) {
		return n, nil
	}
	return 0, io.ErrUnexpectedEOF
}

func contextHeader(version, size uint32, published, payload uint64) []byte {
	b := []byte(contextSignature)
	b = binary.NativeEndian.AppendUint32(b, version)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint64(b, published)
	return binary.NativeEndian.AppendUint64(b, payload)
}

func TestContextPayload(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		header []byte
		err    error
	}{
		"right":         {contextHeader(2, 5, 9, 200), nil},
		"other":         {contextHeader(1, 5, 9, 200), errNoContext},
		"no signature":  {bytes.Repeat([]byte{0}, contextHeaderSize), errNoContext},
		"being written": {contextHeader(2, 5, 0, 200), errContextChanging},
		"huge":          {contextHeader(2, maxContext+1, 9, 200), errContextMalformed},
		"kernel":        {contextHeader(2, 5, 9, 1<<63), errContextMalformed},
		"nowhere":       {contextHeader(2, 5, 9, 300), io.ErrUnexpectedEOF},
		"short":         {contextHeader(2, 5, 9, 200)[:20], io.ErrUnexpectedEOF},
	} {
		got, err := contextPayload(memory{100: tc.header, 200: []byte("hello")}, 100)
		require.ErrorIs(t, err, tc.err, name)
		if tc.err == nil {
			assert.Equal(t, "hello", string(got), name)
		}
	}
}

// TestServicesAreBounded: of more processes than there is place for, the newest are known.
func TestServicesAreBounded(t *testing.T) {
	t.Parallel()
	var reasons []string
	s := newServices(t.TempDir(), func(reason string) { reasons = append(reasons, reason) })
	for i := range uint32(5 * maxServices) {
		s.put(processKey{pid: i}, serviceName{name: "s"})
	}
	assert.LessOrEqual(t, s.held(), 2*maxServices)
	_, known := s.lookup(processKey{pid: 5*maxServices - 1})
	assert.True(t, known)
	for i := range uint32(maxLooks + 1) {
		s.lookLater(look{key: processKey{pid: i}, at: time.Unix(int64(i), 0)})
	}
	assert.Equal(t, []string{unresolvedTooMany}, reasons)
	s.lookAgain(time.Unix(10, 0))
	assert.Equal(t, maxLooks-10, s.looks.len())
}

// TestProcessesThatEndAreNotLookedAtAgain: a storm of them takes no place from others.
func TestProcessesThatEndAreNotLookedAtAgain(t *testing.T) {
	t.Parallel()
	s := newServices(t.TempDir(), func(reason string) { t.Error(reason) })
	process := func(pid uint32) base { return base{who: processInfo{pid: pid, started: tick}} }
	for pid := range uint32(3 * maxLooks) {
		s.learn(execEvent{base: process(pid + 2), isServiceKnown: true, service: serviceName{name: "short"}})
		s.learn(exitEvent{base: process(pid + 2)})
	}
	for range 2 { // two programs, one after the other
		s.learn(execEvent{base: process(1), isServiceKnown: true, service: serviceName{name: "cart"}})
	}
	assert.Equal(t, 1, s.looks.len())
	assert.Equal(t, serviceName{name: "cart"}, s.of(process(1).who))
}

func TestWhyServicesAreNotResolved(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	var reasons []string
	s := newServices(proc, func(reason string) { reasons = append(reasons, reason) })
	begin := func(pid uint32, files map[string]string) execEvent {
		dir := filepath.Join(proc, fmt.Sprint(pid))
		require.NoError(t, os.Mkdir(dir, 0o700))
		for name, text := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		return execEvent{base: base{who: processInfo{pid: pid, started: 700 * tick}}}
	}
	stat := func(state string) string {
		return "1 (a b) c) " + state + strings.Repeat(" 0", 18) + " 700 0"
	}
	named := begin(1, map[string]string{"environ": "OTEL_SERVICE_NAME=cart", "stat": stat("S"), "maps": ""})
	s.learn(named)
	s.learn(begin(2, nil))
	s.learn(begin(3, map[string]string{"environ": "", "stat": stat("Z")}))
	s.learn(begin(4, map[string]string{"environ": strings.Repeat("x", maxEnviron+1), "stat": stat("S")}))
	s.learn(begin(5, map[string]string{"environ": "OTEL_SERVICE_NAME=old", "stat": strings.Replace(stat("S"), " 700 ", " 699 ", 1)}))
	assert.Equal(t, []string{unresolvedGone, unresolvedGone, unresolvedTooLong, unresolvedGone}, reasons)
	// Processes that have ended: copies of that parent, one that is none, and one whose parent's number is
	// that of a later process.
	end := func(pid, parent uint32, started uint64, isCopy bool) processInfo {
		e := exitEvent{base: base{who: processInfo{pid: pid, parent: parent, started: started * tick}}, isCopy: isCopy}
		s.learn(e)
		return e.who
	}
	assert.Equal(t, serviceName{name: "cart"}, s.of(end(6, 1, 701, true)))
	assert.Len(t, reasons, 4)
	assert.Empty(t, s.of(end(7, 1, 701, false)))
	assert.Empty(t, s.of(end(8, 1, 699, true)))
	assert.Empty(t, s.of(end(9, 10, 701, true)))
	assert.Len(t, reasons, 7)
	assert.Equal(t, serviceName{name: "cart"}, s.of(named.who))
	assert.Equal(t, unresolvedForbidden, unresolvedReason(os.ErrPermission))
	assert.Equal(t, unresolvedMalformed, unresolvedReason(errContextMalformed))
	assert.Equal(t, unresolvedOther, unresolvedReason(errors.New("x")))

	// It is looked at twice more: what it published by then wins over the environment.
	require.Equal(t, 2, s.looks.len())
	now := time.Now()
	s.lookAgain(now)
	require.Equal(t, 2, s.looks.len(), "not yet")
	s.lookAgain(now.Add(2 * firstLook))
	assert.Equal(t, serviceName{name: "cart"}, s.of(named.who))
	publish := filepath.Join(proc, "1")
	mem := make([]byte, 0x2000)
	payload := protobuf(1, cartResource())
	copy(mem[0x1000:], contextHeader(2, uint32(len(payload)), 1, 0x1800))
	copy(mem[0x1800:], payload)
	require.NoError(t, os.WriteFile(filepath.Join(publish, "maps"), []byte("1000-2000 rw-p 00000000 00:01 9 /memfd:OTEL_CTX (deleted)\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(publish, "mem"), mem, 0o600))
	s.lookAgain(now.Add(3*firstLook + secondLook))
	assert.Equal(t, serviceName{"cart", "shop"}, s.of(named.who))
	assert.Zero(t, s.looks.len())
}
