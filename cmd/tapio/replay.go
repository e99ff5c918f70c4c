package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
	"github.com/yairfalse/tapio/internal/replay"
)

type replayOptions struct {
	config, output string
	lateness       time.Duration
}

// maxLateness bounds --lateness: what is held for longer is no lateness.
const maxLateness = time.Hour

func (a *app) replayCommand() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Explain what recorded telemetry shows",
		Long: "Take files of OTLP, as the collector's file exporter writes them, through the correlation in the time of the\n" +
			"telemetry, and explain the findings, the first first. No collector is needed.\n\n" +
			"A file may hold traces, logs and metrics, as JSON lines or protobuf, compressed by gzip or zstd or not; its\n" +
			"contents tell. Files are read side by side. Progress and losses are reported on stderr. A file that cannot be\n" +
			"read to its end is replayed up to there, and the exit code is 3.\n\n" +
			"With --output json it prints {\"findings\": [...]}, the form in which the API answers.",
		Example: "  tapio replay traces.json logs.json.gz metrics.pb\n  tapio replay --config tapiocorrelation.yaml -o json yesterday/*.json",
		Args:    usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.replay(cmd.Context(), o, args, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&o.config, "config", "", "YAML file with the section of the tapiocorrelation processor (default: its defaults)")
	cmd.Flags().DurationVar(&o.lateness, "lateness", replay.DefaultLateness, "how far items of a file may be from the order of their time")
	cmd.Flags().StringVarP(&o.output, "output", "o", outputText, "text or json")
	return cmd
}

func (a *app) replay(ctx context.Context, o replayOptions, paths []string, stderr io.Writer) error {
	if err := oneOf(o.output, outputText, outputJSON); err != nil {
		return err
	}
	if o.lateness < 0 || o.lateness > maxLateness {
		return usageError{fmt.Errorf("--lateness %s: want 0s to %s", o.lateness, maxLateness)}
	}
	cfg, err := replay.LoadConfig(o.config)
	if err != nil {
		return usageError{fmt.Errorf("--config: %w", err)}
	}
	files, err := replay.OpenFiles(paths)
	if err != nil {
		return err
	}
	engine, err := replay.Start(ctx, cfg, warnings(stderr))
	if err != nil {
		return errors.Join(err, files.Close())
	}
	report := &progressReport{out: stderr, every: progressEvery(stderr)}
	buffer := replay.NewBuffer(engine, replay.DefaultMaxHeld)
	failed := errors.Join(files.Run(ctx, buffer, o.lateness, report.progress), files.Close())
	// What was found before an error or an interrupt is worth showing too.
	found, dropped, err := engine.Finish(context.WithoutCancel(ctx))
	report.end(buffer.Counts, dropped)
	if failed = errors.Join(failed, err); failed != nil && len(found) == 0 {
		return failed
	}
	if c := buffer.Counts; c.Spans+c.Records+c.Points == 0 {
		return fmt.Errorf("%w: %s", errNoItems, strings.Join(paths, ", "))
	}
	return errors.Join(failed, a.printReplayed(found, o.output))
}

// errNoItems is how a replay of nothing fails.
var errNoItems = errors.New("nothing to replay: no span, log record or data point with a time was read")

func (a *app) printReplayed(found []*finding.Finding, output string) error {
	if output == outputJSON {
		if found == nil {
			found = []*finding.Finding{}
		}
		return printJSON(a.out, &findingsapi.Page{Findings: found})
	}
	if len(found) == 0 {
		_, err := io.WriteString(a.out, "No findings.\n")
		return err
	}
	return a.printAll(found)
}

// warnings logs what the processor complains about, one line each.
func warnings(w io.Writer) *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "message", LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder})
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), zapcore.WarnLevel))
}

// progressEvery is how often progress is reported: often to a person who looks at
// it, rarely to a log.
func progressEvery(w io.Writer) time.Duration {
	if f, ok := w.(*os.File); ok {
		if _, terminal := columnsOf(f); terminal {
			return time.Second
		}
	}
	return 10 * time.Second
}

// progressReport writes how far a replay is, a line at a time.
type progressReport struct {
	out   io.Writer
	every time.Duration
	last  time.Time
}

func (r *progressReport) progress(p replay.Progress) {
	now := time.Now()
	if r.last.IsZero() {
		r.last = now // the first line after a while: most replays are over by then
	}
	if now.Sub(r.last) < r.every {
		return
	}
	r.last = now
	at := "-"
	if !p.Time.IsZero() {
		at = p.Time.Format(dateTime)
	}
	_, _ = fmt.Fprintf(r.out, "%3.0f %% read, at %s: %s, %d waiting\n", 100*float64(p.Read)/float64(max(p.Size, 1)), at, items(p.Counts), p.Held)
}

// end says what was read, and all that was lost.
func (r *progressReport) end(c replay.Counts, dropped map[string]int64) {
	_, _ = fmt.Fprintf(r.out, "replayed %s\n", items(c))
	for _, l := range []struct {
		n    int64
		text string
	}{
		{c.Invalid, "items had no time, or one in the future, and were left out"},
		{c.Late, "items came later than --lateness allows, out of order"},
		{c.Crowded, "times more items waited than are held, and the older half went on early"},
		{c.Other, "messages held other signals (profiles) and were left out"},
	} {
		if l.n > 0 {
			_, _ = fmt.Fprintf(r.out, "%d %s\n", l.n, l.text)
		}
	}
	if len(dropped) > 0 {
		var parts []string
		for _, reason := range slices.Sorted(maps.Keys(dropped)) {
			parts = append(parts, fmt.Sprintf("%s %d", reason, dropped[reason]))
		}
		_, _ = fmt.Fprintf(r.out, "the processor dropped, by reason (see its README): %s\n", strings.Join(parts, ", "))
	}
}

func items(c replay.Counts) string {
	return fmt.Sprintf("%d spans, %d log records, %d data points", c.Spans, c.Records, c.Points)
}
