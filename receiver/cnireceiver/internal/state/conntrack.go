package state

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// conntrackFullEnds is below which part of its limit a table that was full is so no more.
const conntrackFullEnds = 0.95

// conntrackConditions tells which tables of tracked connections are nearly or
// quite full. Every namespace has its own count; the limit is the machine's.
func conntrackConditions(v *view) []condition {
	var out []condition
	for _, ns := range v.Namespaces {
		if ns.ConntrackMax <= 0 {
			continue
		}
		fill := float64(ns.ConntrackCount) / float64(ns.ConntrackMax)
		high := v.settings.ConntrackHighWater
		if fill < high-recovery {
			continue
		}
		full := ns.ConntrackCount >= ns.ConntrackMax
		out = append(out, v.conntrack(ns, event.CNIConntrackHigh, plog.SeverityNumberWarn, "nearly full", fill < high || full))
		if fill >= conntrackFullEnds { // a table that is full hovers below its limit
			out = append(out, v.conntrack(ns, event.CNIConntrackFull, plog.SeverityNumberError, "full: packets of new connections are dropped", !full))
		}
	}
	return out
}

func (v *view) conntrack(ns *Namespace, name string, severity plog.SeverityNumber, what string, weak bool) condition {
	who, pod := "the host", Pod{}
	for _, a := range v.attached {
		if a.netns == ns && !ns.IsHost {
			who, pod = a.who(), a.pod()
			break
		}
	}
	return condition{
		key: fmt.Sprintf("%s/%d", name, ns.Inode), sources: []Source{SourceNamespaces, SourceConntrack}, weak: weak,
		event: Event{
			Name: name, Severity: severity, Pod: pod,
			Body: fmt.Sprintf("The table of tracked connections of %s is %s: %d of %d", who, what, ns.ConntrackCount, ns.ConntrackMax),
			Attributes: map[string]any{
				event.KeyCNIConntrackCount: ns.ConntrackCount, event.KeyCNIConntrackMax: ns.ConntrackMax,
				event.KeyNetworkNamespace: int64(ns.Inode),
			},
		},
	}
}
