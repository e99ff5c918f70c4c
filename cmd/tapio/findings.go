package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// Values of --output.
const (
	outputTable = "table"
	outputText  = "text"
	outputJSON  = "json"
)

// maxList bounds --limit.
const maxList = 100_000

type findingsOptions struct {
	state, order, output string
	limit                int
}

func (a *app) findingsCommand() *cobra.Command {
	var o findingsOptions
	cmd := &cobra.Command{
		Use:   "findings",
		Short: "List findings, what goes on and hurts first",
		Long: "List findings: those that are open before those that are over, of each those that hurt requests before those\n" +
			"that hurt none, the newest first.\n\nWith --output json it prints {\"findings\": [...]}, " +
			"the form in which the API answers.",
		Example: "  tapio findings --state open\n  tapio findings --limit 5 --output json\n  tapio findings show 4bf92f3577b34da6a3ce929d0e0e4736",
		Args:    usage(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listFindings(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.state, "state", "", "only findings that are predicted, open, mended, resolved or withdrawn")
	cmd.Flags().StringVar(&o.order, "order", string(findingsapi.OrderImpact), "impact, or newest first whatever they hurt")
	cmd.Flags().IntVar(&o.limit, "limit", 20, "how many to list")
	cmd.Flags().StringVarP(&o.output, "output", "o", outputTable, "table or json")
	cmd.AddCommand(a.showCommand())
	return cmd
}

func (a *app) listFindings(ctx context.Context, o findingsOptions) error {
	if o.state != "" {
		if err := finding.State(o.state).Check(); err != nil {
			return usageError{fmt.Errorf("--%w", err)}
		}
	}
	if err := oneOf(o.output, outputTable, outputJSON); err != nil {
		return err
	}
	if o.limit < 1 || o.limit > maxList {
		return usageError{fmt.Errorf("--limit %d: want 1 to %d", o.limit, maxList)}
	}
	if err := findingsapi.Order(o.order).Check(); err != nil {
		return usageError{fmt.Errorf("--%w", err)}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	page, err := collect(ctx, c, findingsapi.Query{State: finding.State(o.state), Order: findingsapi.Order(o.order)}, o.limit)
	if err != nil {
		return err
	}
	if o.output == outputJSON {
		return printJSON(a.out, page)
	}
	_, err = io.WriteString(a.out, table(page.Findings, a.out))
	return err
}

// collect reads pages until it has limit findings or there are no more.
func collect(ctx context.Context, c *findingsapi.Client, q findingsapi.Query, limit int) (*findingsapi.Page, error) {
	all := &findingsapi.Page{Findings: []*finding.Finding{}}
	for {
		q.Limit, q.Before = min(limit-len(all.Findings), findingsapi.MaxLimit), all.Next
		page, err := c.Findings(ctx, q)
		if err != nil {
			return nil, err
		}
		all.Findings = append(all.Findings, page.Findings...)
		all.Next = page.Next
		if page.Next == "" || len(page.Findings) == 0 || len(all.Findings) >= limit {
			return all, nil
		}
	}
}

func (a *app) showCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Explain one finding",
		Long:  "Explain one finding. Of its id the first four or more digits suffice, as many as tell it from all others.",
		Args:  usage(cobra.ExactArgs(1)),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.show(cmd.Context(), args[0], output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", outputText, "text or json")
	return cmd
}

func (a *app) show(ctx context.Context, arg, output string) error {
	if err := oneOf(output, outputText, outputJSON); err != nil {
		return err
	}
	id, err := finding.ParseIDPrefix(arg)
	if err != nil {
		return usageError{err}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	f, err := c.Finding(ctx, id)
	var refused *findingsapi.StatusError
	switch {
	case errors.Is(err, findingsapi.ErrNotFound):
		return notFoundError(fmt.Sprintf("no finding %s is kept; `tapio findings` lists those that are", id))
	case errors.As(err, &refused) && refused.Code == http.StatusBadRequest: // several begin so
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if output == outputJSON {
		return printJSON(a.out, f)
	}
	_, err = io.WriteString(a.out, render(f, a.out.style()))
	return err
}
