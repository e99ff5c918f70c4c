package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// maxFiles bounds how many journal files are looked at.
	maxFiles = 16384
	// maxProblems bounds how many problems are kept to be told.
	maxProblems = 16
	// scanInterval is how often the directories are listed.
	scanInterval = time.Second
	// patience is how long a file that does not change may be unreadable, before
	// what is left of it is given up: it may be on its way here.
	patience = 5 * time.Second
	// quiet is how long nothing must be added to a file with the name of an
	// archive that was never closed, before it counts as finished.
	quiet = time.Minute
)

// Options of a Reader.
type Options struct {
	// Directories hold journal files or one folder for each machine, as
	// /var/log/journal does. They may appear later.
	Directories []string
	// MaxFieldSize is the largest value in bytes; the rest is cut off.
	MaxFieldSize int
	// MaxOpenFiles bounds how many files are open. Of more, the oldest are opened
	// first, and one of which all was read gives its place to one that has more.
	MaxOpenFiles int
	// Now is the wall clock.
	Now func() time.Time
}

// Stats counts since the reader was made, and says what it holds.
type Stats struct {
	// LostCorrupt and LostDeleted are entries that could not be read: damaged, or
	// of a file that was deleted and its space freed before.
	LostCorrupt, LostDeleted uint64
	// BadFields could not be read, CutFields were longer than MaxFieldSize.
	BadFields, CutFields uint64
	// Copies were handed on before, from another directory.
	Copies uint64
	// Open files are being read, Waiting ones have more and are beyond MaxOpenFiles.
	Open, Waiting int
	// Backlog is how many entries of the open files were not handed on yet.
	Backlog uint64
}

// Reader hands on the entries of all journal files in some directories, in the
// order of journalctl, and follows what is added. It is not safe for concurrent use.
type Reader struct {
	options Options
	state   *State
	pool    *pool
	decode  *decompressor

	open    map[inode]*source
	closed  map[string]closedFile
	current *source
	// limit is the source with the next entry after the current source's.
	limit    *source
	lastScan time.Time
	// waiting are files beyond MaxOpenFiles, missing those that the last scan did
	// not find where they were.
	waiting map[ID]position
	missing map[ID]bool
	// parked is how many files gave their place to another.
	parked   uint64
	stats    Stats
	problems []error
	// copies are the files of which the last scan found more than one that may be read.
	copies map[ID]bool
	// damages are told by Damages.
	damages []Damage
}

// Damage is what is lost of a file that is damaged.
type Damage struct {
	Path string
	// Lost entries could not be read.
	Lost uint64
	// EndsEarly says that the file is shorter than it should be, HasCopy that it is read
	// on from another copy.
	EndsEarly, HasCopy bool
}

// String says it for people.
func (d Damage) String() string {
	what := "is damaged"
	if d.EndsEarly {
		what = "ends early"
	}
	if d.HasCopy {
		return fmt.Sprintf("%s: %s; what follows is read from another copy of the file", d.Path, what)
	}
	return fmt.Sprintf("%s: %s, %d entries lost", d.Path, what, d.Lost)
}

// inode identifies a file while it exists or is open.
type inode struct{ device, number uint64 }

// source is one open file with its next entry.
type source struct {
	*file
	os    *os.File
	inode inode
	found
	// gone says that no directory has the file any more.
	gone bool
	// first is how many entries to skip, handed how many were handed on.
	first, handed uint64
	head          Entry
	loaded        bool
	damage
	// lost entries were damaged; toldLost of them were told.
	lost, toldLost uint64
	// brokenAt is since when it is unreadable with that size.
	brokenAt   time.Time
	brokenSize int64
	// grewAt is when something was added last.
	grewAt time.Time
}

// found is a journal file in a directory.
type found struct {
	// directory is one of the options', machine the folder in it or "".
	directory, machine, path string
}

// folder is where the file is.
func (f found) folder() string { return filepath.Dir(f.path) }

