package template

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// similar is the share of equal words from which two lines are the same
	// statement.
	similar = 0.7
	// minPlain is the share of its words that a template must keep: one that is all
	// values would match everything.
	minPlain = 0.4
	// maxFirst and maxSecond bound the different first words, and the second words
	// for each first: where there are more, the word is a value.
	maxFirst, maxSecond = 1024, 64
	// maxLeaf bounds the templates that begin with the same two words.
	maxLeaf = 64
	// samples is how many templates are looked at to find an old one to forget.
	samples = 16
)

// Match is what a line is.
type Match struct {
	// ID is the number of the line's template, never 0. Numbers are not reused.
	ID uint32
	// Level is the OpenTelemetry severity number that the line itself names near
	// its beginning, 0 for none.
	Level uint8
	// Exception is the number of the exception type that the line names, 0 for
	// none: it has a text as a template has.
	Exception uint32
}

// Miner numbers statements. It is safe for concurrent use.
type Miner struct {
	seed    maphash.Seed
	bound   int
	evicted atomic.Uint64
	clock   atomic.Uint64

	mu     sync.RWMutex
	exact  map[uint64]*entry // masked lines that were seen, by hash
	leaves map[[2]uint64]*leaf
	first  map[uint64]int // how many leaves begin with a word
	byID   map[uint32]*entry
	next   uint32
}

type leaf struct{ entries []*entry }

// entry is one template. Its words change under the miner's lock only.
type entry struct {
	id     uint32
	words  []string
	plain  int // words that are no values
	key    [2]uint64
	hashes []uint64 // the masked lines that lead here
	used   atomic.Uint64
}

// maxHashes bounds the masked lines that are remembered for one template.
const maxHashes = 64

// New returns a miner of at most bound templates.
func New(bound int) *Miner {
	return &Miner{
		seed: maphash.MakeSeed(), bound: max(bound, 1), exact: map[uint64]*entry{},
		leaves: map[[2]uint64]*leaf{}, first: map[uint64]int{}, byID: map[uint32]*entry{},
	}
}

// Mine returns what a line is. The line is not kept.
func (m *Miner) Mine(body string) Match {
	var l line
	l.read(body)
	match := Match{Level: l.level, ID: m.find(l.words[:l.n])}
	if l.exception != "" {
		match.Exception = m.find([]string{l.exception})
	}
	return match
}

// Name returns the number of a name that needs no mining, such as the exception
// type of a record's attributes.
func (m *Miner) Name(name string) uint32 { return m.find([]string{name[:min(len(name), maxBody)]}) }

// Text returns a template's words, with <*> where values are; "" when it is
// forgotten.
func (m *Miner) Text(id uint32) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e := m.byID[id]; e != nil {
		return strings.Join(e.words, " ")
	}
	return ""
}

// Len returns how many templates are held.
func (m *Miner) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.byID)
}

// Evicted returns how many templates were forgotten because there were too many.
func (m *Miner) Evicted() uint64 { return m.evicted.Load() }

func (m *Miner) find(words []string) uint32 {
	h := m.hash(words)
	m.mu.RLock()
	e := m.exact[h]
	m.mu.RUnlock()
	if e == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if e = m.exact[h]; e == nil {
			e = m.place(words, h)
		}
	}
	e.used.Store(m.clock.Add(1))
	return e.id
}

func (m *Miner) hash(words []string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	for _, w := range words {
		_, _ = h.WriteString(w)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// place finds or makes the template of a masked line that was not seen before.
func (m *Miner) place(words []string, h uint64) *entry {
	key := m.key(words)
	f := m.leaves[key]
	if f == nil {
		f = &leaf{}
		m.leaves[key] = f
		m.first[key[0]]++
	}
	best, score := f.best(words)
	if best != nil && (score >= similar || len(f.entries) >= maxLeaf) && best.join(words, len(f.entries) >= maxLeaf) {
		m.remember(best, h)
		return best
	}
	if len(m.byID) >= m.bound {
		m.forget()
		m.leaves[key] = f // it may have been the last of the leaf
	}
	m.next++
	e := &entry{id: m.next, key: key, words: make([]string, len(words))}
	for i, w := range words {
		e.words[i] = strings.ToValidUTF8(strings.Clone(w), "\uFFFD")
		if w != masked {
			e.plain++
		}
	}
	f.entries = append(f.entries, e)
	m.byID[e.id] = e
	m.remember(e, h)
	return e
}

func (m *Miner) remember(e *entry, h uint64) {
	if len(e.hashes) >= maxHashes {
		delete(m.exact, e.hashes[0])
		e.hashes = append(e.hashes[:0], e.hashes[1:]...)
	}
	e.hashes = append(e.hashes, h)
	m.exact[h] = e
}

// key is the leaf of a line: its first two words, less where these vary too much.
func (m *Miner) key(words []string) [2]uint64 {
	var key [2]uint64
	if len(words) == 0 {
		return key
	}
	key[0] = maphash.String(m.seed, words[0])
	if m.first[key[0]] == 0 && len(m.first) >= maxFirst {
		key[0] = 0
	}
	if len(words) == 1 {
		return key
	}
	key[1] = maphash.String(m.seed, words[1])
	if m.leaves[key] == nil && m.first[key[0]] >= maxSecond {
		key[1] = 0
	}
	return key
}

// best returns the entry most like a line, the older of two.
func (f *leaf) best(words []string) (*entry, float64) {
	var best *entry
	score := -1.0
	for _, e := range f.entries {
		if s := e.similarity(words); s > score {
			best, score = e, s
		}
	}
	return best, score
}

// similarity is the share of equal words among those that are values in neither.
func (e *entry) similarity(words []string) float64 {
	n, equal := 0, 0
	for i := range max(len(words), len(e.words)) {
		switch {
		case i >= len(words) || i >= len(e.words):
			n++
		case e.words[i] == words[i]:
			if words[i] != masked {
				n++
				equal++
			}
		case e.words[i] != masked:
			n++
		}
	}
	if n == 0 {
		return 1
	}
	return float64(equal) / float64(n)
}

// join makes the template hold for one more line. It returns false when too few
// words would be left, unless it is forced.
func (e *entry) join(words []string, force bool) bool {
	differ := 0
	for i, w := range e.words {
		if w != masked && (i >= len(words) || words[i] != w) {
			differ++
		}
	}
	if left := e.plain - differ; !force && float64(left) < minPlain*float64(len(e.words)) {
		return false
	}
	for i, w := range e.words {
		if w != masked && (i >= len(words) || words[i] != w) {
			e.words[i] = masked
		}
	}
	e.plain -= differ
	return true
}

// forget drops the longest unused of a few templates.
func (m *Miner) forget() {
	var oldest *entry
	n := 0
	for _, e := range m.byID { // a random sample
		if oldest == nil || e.used.Load() < oldest.used.Load() {
			oldest = e
		}
		if n++; n == samples {
			break
		}
	}
	m.evicted.Add(1)
	delete(m.byID, oldest.id)
	for _, h := range oldest.hashes {
		delete(m.exact, h)
	}
	f := m.leaves[oldest.key]
	for i, e := range f.entries {
		if e == oldest {
			f.entries = append(f.entries[:i], f.entries[i+1:]...)
			break
		}
	}
	if len(f.entries) == 0 {
		delete(m.leaves, oldest.key)
		if m.first[oldest.key[0]]--; m.first[oldest.key[0]] <= 0 {
			delete(m.first, oldest.key[0])
		}
	}
}
