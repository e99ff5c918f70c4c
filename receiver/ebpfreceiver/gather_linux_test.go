//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/bpf"
)

// failingCPU writes records as the kernel program does on one CPU.
type failingCPU struct {
	number uint32
	// of is whom the last record was about, as TAPIO_SYSCALL.
	of    []byte
	start uint64
}

// fail is the record of a call of a process that began at start.
func (c *failingCPU) fail(start, at uint64, call failedNumber) []byte {
	if c.start == start {
		rec := bpf.SyscallsSyscallAgainRecord{Number: call.number, Error: call.err, Cpu: c.number}
		rec.Header.Time, rec.Header.Kind = at, uint32(bpf.SyscallsSyscallKindTAPIO_SYSCALL_AGAIN)
		return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&rec)), unsafe.Sizeof(rec))...)
	}
	c.start = start
	raw := append([]byte(nil), c.of...)
	rec := (*bpf.SyscallsSyscallRecord)(unsafe.Pointer(unsafe.SliceData(raw)))
	rec.Header.Time, rec.Header.Pad, rec.Process.Start, rec.Number, rec.Error = at, c.number, start, call.number, call.err
	return raw
}

// failed is one failure of a process.
type failed struct {
	at   uint64
	call failedCall
}

// failuresOf are those in events, by when the process began.
func failuresOf(events []syscallEvent) map[uint64][]failed {
	got := map[uint64][]failed{}
	for _, ev := range events {
		start := ev.who.started
		got[start] = append(got[start], failed{ev.at, ev.calls[0]})
		for _, again := range ev.again {
			got[start] = append(got[start], failed{again.at, ev.calls[again.call]})
		}
	}
	return got
}

// gatherAll adds records as the receiver does.
func gatherAll(tb testing.TB, g *failureGroups, records [][]byte) (events []syscallEvent) {
	tb.Helper()
	known := new(knownProcesses)
	take := func() {
		for g.hasNext() {
			ev, ok := g.next()
			require.True(tb, ok)
			events = append(events, ev)
		}
	}
	for _, raw := range records {
		require.True(tb, isFailure(raw))
		err := g.add(raw, known)
		if errors.Is(err, errNoRoom) {
			take()
			err = g.add(raw, known)
		}
		require.NoError(tb, err)
	}
	take()
	return events
}

// TestFailuresAreGathered: of whatever processes do in turn, on whatever CPU, each failure is
// there once, and those of a process are in order.
func TestFailuresAreGathered(t *testing.T) {
	t.Parallel()
	raw := readFixture(t, "syscall")
	random := rand.New(rand.NewPCG(1, 2))
	cpus := []failingCPU{{number: 0, of: raw}, {number: 1, of: raw}, {number: 2, of: raw}}
	for _, processes := range []int{1, 2, 5, maxGroups + 3} {
		want := map[uint64][]failed{}
		var records [][]byte
		for i := range cpus {
			cpus[i].start = 0
		}
		for at := range uint64(5000) {
			start, call := 1+random.Uint64N(uint64(processes)), failedNumber{random.Uint32N(3), 24 + random.Uint32N(2)}
			records = append(records, cpus[random.IntN(len(cpus))].fail(start, at, call))
			want[start] = append(want[start], failed{at, failedCall{syscallName(call.number), errnoName(call.err)}})
		}
		g := newFailureGroups(512, len(cpus))
		events := gatherAll(t, &g, records)
		assert.Equal(t, want, failuresOf(events))
		for _, ev := range events {
			assert.LessOrEqual(t, weight(ev), maxGathered)
		}
		if processes <= 2 {
			assert.Less(t, len(events), len(records)/maxGathered*2)
		}
	}
}

