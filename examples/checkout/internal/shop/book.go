package shop

import "sync"

// Book is the ledger's memory: how many entries it booked and what they sum to.
// Its zero value is empty; it is safe for concurrent use.
type Book struct {
	mu      sync.Mutex
	entries int64
	total   Cents
}

// Add books one amount.
func (b *Book) Add(amount Cents) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries++
	b.total += amount
}

// Totals returns the number of entries and their sum.
func (b *Book) Totals() (entries int64, total Cents) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries, b.total
}
