package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/yairfalse/tapio/internal/finding"
)

// printSummary writes the result for people.
func printSummary(out io.Writer, s *summary, verbose bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CASE\tKIND\tTRUE CAUSE\tNAMED\tPATTERN\tRANK\tEXACT\tCONF\tAFTER LABEL s\tAFTER SYMPTOM s\tAFTER START s\tCPU s\tFINDINGS (BEFORE)")
	for _, d := range s.Details {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%d (%d)\n", d.Case, d.Group, d.Truth, d.named(), or(d.Pattern, "-"),
			rankText(d.Rank), yes(d.Exact), number(d.Confidence, 2), number(d.AfterOnset, 0), number(d.AfterSymptom, 0), number(d.AfterStart, 0), d.CPUSeconds,
			len(d.Findings), d.WarmFindings)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "KIND\tCASES\tA@1\tA@3\tA@5\tEXACT")
	for _, g := range append(slices.Clone(s.Groups), group{"all", s.Cases, s.A1, s.A3, s.A5, s.Exact}) {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", or(g.Name, "?"), g.Cases, share(g.A1, g.Cases), share(g.A3, g.Cases), share(g.A5, g.Cases), share(g.Exact, g.Cases))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	printTotals(out, s)
	printFaultFree(out, s)
	printCalibration(w, s)
	if verbose {
		printFindings(out, s)
	}
	return w.Flush()
}

func printTotals(out io.Writer, s *summary) {
	fmt.Fprintf(out, "\n%s: %d cases with a label", s.Dataset, s.Cases)
	if s.Unlabelled > 0 {
		fmt.Fprintf(out, ", %d without", s.Unlabelled)
	}
	fmt.Fprintf(out, ", %d silent, %d findings withdrawn; finding after the label: p50 %s s, p90 %s s; after the first symptom: p50 %s s, p90 %s s; CPU %.1f s\n",
		s.Silent, s.Withdrawn, number(s.AfterOnsetP50, 1), number(s.AfterOnsetP90, 1), number(s.AfterSymptomP50, 1), number(s.AfterSymptomP90, 1), s.CPUSeconds)
	if len(s.Dropped) > 0 {
		fmt.Fprintf(out, "dropped by the engines, by reason: %s\n", dropped(s.Dropped))
	}
}

func dropped(m map[string]int64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

func printFaultFree(out io.Writer, s *summary) {
	if len(s.FaultFree) == 0 {
		return
	}
	fmt.Fprintf(out, "\nFault-free: %d false findings in %.1f minutes", s.FalseFindings, s.FaultFreeMinutes)
	if s.KnownFindings > 0 {
		fmt.Fprintf(out, ", and %d of failures that are known to be there", s.KnownFindings)
	}
	fmt.Fprintln(out)
	for _, d := range s.FaultFree {
		fmt.Fprintf(out, "  %s: %d in %.1f minutes, after %.1f minutes of others (%d findings there)\n",
			d.Case, len(d.Findings), d.Minutes, d.WarmMinutes, d.WarmFindings)
		for i, f := range d.Findings {
			fmt.Fprintf(out, "    %s\n", line(f))
			if d.Known[i] != "" {
				fmt.Fprintf(out, "      known: %s\n", d.Known[i])
			}
		}
	}
}

func line(f *finding.Finding) string {
	e := f.RootCause.Entity
	return fmt.Sprintf("%s %.2f %s: %s %s: %s", f.DetectedAt.UTC().Format("15:04:05"), f.Confidence.Score, f.Pattern, e.Kind, e.Name, f.Summary)
}

func printCalibration(w io.Writer, s *summary) {
	fmt.Fprintf(w, "\nCONFIDENCE\tFINDINGS\tMEAN\tRIGHT\n")
	for _, b := range s.Calibration {
		if b.Findings > 0 {
			fmt.Fprintf(w, "%.1f-%.1f\t%d\t%.2f\t%.2f\n", b.From, b.From+1./bins, b.Findings, b.Confidence, b.Right)
		}
	}
	fmt.Fprintf(w, "expected calibration error %.3f\n", s.ECE)
}

// printFindings writes all findings of all recordings.
func printFindings(out io.Writer, s *summary) {
	for _, d := range append(slices.Clone(s.Details), s.FaultFree...) {
		for i, f := range d.Findings {
			b, err := json.MarshalIndent(f, "", "  ")
			if err != nil {
				b = []byte(err.Error())
			}
			fmt.Fprintf(out, "\n%s (%s), finding %d of %d: %s\n%s\n", d.Case, or(d.Truth, "no label"), i+1, len(d.Findings), line(f), b)
		}
	}
}

func (d *detail) named() string {
	if d.Pattern == "" {
		return "-"
	}
	return d.Kind + " " + d.Entity
}

func rankText(rank int) string {
	if rank == 0 {
		return "-"
	}
	return fmt.Sprint(rank)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(x *float64, digits int) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, *x)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func share(n, of int) string {
	return fmt.Sprintf("%d/%d (%.0f %%)", n, of, 100*float64(n)/float64(max(of, 1)))
}