// archive says that journald does not write into a file of this name again.
func (f found) archive() bool {
	return strings.Contains(filepath.Base(f.path), "@") || strings.HasSuffix(f.path, "~")
}

// closedFile is a file that needs no reading, as long as it is the same.
type closedFile struct {
	inode inode
	// id is zero for a file that is none of a journal.
	id ID
	// size, modified and err are of a file that is none; damaged is one of a journal that
	// was given up with that size.
	size     int64
	modified time.Time
	err      error
	damaged  bool
	// again says that its content was not seen, for want of a right or of file
	// descriptors: it is tried again, as neither shows in size and time.
	again bool
}

// same says that f, with that inode and info, still needs no reading. The number
// of an inode is soon used again, the name of an archive is not.
func (c closedFile) same(f found, id inode, info fs.FileInfo) bool {
	if c.inode != id {
		return false
	}
	if c.id.IsZero() {
		return !c.again && c.size == info.Size() && c.modified.Equal(info.ModTime())
	}
	if c.damaged {
		return c.size == info.Size()
	}
	return f.archive()
}

// NewReader returns a reader that goes on from state, which it changes.
func NewReader(options Options, state *State) *Reader {
	return &Reader{
		options: options, state: state, pool: newPool(), decode: &decompressor{},
		open: map[inode]*source{}, closed: map[string]closedFile{},
		waiting: map[ID]position{}, missing: map[ID]bool{}, copies: map[ID]bool{},
	}
}

// Close closes all files.
func (r *Reader) Close() error {
	var errs []error
	for _, s := range r.open {
		errs = append(errs, s.os.Close())
	}
	clear(r.open)
	r.current, r.limit = nil, nil
	return errors.Join(errs...)
}

// State returns what to save so that another reader goes on after the last entry
// that Next returned.
func (r *Reader) State() *State {
	for _, s := range r.open {
		if s.header.file.IsZero() {
			continue
		}
		r.state.files[s.header.file] = s.position()
	}
	return r.state
}

// Stats returns the counters.
func (r *Reader) Stats() Stats {
	stats := r.stats
	for _, s := range r.open {
		stats.BadFields += s.badFields
		stats.CutFields += s.cutFields
		stats.Backlog += s.position().rest()
	}
	stats.Open = len(r.open)
	return stats
}

// Problems returns what could not be read when the directories were listed last.
// A directory that does not exist is none.
func (r *Reader) Problems() []error { return r.problems }

// Damages returns which files were found to be damaged since the last call, each once.
func (r *Reader) Damages() []Damage {
	found := r.damages
	r.damages = nil
	return found
}

// damaged notes a file for Damages.
func (r *Reader) damaged(d Damage) {
	if len(r.damages) < maxProblems {
		r.damages = append(r.damages, d)
	}
}

// Empty says that no directory has a journal file.
func (r *Reader) Empty() bool { return len(r.open) == 0 && len(r.closed) == 0 && r.stats.Waiting == 0 }

// Next returns the next entry, or nil when there is none before the next
// Refresh. The entry is valid until the next call of Next or Refresh.
func (r *Reader) Next() *Entry {
	for {
		c := r.current
		if c != nil {
			c.loaded = false
			r.load(c)
		}
		if c == nil || !c.loaded || r.limit != nil && compareEntries(&c.head, &r.limit.head) > 0 {
			r.choose()
		}
		if r.current == nil {
			return nil
		}
		if r.hand(r.current) {
			return &r.current.head
		}
	}
}

// choose finds the source with the first entry, and the one with the second.
func (r *Reader) choose() {
	r.current, r.limit = nil, nil
	for _, s := range r.open {
		switch {
		case !s.loaded:
		case r.current == nil || compareEntries(&s.head, &r.current.head) < 0:
			r.current, r.limit = s, r.current
		case r.limit == nil || compareEntries(&s.head, &r.limit.head) < 0:
			r.limit = s
		}
	}
}

