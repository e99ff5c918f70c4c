// Package e2e holds the end-to-end tests: they take the programs that make
// build left in bin/ (or in $TAPIO_BIN), run the shop of examples/checkout
// against a real collector, break it, and compare what Tapio says with what the
// load generator counted and what the kernel's own counters say.
//
// Tests that need kernel evidence are skipped, with the reason, where it cannot
// be had; with CI=true they fail instead.
package e2e
