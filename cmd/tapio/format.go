package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// bytesText writes a size as people read it, with powers of 1024.
func bytesText(n int64) string {
	if n < 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	const units = "KMGTPE"
	value, unit := float64(n), "B"
	for i := 0; value >= 1024 && i < len(units); i++ {
		value, unit = value/1024, units[i:i+1]+"iB"
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + unit
}

// amountText writes a sum with two decimals and its thousands apart.
func amountText(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) >= 1e18 {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	whole, decimals, _ := strings.Cut(strconv.FormatFloat(math.Abs(v), 'f', 2, 64), ".")
	sign := ""
	if v < 0 {
		sign = "-"
	}
	return sign + thousands(whole) + "." + decimals
}

// thousands puts a comma before each third digit from the end.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// countText writes "1 failed request", "37 failed requests".
func countText(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	sign := ""
	digits := strconv.FormatInt(n, 10)
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	return sign + thousands(digits) + " " + noun + "s"
}

// percentText writes a share of one; it never rounds up to certainty.
func percentText(p float64) string {
	if p > 0.995 && p < 1 {
		return "99%"
	}
	return fmt.Sprintf("%.0f%%", p*100)
}

// durationText writes a duration with three significant digits.
func durationText(d time.Duration) string {
	switch abs := d.Abs(); {
	case abs < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case abs < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case abs < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

const (
	dateTime = "2006-01-02 15:04:05"
	clock    = "15:04:05.000"
)

// clockText writes the time of day, with the date when it is another day's than
// the one of since.
func clockText(t, since time.Time) string {
	t, since = t.UTC(), since.UTC()
	if t.YearDay() == since.YearDay() && t.Year() == since.Year() {
		return t.Format(clock)
	}
	return t.Format("2006-01-02 " + clock)
}