// hand notes that the next entry of a source is handed on, unless it was before, from
// another directory. That is asked as late as here, as both may be read at once.
func (r *Reader) hand(s *source) bool {
	s.handed = s.read
	if len(r.options.Directories) < 2 {
		return true
	}
	of := originOf(s.machine, &s.head)
	if r.state.isCopy(of, s.directory, s.head.Monotonic) {
		r.stats.Copies++
		return false
	}
	r.state.handedOn(of, s.directory, s.head.Monotonic)
	return true
}

// load reads the next entry of a source that was not handed on before.
func (r *Reader) load(s *source) {
	if s.read < s.first {
		if err := s.skip(s.first - s.read); err != nil {
			r.broken(s, err)
			return
		}
	}
	for !s.loaded {
		err := s.next(&s.head)
		var bad entryError
		switch {
		case err == nil:
			s.loaded, s.brokenAt = true, time.Time{}
		case errors.Is(err, errEnd):
			s.handed, s.brokenAt = max(s.handed, s.read), time.Time{}
			return
		case errors.Is(err, errOld):
			s.handed = max(s.handed, s.read)
		case errors.As(err, &bad):
			s.lost++
			r.lose(s, 1)
		default:
			r.broken(s, err)
			return
		}
	}
}

// lose counts entries that cannot be read. A file may have been deleted, and its
// space freed, since the directories were listed.
func (r *Reader) lose(s *source, n uint64) {
	if s.gone || deleted(s.os) {
		r.stats.LostDeleted += n
	} else {
		r.stats.LostCorrupt += n
	}
}

// broken notes that a source cannot be read on, and gives it up when it does not
// change for a while.
func (r *Reader) broken(s *source, err error) {
	now := r.options.Now()
	var size int64
	if info, err := s.os.Stat(); err == nil {
		size = info.Size()
	}
	switch {
	case s.brokenAt.IsZero() || size != s.brokenSize:
		s.brokenAt, s.brokenSize = now, size
	case s.gone:
		r.lose(s, s.unread())
		r.finish(s)
	case now.Sub(s.brokenAt) >= patience:
		r.giveUp(s, size, err)
	}
}

// unread is how many entries were not read.
func (s *source) unread() uint64 {
	return s.header.plausibleEntries() - min(s.read, s.header.plausibleEntries())
}

// giveUp closes a source that cannot be read on. Another copy of the file, now or later,
// goes on where this one ends.
func (r *Reader) giveUp(s *source, size int64, err error) {
	id := s.header.file
	d := Damage{Path: s.path, EndsEarly: errors.Is(err, errTruncated) || errors.Is(err, io.EOF), HasCopy: r.copies[id]}
	if !d.HasCopy && !s.Lost {
		d.Lost, s.Lost = s.unread()+s.lost-s.toldLost, true
		r.lose(s, s.unread())
	}
	if d.HasCopy || d.Lost > 0 {
		r.damaged(d)
	}
	s.giveUp(s.path, size)
	r.state.files[id] = s.position()
	r.release(s)
	r.closed[s.path] = closedFile{inode: s.inode, id: id, size: size, damaged: true}
	r.lastScan = time.Time{} // another copy is looked for at once
}

// finish closes a source to which nothing will be added.
func (r *Reader) finish(s *source) {
	id := s.header.file
	r.release(s)
	delete(r.state.files, id)
	if s.gone {
		return
	}
	r.state.finish(id, r.present)
	r.closed[s.path] = closedFile{inode: s.inode, id: id}
}

// release closes a source.
func (r *Reader) release(s *source) {
	r.stats.BadFields += s.badFields
	r.stats.CutFields += s.cutFields
	r.pool.forget(s.file)
	_ = s.os.Close() // it was only read
	delete(r.open, s.inode)
	s.loaded = false
}

func (r *Reader) present(id ID) bool {
	for _, c := range r.closed {
		if c.id == id {
			return true
		}
	}
	return false
}

