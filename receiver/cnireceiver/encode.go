package cnireceiver

import (
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// encoder makes log records of events.
type encoder struct {
	host    machine.Info
	version string
	enabled map[string]bool
}

func newEncoder(cfg *Config, set receiver.Settings, host machine.Info) *encoder {
	return &encoder{host: host, version: set.BuildInfo.Version, enabled: enabledEvents(cfg)}
}

// enabledEvents says of each event whether the configuration wants it.
func enabledEvents(cfg *Config) map[string]bool {
	e := cfg.Events
	return map[string]bool{
		event.CNIStarted:              e.TapioCniStarted.Enabled,
		event.CNIOperation:            e.TapioCniOperation.Enabled, // those read from logs
		event.CNIConfigChanged:        e.TapioCniConfigChanged.Enabled,
		event.CNIConfigInvalid:        e.TapioCniConfigInvalid.Enabled,
		event.CNIConfigMissing:        e.TapioCniConfigMissing.Enabled,
		event.CNIPluginMissing:        e.TapioCniPluginMissing.Enabled,
		event.CNIPluginsMissing:       e.TapioCniPluginsMissing.Enabled,
		event.CNIPluginReplaced:       e.TapioCniPluginReplaced.Enabled,
		event.CNIPoolHigh:             e.TapioCniPoolHigh.Enabled,
		event.CNIPoolExhausted:        e.TapioCniPoolExhausted.Enabled,
		event.CNIAddressLeaked:        e.TapioCniAddressLeaked.Enabled,
		event.CNIAddressDuplicate:     e.TapioCniAddressDuplicate.Enabled,
		event.CNIAddressMissing:       e.TapioCniAddressMissing.Enabled,
		event.CNIInterface:            e.TapioCniInterface.Enabled,
		event.CNIInterfaceRemoved:     e.TapioCniInterfaceRemoved.Enabled,
		event.CNIInterfaceDown:        e.TapioCniInterfaceDown.Enabled,
		event.CNIInterfaceCarrierLost: e.TapioCniInterfaceCarrierLost.Enabled,
		event.CNIInterfaceMTUMismatch: e.TapioCniInterfaceMtuMismatch.Enabled,
		event.CNIInterfaceLeaked:      e.TapioCniInterfaceLeaked.Enabled,
		event.CNINamespaceLeaked:      e.TapioCniNamespaceLeaked.Enabled,
		event.CNIRouteMissing:         e.TapioCniRouteMissing.Enabled,
		event.CNIConntrackHigh:        e.TapioCniConntrackHigh.Enabled,
		event.CNIConntrackFull:        e.TapioCniConntrackFull.Enabled,
		event.CNIRecovered:            e.TapioCniRecovered.Enabled,
	}
}

// encode makes one record of each event that is enabled, in their order, under
// one resource for each pod. seen is the time of observation.
func (e *encoder) encode(events []state.Event, seen time.Time) plog.Logs {
	logs := plog.NewLogs()
	records := make(map[state.Pod]plog.LogRecordSlice)
	for _, ev := range events {
		if !e.enabled[ev.Name] {
			continue
		}
		slice, ok := records[ev.Pod]
		if !ok {
			slice = e.scope(logs.ResourceLogs().AppendEmpty(), ev.Pod)
			records[ev.Pod] = slice
		}
		fill(slice.AppendEmpty(), ev, seen)
	}
	return logs
}

// scope fills the resource and returns where its records go.
func (e *encoder) scope(rl plog.ResourceLogs, pod state.Pod) plog.LogRecordSlice {
	attrs := rl.Resource().Attributes()
	e.host.Describe(attrs)
	putString(attrs, event.KeyContainerID, pod.ContainerID)
	putString(attrs, event.KeyPodName, pod.Name)
	putString(attrs, event.KeyNamespaceName, pod.Namespace)
	putString(attrs, event.KeyPodUID, pod.UID)
	putString(attrs, event.KeyPodIP, pod.IP)
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(metadata.ScopeName)
	sl.Scope().SetVersion(e.version)
	return sl.LogRecords()
}

func fill(record plog.LogRecord, ev state.Event, seen time.Time) {
	record.SetEventName(ev.Name)
	record.SetTimestamp(pcommon.NewTimestampFromTime(ev.Time))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(seen))
	record.SetSeverityNumber(ev.Severity)
	record.SetSeverityText(ev.Severity.String())
	record.Body().SetStr(ev.Body)
	for _, key := range slices.Sorted(maps.Keys(ev.Attributes)) {
		// FromRaw fails for types that an event has not.
		_ = record.Attributes().PutEmpty(key).FromRaw(ev.Attributes[key])
	}
}

// putString leaves out what is not known.
func putString(attrs pcommon.Map, key, value string) {
	if value != "" {
		attrs.PutStr(key, value)
	}
}
