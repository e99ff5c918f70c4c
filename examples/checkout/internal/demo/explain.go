package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// correlateTimeout bounds the tapio command.
const correlateTimeout = 30 * time.Second

// correlate runs the command that an engineer would, and prints what it prints.
func (d *demo) correlate(ctx context.Context, traceID string) error {
	ctx, cancel := context.WithTimeout(ctx, correlateTimeout)
	defer cancel()
	args := []string{"correlate", "--trace-id", traceID}
	_, _ = fmt.Fprintf(d.out, "\n$ tapio %s\n\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.Tapio, args...)
	cmd.Env = append(os.Environ(), d.tapioEnv())
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tapio %s: %w", strings.Join(args, " "), err)
	}
	_, _ = fmt.Fprintln(d.out)
	d.sayNext()
	return nil
}

func (d *demo) tapioEnv() string { return "TAPIO_ENDPOINT=" + d.state.Collector.API }

// sayNext says where one could look next, with what is really there.
func (d *demo) sayNext() {
	if d.KeepRunning {
		return // hold says more
	}
	d.say("to look around yourself, run it again with --keep-running; to keep report, finding and logs, with --output-dir DIR")
	if os.Getenv("TAPIO_EXPORT_ENDPOINT") == "" {
		d.say("to see the finding and the failed traces in your own backend, set TAPIO_EXPORT_ENDPOINT (OTLP/gRPC)")
	}
}

// hold says how to look around, and waits for the end of ctx.
func (d *demo) hold(ctx context.Context) {
	c := d.state.Collector
	_, _ = fmt.Fprintf(d.out, `
Everything is still running:

  export %s
  %s findings
  curl -s %s/api/v1/findings
  collector   OTLP/gRPC %s, zPages http://%s/debug/servicez, metrics http://%s/metrics
  storefront  %s (POST /orders)
  files       %s

`, d.tapioEnv(), d.Tapio, c.API, c.OTLPGRPC, c.ZPages, c.Metrics, d.state.Storefront, d.dir)
	d.say("Ctrl-C ends it")
	<-ctx.Done()
}
