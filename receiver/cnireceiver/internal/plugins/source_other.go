//go:build !linux || !(amd64 || arm64)

package plugins

import (
	"errors"
	"os"
	"runtime"

	"go.uber.org/zap"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
)

// Source has nothing to read on this system.
type Source struct{}

// Open returns an error that says what is missing.
func Open(Output, *zap.Logger) (*Source, error) {
	return nil, errors.New("kernel programs need Linux on amd64 or arm64; this is " + runtime.GOOS + " on " + runtime.GOARCH)
}

// Read returns os.ErrClosed.
func (*Source) Read() (operation.Record, error) { return nil, os.ErrClosed }

// Limits are what does not work.
func (*Source) Limits() []string { return nil }

// Stats are empty.
func (*Source) Stats() Stats { return Stats{} }

// Stop does nothing.
func (*Source) Stop() error { return nil }

// Close does nothing.
func (*Source) Close() error { return nil }
