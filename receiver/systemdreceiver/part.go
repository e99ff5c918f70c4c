package systemdreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
)

// part is one source of the receiver: the units, the journal.
type part interface {
	// start begins to watch; it must not block. It fails only for what the
	// operator must mend before the collector may run.
	start(ctx context.Context, host component.Host) error
	// shutdown stops and sends what is held, for as long as ctx lasts. It is
	// called only after start.
	shutdown(ctx context.Context) error
}
