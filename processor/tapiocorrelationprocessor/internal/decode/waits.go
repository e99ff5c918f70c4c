package decode

import (
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// waits tells whether a span is one of those that wait until there is work: how long they
// take says how much there is to do, not how fast it is done. Names match the options;
// else the semantic conventions say so of receiving messages, and Redis of its commands
// that block. It is asked once of each operation.
func (d *Decoder) waits(span ptrace.Span) bool {
	for _, r := range d.options.Waits {
		if r.MatchString(span.Name()) {
			return true
		}
	}
	a := span.Attributes()
	// Before version 1.26 of the conventions: messaging.operation.
	switch first(a, "messaging.operation.type", "messaging.operation") {
	case "receive", "poll":
		return true
	}
	switch first(a, "db.system.name", "db.system") {
	case "redis", "valkey":
		return slices.Contains(blockingCommands, strings.ToUpper(first(a, "db.operation.name", "db.operation")))
	}
	return false
}

// blockingCommands are the commands of Redis that do nothing but wait when there is nothing. XREAD
// and XREADGROUP do so only when they are told to.
var blockingCommands = []string{"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF"}

// first returns the first attribute of these names that is there, as text.
func first(a pcommon.Map, names ...string) string {
	for _, name := range names {
		if v, ok := a.Get(name); ok {
			return v.AsString()
		}
	}
	return ""
}
