package journal

import (
	"errors"
	"io"
)

const (
	// windowSize is how much is read at once. Most objects are smaller.
	windowSize = 64 << 10
	// maxWindows bounds the memory of a pool: 8 MiB.
	maxWindows = 128
)

// window is one piece of a file.
type window struct {
	owner *file
	index uint64
	data  []byte
	// settled is the offset in the file below which the content will not change.
	settled uint64
	used    bool
}

// pool keeps the windows that were used last, of all files. It is not safe for
// concurrent use.
type pool struct {
	byKey   map[windowKey]*window
	windows []*window
	hand    int
	// scratch is for pieces that lie in more than one window.
	scratch []byte
}

type windowKey struct {
	owner *file
	index uint64
}

func newPool() *pool { return &pool{byKey: make(map[windowKey]*window, maxWindows)} }

// buffer returns n bytes, valid until the next call.
func (p *pool) buffer(n uint64) []byte {
	if uint64(cap(p.scratch)) < n {
		p.scratch = make([]byte, n)
	}
	return p.scratch[:n]
}

// get returns a window of which at least the bytes below offset need end are
// there and settled, or were read just now.
func (p *pool) get(f *file, index, end uint64) (*window, error) {
	if w := f.recent; w != nil && w.owner == f && w.index == index && end <= w.end() {
		return w, nil
	}
	w, ok := p.byKey[windowKey{f, index}]
	if !ok {
		w = p.take(windowKey{f, index})
	}
	w.used = true
	if !ok || end > w.end() {
		if err := w.load(f); err != nil {
			p.drop(w)
			return nil, err
		}
	}
	f.recent = w
	return w, nil
}

// end is the offset in the file up to which the window may be used again.
func (w *window) end() uint64 {
	return min(w.index*windowSize+uint64(len(w.data)), w.settled)
}

// load reads the window from the file. A file that ends within it is no error.
func (w *window) load(f *file) error {
	w.settled = f.settled
	n, err := f.in.ReadAt(w.data[:windowSize], int64(w.index*windowSize))
	w.data = w.data[:n]
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// take returns a free window, or the next that was not used for a while.
func (p *pool) take(key windowKey) *window {
	if len(p.windows) < maxWindows {
		w := &window{owner: key.owner, index: key.index, data: make([]byte, 0, windowSize)}
		p.windows = append(p.windows, w)
		p.byKey[key] = w
		return w
	}
	for {
		w := p.windows[p.hand]
		p.hand = (p.hand + 1) % len(p.windows)
		if w.used {
			w.used = false
			continue
		}
		p.drop(w)
		w.owner, w.index = key.owner, key.index
		p.byKey[key] = w
		return w
	}
}

// drop forgets what a window holds; the window itself is used again.
func (p *pool) drop(w *window) {
	delete(p.byKey, windowKey{w.owner, w.index})
	w.owner, w.data, w.settled, w.used = nil, w.data[:0], 0, false
}

// forget drops all windows of a file.
func (p *pool) forget(f *file) {
	for _, w := range p.windows {
		if w.owner == f {
			p.drop(w)
		}
	}
	f.recent = nil
}
