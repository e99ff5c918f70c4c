package ring

import (
	"testing"
	"unsafe"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const benchBatch = 1000

// BenchmarkAppend writes batches of records, from one goroutine and from several.
func BenchmarkAppend(b *testing.B) {
	events := make([]record.Event, benchBatch)
	for i := range events {
		events[i] = record.Event{Time: int64(i + 1), Kind: record.KindSpan}
	}
	b.Run("one", func(b *testing.B) {
		r := New(1 << 20)
		b.ReportAllocs()
		for b.Loop() {
			r.Append(events)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchBatch), "ns/event")
		b.ReportMetric(float64(unsafe.Sizeof(record.Event{})), "B/event-held")
	})
	b.Run("parallel", func(b *testing.B) {
		r := New(1 << 20)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.Append(events)
			}
		})
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchBatch), "ns/event")
	})
}

// BenchmarkRead reads a full ring in the engine's batches.
func BenchmarkRead(b *testing.B) {
	const size = 1 << 16
	r := New(size)
	events := make([]record.Event, size)
	r.Append(events)
	buf := make([]record.Event, 512)
	for b.Loop() {
		for at := uint64(0); at < size; {
			_, at, _ = r.Read(at, buf)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/event")
}