// Refresh looks for new entries and, not more often than once a second unless a
// file was rotated or files wait for those of which all was read, for new files.
func (r *Reader) Refresh() {
	if r.current != nil {
		r.current.loaded = false
		r.current, r.limit = nil, nil
	}
	now := r.options.Now()
	// New files are found first: when one is there, the one before it is complete,
	// and reading its header after that finds all of it.
	if now.Sub(r.lastScan) >= scanInterval || now.Before(r.lastScan) || r.hasRoom() {
		r.scan(now)
	}
	if r.refreshAll(now) {
		r.scan(now)
		r.refreshAll(now)
	}
	for _, s := range r.open {
		if !s.loaded {
			r.load(s)
		}
		if !s.loaded && s.brokenAt.IsZero() {
			r.tellLost(s)
			if r.ended(s, now) {
				r.finish(s)
			}
		}
	}
}

// tellLost tells, once, that entries of a source were damaged. It is asked when all was
// read, so that they are told together.
func (r *Reader) tellLost(s *source) {
	if s.lost > 0 && s.toldLost == 0 && !s.gone {
		r.damaged(Damage{Path: s.path, Lost: s.lost})
		s.toldLost = s.lost
	}
}

// hasRoom says that files wait for others of which all was read: they need not wait for
// the time of the next scan, too.
func (r *Reader) hasRoom() bool {
	if r.stats.Waiting == 0 {
		return false
	}
	room := len(r.open) < r.options.MaxOpenFiles
	for _, s := range r.open {
		if s.loaded {
			return false
		}
		room = room || s.idle()
	}
	return room
}

// refreshAll reads the headers again and says whether journald closed a file.
func (r *Reader) refreshAll(now time.Time) (rotated bool) {
	for _, s := range r.open {
		rotated = r.refresh(s, now) || rotated
	}
	return rotated
}

// refresh reads the header of a source again and says whether journald closed
// the file.
func (r *Reader) refresh(s *source, now time.Time) bool {
	if s.header.state == stateArchived {
		return false
	}
	entries := s.header.entries
	if err := s.reread(); err != nil {
		r.broken(s, err)
		return false
	}
	if s.header.entries != entries {
		s.grewAt = now
	}
	return s.header.state == stateArchived
}

// ended says that a source of which all was read will not grow.
func (r *Reader) ended(s *source, now time.Time) bool {
	if s.read < s.header.entries {
		return false
	}
	return s.gone || s.header.state == stateArchived || s.archive() && now.Sub(s.grewAt) >= quiet
}

// candidate is a file that might be opened.
type candidate struct {
	found
	inode  inode
	header header
	// cut says that it ends before its last object.
	cut bool
	// position is what is remembered of it, when known.
	position position
	known    bool
}

// idle says that nothing was added since all of it was read.
func (c *candidate) idle() bool { return c.known && c.position.Handed >= c.header.entries }

// scan lists the directories, opens new files and notes which are gone.
func (r *Reader) scan(now time.Time) {
	r.lastScan = now
	r.problems = r.problems[:0]
	files, fresh := r.list()
	seen := make(map[inode]bool, len(files))
	there := newSight()
	closed := make(map[string]closedFile, len(files))
	var candidates []candidate
	for _, f := range files {
		info, err := os.Stat(f.path)
		if err != nil {
			there.unknown(f)
			r.problem(err)
			continue
		}
		id := inodeOf(f.path, info)
		if seen[id] {
			continue
		}
		seen[id] = true
		if s, ok := r.open[id]; ok {
			s.found = f
			there.file(f, s.header.file)
			continue
		}
		if c, ok := r.closed[f.path]; ok && c.same(f, id, info) {
			closed[f.path] = c
			there.file(f, c.id)
			r.problem(c.err)
			continue
		}
		h, err := peek(f.path)
		if err == nil || isVerdict(err) {
			there.file(f, h.file)
		} else {
			there.unknown(f)
		}
		switch {
		case err != nil:
			c := closedFile{inode: id, size: info.Size(), modified: info.ModTime(), again: !isVerdict(err)}
			if c.size > 0 || !info.Mode().IsRegular() { // journald creates a file before it writes the header
				c.err = fmt.Errorf("%s: %w", f.path, err)
			}
			r.problem(c.err)
			closed[f.path] = c
		case r.state.done[h.file]:
			closed[f.path] = closedFile{inode: id, id: h.file}
		case r.state.files[h.file].isGivenUp(f.path, info.Size()):
			closed[f.path] = closedFile{inode: id, id: h.file, size: info.Size(), damaged: true}
		default:
			candidates = append(candidates, candidate{found: f, inode: id, header: h, cut: h.isCut(info.Size())})
		}
	}
	r.closed = closed
	for id, s := range r.open {
		// One that was renamed while the directory was read may not have been seen.
		s.gone = !seen[id] && deleted(s.os)
	}
	if len(files) < maxFiles {
		r.countVanished(there)
	}
	r.admit(candidates, fresh, now)
	for d := range fresh {
		r.state.directories[d] = true
	}
}

