package memlimit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. It is a flag value: "64MiB", "512KiB", "1GiB" or a
// plain number.
type Bytes int64

var units = []struct {
	suffix string
	size   int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// ParseBytes reads a size: a whole number, with the unit KiB, MiB or GiB or
// without one.
func ParseBytes(s string) (Bytes, error) {
	number, unit := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(n), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size: want a whole number with KiB, MiB, GiB or no unit, such as 64MiB", s)
	}
	return Bytes(n * unit), nil
}

// String returns the size in the largest unit that divides it.
func (b Bytes) String() string {
	for i := len(units) - 1; i >= 0; i-- {
		if u := units[i]; b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + " " + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + " bytes"
}

// Set reads the size from a flag.
func (b *Bytes) Set(s string) error {
	v, err := ParseBytes(s)
	if err == nil {
		*b = v
	}
	return err
}

// Type names the value in a usage text.
func (*Bytes) Type() string { return "size" }
