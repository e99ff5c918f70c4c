package gauge

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// line makes samples at a minute's distance.
func line(n int, f func(minute float64) float64) []sample {
	var out []sample
	for i := range n {
		out = append(out, sample{at: noon.Add(time.Duration(i) * time.Minute).UnixNano(), value: float32(f(float64(i)))})
	}
	return out
}

// noise is reproducible, between -1 and 1.
func noise() func() float64 {
	r := rand.New(rand.NewPCG(1, 2))
	return func() float64 { return 2*r.Float64() - 1 }
}

// Limits are 1000, slopes per minute.
func TestFit(t *testing.T) {
	n := noise()
	for _, test := range []struct {
		name    string
		samples []sample
		want    float64 // slope per minute, 0 for no trend
	}{
		{"a leak", line(20, func(m float64) float64 { return 500 + 20*m }), 20},
		{"a leak with noise", line(20, func(m float64) float64 { return 400 + 20*m + 15*n() }), 20},
		{"a leak of something that just started", line(12, func(m float64) float64 { return 500 + 20*m }), 0},
		{"a leak that a measurement fails of", line(20, func(m float64) float64 {
			if m == 6 {
				return 850
			}
			return 500 + 20*m
		}), 0}, // a fall of more than a fifth is the end of a life
		{"a leak that began after an hour", line(75, func(m float64) float64 { return 500 + 30*max(m-60, 0) }), 30},
		{"a leak after restarts at the limit", line(40, func(m float64) float64 { return 400 + 40*math.Mod(m, 15) }), 40},
		{"growth that quickens", line(16, func(m float64) float64 { return 400 + 2*m*m }), 0.1},
		{"nothing", line(20, func(float64) float64 { return 500 }), 0},
		{"noise", line(40, func(float64) float64 { return 500 + 100*n() }), 0},
		{"too few", line(5, func(m float64) float64 { return 500 + 20*m }), 0},
		{"hardly any growth", line(20, func(m float64) float64 { return 500 + m }), 0},
		{"it shrinks", line(20, func(m float64) float64 { return 900 - 10*m }), 0},
		{"collections", line(40, func(m float64) float64 { return 400 + 40*math.Mod(m, 10) }), 0},
		{"a cache that fills up", line(20, func(m float64) float64 { return 900 * (1 - math.Exp(-m/6)) }), 0},
		{"a warm-up", line(20, func(m float64) float64 { return 300 + 40*min(m, 8) }), 0},
		{"steps", line(20, func(m float64) float64 { return 500 + 200*math.Floor(m/15) }), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := fit(test.samples, 1000, reached, lives*1000, false, make([]sample, 0, maxSamples))
			if test.want == 0 {
				assert.False(t, ok, "%+v", got)
				return
			}
			require.True(t, ok)
			if test.want < 1 {
				assert.Greater(t, got.slope*60, 40.0, "the slope of the last minutes, not of all")
				return
			}
			assert.InEpsilon(t, test.want, got.slope*60, 0.15)
			assert.InDelta(t, test.samples[len(test.samples)-1].value, got.value, 30)
			assert.GreaterOrEqual(t, got.consistency, minConsistency)
			assert.GreaterOrEqual(t, got.since, test.samples[0].at)
		})
	}
}

func TestSlopeIsRobust(t *testing.T) {
	samples := line(11, func(m float64) float64 { return 10 * m })
	samples[3].value, samples[7].value = 5000, -5000
	assert.InEpsilon(t, 10.0/60, slope(samples), 0.1)
	assert.Zero(t, slope(nil))
	assert.Zero(t, slope(samples[:1]))
}

func TestConcordance(t *testing.T) {
	assert.InDelta(t, 1, concordance(line(5, func(m float64) float64 { return m })), 0)
	assert.InDelta(t, 0, concordance(line(5, func(m float64) float64 { return -m })), 0)
	assert.InDelta(t, 0.5, concordance(line(5, func(float64) float64 { return 1 })), 0)
	assert.Zero(t, concordance(nil))
}

func TestMedianAndQuantile(t *testing.T) {
	assert.Zero(t, median(nil))
	assert.InDelta(t, 2, median([]float64{3, 1, 2}), 0)
	assert.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 0)
	assert.Zero(t, ninetieth(nil))
	assert.InDelta(t, 9, ninetieth([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), 0)
	assert.InDelta(t, 1, ninetieth([]float64{1}), 0)
}
