package visit

import (
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Alarm is the score from which a suspect deserves a finding. At 4.5 the first
// alarm named the right service in 44 of 45 labelled cases, at 3.5 it was wrong in
// 5 (Nezha TrainTicket cases, prototype).
const Alarm = 4.5

// Kind is what is wrong with visits.
type Kind uint8

// The kinds of signals.
const (
	// Vanished: Template, or the span or call Other, is missing.
	Vanished Kind = iota + 1
	// Stopped: it is missing after AfterTemplate or AfterOther.
	Stopped
	// Appeared: Template, or the span or call Other, is new.
	Appeared
	// Failed: the span Other fails.
	Failed
	// Gap: calls of the service, or by it, take longer than the called service works.
	Gap
	// Slow: the leaf span Other takes longer than Limit.
	Slow
	// Self: the operation's own time is longer than Limit.
	Self
	// Burst: Other is called more than Limit times in a visit (Limit is a count).
	Burst
	// Unanswered: Peer and at least one other service do not get to call Other any
	// more, for no reason of their own; Operation is the caller's.
	Unanswered
	// Resource: a metric is abnormal.
	Resource
	// Errors: log records of no trace say that something fails, Template the newest. Now
	// is how many of the last minute, Before the most of any minute of the past hour.
	Errors
	// Retries: callers of Other give up on it and ask again, so that they call it many
	// times as often: Now.K calls of Now.N visits, which used to make Before.K. Of the
	// callers, most of whose calls are of Operation, or of whom they call; Peer is the
	// other one.
	Retries
	// Herd: very many visits of Operation began in the same second, Now.K, where Before.K
	// were the most known, and it is slow or fails since.
	Herd
	// Cascade: Peer, which waits for this slow service, is slow in Operation as well, which
	// does not need it.
	Cascade
)

// String returns the name of the kind.
func (k Kind) String() string {
	names := [...]string{"unknown", "vanished", "stopped", "appeared", "failed", "gap", "slow", "self", "burst", "unanswered", "resource", "errors", "retries", "herd", "cascade"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// Ratio is how many of how many visits or calls, as they were sampled.
type Ratio struct{ K, N float64 }

// Signal is one thing that is wrong with the visits of a service.
type Signal struct {
	Kind Kind
	// Z is the signed score: negative for what became rarer.
	Z float64
	// Operation is the entry span of the visits, 0 for Gap, Resource and Errors.
	Operation record.EntityID
	// Template or Other is what vanished, appeared, failed or is slow: a statement or
	// exception type, or an operation. Of a Gap, Other is the worst called operation
	// and Peer the calling service; where Other is a call, Peer is the called service.
	Template, AfterTemplate uint32
	Other, AfterOther       record.EntityID
	Peer                    record.EntityID
	// Before and Now are the past and the window: visits (of Stopped: those with the
	// first step) that have the feature, or values above Limit.
	Before, Now Ratio
	// Limit is the duration above which a value is abnormal, Median the one of the
	// past, Mean the mean of the abnormal values in the window.
	Limit, Median, Mean time.Duration
	// After is what a Herd comes after.
	After string
}

// Suspect is a service that may be the cause.
type Suspect struct {
	Service record.EntityID
	// Score is the square root of the sum of the squares of the highest |z| of each
	// of its operations, its gap and its metrics.
	Score float64
	// Lead is by how much the score exceeds the next suspect's, the score itself for
	// the last.
	Lead float64
	// Signals are the reasons, strongest first, at most maxSignals.
	Signals []Signal
	// Explains are the services whose anomalous visits have one of this service below
	// them, in the order of their number.
	Explains []record.EntityID
	// Beside are the services with an anomalous visit in a trace in which this one was hurt.
	Beside []record.EntityID
	// Traces are hurt traces, newest first, at most maxExamples.
	Traces []record.TraceID
	// Since is the start of the first anomalous visit in the window, in ns; 0 when
	// there are only metrics.
	Since int64
	// Hurt is how many anomalous visits the window has that nothing below explains, as
	// they were sampled; At is at which instance how many of its own were, where that is known.
	Hurt int
	At   map[record.EntityID]int
}

const (
	maxSignals  = 8
	maxExamples = 5
)