// TestFailuresOfOthersAreApart: another request, cgroup or name is another event, and what
// the process did before that stays before.
func TestFailuresOfOthersAreApart(t *testing.T) {
	t.Parallel()
	raw := readFixture(t, "syscall")
	traced := append([]byte(nil), raw...)
	tail := traced[unsafe.Sizeof(bpf.SyscallsSyscallRecord{}):]
	tail[0], tail[unsafe.Offsetof(bpf.HTTPTraceContext{}.Association)] = 7, 2
	renamed := append([]byte(nil), raw...)
	renamed[headerSize+int(unsafe.Offsetof(bpf.SyscallsProcessId{}.Comm))] = 'X'
	g := newFailureGroups(3, 1)
	events := gatherAll(t, &g, [][]byte{raw, raw, traced, traced, raw, renamed, raw, raw, raw, raw})
	var weights []int
	for _, ev := range events {
		weights = append(weights, weight(ev))
	}
	assert.Equal(t, []int{2, 2, 1, 1, 3, 1}, weights, "three are the most")
	assert.NotEmpty(t, events[1].request.association)
	assert.Empty(t, events[2].request.association)
	assert.Equal(t, byte('X'), events[3].who.comm[0])
}

func TestWhatFailedAgainWithoutAFirst(t *testing.T) {
	t.Parallel()
	g := newFailureGroups(512, 2)
	again := (&failingCPU{number: 1, start: 1}).fail(1, 1, failedNumber{2, 24})
	require.EqualError(t, g.add(again, nil), "a call failed again, on CPU 1, of which there is no record")
	require.ErrorIs(t, g.add(again[:24], nil), errShortRecord)
	again = (&failingCPU{number: 9, start: 1}).fail(1, 1, failedNumber{2, 24})
	require.EqualError(t, g.add(again, nil), "a call failed again, on CPU 9, of which there is no record")
	require.ErrorIs(t, g.add(readFixture(t, "syscall")[:100], nil), errShortRecord)
	assert.False(t, g.hasNext())
	assert.False(t, isFailure(nil))
	assert.False(t, isFailure(readFixture(t, "exec")))
}

// FuzzFailures: whatever the records are, each that is taken is in one event.
func FuzzFailures(f *testing.F) {
	raw := readFixture(f, "syscall")
	c := failingCPU{of: raw}
	f.Add(c.fail(1, 1, failedNumber{2, 24}), c.fail(1, 2, failedNumber{2, 24}), c.fail(1, 3, failedNumber{1, 28}))
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		g := newFailureGroups(2, 2)
		known := new(knownProcesses)
		taken, told := 0, 0
		for _, raw := range [][]byte{a, b, c, b, a} {
			if isFailure(raw) && g.add(raw, known) == nil {
				taken++
			}
		}
		for g.hasNext() {
			ev, _ := g.next()
			told += weight(ev)
		}
		if taken != told {
			t.Errorf("%d records, %d failures", taken, told)
		}
	})
}

// BenchmarkFailures: of two processes in turn, from the bytes in the ring to the log record,
// without the ring.
func BenchmarkFailures(b *testing.B) {
	raw := readFixture(b, "syscall")
	cpus := []failingCPU{{number: 0, of: raw}, {number: 1, of: raw}}
	for i := range cpus {
		cpus[i].fail(uint64(i+1), 0, failedNumber{})
	}
	r := newTestReceiver(b)
	known := new(knownProcesses)
	g := newFailureGroups(512, len(cpus))
	for i := range cpus {
		first := failingCPU{number: uint32(i), of: raw}
		require.NoError(b, g.add(first.fail(uint64(i+1), 0, failedNumber{2, 24}), known))
	}
	again := [][]byte{cpus[0].fail(1, 1, failedNumber{2, 24}), cpus[1].fail(2, 2, failedNumber{1, 28}), cpus[0].fail(1, 3, failedNumber{9, 12}), cpus[1].fail(2, 4, failedNumber{2, 24})}
	var batch []kernelEvent
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		raw := again[n%len(again)]
		binary.NativeEndian.PutUint64(raw, uint64(n))
		if g.add(raw, known) == nil {
			continue
		}
		for g.hasNext() {
			ev, _ := g.next()
			r.enqueue([]kernelEvent{ev})
		}
		for batch = r.queue.pop(batch[:0]); len(batch) > 0; batch = r.queue.pop(batch[:0]) {
			_ = r.encoder.encode(batch, testEpoch)
		}
	}
}
