package main

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
)

// summary is the result of a run, as it is printed and as it is written as JSON.
type summary struct {
	Dataset string `json:"dataset"`
	// Cases are those with a label; Unlabelled ones count nowhere else.
	Cases      int `json:"cases"`
	Unlabelled int `json:"unlabelled,omitempty"`
	// A1, A3 and A5 count the cases whose right object is among the first 1, 3, 5;
	// Exact those whose first finding is right in all that the label says.
	A1    int `json:"a1"`
	A3    int `json:"a3"`
	A5    int `json:"a5"`
	Exact int `json:"exact"`
	// Silent cases have no finding.
	Silent int `json:"silent"`
	// Withdrawn findings of cases were taken back: a warning that did not come true, or
	// what a deeper cause explained later.
	Withdrawn int `json:"withdrawn"`
	// FalseFindings are those on fault-free recordings, withdrawn ones too, but for
	// KnownFindings, which name a failure that is known to be there.
	FalseFindings    int     `json:"false_findings"`
	KnownFindings    int     `json:"known_findings,omitempty"`
	FaultFreeMinutes float64 `json:"fault_free_minutes"`
	// Calibration is over the cause that each case is said to have, and over all
	// findings of fault-free recordings. A case's other findings have no label: some
	// are failures that nobody injected.
	ECE         float64 `json:"ece"`
	Calibration []bin   `json:"calibration"`
	// Seconds from the labelled injection until a finding named the right object, as it
	// did to the end, over the cases that have one.
	AfterOnsetP50 *float64 `json:"after_onset_p50_s,omitempty"`
	AfterOnsetP90 *float64 `json:"after_onset_p90_s,omitempty"`
	// The same from the first symptom (see package symptom; the label where none is
	// found).
	AfterSymptomP50 *float64 `json:"after_symptom_p50_s,omitempty"`
	AfterSymptomP90 *float64 `json:"after_symptom_p90_s,omitempty"`
	CPUSeconds      float64  `json:"cpu_s"`
	// Dropped adds up what the engines dropped, by reason.
	Dropped   map[string]int64 `json:"dropped,omitempty"`
	Groups    []group          `json:"groups"`
	Details   []detail         `json:"details"`
	FaultFree []detail         `json:"fault_free"`
}

// group sums up the cases of one kind.
type group struct {
	Name  string `json:"name"`
	Cases int    `json:"cases"`
	A1    int    `json:"a1"`
	A3    int    `json:"a3"`
	A5    int    `json:"a5"`
	Exact int    `json:"exact"`
}

// detail is one recording.
type detail struct {
	Case  string `json:"case"`
	Group string `json:"group,omitempty"`
	// Truth is what the label says; Pattern, Kind and Entity what the first finding
	// says.
	Truth      string   `json:"truth,omitempty"`
	Pattern    string   `json:"pattern,omitempty"`
	Kind       string   `json:"entity_kind,omitempty"`
	Entity     string   `json:"entity,omitempty"`
	Rank       int      `json:"rank"`
	Exact      bool     `json:"exact"`
	Confidence *float64 `json:"confidence,omitempty"`
	// Seconds until a finding named the right object, as it did to the end, or to the
	// best of all where none did: after the labelled injection, which may be up to a
	// minute after the true one, and after the recording's beginning.
	AfterOnset *float64 `json:"after_onset_s,omitempty"`
	AfterStart *float64 `json:"after_start_s,omitempty"`
	// AfterSymptom is the time from the first symptom, SymptomAfterOnset that from the
	// label to the first symptom.
	AfterSymptom      *float64 `json:"after_symptom_s,omitempty"`
	SymptomAfterOnset *float64 `json:"symptom_after_onset_s,omitempty"`
	CPUSeconds        float64  `json:"cpu_s,omitempty"`
	Minutes           float64  `json:"minutes"`
	// WarmMinutes of fault-free time came before it, in which WarmFindings were made.
	WarmMinutes  float64          `json:"warm_minutes"`
	WarmFindings int              `json:"warm_findings"`
	Spans        int64            `json:"spans"`
	Records      int64            `json:"log_records"`
	Points       int64            `json:"data_points"`
	Dropped      map[string]int64 `json:"dropped,omitempty"`
	// Findings are ranked. Known is, for each of a fault-free recording, how it is known
	// to be right, "" where it is not.
	Findings []*finding.Finding `json:"findings"`
	Known    []string           `json:"known,omitempty"`
}

// bin is the findings of one tenth of the confidence, [From, From+0.1).
type bin struct {
	From       float64 `json:"from"`
	Findings   int     `json:"findings"`
	Confidence float64 `json:"mean_confidence"`
	Right      float64 `json:"right"`
}

