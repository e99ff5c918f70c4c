package template

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// similar is the share of the words of the longer, and similarShort that of the
	// shorter, that two lines must have in common to be the same statement.
	similar, similarShort = 0.6, 0.75
	// minPlain is the share of its first words that a template must keep: one that is
	// all values would match everything.
	minPlain = 0.5
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
	// Variant is the number of the line with only its values masked: "saved" and
	// "failed" may be one template, but are two variants. It is 0 where a template
	// has more than maxVariants of them, since what differs is data then.
	Variant uint32
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
	exact  map[uint64]known // masked lines that were seen, by hash
	leaves map[[2]uint64]*leaf
	first  map[uint64]int // how many leaves begin with a word
	byID   map[uint32]*entry
	texts  map[uint32]string // of variants and names
	names  map[string]uint32
	order  []*entry // in no order; where forget has come to is at
	at     int
	next   uint32
}

// known is what a masked line is.
type known struct {
	entry   *entry
	variant uint32
}

type leaf struct{ entries []*entry }

// entry is one template. Its words change under the miner's lock only.
type entry struct {
	id     uint32
	words  []string
	plain  int // words that are no values
	made   int // as many there were at first
	key    [2]uint64
	hashes []uint64 // the masked lines that lead here, variants first
	ids    []uint32 // of the variants
	slot   int      // in the miner's order
	used   atomic.Uint64
}

const (
	// maxHashes bounds the masked lines that are remembered for one template.
	maxHashes = 64
	// maxVariants bounds those of them that are told apart.
	maxVariants = 8
)

// New returns a miner of at most bound templates and as many names.
func New(bound int) *Miner {
	return &Miner{
		seed: maphash.MakeSeed(), bound: max(bound, 1), exact: map[uint64]known{},
		leaves: map[[2]uint64]*leaf{}, first: map[uint64]int{}, byID: map[uint32]*entry{},
		texts: map[uint32]string{}, names: map[string]uint32{},
	}
}

// Mine returns what a line is. The line is not kept.
func (m *Miner) Mine(body string) Match {
	var l line
	l.read(body)
	k := m.find(l.words[:l.n])
	match := Match{Level: l.level, ID: k.entry.id, Variant: k.variant}
	if l.exception != "" {
		match.Exception = m.Name(l.exception)
	}
	return match
}

// Name returns the number of a name that needs no mining, such as a span's or the
// exception type of a record's attributes; 0 when there are more names than
// templates may be.
func (m *Miner) Name(name string) uint32 {
	name = name[:min(len(name), maxBody)]
	m.mu.RLock()
	id, ok := m.names[name]
	m.mu.RUnlock()
	if ok {
		return id
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if id, ok = m.names[name]; ok {
		return id
	}
	if len(m.names) >= m.bound {
		m.evicted.Add(1)
		return 0
	}
	m.next++
	name = strings.Clone(name)
	m.names[name] = m.next
	m.texts[m.next] = strings.ToValidUTF8(name, "\uFFFD")
	return m.next
}

// Text returns a template's words, with <*> where values are; "" when it is
// forgotten.
func (m *Miner) Text(id uint32) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if e := m.byID[id]; e != nil {
		return strings.Join(e.words, " ")
	}
	return m.texts[id]
}

// Len returns how many templates are held.
func (m *Miner) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.byID)
}

// Evicted returns how many templates were forgotten, and how many times a name got
// no number, because there were too many.
func (m *Miner) Evicted() uint64 { return m.evicted.Load() }

func (m *Miner) find(words []string) known {
	h := m.hash(words)
	m.mu.RLock()
	k, ok := m.exact[h]
	m.mu.RUnlock()
	if !ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		if k, ok = m.exact[h]; !ok {
			k = m.place(words, h)
		}
	}
	k.entry.used.Store(m.clock.Add(1))
	return k
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
func (m *Miner) place(words []string, h uint64) known {
	key := m.key(words)
	if f := m.leaves[key]; f != nil {
		full := len(f.entries) >= maxLeaf
		best, score := f.best(words)
		if (score >= similar || full) && best.join(words, full) {
			return m.remember(best, words, h)
		}
	}
	if len(m.byID) >= m.bound {
		m.forget()
	}
	m.next++
	e := &entry{id: m.next, key: key, words: make([]string, len(words)), slot: len(m.order)}
	for i, w := range words {
		e.words[i] = strings.ToValidUTF8(strings.Clone(w), "\uFFFD")
		if w != masked {
			e.plain++
		}
	}
	e.made = e.plain
	f := m.leaves[key]
	if f == nil {
		f = &leaf{}
		m.leaves[key] = f
		m.first[key[0]]++
	}
	f.entries = append(f.entries, e)
	m.order = append(m.order, e)
	m.byID[e.id] = e
	return m.remember(e, words, h)
}

