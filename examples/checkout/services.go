package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/yairfalse/tapio/examples/checkout/internal/demo"
	"github.com/yairfalse/tapio/examples/checkout/internal/load"
	"github.com/yairfalse/tapio/examples/checkout/internal/memlimit"
	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
	"github.com/yairfalse/tapio/examples/checkout/internal/telemetry"
)

const (
	// endpointVariable is the standard variable of OpenTelemetry SDKs.
	endpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"
	// flushTimeout bounds how long a process tries to send its last spans.
	flushTimeout = 5 * time.Second
)

// instance is what all processes of the shop are told.
type instance struct {
	endpoint, version, listen string
}

func (i *instance) addTelemetry(f *pflag.FlagSet) {
	endpoint := os.Getenv(endpointVariable)
	if endpoint == "" {
		endpoint = telemetry.DefaultEndpoint
	}
	f.StringVar(&i.endpoint, "otlp-endpoint", endpoint, "OTLP/gRPC endpoint of the collector; $"+endpointVariable)
	f.StringVar(&i.version, "version", demo.HealthyVersion, "service.version that is reported")
}

func (i *instance) addListen(f *pflag.FlagSet, address string) {
	f.StringVar(&i.listen, "listen", address, "address to listen on, host:port")
}

// with runs f with telemetry and flushes it afterwards, also when f failed.
func (i *instance) with(ctx context.Context, name string, f func(*sdktrace.TracerProvider, *slog.Logger) error) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("service", name)
	telemetry.SetErrorHandler(func(err error) { log.WarnContext(ctx, "telemetry", "error", err) })
	tp, err := telemetry.Start(ctx, i.endpoint, telemetry.Service{Name: name, Version: i.version})
	if err != nil {
		return err
	}
	err = f(tp, log)
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if flushErr := tp.Shutdown(flush); flushErr != nil {
		// The shop works without its collector: lost telemetry is no failure of it.
		log.WarnContext(ctx, "the last spans were not sent", "error", flushErr)
	}
	return err
}

func newStorefront() *cobra.Command {
	var (
		i   instance
		url string
	)
	c := &cobra.Command{
		Use: shop.Storefront, Short: "Take orders (POST /orders) and have them paid", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return i.with(c.Context(), shop.Storefront, func(tp *sdktrace.TracerProvider, log *slog.Logger) error {
				h, err := shop.NewStorefront(tp, log, url)
				return serve(c.Context(), log, i.listen, h, err, "--payment-url")
			})
		},
	}
	i.addTelemetry(c.Flags())
	i.addListen(c.Flags(), "127.0.0.1:8080")
	c.Flags().StringVar(&url, "payment-url", "http://127.0.0.1:8081", "base URL of payment; a name in it is looked up for each call")
	return c
}

func newPayment() *cobra.Command {
	var (
		i    instance
		url  string
		leak memlimit.Bytes
	)
	c := &cobra.Command{
		Use: shop.Payment, Short: "Charge customers (POST /charge); release " + shop.LeakyVersion + " leaks memory", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("leak") {
				leak = memlimit.Bytes(shop.LeakOf(i.version))
			}
			return i.with(c.Context(), shop.Payment, func(tp *sdktrace.TracerProvider, log *slog.Logger) error {
				h, err := shop.NewPayment(tp, log, url, shop.NewLeak(int64(leak)))
				return serve(c.Context(), log, i.listen, h, err, "--ledger-url")
			})
		},
	}
	i.addTelemetry(c.Flags())
	i.addListen(c.Flags(), "127.0.0.1:8081")
	c.Flags().StringVar(&url, "ledger-url", "http://127.0.0.1:8082", "base URL of ledger")
	c.Flags().Var(&leak, "leak", "memory to keep of every order (default 1 MiB for "+shop.LeakyVersion+", else none)")
	return c
}

func newLedger() *cobra.Command {
	var (
		i    instance
		file string
	)
	c := &cobra.Command{
		Use: shop.Ledger, Short: "Book charges (POST /entries)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return i.with(c.Context(), shop.Ledger, func(tp *sdktrace.TracerProvider, log *slog.Logger) error {
				var book shop.Book
				if file != "" {
					journal, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
					if err != nil {
						return fmt.Errorf("--book: %w", err)
					}
					defer journal.Close()
					book.Journal = journal
				}
				ctx, broken := context.WithCancelCause(c.Context())
				defer broken(nil)
				err := shop.Serve(ctx, log, i.listen, shop.NewLedger(tp, &book, broken))
				if cause := context.Cause(ctx); cause != nil && c.Context().Err() == nil {
					err = cause
				}
				entries, total := book.Totals()
				log.InfoContext(c.Context(), "ended", "entries", entries, "total", total)
				return err
			})
		},
	}
	i.addTelemetry(c.Flags())
	i.addListen(c.Flags(), "127.0.0.1:8082")
	c.Flags().StringVar(&file, "book", "", "file to which each entry is added; the ledger ends when it cannot be written")
	return c
}

// serve runs the handler h unless making it failed with err, which is then about flag.
func serve(ctx context.Context, log *slog.Logger, listen string, h http.Handler, err error, flag string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return shop.Serve(ctx, log, listen, h)
}

func newLoad() *cobra.Command {
	var (
		i instance
		o load.Options
	)
	c := &cobra.Command{
		Use: "load", Short: "Send orders at a steady rate and report what became of them", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return i.with(c.Context(), load.ServiceName, func(tp *sdktrace.TracerProvider, log *slog.Logger) error {
				r, err := load.Run(c.Context(), tp, o)
				log.InfoContext(c.Context(), "ended", "sent", r.Sent, "ok", r.OK, "failed", r.Failed, "not_sent", r.NotSent)
				return err
			})
		},
	}
	i.addTelemetry(c.Flags())
	c.Flags().StringVar(&o.URL, "url", "http://127.0.0.1:8080", "base URL of storefront")
	c.Flags().Float64Var(&o.Rate, "rate", 10, "orders per second")
	c.Flags().IntVar(&o.Users, "users", 50, "number of customers")
	c.Flags().DurationVar(&o.Duration, "duration", 0, "how long to send orders; 0: until stopped")
	c.Flags().StringVar(&o.ReportPath, "report", "", "file for the report (JSON), written during the run and at its end")
	return c
}

func newConfine() *cobra.Command {
	var (
		dir   string
		limit memlimit.Bytes
	)
	c := &cobra.Command{
		Use: "confine -- PROGRAM [ARGUMENT...]", Short: "Become a program with a memory limit (used by run)", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return memlimit.Exec(dir, limit, args) },
	}
	c.Flags().StringVar(&dir, "cgroup", "", "directory of the memory cgroup to enter")
	c.Flags().Var(&limit, "data-limit", "RLIMIT_DATA, without a cgroup")
	return c
}
