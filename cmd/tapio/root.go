package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/yairfalse/tapio/internal/findingsapi"
)

// Exit codes, documented in --help.
const (
	exitOK       = 0
	exitNotFound = 1 // or, of doctor, something does not run here
	exitUsage    = 2
	exitFailed   = 3
)

const help = `tapio shows the findings of a Tapio collector: what broke, why, whom it hurts and
what to do. It reads them from the collector's tapio extension over HTTP, or makes them
from recorded telemetry: tapio replay.

Exit codes:
  0  success
  1  no finding has that id, no finding explains that trace, or doctor found that something that is on by
     default does not run here
  2  wrong usage
  3  the collector cannot be reached or answered with an error, or a file cannot be read

Environment:
  TAPIO_ENDPOINT  where the tapio extension listens, as --endpoint
  TAPIO_TOKEN     bearer token to send, when the extension demands authentication
  SSL_CERT_FILE   certificates to trust, for an https endpoint
  NO_COLOR        no colours when set; colours are used on a terminal only`

// Defaults of the environment variables' flags.
const (
	envEndpoint     = "TAPIO_ENDPOINT"
	envToken        = "TAPIO_TOKEN"
	defaultEndpoint = "http://" + findingsapi.DefaultAddress
	defaultTimeout  = 10 * time.Second
)

// usageError is an error of how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// notFoundError says that the collector knows no such finding or trace.
type notFoundError string

func (e notFoundError) Error() string { return string(e) }

// app is what the commands share.
type app struct {
	out      terminal
	token    string
	endpoint string
	timeout  time.Duration
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, out terminal, stderr io.Writer, getenv func(string) string) int {
	a := &app{out: out, token: getenv(envToken)}
	root := a.rootCommand(getenv)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	for line := range strings.Lines(explain(err, a.endpoint)) { // of joined errors each
		if text := clean(strings.TrimSpace(line)); text != "" {
			_, _ = fmt.Fprintf(stderr, "tapio: %s\n", text)
		}
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	var absent notFoundError
	var lacking lackingError
	switch {
	case errors.As(err, &absent), errors.As(err, &lacking):
		return exitNotFound
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitFailed
}

func (a *app) rootCommand(getenv func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:           "tapio",
		Short:         "Show what broke, why, whom it hurts and what to do",
		Long:          help,
		Version:       versionText(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	endpoint := getenv(envEndpoint)
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	a.endpoint, a.timeout = endpoint, defaultTimeout
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	asking := []*cobra.Command{a.findingsCommand(), a.correlateCommand()}
	for _, cmd := range asking {
		cmd.PersistentFlags().StringVar(&a.endpoint, "endpoint", endpoint, "where the tapio extension listens (env "+envEndpoint+")")
		cmd.PersistentFlags().DurationVar(&a.timeout, "timeout", defaultTimeout, "time that one request may take")
	}
	root.AddCommand(append(asking, a.replayCommand(), a.patternsCommand(), a.doctorCommand(), a.versionCommand())...)
	return root
}

// typing is how many letters of a command may be wrong for it to be proposed.
const typing = 2

// usage marks the error of an argument check as one of usage, and proposes the commands that
// one that is none may have meant.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			cmd.SuggestionsMinimumDistance = typing
			if cmd.HasSubCommands() && len(args) > 0 {
				if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
					err = fmt.Errorf("%w; do you mean %s?", err, strings.Join(meant, " or "))
				}
			}
			return usageError{fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

func (a *app) client() (*findingsapi.Client, error) {
	if a.timeout <= 0 {
		return nil, usageError{fmt.Errorf("--timeout %s: want a duration above 0", a.timeout)}
	}
	c, err := findingsapi.NewClient(a.endpoint, a.token, a.timeout)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}
