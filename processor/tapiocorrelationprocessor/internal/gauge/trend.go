package gauge

import (
	"math"
	"slices"
)

// trend is a robust line through the newest part of a series.
type trend struct {
	// slope is per second, value the line's at the newest sample, top what was reached.
	slope, value, top float64
	// consistency is the share of pairs of parts of which the later is the larger.
	consistency float64
	// residual is the median distance from the line, rise how much the line grew.
	residual, rise float64
	// since is where the line begins, ns since 1970.
	since int64
}

const (
	// minTrend is how many parts, and minTrendSpan how much time, make a trend.
	minTrend     = 8
	minTrendSpan = int64(180e9)
	// maxParts is how many parts a window is cut into; of each its highest sample
	// counts: what is full at its peak is full, and teeth that are shorter than a part
	// are no noise. longer is how much longer a window is than the next one.
	maxParts = 12
	longer   = 1.3
	// settled is how old a thing is before its growth is a trend: until then it starts
	// up. What reached its limit before has no such grace.
	settled = int64(900e9)
	// teeth is how many times in a day, and since the limit was last reached, something
	// is let go of for that to be a habit, as of a collector.
	teeth, day = 3, int64(24 * 3600e9)
	// minConsistency: of eight parts of noise, one order in 800 is as consistent.
	minConsistency = 0.9
	// minRise is the least growth, as a share of the limit, that a trend must have.
	minRise = 0.05
	// maxResidual is the largest median distance from the line, as a share of the rise.
	maxResidual = 0.1
	// minSwing is how many times as large as any fall within as long a time before it
	// the growth must be.
	minSwing = 2
	// dropShare is by how much a value falls when something lets go of the resource:
	// a restart, a collection, a rotation.
	dropShare = 0.2
	// lives: a level that was reached before and given up, below this share of the
	// limit, is how the thing lives, not a leak. above is how much higher it must get.
	lives, above = 0.95, 1.02
	// slowing and speeding bound the slope of the second half of a trend against that
	// of the first: a cache that fills up, or a warm-up, slows down. Over the time that
	// is left an exponential one loses e^-0.5 = 0.61 from half to half. What speeds up
	// began to grow later than the trend's first sample. ending bounds the last third's
	// slope against that of all.
	slowing, speeding, ending = 0.7, 1.6, 0.5
	// lagging is how far, as a share of the rise, the newest part may be behind the line.
	lagging = 0.03
)

// fit returns the longest straight trend of samples (oldest first) towards a goal
// below the limit that looks back as far as it looks ahead; ok is false when there is
// none. What fell from fatal or more, in the unit of the limit, had reached its limit;
// collected tells that it falls out of habit. parts is overwritten.
func fit(samples []sample, limit, goal, fatal float64, collected bool, parts []sample) (t trend, ok bool) {
	if len(samples) < minTrend {
		return trend{}, false
	}
	life := life(samples)
	newest := samples[len(samples)-1].at
	age := newest - samples[0].at
	for span := age; span >= minTrendSpan; span = int64(float64(span) / longer) {
		parts = cut(samples, span/maxParts, parts[:0])
		before, window := split(parts, span)
		if !collected && newest-span < samples[life].at && life > 0 {
			continue // it ended in between
		}
		if t, ok = straight(window, limit); !ok || (goal*limit-t.value)/t.slope > float64(span)/1e9 {
			continue
		}
		if !grownUp(samples, life, collected, fatal) || !isNew(before, t, fatal, span) {
			return trend{}, false
		}
		t.extend(before)
		return t, true
	}
	return trend{}, false
}

// cut appends the highest sample of each part of a length, counted from the newest
// sample, to parts.
func cut(samples []sample, length int64, parts []sample) []sample {
	newest, last := samples[len(samples)-1].at, int64(-1)
	for _, s := range samples {
		switch slot := (newest - s.at) / length; {
		case slot != last:
			parts = append(parts, s)
			last = slot
		case s.value >= parts[len(parts)-1].value:
			parts[len(parts)-1] = s
		}
	}
	return parts
}

