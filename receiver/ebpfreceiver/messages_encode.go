package ebpfreceiver

import (
	"reflect"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// enabledEvents returns the names of all events that metadata.yaml declares, and
// whether each is enabled. The generated builder has a method for each event,
// which rules that are data cannot call.
func enabledEvents(cfg *metadata.EventsConfig) map[string]bool {
	enabled := map[string]bool{}
	v := reflect.ValueOf(cfg).Elem()
	for i := range v.NumField() {
		if c, ok := v.Field(i).Interface().(metadata.EventConfig); ok {
			enabled[v.Type().Field(i).Tag.Get("mapstructure")] = c.Enabled
		}
	}
	return enabled
}

// message makes the record of a kernel message, empty when its event is disabled.
// An event of a user's own rule has no setting and is enabled.
func (e *encoder) message(ev messageEvent, seen time.Time) plog.Logs {
	logs := plog.NewLogs()
	if enabled, declared := e.enabled[ev.found.Name]; declared && !enabled {
		return logs
	}
	rl := logs.ResourceLogs().AppendEmpty()
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(metadata.ScopeName)
	sl.Scope().SetVersion(e.version)
	record := sl.LogRecords().AppendEmpty()
	record.SetEventName(ev.found.Name)
	record.SetTimestamp(pcommon.NewTimestampFromTime(e.clock.Wall(ev.at)))
	for _, a := range ev.found.Attributes {
		if a.IsInt {
			record.Attributes().PutInt(a.Key, a.Int)
		} else {
			record.Attributes().PutStr(a.Key, a.Text)
		}
	}
	describe(record, seen, description{severity: ev.found.Severity, body: messageBody(ev)})
	return logs
}

// messageBody is the line as text.
func messageBody(ev messageEvent) string { return strings.ToValidUTF8(ev.line, "\uFFFD") }