// admit opens the candidates that have more to read: first those that were never
// open, the oldest first, then those that were, in turn.
func (r *Reader) admit(candidates []candidate, fresh map[string]bool, now time.Time) {
	clear(r.copies)
	candidates = slices.DeleteFunc(candidates, func(c candidate) bool {
		other := r.sourceOf(c.header.file)
		if other == nil || other.gone {
			return false
		}
		r.copies[c.header.file] = true // of a file that is being read
		return true
	})
	for i := range candidates {
		r.recall(&candidates[i], fresh[candidates[i].directory])
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.position.parked, b.position.parked), cmp.Compare(a.header.headRealtime, b.header.headRealtime),
			compareCut(a, b), strings.Compare(a.path, b.path))
	})
	r.stats.Waiting = 0
	maps.DeleteFunc(r.waiting, func(id ID, _ position) bool { return !r.missing[id] })
	for _, c := range candidates {
		if c.idle() && c.header.state == stateArchived {
			r.state.finish(c.header.file, r.present)
			r.closed[c.path] = closedFile{inode: c.inode, id: c.header.file}
			continue
		}
		if other := r.sourceOf(c.header.file); other != nil {
			if !other.gone {
				r.copies[c.header.file] = true // it was twice among the candidates
				continue
			}
			c.position, c.known = other.position(), true
			r.state.files[c.header.file] = c.position
			r.release(other)
		}
		if len(r.open) < r.options.MaxOpenFiles || !c.idle() && r.makeRoom() {
			if err := r.admitOne(c, now); err != nil {
				r.problem(fmt.Errorf("%s: %w", c.path, err))
			}
			continue
		}
		if c.idle() {
			continue
		}
		r.stats.Waiting++
		if !c.known {
			r.waiting[c.header.file] = position{Entries: c.header.plausibleEntries(), Folder: c.folder()}
		}
	}
}

// compareCut puts a copy that is cut off after one that is not.
func compareCut(a, b candidate) int {
	switch {
	case a.cut == b.cut:
		return 0
	case a.cut:
		return 1
	}
	return -1
}

// recall notes what is remembered of a candidate. Of a directory that is seen for
// the first time, that is what is there now: what is added later is wanted, whatever
// its clock says.
func (r *Reader) recall(c *candidate, fresh bool) {
	id := c.header.file
	c.position, c.known = r.state.files[id]
	if !c.known && fresh && r.state.since > 0 {
		c.position, c.known = position{Old: c.header.entries}, true
		if c.header.tailRealtime < r.state.since && c.header.state != stateOnline {
			c.position.Handed = c.header.entries
		}
	}
	if c.known {
		c.position.Entries, c.position.Folder = c.header.plausibleEntries(), c.folder()
		r.state.files[id] = c.position
	}
}

// makeRoom closes the file that has been idle for longest, and says whether there
// was one. It is opened again when something was added.
func (r *Reader) makeRoom() bool {
	var idle *source
	for _, s := range r.open {
		if s.idle() && (idle == nil || s.grewAt.Before(idle.grewAt)) {
			idle = s
		}
	}
	if idle == nil {
		return false
	}
	r.parked++
	p := idle.position()
	p.parked = r.parked
	r.state.files[idle.header.file] = p
	r.release(idle)
	return true
}

