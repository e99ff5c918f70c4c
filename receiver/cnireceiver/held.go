package cnireceiver

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// heldCounts are what the receiver holds, as its metrics tell it.
type heldCounts struct {
	mu      sync.Mutex
	held    map[string]int64
	dropped map[string]int64
	add     func(kind string, n int64)
}

func newHeldCounts() *heldCounts { return &heldCounts{} }

func (h *heldCounts) register(t *metadata.TelemetryBuilder) error {
	h.add = func(kind string, n int64) {
		t.ReceiverTapioCniDropped.Add(context.Background(), n, metric.WithAttributes(attribute.String("kind", kind)))
	}
	return errors.Join(t.RegisterReceiverTapioCniHeldCallback(func(_ context.Context, o metric.Int64Observer) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for kind, n := range h.held {
			o.Observe(n, metric.WithAttributes(attribute.String("kind", kind)))
		}
		return nil
	}))
}

// set takes the numbers after a picture.
func (h *heldCounts) set(d *state.Decider, files, waiting int) {
	held, dropped := d.Held(), d.Dropped()
	held["files"] += int64(files)
	held["events"] = int64(waiting)
	h.mu.Lock()
	defer h.mu.Unlock()
	for kind, n := range dropped {
		if more := n - h.dropped[kind]; more > 0 {
			h.add(kind, more)
		}
	}
	h.held, h.dropped = held, dropped
}
