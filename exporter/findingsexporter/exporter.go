package findingsexporter

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/exporter/findingsexporter/internal/metadata"
	"github.com/yairfalse/tapio/extension/tapioextension"
	"github.com/yairfalse/tapio/internal/finding"
)

// logInterval is the least time between two log lines about damaged records, and
// between two about foreign ones; the metrics count them all.
const logInterval = time.Minute

// interval lets one event through in each logInterval.
type interval struct {
	last atomic.Int64 // when one was let through last, Unix nanoseconds; 0: never
}

// passes reports whether an event at now is let through.
func (i *interval) passes(now time.Time) bool {
	last := i.last.Load()
	return (last == 0 || now.UnixNano()-last >= int64(logInterval)) && i.last.CompareAndSwap(last, now.UnixNano())
}

// findingsExporter picks the findings out of the logs and passes them alone to
// the queue, so that the queue holds findings and exporterhelper's metrics
// (otelcol_exporter_sent_log_records, ..._send_failed_log_records,
// otelcol_exporter_queue_size) count them.
type findingsExporter struct {
	exporter.Logs // queue, retry and timeout around push
	acceptForeign bool
	telemetry     *metadata.TelemetryBuilder
	logger        *zap.Logger
	logged        interval // foreign records
}

func newExporter(ctx context.Context, set exporter.Settings, cfg *Config) (exporter.Logs, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	s := &saver{extension: cfg.Extension, telemetry: telemetry, logger: set.Logger}
	logs, err := exporterhelper.NewLogs(ctx, set, cfg, s.push,
		exporterhelper.WithStart(s.start),
		exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}),
		exporterhelper.WithTimeout(cfg.TimeoutConfig),
		exporterhelper.WithRetry(cfg.Retry),
		exporterhelper.WithQueue(cfg.Queue),
	)
	if err != nil {
		return nil, err
	}
	return &findingsExporter{Logs: logs, acceptForeign: cfg.AcceptForeign, telemetry: telemetry, logger: set.Logger}, nil
}

// ConsumeLogs copies the findings out of ld and leaves ld as it is. Whose they
// are is decided before the queue: nobody else can fill it, and what a queue on
// disk holds is still this collector's own after a restart.
func (e *findingsExporter) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	p := pick(ld, e.acceptForeign)
	if p.ignored > 0 {
		e.telemetry.ExporterTapioFindingsRecordsIgnored.Add(ctx, int64(p.ignored))
	}
	if p.foreign > 0 {
		e.countForeign(ctx, p.foreign)
	}
	if p.findings.ResourceLogs().Len() == 0 {
		return nil
	}
	return e.Logs.ConsumeLogs(ctx, p.findings)
}

func (e *findingsExporter) countForeign(ctx context.Context, n int) {
	e.telemetry.ExporterTapioFindingsRecordsForeign.Add(ctx, int64(n))
	if e.logged.passes(time.Now()) {
		e.logger.Warn("Findings that this process did not write were not kept: forged, or of another collector. "+
			"Set accept_foreign: true to keep them, where every sender of logs is trusted; "+
			"otelcol_exporter_tapio_findings_records_foreign counts further ones", zap.Int("records", n))
	}
}

// Shutdown ends the queue, which first saves what it holds.
func (e *findingsExporter) Shutdown(ctx context.Context) error {
	err := e.Logs.Shutdown(ctx)
	e.telemetry.Shutdown()
	return err
}

// saver reads findings and saves them.
type saver struct {
	extension component.ID
	store     tapioextension.FindingStore
	telemetry *metadata.TelemetryBuilder
	logger    *zap.Logger
	logged    interval // damaged records
}

// start finds the store. Extensions start before exporters.
func (s *saver) start(_ context.Context, host component.Host) error {
	ext, ok := host.GetExtensions()[s.extension]
	if !ok {
		return fmt.Errorf("extension: no extension %q runs: configure it under `extensions:` and name it in `service::extensions`", s.extension)
	}
	store, ok := ext.(tapioextension.FindingStore)
	if !ok {
		return fmt.Errorf("extension: %q keeps no findings: name an extension of type tapio", s.extension)
	}
	s.store = store
	return nil
}

// push saves each finding of ld. A damaged one is counted and does not keep the
// others from being saved; those that the database could not take now are
// returned for another attempt.
func (s *saver) push(ctx context.Context, ld plog.Logs) error {
	var damaged error
	var failed error
	saved, retry := 0, plog.NewLogs()
	each(ld, func(rl plog.ResourceLogs, sl plog.ScopeLogs, r plog.LogRecord) {
		err := s.save(ctx, rl, r)
		switch {
		case err == nil:
			saved++
		case errors.Is(err, errDamaged):
			damaged = err
			s.countDamaged(ctx, err)
		default:
			failed = err
			appendRecord(retry, rl, sl, r)
		}
	})
	switch {
	case failed != nil:
		return consumererror.NewLogs(failed, retry)
	case damaged != nil && saved == 0:
		return consumererror.NewPermanent(damaged)
	}
	return nil
}

// errDamaged marks a record that no further attempt will save.
var errDamaged = errors.New("damaged finding")

func (s *saver) save(ctx context.Context, rl plog.ResourceLogs, r plog.LogRecord) error {
	f, err := finding.FromLog(rl.Resource(), r)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	err = s.store.SaveFinding(ctx, f)
	if errors.Is(err, tapioextension.ErrRefused) {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return err
}

func (s *saver) countDamaged(ctx context.Context, err error) {
	s.telemetry.ExporterTapioFindingsRecordsDamaged.Add(ctx, 1)
	if s.logged.passes(time.Now()) {
		s.logger.Warn("A finding cannot be kept; otelcol_exporter_tapio_findings_records_damaged counts further ones", zap.Error(err))
	}
}
