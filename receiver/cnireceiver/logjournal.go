package cnireceiver

import (
	"path"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
)

const (
	// maxJournalFiles bounds the files of the journal that are open at once.
	maxJournalFiles = 64
	// maxJournalField is the longest field that is kept, as the longest line of a file.
	maxJournalField = 64 << 10
	// maxJournalEntries is how many entries are read at once; the rest waits for the
	// next time.
	maxJournalEntries = 50_000
)

// journalLog is the journal as one more log: what services of the machine say there.
type journalLog struct {
	reader *journal.Reader
	// gone is how many entries could not be read so far.
	gone uint64
}

// followJournal follows the journal from now on; nil when no directory is named.
func followJournal(cfg *Config) *journalLog {
	if len(cfg.Logs.JournalDirs) == 0 {
		return nil
	}
	var dirs []string
	for _, dir := range cfg.Logs.JournalDirs {
		dirs = append(dirs, snapshot.Resolve(cfg.RootPath, dir))
	}
	return &journalLog{reader: journal.NewReader(journal.Options{
		Directories: dirs, MaxFieldSize: maxJournalField, MaxOpenFiles: maxJournalFiles, Now: time.Now,
	}, journal.NewState(uint64(time.Now().UnixMicro())))}
}

// read calls line for every message of a service since the last time, with the time
// at which journald got it. It returns what cannot be read.
func (j *journalLog) read(line func(string, time.Time)) []error {
	j.reader.Refresh()
	for range maxJournalEntries {
		e := j.reader.Next()
		if e == nil {
			break
		}
		if isOfService(e) {
			line(e.Get("MESSAGE"), time.UnixMicro(int64(min(e.Realtime, 1<<62))))
		}
	}
	return j.reader.Problems()
}

// lost returns how many entries could not be read since the last time, because they are
// damaged or were deleted before.
func (j *journalLog) lost() int64 {
	stats := j.reader.Stats()
	gone := stats.LostCorrupt + stats.LostDeleted
	n := gone - j.gone
	j.gone = gone
	return int64(min(n, 1<<62))
}

// isOfService says that root wrote the entry, in the control group of a unit itself: not
// a user, and not what runs in a container, which has a group of its own below. Nobody
// can forge these fields.
func isOfService(e *journal.Entry) bool {
	unit := e.Get("_SYSTEMD_UNIT")
	return strings.HasSuffix(unit, ".service") && e.Get("_UID") == "0" && path.Base(e.Get("_SYSTEMD_CGROUP")) == unit
}