func summarize(name string, outcomes []*outcome, failures []known) *summary {
	s := &summary{Dataset: name, Calibration: make([]bin, bins), Details: []detail{}, FaultFree: []detail{}, Dropped: map[string]int64{}}
	groups := map[string]*group{}
	var after, symptoms []float64
	for _, o := range outcomes {
		d := describe(o)
		s.CPUSeconds += d.CPUSeconds
		for reason, n := range o.dropped {
			s.Dropped[reason] += n
		}
		if o.of == nil {
			s.FaultFree = append(s.FaultFree, d)
			named := func(f *finding.Finding) bool { return reason(failures, d.Case, f) != "" }
			for _, f := range o.findings {
				d.Known = append(d.Known, reason(failures, d.Case, f))
				if named(f) {
					s.KnownFindings++
				} else {
					s.FalseFindings++
				}
			}
			s.FaultFree[len(s.FaultFree)-1] = d
			s.FaultFreeMinutes += d.Minutes
			s.calibrate(o.findings, named)
			continue
		}
		s.Details = append(s.Details, d)
		if o.of.Truth == nil {
			s.Unlabelled++
			continue
		}
		for _, f := range o.findings {
			if f.State == finding.StateWithdrawn {
				s.Withdrawn++
			}
		}
		s.calibrate(o.findings[:min(1, len(o.findings))], o.of.Truth.Right)
		g := groups[d.Group]
		if g == nil {
			g = &group{Name: d.Group}
			groups[d.Group] = g
		}
		g.add(&d)
		if len(o.findings) == 0 {
			s.Silent++
		}
		if d.Rank > 0 && d.AfterOnset != nil {
			after = append(after, *d.AfterOnset)
			symptoms = append(symptoms, *d.AfterSymptom)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		s.Groups = append(s.Groups, *g)
		s.Cases, s.A1, s.A3, s.A5, s.Exact = s.Cases+g.Cases, s.A1+g.A1, s.A3+g.A3, s.A5+g.A5, s.Exact+g.Exact
	}
	s.ECE = finish(s.Calibration)
	s.AfterOnsetP50, s.AfterOnsetP90 = quantile(after, 0.5), quantile(after, 0.9)
	s.AfterSymptomP50, s.AfterSymptomP90 = quantile(symptoms, 0.5), quantile(symptoms, 0.9)
	return s
}

func (g *group) add(d *detail) {
	in := func(k int) int {
		if d.Rank > 0 && d.Rank <= k {
			return 1
		}
		return 0
	}
	g.Cases, g.A1, g.A3, g.A5 = g.Cases+1, g.A1+in(1), g.A3+in(3), g.A5+in(5)
	if d.Exact {
		g.Exact++
	}
}

func describe(o *outcome) detail {
	d := detail{
		Case: o.recording.ID, CPUSeconds: o.cpu.Seconds(), Minutes: o.recording.End.Sub(o.recording.Start).Minutes(),
		WarmMinutes: o.warm.Minutes(), WarmFindings: len(o.before), Spans: o.counts.Spans, Records: o.counts.Records, Points: o.counts.Points,
		Dropped: o.dropped, Findings: o.findings,
	}
	var right func(*finding.Finding) bool
	if o.of != nil {
		d.Group = o.of.Group
		if o.of.Truth != nil {
			d.Truth, right = o.of.Truth.String(), o.of.Truth.Right
		}
	}
	if len(o.findings) == 0 {
		return d
	}
	best := o.findings[0]
	d.Pattern, d.Kind, d.Entity, d.Confidence = best.Pattern, best.RootCause.Entity.Kind, best.RootCause.Entity.Name, &best.Confidence.Score
	if right != nil {
		v := o.of.Truth.Judge(o.findings)
		d.Rank, d.Exact = v.Rank, v.Exact
	}
	at := o.firstNamed(right)
	d.AfterStart = seconds(at.Sub(o.recording.Start))
	if o.of != nil && !o.of.Onset.IsZero() {
		first := o.symptom
		if first.IsZero() {
			first = o.of.Onset
		}
		d.AfterOnset, d.AfterSymptom, d.SymptomAfterOnset = seconds(at.Sub(o.of.Onset)), seconds(at.Sub(first)), seconds(first.Sub(o.of.Onset))
	}
	return d
}

// firstNamed is since when, without a break, a finding has named the right object, or
// when the best of all was made where none does in the end.
func (o *outcome) firstNamed(right func(*finding.Finding) bool) (first time.Time) {
	for _, f := range o.findings {
		if right == nil || !right(f) {
			continue
		}
		if at := o.since(f, right); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if first.IsZero() {
		return o.findings[0].DetectedAt
	}
	return first
}

func (o *outcome) since(f *finding.Finding, right func(*finding.Finding) bool) time.Time {
	since := f.DetectedAt
	for _, n := range o.named[f.ID] {
		if !right(&finding.Finding{RootCause: finding.RootCause{Entity: n.Entity}}) {
			since = time.Time{}
		} else if since.IsZero() {
			since = n.At
		}
	}
	if since.IsZero() {
		return f.DetectedAt
	}
	return since
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

// bins of the confidence.
const bins = 10

// calibrate adds findings to the bins; right is nil where none is.
func (s *summary) calibrate(findings []*finding.Finding, right func(*finding.Finding) bool) {
	for _, f := range findings {
		b := &s.Calibration[min(int(f.Confidence.Score*bins), bins-1)]
		b.Findings++
		b.Confidence += f.Confidence.Score
		if right != nil && right(f) {
			b.Right++
		}
	}
}

// finish turns the sums of the bins into means and returns the expected
// calibration error: the mean distance of confidence and share of right findings
// over the bins, each with the weight of its findings. Without findings it is 0.
func finish(all []bin) (ece float64) {
	n := 0
	for _, b := range all {
		n += b.Findings
	}
	for i := range all {
		b := &all[i]
		b.From = float64(i) / bins
		if b.Findings == 0 {
			continue
		}
		b.Confidence /= float64(b.Findings)
		b.Right /= float64(b.Findings)
		ece += math.Abs(b.Confidence-b.Right) * float64(b.Findings) / float64(n)
	}
	return ece
}

// quantile is nil without values. It returns a value that is there: the smallest
// with at least the share q of all at or below it.
func quantile(values []float64, q float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	values = slices.Sorted(slices.Values(values))
	return &values[max(int(math.Ceil(q*float64(len(values))))-1, 0)]
}
