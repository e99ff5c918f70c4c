package gauge

const (
	// The history is kept as the peaks of five minutes, and of hours before that: a
	// trend of a day needs no finer ones.
	fineSlot, coarseSlot = int64(300e9), int64(3600e9)
	maxFine, maxCoarse   = 16, 26
	maxHistory           = maxFine + maxCoarse
)

// mark is the highest value of a slot, and when it was.
type mark struct {
	at    uint32 // s since 1970
	value float32
}

// history is what a series with a limit did before its past: the day before, in 350
// bytes. The zero value is empty.
type history struct {
	fine   [maxFine]mark
	coarse [maxCoarse]mark
	nf, nc uint8
}

// add takes in a sample that is newer than all before.
func (h *history) add(x sample) {
	m := mark{at: uint32(x.at / 1e9), value: x.value}
	if h.nf > 0 && h.fine[h.nf-1].merge(m, fineSlot) {
		return
	}
	if h.nf == maxFine {
		h.age(h.fine[0])
		copy(h.fine[:], h.fine[1:])
		h.nf--
	}
	h.fine[h.nf] = m
	h.nf++
}

// age takes in what is too old for the fine slots.
func (h *history) age(m mark) {
	if h.nc > 0 && h.coarse[h.nc-1].merge(m, coarseSlot) {
		return
	}
	if h.nc == maxCoarse {
		copy(h.coarse[:], h.coarse[1:])
		h.nc--
	}
	h.coarse[h.nc] = m
	h.nc++
}

// merge adds a newer mark of the same slot; it returns false for one of another.
func (m *mark) merge(o mark, slot int64) bool {
	if int64(m.at)*1e9/slot != int64(o.at)*1e9/slot {
		return false
	}
	if o.value >= m.value {
		*m = o
	}
	return true
}

// samples appends the history to out, oldest first.
func (h *history) samples(out []sample) []sample {
	if h == nil {
		return out
	}
	for _, m := range h.coarse[:h.nc] {
		out = append(out, m.sample())
	}
	for _, m := range h.fine[:h.nf] {
		out = append(out, m.sample())
	}
	return out
}

func (m mark) sample() sample { return sample{at: int64(m.at) * 1e9, value: m.value} }
