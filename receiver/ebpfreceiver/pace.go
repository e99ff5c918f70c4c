package ebpfreceiver

import "time"

const (
	// paceWindow is over how long the reader counts records, paceRecords from how
	// many in it on they are frequent.
	paceWindow  = 10 * time.Millisecond
	paceRecords = 32
	// pacePause is for how long frequent records gather: the kernel wakes the reader
	// for the first of them, not for each.
	pacePause = time.Millisecond
)

// pace tells when a reader that found nothing more should pause before it waits:
// to be woken costs more than a record, both the reader and who made the record.
type pace struct {
	since   time.Time
	records int
}

// isFast is asked when there is nothing more to read.
func (p *pace) isFast(now time.Time) bool {
	if now.Sub(p.since) > paceWindow {
		p.since, p.records = now, 0
	}
	return p.records >= paceRecords
}
