package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// pollInterval is how often --wait asks again.
const pollInterval = 250 * time.Millisecond

type correlateOptions struct {
	traceID, output string
	wait            time.Duration
}

func (a *app) correlateCommand() *cobra.Command {
	var o correlateOptions
	cmd := &cobra.Command{
		Use:   "correlate --trace-id ID",
		Short: "Explain why a request failed",
		Long: "Explain why the request with that trace id failed: the finding that names it among the requests it hurt.\n" +
			"The trace id of a finding's own trace works too. When several findings explain a trace, the newest comes first.\n\n" +
			"With --output json it prints {\"findings\": [...]}, the form in which the API answers.",
		Example: "  tapio correlate --trace-id 4bf92f3577b34da6a3ce929d0e0e4736 --wait 30s",
		Args:    usage(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.correlate(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.traceID, "trace-id", "", "trace id of the request, 32 hexadecimal digits (required)")
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "how long to wait for a finding when there is none yet")
	cmd.Flags().StringVarP(&o.output, "output", "o", outputText, "text or json")
	return cmd
}

func (a *app) correlate(ctx context.Context, o correlateOptions) error {
	if err := oneOf(o.output, outputText, outputJSON); err != nil {
		return err
	}
	if o.traceID == "" {
		return usageError{fmt.Errorf("--trace-id is missing: name the request to explain, as 32 hexadecimal digits")}
	}
	id, err := finding.ParseID(strings.ToLower(o.traceID)) // a trace id has the form of a finding's
	if err != nil {
		return usageError{fmt.Errorf("--trace-id %q: want 32 hexadecimal digits, not all zero", o.traceID)}
	}
	if o.wait < 0 {
		return usageError{fmt.Errorf("--wait %s: want a duration from 0", o.wait)}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	page, err := waitForFindings(ctx, c, id.String(), o.wait)
	if err != nil {
		return err
	}
	if o.output == outputJSON {
		if err := printJSON(a.out, page); err != nil {
			return err
		}
	} else if err := a.printAll(page.Findings); err != nil {
		return err
	}
	if len(page.Findings) == 0 {
		return notFoundError(noFinding(id.String(), o.wait))
	}
	return nil
}

// waitForFindings asks until there is a finding or the time is over; the page is
// empty then.
func waitForFindings(ctx context.Context, c *findingsapi.Client, traceID string, wait time.Duration) (*findingsapi.Page, error) {
	deadline := time.Now().Add(wait)
	for {
		page, err := c.TraceFindings(ctx, traceID)
		if err != nil || len(page.Findings) > 0 || time.Now().After(deadline) {
			return page, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

func (a *app) printAll(findings []*finding.Finding) error {
	for i, f := range findings {
		if i > 0 {
			if _, err := io.WriteString(a.out, "\n"+strings.Repeat("=", a.out.width)+"\n\n"); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(a.out, render(f, a.out.style())); err != nil {
			return err
		}
	}
	return nil
}

func noFinding(traceID string, wait time.Duration) string {
	after := ""
	if wait > 0 {
		after = " after " + wait.String()
	}
	return fmt.Sprintf("no finding explains trace %s%s. Its request may not have failed, its cause may not be known (yet: see --wait), "+
		"or the finding kept other traces as its examples; `tapio findings` lists all findings.", traceID, after)
}
