package gauge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// told is what became of the predictions of one series.
type told struct {
	predicted, withdrawn, confirmed int
	// first is how long before the limit the first one was that was not withdrawn, miss
	// how much later than the limit was reached it said.
	first, miss time.Duration
}

// watch sends the memory of a container (limit 1000) until it is full or a time is
// over.
func watch(t *testing.T, interval, span time.Duration, used func(minute float64) float64) (out told) {
	t.Helper()
	r := newRig(t, Options{})
	begin := r.at
	var at, eta time.Time
	for r.at.Sub(begin) < span {
		u := used(r.at.Sub(begin).Minutes())
		if u >= 1000 {
			break
		}
		r.send(pod("a"), gauge{name: "container.memory.working_set", value: max(u, 0)}, gauge{name: "k8s.container.memory_limit", value: 1000})
		for _, p := range r.step(interval).Predictions {
			switch p.State {
			case StatePredicted:
				if at.IsZero() { // not told again
					out.predicted++
					at, eta = r.at, time.Unix(0, p.ETA)
				}
			case StateWithdrawn:
				out.withdrawn++
				at = time.Time{}
			case StateConfirmed:
				out.confirmed++
			}
		}
	}
	if !at.IsZero() {
		out.first, out.miss = r.at.Sub(at), eta.Sub(r.at)
	}
	return out
}

// leak grows from 300 to 1000 in a time, after two hours of nothing.
func leak(minutes float64) func(m float64) float64 {
	return func(m float64) float64 { return 300 + 700*max(m-120, 0)/minutes }
}

// saw is a sawtooth between 0 and height.
func saw(m, period, height float64) float64 { return height * math.Mod(m, period) / period }

// What takes from ten minutes to a day to fill the memory is foretold, whatever noise
// and collections are on top, and not taken back. least is how many minutes before
// the limit, miss by how many the time that is told may be wrong.
func TestForetold(t *testing.T) {
	shapes := []string{"noise 0", "noise 5", "noise 10", "noise 20", "small teeth", "steps"}
	for _, test := range []struct {
		minutes, least, miss float64
	}{
		{10, 1.5, 2}, {20, 6, 3}, {30, 10, 4}, {60, 12, 5}, {90, 12, 7}, {120, 11, 5}, {180, 15, 6}, {360, 15, 10}, {720, 15, 20}, {1440, 25, 35},
	} {
		var row []string
		for _, shape := range shapes {
			if test.minutes > 720 && shape == "steps" {
				continue // of 36 minutes each: no line
			}
			o := watch(t, 30*time.Second, time.Duration(test.minutes+130)*time.Minute, shaped(shape, test.minutes))
			assert.GreaterOrEqual(t, o.first.Minutes(), test.least, "%v min, %s", test.minutes, shape)
			assert.InDelta(t, 0, o.miss.Minutes(), test.miss, "%v min, %s", test.minutes, shape)
			assert.Zero(t, o.withdrawn, "%v min, %s", test.minutes, shape)
			row = append(row, fmt.Sprintf("%s: %.1f (%+.1f)", shape, o.first.Minutes(), o.miss.Minutes()))
		}
		t.Logf("%5.0f min: minutes before the limit (error): %s", test.minutes, strings.Join(row, ", "))
	}
}

// shaped is a leak with something on top.
func shaped(shape string, minutes float64) func(m float64) float64 {
	rnd := rand.New(rand.NewPCG(uint64(minutes), 1))
	grows := leak(minutes)
	return func(m float64) float64 {
		switch shape {
		case "steps":
			step := minutes / 40
			return grows(120+math.Floor((m-120)/step)*step) + 2*rnd.NormFloat64()
		case "small teeth":
			return grows(m) + saw(m, 4, 100) + 2*rnd.NormFloat64()
		}
		var sigma float64
		_, _ = fmt.Sscanf(shape, "noise %f", &sigma)
		return grows(m) + sigma*rnd.NormFloat64()
	}
}

// Teeth of a quarter of the memory on top of a leak: it is foretold by their tops.
func TestForetoldByPeaks(t *testing.T) {
	for _, minutes := range []float64{60, 120, 360, 720} {
		rnd, grows := rand.New(rand.NewPCG(3, 4)), leak(minutes)
		o := watch(t, 30*time.Second, time.Duration(minutes+130)*time.Minute, func(m float64) float64 {
			return grows(m) + saw(m, minutes/15, 250) + 2*rnd.NormFloat64()
		})
		assert.GreaterOrEqual(t, o.first.Minutes(), 8.0, "%v min", minutes)
		assert.LessOrEqual(t, o.withdrawn, 1, "%v min", minutes)
		t.Logf("%v min: %.1f (%+.1f) %d withdrawn", minutes, o.first.Minutes(), o.miss.Minutes(), o.withdrawn)
	}
}

