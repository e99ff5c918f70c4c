package main

import (
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/yairfalse/tapio/examples/checkout/internal/demo"
	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
)

func newRun() *cobra.Command {
	o := demo.Options{MemoryLimit: 64 << 20, Leak: shop.DefaultLeak}
	c := &cobra.Command{
		Use:   "run",
		Short: "Start collector and shop, break payment, and let Tapio explain it",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			// A closed standard output must not end this program before it cleaned up.
			signal.Ignore(syscall.SIGPIPE)
			return demo.Run(c.Context(), o, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.Collector, "collector", "bin/otelcol-tapio", "path of the collector")
	f.StringVar(&o.Tapio, "tapio", "bin/tapio", "path of the tapio command")
	f.StringArrayVar(&o.Config, "config", []string{"otelcol-tapio/config.yaml"}, "configuration of the collector; may be given again to add to it")
	f.StringVar((*string)(&o.Fault), "fault", string(demo.FaultLeak), "what breaks payment: "+faultNames())
	f.DurationVar(&o.After, "after", 8*time.Second, "when sigkill, stop and hang happen")
	f.Var(&o.MemoryLimit, "memory-limit", "memory limit of payment")
	f.Var(&o.Leak, "leak", "what payment "+shop.LeakyVersion+" keeps of every order")
	f.Float64Var(&o.Rate, "rate", 10, "orders per second")
	f.IntVar(&o.Users, "users", 50, "number of customers")
	f.DurationVar(&o.Duration, "duration", time.Minute, "how long orders are sent, at most")
	f.BoolVar(&o.KeepRunning, "keep-running", false, "leave everything up, after the finding, until Ctrl-C")
	f.StringVar(&o.OutputDir, "output-dir", "", "new directory for report, finding and logs (default: a temporary one, removed at the end)")
	return c
}

func faultNames() string {
	names := make([]string, 0, len(demo.Faults))
	for _, f := range demo.Faults {
		names = append(names, string(f))
	}
	return fmt.Sprintf("%s or %s", strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}
