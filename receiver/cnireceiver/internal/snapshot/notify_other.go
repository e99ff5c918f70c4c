//go:build !linux

package snapshot

import "errors"

// Notifier exists on Linux only.
type Notifier struct {
	Changes  <-chan struct{}
	OnlyHost error
}

// Notify fails: there are no network namespaces here.
func Notify(Options) (*Notifier, error) {
	return nil, errors.New("network namespaces exist on Linux only")
}

// Close does nothing.
func (*Notifier) Close() error { return nil }
