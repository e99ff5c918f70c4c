package shop

import (
	"os"
	"sync"
)

// LeakyVersion is the release of payment that has the defect of this example.
const LeakyVersion = "v2.1.0"

// DefaultLeak is what LeakyVersion keeps of every order, in bytes.
const DefaultLeak = 1 << 20

// LeakOf returns how many bytes the release of payment keeps per order.
func LeakOf(version string) int64 {
	if version == LeakyVersion {
		return DefaultLeak
	}
	return 0
}

// Leak is memory that is taken for each order and never given back. A nil Leak
// takes none. It is safe for concurrent use.
type Leak struct {
	mu       sync.Mutex
	perOrder int64
	kept     [][]byte
}

// NewLeak returns a leak of perOrder bytes, nil when that is not more than 0.
func NewLeak(perOrder int64) *Leak {
	if perOrder <= 0 {
		return nil
	}
	return &Leak{perOrder: perOrder}
}

// Order leaks for one order.
func (l *Leak) Order() {
	if l == nil {
		return
	}
	b := make([]byte, l.perOrder)
	// Fresh memory is only charged to the process when it is written to, a page
	// at a time.
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b)
}
