package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// stateVersion is written into every saved position.
	stateVersion = 2
	// maxDone bounds how many finished files are remembered: four times what
	// maxFiles lets a reader see, at 34 bytes each in the storage.
	maxDone = 4 * maxFiles
	// maxCopies bounds the boots of which copies are known.
	maxCopies = 64
	// maxOrigin bounds what is kept of a machine's id and of a namespace: as much as
	// both have, if nobody made them up.
	maxOrigin = 255
)

// State is what a reader must remember to hand on every entry once, also after a
// restart: how many entries of each file were handed on.
type State struct {
	// since is the time of the first start in µs since 1970; what is older of that
	// which is in a directory at its first sight is skipped. 0: nothing is.
	since uint64
	// directories are those that were seen.
	directories map[string]bool
	// files are those that are being read, done those to which nothing is added.
	files map[ID]position
	done  map[ID]bool
	// doneChanged says that done is not what EncodeDone returned last.
	doneChanged bool
	copies      []copied
}

// position is how far a file was read.
type position struct {
	// Handed is how many of its Entries were handed on.
	Handed  uint64 `json:"handed"`
	Entries uint64 `json:"entries"`
	// Old is how many were there at the first sight of its directory: of those,
	// what is older than since is skipped.
	Old uint64 `json:"old,omitempty"`
	// Folder is where it was.
	Folder string `json:"folder"`
	damage
	// parked orders those that gave their place to another, 0 for others. It is not
	// saved.
	parked uint64
}

// damage is what is known of the copies of a file that could not be read to their end.
type damage struct {
	// Damaged are their paths, with the size of each when it was given up. One that has
	// another size since is read on, and so is a copy elsewhere.
	Damaged map[string]int64 `json:"damaged,omitempty"`
	// Lost says that there was no other copy, and that the rest was counted as lost.
	Lost bool `json:"lost,omitempty"`
}

// isGivenUp says that a copy of that size cannot be read on.
func (d damage) isGivenUp(path string, size int64) bool {
	at, ok := d.Damaged[path]
	return ok && at == size
}

// maxDamaged bounds the copies of a file that are remembered as damaged.
const maxDamaged = 8

// giveUp notes that a copy cannot be read on.
func (d *damage) giveUp(path string, size int64) {
	if len(d.Damaged) >= maxDamaged {
		return
	}
	all := map[string]int64{path: size} // not the one that a copy of d has, too
	for path, size := range d.Damaged {
		if _, ok := all[path]; !ok {
			all[path] = size
		}
	}
	d.Damaged = all
}

// rest is how many entries are lost with the file.
func (p position) rest() uint64 {
	if p.Lost {
		return 0
	}
	return p.Entries - min(p.Handed, p.Entries)
}

// copied is how far a journal was read in one directory, as journald copies what
// it wrote to /run into /var when that is there.
type copied struct {
	origin
	Directory string `json:"directory"`
	Monotonic uint64 `json:"monotonic"`
}

// origin is the journal of one boot of one machine: what journald writes in the order
// of the boot's clock, which it shares with the journals of containers and those of
// other namespaces.
type origin struct {
	// Folder is the name of the folder in the directory.
	Folder string `json:"folder"`
	// Machine and Namespace are the fields of its entries.
	Machine   string `json:"machine"`
	Namespace string `json:"namespace,omitempty"`
	Boot      ID     `json:"boot"`
}

// originOf says which journal an entry is of that was found in folder.
func originOf(folder string, e *Entry) origin {
	machine, namespace := e.Get("_MACHINE_ID"), e.Get("_NAMESPACE")
	return origin{folder, machine[:min(len(machine), maxOrigin)], namespace[:min(len(namespace), maxOrigin)], e.Boot}
}

// NewState returns the state of a reader that never read: of the files that it
// finds first it skips what is older than since, in µs since 1970.
func NewState(since uint64) *State {
	return &State{since: since, directories: map[string]bool{}, files: map[ID]position{}, done: map[ID]bool{}}
}

type stateJSON struct {
	Version     int             `json:"version"`
	Since       uint64          `json:"since"`
	Directories []string        `json:"directories"`
	Files       map[ID]position `json:"files"`
	Copies      []copied        `json:"copies,omitempty"`
}

// Encode returns all of the state but the finished files.
func (s *State) Encode() ([]byte, error) {
	j := stateJSON{
		Version: stateVersion, Since: s.since, Directories: slices.Sorted(maps.Keys(s.directories)),
		Files: s.files, Copies: s.copies,
	}
	return json.Marshal(j)
}

// EncodeDone returns the finished files when they changed since the last call,
// else nil.
func (s *State) EncodeDone() []byte {
	if !s.doneChanged {
		return nil
	}
	s.doneChanged = false
	b := make([]byte, 1, 1+len(s.done)*len(ID{}))
	b[0] = stateVersion
	for id := range s.done {
		b = append(b, id[:]...)
	}
	return b
}

// DoneNotSaved says that what EncodeDone returned last was not saved.
func (s *State) DoneNotSaved() { s.doneChanged = true }

// DecodeState reads what Encode and EncodeDone returned; done may be empty.
func DecodeState(state, done []byte) (*State, error) {
	var j stateJSON
	if err := json.Unmarshal(state, &j); err != nil {
		return nil, fmt.Errorf("saved journal position: %w", err)
	}
	if j.Version != stateVersion {
		return nil, fmt.Errorf("saved journal position: version %d is not %d", j.Version, stateVersion)
	}
	s := NewState(j.Since)
	for _, d := range j.Directories {
		s.directories[d] = true
	}
	maps.Copy(s.files, j.Files)
	s.copies = j.Copies[:min(len(j.Copies), maxCopies)]
	return s, s.decodeDone(done)
}

func (s *State) decodeDone(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	const size = len(ID{})
	if b[0] != stateVersion || (len(b)-1)%size != 0 {
		return fmt.Errorf("saved journal position: %d bytes of finished files, version %d", len(b), b[0])
	}
	for b = b[1:]; len(b) > 0; b = b[size:] {
		s.done[ID(b[:size])] = true
	}
	return nil
}

// finish marks a file as one to which nothing is added. present are the files
// that exist: others are forgotten when there is no more room.
func (s *State) finish(id ID, present func(ID) bool) {
	delete(s.files, id)
	if s.done[id] {
		return
	}
	s.doneChanged = true
	if len(s.done) >= maxDone {
		maps.DeleteFunc(s.done, func(id ID, _ bool) bool { return !present(id) })
	}
	s.done[id] = true
}

// isCopy says that the entry at that time of an origin was handed on before, from
// another directory.
func (s *State) isCopy(of origin, directory string, monotonic uint64) bool {
	for i := range s.copies {
		c := &s.copies[i]
		if monotonic <= c.Monotonic && c.Directory != directory && c.origin == of {
			return true
		}
	}
	return false
}

// handedOn notes an entry for isCopy.
func (s *State) handedOn(of origin, directory string, monotonic uint64) {
	for i := range s.copies {
		if c := &s.copies[i]; c.Directory == directory && c.origin == of {
			c.Monotonic = max(c.Monotonic, monotonic)
			return
		}
	}
	if len(s.copies) >= maxCopies {
		s.copies = slices.Delete(s.copies, 0, 1)
	}
	// Not the text that the fields are a part of, which would be kept whole.
	of.Machine, of.Namespace = strings.Clone(of.Machine), strings.Clone(of.Namespace)
	s.copies = append(s.copies, copied{of, directory, monotonic})
}
