//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package store

import (
	"context"
	"os"
)

// lock does nothing where the system has no flock.
func lock(context.Context, string) (*os.File, error) { return nil, nil }