// idle says that all was read of a source that may still grow, as far as was seen at
// the last Refresh: one that grows all the time must not keep its place for ever.
func (s *source) idle() bool {
	return !s.loaded && !s.gone && s.brokenAt.IsZero() && s.header.state != stateArchived && max(s.read, s.first) >= s.header.entries
}

func (r *Reader) sourceOf(id ID) *source {
	for _, s := range r.open {
		if s.header.file == id {
			return s
		}
	}
	return nil
}

func (r *Reader) admitOne(c candidate, now time.Time) error {
	in, info, err := openRegular(c.path)
	if err != nil {
		return err
	}
	f, err := newFile(in, r.pool, r.decode, r.options.MaxFieldSize)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	s := &source{file: f, os: in, inode: inodeOf(c.path, info), found: c.found, grewAt: now}
	if s.inode != c.inode || f.header.file != c.header.file {
		return in.Close() // rotated in between: the next scan finds what is there now
	}
	f.since, f.old = r.state.since, c.position.Old
	s.first, s.handed, s.damage = c.position.Handed, c.position.Handed, c.position.damage
	r.open[s.inode] = s
	return nil
}

// position is what to remember of a source.
func (s *source) position() position {
	return position{Handed: s.handed, Old: s.old, Entries: s.header.plausibleEntries(), Folder: s.folder(), damage: s.damage}
}

// list returns the journal files of all directories, and the directories that
// are seen for the first time.
func (r *Reader) list() (files []found, fresh map[string]bool) {
	fresh = map[string]bool{}
	for _, d := range r.options.Directories {
		entries, err := os.ReadDir(d)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				r.problem(err)
			}
			continue
		}
		if !r.state.directories[d] && len(entries) > 0 {
			fresh[d] = true
		}
		for _, e := range entries {
			if isDirectory(d, e) {
				files = r.listMachine(files, d, e.Name())
				continue
			}
			files = appendJournal(files, d, "", e.Name())
		}
	}
	if len(files) > maxFiles {
		r.problem(fmt.Errorf("%d journal files, of which only %d are read", len(files), maxFiles))
		files = files[:maxFiles]
	}
	return files, fresh
}

// isDirectory follows a symbolic link, as the folder of a machine may be one.
func isDirectory(parent string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(filepath.Join(parent, e.Name()))
	return err == nil && info.IsDir()
}

func (r *Reader) listMachine(files []found, directory, machine string) []found {
	entries, err := os.ReadDir(filepath.Join(directory, machine))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.problem(err)
		}
		return files
	}
	for _, e := range entries {
		files = appendJournal(files, directory, machine, e.Name())
	}
	return files
}

func appendJournal(files []found, directory, machine, name string) []found {
	if !strings.HasSuffix(name, ".journal") && !strings.HasSuffix(name, ".journal~") {
		return files
	}
	return append(files, found{directory, machine, filepath.Join(directory, machine, name)})
}

// isVerdict says that an error of peek is about what the file holds.
func isVerdict(err error) bool {
	return errors.Is(err, ErrNotJournal) || errors.Is(err, ErrUnsupported)
}

// peek reads the header of a file.
func peek(path string) (header, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return header{}, err
	}
	h, err := readHeader(f)
	return h, errors.Join(err, f.Close())
}

// openRegular opens a file to read it. A pipe or a device is no journal, whatever its
// name; to open one must not wait for who writes to it.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w but a %s", ErrNotJournal, kindOfFile(info.Mode()))
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// kindOfFile names what a file is that is not regular.
func kindOfFile(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeDevice != 0:
		return "device"
	case mode.IsDir():
		return "directory"
	}
	return mode.Type().String()
}

// problem keeps what could not be read, unless too much could not.
func (r *Reader) problem(err error) {
	gone := errors.Is(err, fs.ErrNotExist) // deleted while the directory was read
	if err != nil && !gone && len(r.problems) < maxProblems {
		r.problems = append(r.problems, err)
	}
}
