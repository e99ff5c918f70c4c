//go:build unix

package systemdreceiver

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// A million entries, as systemd-journal-remote writes them, from the files to
// OTLP log records in batches:
//
//	go test -run='^$' -bench=Journal -cpu 1 -benchtime 1x ./receiver/systemdreceiver
func BenchmarkJournal(b *testing.B) {
	const total, each = 1_000_000, 50_000
	dir := b.TempDir()
	path := filepath.Join(dir, "remote.journal")
	for from := 0; from < total; from += each {
		journaltest.Remote(b, path, true, true, journaltest.Export(from, each, 1))
	}
	cfg := createDefaultConfig().(*Config)
	cfg.Journal.Priority = "debug"
	rules, err := cfg.Journal.rules()
	require.NoError(b, err)
	for b.Loop() {
		encoder := newJournalEncoder(cfg, "1", &hostInfo{name: "node-7"}, rules, func(*entry) bool { return true })
		reader := journal.NewReader(journal.Options{
			Directories: []string{dir, b.TempDir()}, MaxFieldSize: cfg.Journal.MaxFieldSize, MaxOpenFiles: cfg.Journal.MaxOpenFiles, Now: time.Now,
		}, journal.NewState(0))
		records, heap := 0, uint64(0)
		reader.Refresh()
		runtime.GC() // what is left of writing the files
		now, start := time.Now(), cpuTime(b)
		for e := reader.Next(); e != nil; e = reader.Next() {
			encoder.add(e, now)
			if encoder.count == cfg.Journal.MaxBatchSize {
				records += encoder.take().LogRecordCount()
				state, err := reader.State().Encode() // as after every batch
				require.NoError(b, err)
				require.NotEmpty(b, state)
				if records%50_000 != 0 {
					continue
				}
				reader.Refresh()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap = max(heap, m.HeapInuse)
			}
		}
		records += encoder.take().LogRecordCount()
		require.Equal(b, total, records)
		b.ReportMetric(total/(cpuTime(b)-start).Seconds(), "entries/CPU-s")
		b.ReportMetric(float64(heap)/(1<<20), "MiB-heap")
		require.NoError(b, reader.Close())
	}
	files, err := os.ReadDir(dir)
	require.NoError(b, err)
	b.ReportMetric(float64(len(files)), "files")
}

// cpuTime is the processor time of this process, garbage collection included.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
