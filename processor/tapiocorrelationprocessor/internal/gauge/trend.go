package gauge

import (
	"math"
	"slices"
)

// trend is a robust line through the newest samples of a series.
type trend struct {
	// slope is per second, value the line's at the newest sample.
	slope, value float64
	// consistency is the share of pairs of samples of which the later is the larger.
	consistency float64
	// since is the oldest sample that the line goes through, ns since 1970.
	since int64
}

const (
	// minTrend is how many samples, and minTrendSpan how much time, make a trend.
	minTrend     = 8
	minTrendSpan = int64(180e9)
	// settled is how old a thing is before its growth is a trend: until then it starts
	// up. What reached its limit before has no such grace.
	settled = int64(900e9)
	// minSignal is how many times larger than the usual variation (90th percentile of
	// the distance from the median, before the trend) the growth must be.
	minSignal = 3
	// maxTrend bounds the samples of a trend: pairs grow with their square.
	maxTrend = 40
	// minConsistency: of eight samples of noise, one order in 800 is as consistent.
	minConsistency = 0.9
	// minRise is the least growth, as a share of the limit, that a trend must have.
	minRise = 0.05
	// maxResidual is the largest median distance from the line, as a share of the rise.
	maxResidual = 0.1
	// dropShare is by how much a value falls when something lets go of the resource:
	// a restart, a collection, a rotation.
	dropShare = 0.2
	// lives: a level that was reached before and given up, below this share of the
	// limit, is a sawtooth, not a leak.
	lives = 0.9
	// slowing and speeding bound the slope of the second half of a trend against that
	// of the first: a cache that fills up, or a warm-up, slows down; what speeds up
	// began to grow later than the trend's first sample.
	slowing, speeding = 0.6, 1.6
)

// fit returns the trend of samples (oldest first) towards a limit; ok is false when
// they have none that could be trusted.
func fit(samples []sample, limit float64) (t trend, ok bool) {
	all := samples
	if samples = life(all, limit); !grownUp(samples, all, limit) {
		return trend{}, false
	}
	life := samples
	if len(samples) > maxTrend {
		samples = samples[len(samples)-maxTrend:]
	}
	for {
		if !enough(samples) {
			return trend{}, false
		}
		half := len(samples) / 2
		early, late := slope(samples[:half]), slope(samples[len(samples)-half:])
		if late <= 0 || late < slowing*early {
			return trend{}, false
		}
		if late > speeding*max(early, 0) && enough(samples[1:]) {
			samples = samples[max(1, len(samples)/4):]
			continue
		}
		break
	}
	t = trend{slope: slope(samples), consistency: concordance(samples), since: samples[0].at}
	span := seconds(samples[0], samples[len(samples)-1])
	rise := t.slope * span
	offset, residual := residuals(samples, t.slope)
	t.value = offset + rise
	return t, rise >= max(minRise*limit, minSignal*variation(life[:len(life)-len(samples)])) &&
		t.consistency >= minConsistency && residual <= maxResidual*rise
}

// grownUp tells whether a life is old enough for a trend, or follows one that ended
// at the limit.
func grownUp(life, all []sample, limit float64) bool {
	if len(life) == 0 {
		return false
	}
	if life[len(life)-1].at-life[0].at >= settled {
		return true
	}
	return float64(peak(all[:len(all)-len(life)])) >= lives*limit
}

// variation is the 90th percentile of the distance from the median; 0 of too few.
func variation(samples []sample) float64 {
	if len(samples) < minPast {
		return 0
	}
	d := make([]float64, len(samples))
	for i, s := range samples {
		d[i] = float64(s.value)
	}
	middle := median(d)
	for i := range d {
		d[i] = math.Abs(d[i] - middle)
	}
	slices.Sort(d)
	return ninetieth(d)
}

func peak(samples []sample) (p float32) {
	for _, s := range samples {
		p = max(p, s.value)
	}
	return p
}

func enough(samples []sample) bool {
	return len(samples) >= minTrend && samples[len(samples)-1].at-samples[0].at >= minTrendSpan
}

// life returns the samples since the last time that the resource was let go, none
// when what is held now was held before and given up below the limit.
func life(samples []sample, limit float64) []sample {
	begin := 0
	for i := 1; i < len(samples); i++ {
		if samples[i].value < samples[i-1].value*(1-dropShare) {
			begin = i
		}
	}
	before := peak(samples[:begin])
	if begin > 0 && float64(before) < lives*limit && samples[len(samples)-1].value <= before*1.05 {
		return nil
	}
	return samples[begin:]
}

// slope is the median of the slopes of all pairs (Theil-Sen), per second.
func slope(samples []sample) float64 {
	slopes := make([]float64, 0, len(samples)*(len(samples)-1)/2)
	for i := range samples {
		for j := i + 1; j < len(samples); j++ {
			if dt := seconds(samples[i], samples[j]); dt > 0 {
				slopes = append(slopes, float64(samples[j].value-samples[i].value)/dt)
			}
		}
	}
	return median(slopes)
}

// concordance is the share of pairs of which the later is the larger; equal values
// count half.
func concordance(samples []sample) float64 {
	var up, pairs float64
	for i := range samples {
		for j := i + 1; j < len(samples); j++ {
			pairs++
			switch {
			case samples[j].value > samples[i].value:
				up++
			case samples[j].value == samples[i].value:
				up += 0.5
			}
		}
	}
	if pairs == 0 {
		return 0
	}
	return up / pairs
}

// residuals returns the offset of the line at the first sample, and the median
// distance of the samples from the line.
func residuals(samples []sample, slope float64) (offset, residual float64) {
	d := make([]float64, len(samples))
	for i, s := range samples {
		d[i] = float64(s.value) - slope*seconds(samples[0], s)
	}
	offset = median(slices.Clone(d))
	for i := range d {
		d[i] = math.Abs(d[i] - offset)
	}
	return offset, median(d)
}

func seconds(a, b sample) float64 { return float64(b.at-a.at) / 1e9 }