// In a day and a half of a habit nothing is foretold; of some the first time, which
// nobody could know not to go on.
func TestHabitsAreNotForetold(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates a month")
	}
	for _, h := range habits() {
		rnd := rand.New(rand.NewPCG(5, 2))
		o := watch(t, 30*time.Second, 36*time.Hour, func(m float64) float64 { return min(h.used(m, rnd), 999) })
		assert.LessOrEqual(t, o.predicted, h.first, h.name)
		assert.Equal(t, o.predicted, o.withdrawn, h.name)
	}
}

// habit is something healthy; first is how often it may be foretold, once.
type habit struct {
	name  string
	first int
	used  func(m float64, rnd *rand.Rand) float64
}

func habits() []habit {
	var walk float64
	return []habit{
		{"noise 5 %", 0, func(_ float64, r *rand.Rand) float64 { return 800 + 50*r.NormFloat64() }},
		{"noise 2 % at 90 %", 0, func(_ float64, r *rand.Rand) float64 { return 900 + 20*r.NormFloat64() }},
		{"sawtooth 12 min", 0, func(m float64, r *rand.Rand) float64 { return 500 + saw(m, 12, 400) + 5*r.NormFloat64() }},
		{"sawtooth 45 min", 1, func(m float64, r *rand.Rand) float64 { return 400 + saw(m, 45, 500) + 5*r.NormFloat64() }},
		{"sawtooth 6 h", 0, func(m float64, r *rand.Rand) float64 { return 400 + saw(m, 360, 520) + 5*r.NormFloat64() }},
		{"sawtooth 12 min small", 0, func(m float64, r *rand.Rand) float64 { return 800 + saw(m, 12, 100) + 5*r.NormFloat64() }},
		{"warm-up 30 min exp to 90 %", 0, func(m float64, r *rand.Rand) float64 { return 900*(1-math.Exp(-m/30)) + 5*r.NormFloat64() }},
		{"warm-up 4 h exp to 95 %", 0, func(m float64, r *rand.Rand) float64 { return 950*(1-math.Exp(-m/240)) + 5*r.NormFloat64() }},
		{"warm-up 4 h exp to 95 % twice", 0, func(m float64, r *rand.Rand) float64 {
			return 950*(1-math.Exp(-math.Mod(m, 1440)/240)) + 5*r.NormFloat64()
		}},
		{"warm-up straight 10 min to 85 %", 0, func(m float64, r *rand.Rand) float64 { return 200 + 650*min(m/10, 1) + 5*r.NormFloat64() }},
		{"warm-up straight 3 h to 80 %", 0, func(m float64, r *rand.Rand) float64 { return 200 + 600*min(m/180, 1) + 5*r.NormFloat64() }},
		{"daily to 95 %", 0, func(m float64, r *rand.Rand) float64 { return 650 + 300*math.Sin(m/720*math.Pi) + 5*r.NormFloat64() }},
		{"daily to 90 %, noise 2 %", 0, func(m float64, r *rand.Rand) float64 { return 650 + 250*math.Sin(m/720*math.Pi) + 20*r.NormFloat64() }},
		{"daily ramp 20 min at 9", 1, func(m float64, r *rand.Rand) float64 {
			d := math.Mod(m+540, 1440)
			return 450 + 350*min(max(d-540, 0)/20, max(1080-d, 0)/20, 1) + 5*r.NormFloat64()
		}},
		{"steps of releases", 0, func(m float64, r *rand.Rand) float64 { return 500 + 60*math.Floor(m/500) + 5*r.NormFloat64() }},
		{"leak to a plateau at 90 %", 0, func(m float64, r *rand.Rand) float64 { return min(300+m, 900) + 5*r.NormFloat64() }},
		{"random walk", 2, func(m float64, r *rand.Rand) float64 {
			if m == 0 {
				walk = 0
			}
			walk = 0.98*walk + 10*r.NormFloat64()
			return 800 + walk
		}},
		{"restarts each hour at 70 %", 0, func(m float64, r *rand.Rand) float64 { return 200 + 550*min(math.Mod(m, 60)/50, 1) + 5*r.NormFloat64() }},
		{"batch job every 2 h", 1, func(m float64, r *rand.Rand) float64 {
			d := math.Mod(m, 120)
			return 400 + 450*min(d/15, max(45-d, 0)/15, 1) + 5*r.NormFloat64()
		}},
		{"a leak of weeks", 0, func(m float64, r *rand.Rand) float64 { return 700 + 0.05*m + 3*r.NormFloat64() }},
	}
}
