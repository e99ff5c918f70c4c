package shop

import (
	"fmt"
	"io"
	"sync"
)

// Book is the ledger's memory: how many entries it booked and what they sum to.
// Its zero value is empty; it is safe for concurrent use.
type Book struct {
	// Journal takes one line for each entry before it counts; nil keeps none.
	Journal io.Writer

	mu      sync.Mutex
	entries int64
	total   Cents
}

// Add books one amount. It fails, and books nothing, when the journal takes no line.
func (b *Book) Add(order string, amount Cents) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Journal != nil {
		if _, err := fmt.Fprintln(b.Journal, order, amount); err != nil {
			return fmt.Errorf("write the book: %w", err)
		}
	}
	b.entries++
	b.total += amount
	return nil
}

// Totals returns the number of entries and their sum.
func (b *Book) Totals() (entries int64, total Cents) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries, b.total
}
