// Package state decides what is wrong with a container network. It gets
// pictures of it, compares each with what it should be and with the one before,
// and returns events. It reads nothing itself: no file, no clock, no kernel.
package state

import (
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
)

// Pod says to whom something happened, as far as files of CNI tell. Its zero
// value means nobody in particular.
type Pod struct {
	// ContainerID is the id of the sandbox.
	ContainerID string
	// Name, Namespace and UID are those of Kubernetes, from CNI_ARGS.
	Name, Namespace, UID string
	// IP is the first address of the interface.
	IP string
}

// Event is one thing to tell.
type Event struct {
	// Name is the EventName, one of those of package event.
	Name string
	// Time is when it began, as far as that is known, else when it was seen.
	Time     time.Time
	Severity plog.SeverityNumber
	// Body is one sentence for people.
	Body string
	Pod  Pod
	// Attributes hold string, bool, int64, float64 and []any of string.
	Attributes map[string]any
}
