package cnireceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/internal/retry"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/plugins"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// cniReceiver is one receiver for both signals. The collector starts and stops
// it once for each signal; the first call counts.
type cniReceiver struct {
	cfg       *Config
	set       receiver.Settings
	obs       *receiverhelper.ObsReport
	telemetry *metadata.TelemetryBuilder
	// logs and traces are the next components, nil when the receiver is in no
	// pipeline of that signal.
	logs   consumer.Logs
	traces consumer.Traces
	// forget tells the factory that this receiver is no more.
	forget func()

	// open opens what operations are read from: the kernel, or a test.
	open        func(plugins.Output, *zap.Logger) (pluginSource, error)
	start, stop sync.Once
	watcher     *watcher
	operations  *operations
	// unseen are "part: reason", what of operations cannot be seen.
	unseen     []string
	logWatcher *logWatcher
}

func newReceiver(cfg *Config, set receiver.Settings) (*cniReceiver, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: "cni", ReceiverCreateSettings: set,
	})
	if err != nil {
		return nil, err
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	return &cniReceiver{cfg: cfg, set: set, obs: obs, telemetry: telemetry, forget: func() {}, open: openPlugins}, nil
}

// Start begins to watch. A host without CNI, or without the rights to see all
// of it, is no error: what cannot be seen is said once.
func (r *cniReceiver) Start(ctx context.Context, host component.Host) error {
	var err error
	r.start.Do(func() { err = r.startOnce(ctx, host) })
	return err
}

func (r *cniReceiver) startOnce(ctx context.Context, host component.Host) error {
	info, err := machine.Read(r.cfg.HostName, r.cfg.RootPath)
	if err != nil {
		return fmt.Errorf("host_name is not set and the system has none: %w", err)
	}
	var remembered *memory
	if r.logs != nil {
		if remembered, err = openMemory(ctx, host, r.cfg.StorageID, r.set.ID); err != nil {
			return err
		}
	}
	r.operations = startOperations(r, info, host, r.open)
	if r.logs == nil {
		return nil
	}
	enc := newEncoder(r.cfg, r.set, info)
	if r.operations == nil && r.cfg.Operations.Enabled && r.cfg.Logs.Enabled {
		r.logWatcher = startLogWatcher(r.cfg, r.set.Logger, func(ctx context.Context, events []state.Event) {
			r.sendLogs(ctx, enc.encode(events, time.Now()))
		}, func(n int64) { countReadErrors(r.telemetry, "logs", n) })
	}
	r.warnOfPaths()
	r.watcher, err = startWatcher(r.cfg, r.set, enc, r.telemetry, r.consumeLogs, r.unseen, remembered)
	return err
}

// warnOfPaths tells what is likely to be a slip of the configuration.
func (r *cniReceiver) warnOfPaths() {
	if absent := r.cfg.absentPaths(r.logWatcher != nil); len(absent) > 0 {
		r.set.Logger.Warn("paths of the configuration are not there; they are looked for again", zap.Strings("paths", absent))
	}
	if r.cfg.sharesResults() {
		r.set.Logger.Warn("host_namespace is set and result_dirs is not: it must be that node's own, or the pods of others are looked for in its namespace",
			zap.Strings("result_dirs", r.cfg.ResultDirs))
	}
}

// Shutdown ends what Start began, for as long as ctx lasts.
func (r *cniReceiver) Shutdown(ctx context.Context) error {
	var err error
	r.stop.Do(func() { err = r.shutdownOnce(ctx) })
	return err
}

func (r *cniReceiver) shutdownOnce(ctx context.Context) error {
	defer r.telemetry.Shutdown()
	r.forget()
	var errs []error
	errs = append(errs, r.operations.shutdown(ctx), r.logWatcher.shutdown(ctx))
	if r.watcher != nil {
		errs = append(errs, r.watcher.shutdown(ctx))
	}
	return errors.Join(errs...)
}

// consumeLogs hands logs to the next component and counts them.
func (r *cniReceiver) consumeLogs(ctx context.Context, logs plog.Logs) error {
	count := logs.LogRecordCount()
	if count == 0 {
		return nil
	}
	ctx = r.obs.StartLogsOp(ctx)
	err := r.logs.ConsumeLogs(ctx, logs)
	r.obs.EndLogsOp(ctx, metadata.Type.String(), count, err)
	return err
}

// sendLogs hands logs on, again and again while they are refused for a moment. What
// is refused for good, or for as long as retry.Limit, is gone, and counted by the
// collector's otelcol_receiver_refused_log_records.
func (r *cniReceiver) sendLogs(ctx context.Context, logs plog.Logs) {
	count := logs.LogRecordCount()
	if count == 0 {
		return
	}
	op := r.obs.StartLogsOp(ctx)
	err := retry.Do(ctx, func() error { return r.logs.ConsumeLogs(op, logs) })
	r.obs.EndLogsOp(op, metadata.Type.String(), count, err)
}

// sendTraces is sendLogs for spans.
func (r *cniReceiver) sendTraces(ctx context.Context, traces ptrace.Traces) {
	count := traces.SpanCount()
	if count == 0 {
		return
	}
	op := r.obs.StartTracesOp(ctx)
	err := retry.Do(ctx, func() error { return r.traces.ConsumeTraces(op, traces) })
	r.obs.EndTracesOp(op, metadata.Type.String(), count, err)
}
