package cnireceiver

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// watcher is the state half of the receiver: it watches and emits logs.
type watcher struct {
	cfg       *Config
	log       *zap.Logger
	encoder   *encoder
	telemetry *metadata.TelemetryBuilder
	consume   func(context.Context, plog.Logs) error

	cancel context.CancelFunc
	done   chan struct{}
}

// startWatcher begins to watch; consume hands records to the next component.
func startWatcher(cfg *Config, set receiver.Settings, enc *encoder, telemetry *metadata.TelemetryBuilder, consume func(context.Context, plog.Logs) error) (*watcher, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{cfg: cfg, log: set.Logger, encoder: enc, telemetry: telemetry, consume: consume, cancel: cancel, done: make(chan struct{})}
	go w.run(ctx)
	return w, nil
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.done)
	now := time.Now()
	started := state.Event{Name: event.CNIStarted, Time: now, Severity: plog.SeverityNumberInfo, Body: "The container network is watched"}
	_ = w.consume(ctx, w.encoder.encode([]state.Event{started}, now))
	<-ctx.Done()
}

func (w *watcher) shutdown(ctx context.Context) error {
	w.cancel()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
