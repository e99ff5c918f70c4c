package store

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// numbered returns the n-th of a series of whole findings, each with hurt traces
// of its own.
func numbered(n int) *finding.Finding {
	f := findingtest.Full()
	f.StartedAt = f.StartedAt.Add(time.Duration(n) * time.Second)
	f.ID = finding.NewID("bench", fmt.Sprint(n), f.StartedAt)
	f.HurtTraces = nil
	for i := range 20 {
		f.HurtTraces = append(f.HurtTraces, finding.HurtTrace{TraceID: findingtest.TraceID(n*20 + i + 1)})
	}
	return f
}

// filled opens a store that holds n findings.
func filled(b *testing.B, n int) (*Store, Options) {
	b.Helper()
	o := Options{Path: filepath.Join(b.TempDir(), "findings.db"), Retention: time.Hour, MaxFindings: 10_000}
	s, err := Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	// Filling is not what is measured: skip the syncs.
	if _, err := s.write.ExecContext(b.Context(), "PRAGMA synchronous = OFF"); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if err := s.Save(b.Context(), numbered(i)); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.write.ExecContext(b.Context(), "PRAGMA synchronous = FULL"); err != nil {
		b.Fatal(err)
	}
	return s, o
}

// BenchmarkSave saves into a store at its bound, so that each save evicts too.
func BenchmarkSave(b *testing.B) {
	s, _ := filled(b, 10_000)
	b.ReportAllocs()
	n := 10_000
	for b.Loop() {
		if err := s.Save(b.Context(), numbered(n)); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

func BenchmarkByTrace(b *testing.B) {
	s, _ := filled(b, 10_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		page, err := s.ByTrace(b.Context(), findingtest.TraceID(n%200_000+1), 200)
		if err != nil || len(page) != 1 {
			b.Fatal(len(page), err)
		}
		n += 7919
	}
}

func BenchmarkListPage(b *testing.B) {
	s, _ := filled(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if page, _, err := s.List(b.Context(), "", findingsapi.OrderNewest, first, 50); err != nil || len(page) != 50 {
			b.Fatal(len(page), err)
		}
	}
}

// BenchmarkOpen opens a full database, its integrity check included.
func BenchmarkOpen(b *testing.B) {
	s, o := filled(b, 10_000)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.Size())/10_000, "B/finding")
}
