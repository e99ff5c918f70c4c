package shop

import (
	"encoding/json"
	"fmt"
	"math"
)

// Cents is an amount of money in hundredths. Sums of whole cents are exact,
// sums of floating-point amounts are not.
type Cents int64

// MaxAmount is the most that one order may cost. It keeps any number of sums far
// below what an int64 holds.
const MaxAmount Cents = 1_000_000_00

// Float returns the amount as a number with a fraction, the form that the span
// attribute order.amount and JSON have.
func (c Cents) Float() float64 { return float64(c) / 100 }

// String returns the amount with two decimals.
func (c Cents) String() string {
	sign := ""
	if c < 0 {
		sign, c = "-", -c
	}
	return fmt.Sprintf("%s%d.%02d", sign, c/100, c%100)
}

// MarshalJSON writes the amount as a number with two decimals.
func (c Cents) MarshalJSON() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON reads a number with at most two decimals.
func (c *Cents) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("amount %s: want a number", b)
	}
	hundredths := f * 100
	rounded := math.Round(hundredths)
	// A double holds cents exactly enough up to MaxAmount and far beyond: a
	// third decimal is off by at least 0.1.
	if math.Abs(rounded) > math.MaxInt64/4 || math.Abs(hundredths-rounded) > 0.01 {
		return fmt.Errorf("amount %s: want at most two decimals", b)
	}
	*c = Cents(rounded)
	return nil
}
