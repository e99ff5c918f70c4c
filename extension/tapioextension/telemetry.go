package tapioextension

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/metric"

	"github.com/yairfalse/tapio/extension/tapioextension/internal/metadata"
	"github.com/yairfalse/tapio/extension/tapioextension/internal/store"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// heldTimeout bounds the query behind a gauge: collecting metrics must not wait
// for a database in trouble.
const heldTimeout = time.Second

// newTelemetry publishes what s and handed count.
func newTelemetry(set component.TelemetrySettings, s *store.Store, handed *handedOver) (*metadata.TelemetryBuilder, error) {
	b, err := metadata.NewTelemetryBuilder(set)
	if err != nil {
		return nil, err
	}
	count := func(of func(findingsapi.StoreCounts) int64) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(of(s.Counts()))
			return nil
		}
	}
	return b, errors.Join(
		b.RegisterExtensionTapioFindingsCallback(func(ctx context.Context, o metric.Int64Observer) error {
			ctx, cancel := context.WithTimeout(ctx, heldTimeout)
			defer cancel()
			n, err := s.Held(ctx)
			if err == nil {
				o.Observe(n)
			}
			return err
		}),
		b.RegisterExtensionTapioStoreSizeCallback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(s.Size())
			return nil
		}),
		b.RegisterExtensionTapioResumesDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(handed.lost())
			return nil
		}),
		b.RegisterExtensionTapioRevisionsSavedCallback(count(func(c findingsapi.StoreCounts) int64 { return c.Saved })),
		b.RegisterExtensionTapioRevisionsIgnoredCallback(count(func(c findingsapi.StoreCounts) int64 { return c.Ignored })),
		b.RegisterExtensionTapioRevisionsRefusedCallback(count(func(c findingsapi.StoreCounts) int64 { return c.Refused })),
		b.RegisterExtensionTapioSavesFailedCallback(count(func(c findingsapi.StoreCounts) int64 { return c.Failed })),
		b.RegisterExtensionTapioFindingsEvictedByAgeCallback(count(func(c findingsapi.StoreCounts) int64 { return c.EvictedByAge })),
		b.RegisterExtensionTapioFindingsEvictedByCountCallback(count(func(c findingsapi.StoreCounts) int64 { return c.EvictedByCount })),
		b.RegisterExtensionTapioTracesNotIndexedCallback(count(func(c findingsapi.StoreCounts) int64 { return c.TracesNotIndexed })),
	)
}
