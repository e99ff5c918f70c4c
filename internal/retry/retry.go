// Package retry hands data to the next component of a pipeline again when that
// refuses it for a moment.
package retry

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// A refusal that may pass (memory_limiter, a full queue) is tried again, so long
// that a short one costs nothing, so short that data does not pile up for ever.
const (
	first = 50 * time.Millisecond
	last  = time.Second
	// Limit is how long Do tries at most, beside the time that the calls take.
	Limit = 10 * time.Second
)

// Do calls f until it succeeds, fails for good (consumererror.IsPermanent), ctx
// ends or Limit is over, and returns the error of the last call.
func Do(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(Limit)
	for wait := first; ; wait = min(2*wait, last) {
		err := f()
		if err == nil || consumererror.IsPermanent(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w (gave up: %w)", err, ctx.Err())
		}
	}
}
