package findingsexporter

import (
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// picked is what pick found in the logs of a pipeline.
type picked struct {
	findings plog.Logs
	ignored  int // records of another name
	foreign  int // findings of another process, unless they are accepted
}

// pick copies the findings out of ld, each with its resource and scope, and
// counts the other records.
func pick(ld plog.Logs, acceptForeign bool) picked {
	p := picked{findings: plog.NewLogs()}
	each(ld, func(rl plog.ResourceLogs, sl plog.ScopeLogs, r plog.LogRecord) {
		switch {
		case r.EventName() != event.Finding:
			p.ignored++
		case !acceptForeign && !finding.Own(r):
			p.foreign++
		default:
			appendRecord(p.findings, rl, sl, r)
		}
	})
	return p
}

func each(ld plog.Logs, do func(plog.ResourceLogs, plog.ScopeLogs, plog.LogRecord)) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				do(rl, sl, r)
			}
		}
	}
}

// appendRecord copies a record with its resource and scope.
func appendRecord(to plog.Logs, rl plog.ResourceLogs, sl plog.ScopeLogs, r plog.LogRecord) {
	nrl := to.ResourceLogs().AppendEmpty()
	rl.Resource().CopyTo(nrl.Resource())
	nrl.SetSchemaUrl(rl.SchemaUrl())
	nsl := nrl.ScopeLogs().AppendEmpty()
	sl.Scope().CopyTo(nsl.Scope())
	nsl.SetSchemaUrl(sl.SchemaUrl())
	r.CopyTo(nsl.LogRecords().AppendEmpty())
}
