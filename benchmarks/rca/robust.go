package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

// battery are the changes of --robust, each by itself.
var battery = []string{
	"", "thin=0.5", "thin=0.5,seed=2", "thin=0.25", "drop=0.02", "drop=0.05", "drop=0.1", "late=5s", "late=5s,retry=0.02", "skew=500ms", "skew=5s", "jitter=0.3",
	"head=20s", "head=40s", "tail=30s", "baseline=1", "baseline=2", "names", "words", "permute",
}

// perturbed is the result under one change.
type perturbed struct {
	Perturb string   `json:"perturb"`
	Summary *summary `json:"summary"`
}

// robust measures the data set once under each change of the battery.
func robust(ctx context.Context, out io.Writer, o options) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PERTURBED\tA@1\tA@3\tSILENT\tp50 s\tp90 s\tFALSE\tECE\tNOT AT RANK 1")
	var all []perturbed
	for _, text := range battery {
		o.perturb = text
		s, err := measured(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		all = append(all, perturbed{text, s})
		wrong := ""
		for _, d := range s.Details {
			if d.Truth != "" && d.Rank != 1 {
				wrong += " " + d.Case
			}
		}
		fmt.Fprintf(w, "%s\t%d/%d\t%d\t%d\t%s\t%s\t%d\t%.2f\t%s\n", or(text, "nothing"), s.A1, s.Cases, s.A3, s.Silent,
			number(s.AfterSymptomP50, 0), number(s.AfterSymptomP90, 0), s.FalseFindings, s.ECE, wrong)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return writeJSON(o.json, all)
}
