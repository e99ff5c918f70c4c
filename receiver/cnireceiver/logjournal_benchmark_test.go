package cnireceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// BenchmarkJournal is what an entry of the journal costs that tells of no failure, from the
// file on; all are services' own, so that none is passed over by who wrote it.
//
//	go test -run='^$' -bench=Journal -cpu 1 -benchtime 3x ./receiver/cnireceiver
func BenchmarkJournal(b *testing.B) {
	const total = 200_000
	dir := b.TempDir()
	journaltest.Remote(b, filepath.Join(dir, "remote.journal"), true, true, journaltest.Export(0, total, 1))
	w := &logWatcher{formats: logFormats()}
	read := 0
	b.ReportAllocs()
	for b.Loop() {
		j := &journalLog{reader: journal.NewReader(journal.Options{
			Directories: []string{dir}, MaxFieldSize: maxJournalField, MaxOpenFiles: maxJournalFiles, Now: time.Now,
		}, journal.NewState(0))}
		for range total/maxJournalEntries + 1 {
			require.Empty(b, j.read(func(line string, _ time.Time) {
				read++
				require.Empty(b, w.parse(line))
			}))
		}
		require.NoError(b, j.reader.Close())
	}
	require.Equal(b, total*b.N, read)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(read), "ns/entry")
}