func (m *Miner) remember(e *entry, words []string, h uint64) known {
	k := known{entry: e}
	switch {
	case len(e.ids) < maxVariants && len(e.hashes) == len(e.ids):
		m.next++
		k.variant = m.next
		e.ids = append(e.ids, k.variant)
		m.texts[k.variant] = strings.ToValidUTF8(strings.Join(words, " "), "\uFFFD")
	case len(e.hashes) >= maxHashes:
		delete(m.exact, e.hashes[maxVariants])
		e.hashes = append(e.hashes[:maxVariants], e.hashes[maxVariants+1:]...)
	}
	e.hashes = append(e.hashes, h)
	m.exact[h] = k
	return k
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

// common finds the longest sequence of words that a template and a line share, in
// order (values aside), and returns which words of the template are in it.
func (e *entry) common(words []string) (in [maxWords]bool, n int) {
	var length [maxWords + 1][maxWords + 1]uint8
	for i := len(e.words) - 1; i >= 0; i-- {
		for j := len(words) - 1; j >= 0; j-- {
			if e.words[i] == words[j] && words[j] != masked {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(e.words) && j < len(words); {
		switch {
		case e.words[i] == words[j] && words[j] != masked:
			in[i] = true
			n++
			i++
			j++
		case length[i+1][j] >= length[i][j+1]: //nolint:gosec // both are below maxWords
			i++
		default:
			j++
		}
	}
	return in, n
}

// similarity is the share of common words in the longer of the two, values aside;
// 0 when the shorter has too many words of its own.
func (e *entry) similarity(words []string) float64 {
	plain := 0
	for _, w := range words {
		if w != masked {
			plain++
		}
	}
	_, n := e.common(words)
	if longer := max(plain, e.plain); longer > 0 {
		if float64(n) < similarShort*float64(min(plain, e.plain)) {
			return 0
		}
		return float64(n) / float64(longer)
	}
	return 1
}

// join makes the template hold for one more line: what is not common becomes a
// value. It returns false when too few words would be left, unless it is forced.
func (e *entry) join(words []string, force bool) bool {
	in, n := e.common(words)
	if !force && float64(n) < minPlain*float64(e.made) {
		return false
	}
	kept := e.words[:0]
	for i, w := range e.words {
		switch {
		case in[i]:
			kept = append(kept, w)
		case len(kept) == 0 || kept[len(kept)-1] != masked:
			kept = append(kept, masked)
		}
	}
	e.words, e.plain = kept, n
	return true
}

// forget drops the longest unused of a few templates.
func (m *Miner) forget() {
	oldest := m.order[m.at%len(m.order)]
	for range min(samples, len(m.order)) {
		m.at = (m.at + 1) % len(m.order)
		if e := m.order[m.at]; e.used.Load() < oldest.used.Load() {
			oldest = e
		}
	}
	m.evicted.Add(1)
	delete(m.byID, oldest.id)
	for _, h := range oldest.hashes {
		delete(m.exact, h)
	}
	for _, id := range oldest.ids {
		delete(m.texts, id)
	}
	last := m.order[len(m.order)-1]
	m.order[oldest.slot], last.slot = last, oldest.slot
	m.order[len(m.order)-1] = nil
	m.order = m.order[:len(m.order)-1]
	f := m.leaves[oldest.key]
	f.entries = slices.DeleteFunc(f.entries, func(e *entry) bool { return e == oldest })
	if len(f.entries) == 0 {
		delete(m.leaves, oldest.key)
		if m.first[oldest.key[0]]--; m.first[oldest.key[0]] <= 0 {
			delete(m.first, oldest.key[0])
		}
	}
}
