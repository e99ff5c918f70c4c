package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/patterns"
)

// errPatterns is how a check of patterns fails: what is wrong has been printed.
var errPatterns = errors.New("patterns are not as they should be")

func (a *app) patternsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "patterns",
		Short: "List, check and test the patterns by which causes are known",
		Long: "Patterns say what a cause looks like, what follows from it and what to do about it. The built-in ones are in\n" +
			"docs/patterns.md; what a file of your own looks like, and its scenarios, is in the README of the processor\n" +
			"tapiocorrelation, whose key patterns::directory names your directory.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.patternsList(), a.patternsLint(), a.patternsTest())
	return cmd
}

func (a *app) patternsList() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list [DIR]",
		Short:   "List the built-in patterns and those of a directory",
		Example: "  tapio patterns list\n  tapio patterns list /etc/tapio/patterns -o json",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := oneOf(output, outputTable, outputJSON); err != nil {
				return err
			}
			list, err := patterns.List(strings.Join(args, ""))
			if err != nil {
				return err
			}
			if output == outputJSON {
				return printJSON(a.out, map[string]any{"patterns": list})
			}
			_, err = fmt.Fprint(a.out, patternTable(list))
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", outputTable, "table or json")
	return cmd
}

func patternTable(list []patterns.Info) string {
	rows := [][]string{{"ID", "CAUSE", "REL", "SOURCE", "TITLE"}}
	for _, i := range list {
		rows = append(rows, []string{clean(i.ID), clean(i.Cause), strconv.FormatFloat(i.Reliability, 'g', -1, 64), clean(i.Source), clean(i.Title)})
	}
	widths := columnWidths(rows)
	var b strings.Builder
	for _, row := range rows {
		for n, cell := range row[:len(row)-1] {
			fmt.Fprintf(&b, "%-*s  ", widths[n], cell)
		}
		b.WriteString(row[len(row)-1] + "\n")
	}
	return b.String()
}

func (a *app) patternsLint() *cobra.Command {
	return &cobra.Command{
		Use:     "lint DIR",
		Short:   "Check the patterns of a directory and that each has its scenarios",
		Long:    "Check every *.yaml file of DIR. Each problem is one line with file, line, key, value and what is allowed; the exit\ncode is 3 when there is one.",
		Example: "  tapio patterns lint /etc/tapio/patterns",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			count, err := a.lintPatterns(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s, no mistakes\n", number(count, "pattern"))
			return err
		},
	}
}

// lintPatterns prints what is wrong with the patterns of a directory, a line each, and
// returns how many files it has.
func (a *app) lintPatterns(dir string) (files int, err error) {
	files, problems, err := patterns.Lint(dir)
	if err != nil {
		return 0, err
	}
	for _, p := range problems {
		if _, err := fmt.Fprintln(a.out, oneLine(p.Error())); err != nil {
			return 0, err
		}
	}
	if len(problems) > 0 {
		return 0, fmt.Errorf("%s: %w: %s", dir, errPatterns, number(len(problems), "problem"))
	}
	return files, nil
}

// number is a number with its noun, such as 1 pattern or 2 patterns.
func number(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func (a *app) patternsTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test DIR",
		Short: "Play the scenarios of the patterns of a directory",
		Long: "Play testdata/ID/fires.yaml and nearly.yaml of each pattern in DIR through the processor, with the built-in patterns\n" +
			"beside them. The exit code is 3 when one does not do what it should.",
		Example: "  tapio patterns test /etc/tapio/patterns",
		Args:    usage(cobra.ExactArgs(1)),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.testPatterns(cmd.Context(), args[0]) },
	}
}

func (a *app) testPatterns(ctx context.Context, dir string) error {
	results, err := patterns.TestDirectory(ctx, dir)
	if err != nil {
		if _, wrong := a.lintPatterns(dir); wrong != nil {
			return wrong // line by line
		}
		return err
	}
	failed := 0
	for _, r := range results {
		line := fmt.Sprintf("ok %s %s", r.Pattern, r.Scenario)
		if r.Err != nil {
			failed++
			line = fmt.Sprintf("FAIL %s %s: %v", r.Pattern, r.Scenario, r.Err)
		}
		if _, err := fmt.Fprintln(a.out, oneLine(line)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%s: %w: %d of %d scenarios failed", dir, errPatterns, failed, len(results))
	}
	return nil
}

// oneLine makes one line of a text that may have several.
func oneLine(s string) string { return clean(strings.Join(strings.Fields(s), " ")) }
