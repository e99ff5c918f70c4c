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

// logInterval is the least time between two log lines about damaged records; the
// metric counts them all.
const logInterval = time.Minute

// findingsExporter picks the findings out of the logs and passes them alone to
// the queue, so that the queue holds findings and exporterhelper's metrics
// (otelcol_exporter_sent_log_records, ..._send_failed_log_records,
// otelcol_exporter_queue_size) count them.
type findingsExporter struct {
	exporter.Logs // queue, retry and timeout around push
	telemetry     *metadata.TelemetryBuilder
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
	return &findingsExporter{Logs: logs, telemetry: telemetry}, nil
}

// ConsumeLogs copies the findings out of ld and leaves ld as it is.
func (e *findingsExporter) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	findings, ignored := pick(ld)
	if ignored > 0 {
		e.telemetry.ExporterTapioFindingsRecordsIgnored.Add(ctx, int64(ignored))
	}
	if findings.ResourceLogs().Len() == 0 {
		return nil
	}
	return e.Logs.ConsumeLogs(ctx, findings)
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
	logged    atomic.Int64 // when a damaged record was logged last, Unix nanoseconds
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
	now, last := time.Now().UnixNano(), s.logged.Load()
	if (last == 0 || now-last >= int64(logInterval)) && s.logged.CompareAndSwap(last, now) {
		s.logger.Warn("A finding cannot be kept; otelcol_exporter_tapio_findings_records_damaged counts further ones", zap.Error(err))
	}
}