// split parts what is older than a window from what is in it.
func split(parts []sample, span int64) (before, window []sample) {
	newest := parts[len(parts)-1].at
	i := slices.IndexFunc(parts, func(s sample) bool { return newest-s.at <= span })
	return parts[:i], parts[i:]
}

// straight returns the line through a window when it is one.
func straight(window []sample, limit float64) (trend, bool) {
	n := len(window)
	if n < minTrend || window[n-1].at-window[0].at < minTrendSpan/2 {
		return trend{}, false
	}
	for i := 1; i < n; i++ {
		if fell(window[i-1], window[i]) {
			return trend{}, false
		}
	}
	t := trend{slope: slope(window), consistency: concordance(window), since: window[0].at}
	t.rise = t.slope * seconds(window[0], window[n-1])
	if t.rise < minRise*limit || t.consistency < minConsistency {
		return trend{}, false
	}
	var offset float64
	offset, t.residual = residuals(window, t.slope)
	t.value = offset + t.rise
	if t.residual > maxResidual*t.rise {
		return trend{}, false
	}
	early, late := slope(window[:n/2]), slope(window[n-n/2:])
	last := float64(window[n-1].value)
	if t.value-last > max(3*t.residual, lagging*t.rise) {
		return trend{}, false
	}
	t.top = min(t.value, last)
	return t, late >= slowing*early && late <= speeding*max(early, 0) && slope(window[n-max(n/3, 3):]) >= ending*t.slope
}

// grownUp tells whether what grows is old enough for a trend, or followed a life that
// ended at the limit.
func grownUp(samples []sample, life int, collected bool, fatal float64) bool {
	if collected {
		life = 0
	}
	return samples[len(samples)-1].at-samples[life].at >= settled || float64(peak(samples[:life])) >= fatal
}

// isNew tells whether a trend is more than what the series did before and took back:
// it is higher than it ever was, or was at the limit, and rose more than what was
// lost in as long a time before.
func isNew(before []sample, t trend, fatal float64, span int64) bool {
	if p := float64(peak(before)); p < fatal && t.top <= p*above {
		return false
	}
	return t.rise >= minSwing*drawdown(before, span)
}

// drawdown is the largest loss within a time, apart from falls.
func drawdown(samples []sample, within int64) (loss float64) {
	for i := range samples {
		for j := i + 1; j < len(samples) && samples[j].at-samples[i].at <= within && !fell(samples[j-1], samples[j]); j++ {
			loss = max(loss, float64(samples[i].value-samples[j].value))
		}
	}
	return loss
}

// extend moves the beginning of the trend back over what lies on its line.
func (t *trend) extend(before []sample) {
	begin := t.since
	for _, s := range slices.Backward(before) {
		on := t.value - t.rise - t.slope*float64(begin-s.at)/1e9
		if math.Abs(float64(s.value)-on) > max(3*t.residual, maxResidual*t.rise) {
			return
		}
		t.since = s.at
	}
}

func peak(samples []sample) (p float32) {
	for _, s := range samples {
		p = max(p, s.value)
	}
	return p
}

// life returns the index of the sample since which nothing was let go of.
func life(samples []sample) int {
	for i := len(samples) - 1; i > 0; i-- {
		if fell(samples[i-1], samples[i]) {
			return i
		}
	}
	return 0
}

func fell(a, b sample) bool { return b.value < a.value*(1-dropShare) }

// slope is the median of the slopes of all pairs (Theil-Sen), per second.
func slope(samples []sample) float64 {
	var buffer [maxParts * (maxParts + 1) / 2]float64
	slopes := buffer[:0]
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
	var buffer [maxParts + 1]float64
	d := buffer[:0]
	for _, s := range samples {
		d = append(d, float64(s.value)-slope*seconds(samples[0], s))
	}
	offset = median(d)
	for i := range d {
		d[i] = math.Abs(d[i] - offset)
	}
	return offset, median(d)
}

func seconds(a, b sample) float64 { return float64(b.at-a.at) / 1e9 }
