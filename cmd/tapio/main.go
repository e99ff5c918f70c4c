// Command tapio shows the findings that a collector with the tapio extension
// keeps: what broke, why, whom it hurts and what to do.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := run(ctx, os.Args[1:], newTerminal(os.Stdout, os.Getenv), os.Stderr, os.Getenv)
	stop()
	os.Exit(code)
}
