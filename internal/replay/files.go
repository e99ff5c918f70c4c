package replay

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// DefaultLateness is how much later than what happened after it an item may stand
// in a file: exporters send every few seconds and try again when they fail.
const DefaultLateness = 30 * time.Second

// Progress says how far a replay is.
type Progress struct {
	// Read and Size are bytes of the files on disk.
	Read, Size int64
	// Time is the event time up to which items were handed on, zero before the first.
	Time time.Time
	// Held items wait for earlier ones.
	Held   int
	Counts Counts
}

// Files are open files of telemetry, to be replayed once.
type Files struct {
	files []*source
	size  int64

	// Of Run.
	buffer   *Buffer
	lateness int64
	report   func(Progress)
}

// source is a file and how far it was read.
type source struct {
	*file
	ended bool
	// recent are the newest event times of the last messages that had one, at their
	// middle: how far the file has come, 0 when it has not told a time yet.
	recent []int64
	at     int64
}

const (
	// recentMessages is of how many messages the middle tells how far a file is: a
	// host whose clock is ahead must not make all others seem late.
	recentMessages = 15
	// enoughMessages is from how many on that is believed.
	enoughMessages = 4
)

// saw notes the newest event time of a message.
func (s *source) saw(newest int64) {
	if newest == 0 {
		return
	}
	if len(s.recent) == recentMessages {
		s.recent = append(s.recent[:0], s.recent[1:]...)
	}
	s.recent = append(s.recent, newest)
	s.at = slices.Sorted(slices.Values(s.recent))[(len(s.recent)-1)/2]
}

// OpenFiles opens all files, of which every one may hold any signals in any
// format: see the documentation of the collector's file exporter.
func OpenFiles(paths []string) (*Files, error) {
	fs := &Files{}
	for _, p := range paths {
		f, err := openFile(p)
		if err != nil {
			return nil, errors.Join(err, fs.Close())
		}
		fs.files = append(fs.files, &source{file: f})
		fs.size += f.size
	}
	return fs, nil
}

// Close closes all files.
func (fs *Files) Close() error {
	var errs []error
	for _, s := range fs.files {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Run hands on everything through buffer, the files side by side in event time:
// next comes a message of the file that is furthest behind. lateness is how far
// the items of one file may be from the order of their time; they are held for as
// long. A file that cannot be read further ends there; Run goes on with the others
// and returns an error that names it and the offset. When ctx is done Run returns
// its error at once. report is called after every message.
func (fs *Files) Run(ctx context.Context, buffer *Buffer, lateness time.Duration, report func(Progress)) error {
	fs.buffer, fs.lateness, fs.report = buffer, int64(lateness), report
	var errs []error
	for {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		s := fs.behind()
		if s == nil {
			break
		}
		if err := fs.step(s); err != nil {
			errs = append(errs, err)
		}
		if err := fs.release(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
		fs.progress()
	}
	if err := fs.buffer.Flush(ctx); err != nil {
		errs = append(errs, err)
	}
	fs.progress()
	return errors.Join(errs...)
}

// behind returns the file that is furthest behind, nil when all have ended. One
// that has not told a time yet comes first.
func (fs *Files) behind() (least *source) {
	for _, s := range fs.files {
		if !s.ended && (least == nil || s.at < least.at) {
			least = s
		}
	}
	return least
}

// step reads one message.
func (fs *Files) step(s *source) error {
	begin := s.offset
	message, err := s.next()
	if errors.Is(err, io.EOF) {
		s.ended = true
		return nil
	}
	if err == nil {
		var newest int64
		if newest, err = fs.buffer.put(message); err == nil {
			s.saw(newest)
			return nil
		}
		s.offset = begin
		err = s.fail(err)
	}
	s.ended = true
	return err
}

// release hands on what no file can have anything before. Sorting costs by the
// piece, so it waits until there is something to sort.
func (fs *Files) release(ctx context.Context) error {
	s := fs.behind()
	if s == nil {
		return nil
	}
	upTo := s.at - fs.lateness
	if len(s.recent) < enoughMessages {
		upTo = 0
	}
	if upTo-fs.buffer.released < max(fs.lateness/2, slice) && fs.buffer.Held() <= fs.buffer.maxHeld {
		return nil
	}
	return fs.buffer.Release(ctx, upTo)
}

func (fs *Files) progress() {
	p := Progress{Size: fs.size, Held: fs.buffer.Held(), Counts: fs.buffer.Counts}
	for _, s := range fs.files {
		p.Read += s.read
	}
	if at := fs.buffer.handed; at > 0 {
		p.Time = time.Unix(0, at).UTC()
	}
	fs.report(p)
}
