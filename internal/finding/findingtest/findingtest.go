// Package findingtest makes findings for tests.
package findingtest

import (
	"fmt"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// Start is when the incident of Full began.
var Start = time.Date(2026, 9, 30, 3, 12, 7, 123456789, time.UTC)

// Full returns a finding with every field set: payment v2.1.0 is killed at its
// memory limit and storefront answers its users with HTTP 500.
func Full() *finding.Finding {
	payment := finding.Entity{Kind: "process", Name: "payment", Attributes: map[string]any{
		event.KeyServiceName: "payment", event.KeyServiceVersion: "2.1.0",
		event.KeyProcessPID: int64(4242), event.KeyHostName: "node-1",
	}}
	storefront := finding.Entity{Kind: "service", Name: "storefront", Attributes: map[string]any{event.KeyServiceName: "storefront"}}
	ledger := finding.Entity{Kind: "service", Name: "ledger", Attributes: map[string]any{event.KeyServiceName: "ledger"}}
	mended, resolved := Start.Add(time.Minute), Start.Add(3*time.Minute)
	return &finding.Finding{
		ID:       finding.NewID(event.OOMKill, "payment", Start),
		Revision: 3, State: finding.StateResolved, Pattern: "oom_kill_at_limit",
		Title:     "payment was killed at its memory limit",
		Summary:   "payment 2.1.0 was killed by the kernel at its memory limit of 64 MiB; 37 requests of 21 users failed.",
		StartedAt: Start, DetectedAt: Start.Add(412 * time.Millisecond), UpdatedAt: Start.Add(31 * time.Second), MendedAt: &mended, ResolvedAt: &resolved,
		Confidence: finding.Confidence{Score: 0.93, Completeness: 0.9, Reliability: 1, Timing: 0.85},
		RootCause: finding.RootCause{
			Event: event.OOMKill, Entity: payment,
			Description: "The kernel killed payment (pid 4242): its memory cgroup had reached its limit of 64 MiB.",
			LastLines: []finding.LogLine{
				{Time: Start.Add(-20 * time.Millisecond), Severity: 17, Text: "cache: 64 MiB of 64 MiB used"},
			},
			Evidence: map[string]any{
				event.KeyOOMScope: "cgroup", event.KeyMemoryCgroup: "/tapio-checkout/payment",
				event.KeyMemoryLimit: int64(64 << 20), event.KeyMemoryPeak: int64(64 << 20),
				event.KeyMemoryUsage: int64(67104768), event.KeyOOMRSS: int64(61 << 20), event.KeyOOMScoreAdj: int64(0),
			},
		},
		Impact: finding.Impact{
			FailedRequests: 37, SlowRequests: 4, Users: new(int64(21)), UserAttribute: event.KeyUserID,
			Value: new(12345.6), ValueAttribute: "order.amount", ValueRequests: 35,
			Gaps:     []finding.Gap{{From: Start.Add(10 * time.Second), To: Start.Add(15 * time.Second)}},
			Services: []string{"storefront"}, Operations: []string{"storefront POST /checkout"},
			Criticality: "high",
			Objectives: []finding.Objective{{
				Service: "storefront", Promise: "99.9 % of requests good in 30d", Severity: "page", Burn: 740.5, BurnSeconds: 3600, Left: 0.43,
				Requests: 5000, Bad: 41, CoveredSeconds: 7200,
			}},
		},
		Chain:   chain(payment, storefront),
		Actions: actions(),
		Rejected: []finding.Hypothesis{
			{Pattern: "slow_callee", Entity: ledger, Score: 0.31, Reason: "ledger answered every request in its usual time until payment was gone."},
			{Pattern: "connection_refused", Entity: payment, Score: 0.42, Reason: "The refused connections are themselves explained by the OOM kill of the listener."},
		},
		Missing: []string{"No Kubernetes events were received, so a restart or deploy of payment cannot be seen."},
		EarlierCauses: []finding.EarlierCause{{
			Pattern: "connection_refused", Title: "Nothing listens at 127.0.0.1:8081", Event: "tapio.call.refused", Entity: payment, Confidence: 0.72,
			Revision: 1, Until: Start.Add(900 * time.Millisecond), Reason: "payment was killed before, which explains it.",
		}},
		Ending:     "No further effect was seen for 5m0s.",
		HurtTraces: []finding.HurtTrace{{TraceID: TraceID(1), SpanID: "00f067aa0ba902b7"}, {TraceID: TraceID(2)}},
	}
}

func chain(payment, storefront finding.Entity) []finding.Link {
	refused, failed := Start.Add(150*time.Millisecond), Start.Add(155*time.Millisecond)
	return []finding.Link{
		{
			Key: "oom", Time: Start, Last: Start, Count: 1, Layer: finding.LayerKernel, Event: event.OOMKill, Entity: payment,
			Title:  "payment (pid 4242) was killed: out of memory",
			Detail: "resident 61 MiB of 64 MiB allowed in /tapio-checkout/payment",
		},
		{
			Key: "exit", Time: Start.Add(2 * time.Millisecond), Last: Start.Add(2 * time.Millisecond), Count: 1,
			Layer: finding.LayerKernel, Event: event.ProcessExit, Entity: payment,
			Title: "payment (pid 4242) ended by SIGKILL", Parent: "oom", LinkedBy: finding.LinkedByProcess, LinkedOn: "pid 4242",
		},
		{
			Key: "refused", Time: refused, Last: refused.Add(30 * time.Second), Count: 37,
			Layer: finding.LayerNetwork, Event: event.TCPConnectFailed, Entity: storefront,
			Title:  "storefront: connections to 127.0.0.1:8081 refused",
			Detail: "connection_refused; payment listened there until 03:12:07.123",
			Parent: "exit", LinkedBy: finding.LinkedByAddress, LinkedOn: "127.0.0.1:8081",
		},
		{
			Key: "http500", Time: failed, Last: failed.Add(30 * time.Second), Count: 37,
			Layer: finding.LayerApp, Event: "span", Entity: storefront,
			Title:  "storefront POST /checkout answered 500",
			Parent: "refused", LinkedBy: finding.LinkedByTrace, LinkedOn: TraceID(1),
		},
		{
			Key: "impact", Time: failed, Last: failed.Add(30 * time.Second), Count: 1,
			Layer: finding.LayerBusiness, Event: event.Finding, Entity: storefront,
			Title: "37 failed requests, 21 users, 12,345.60 order.amount", Parent: "http500",
			LinkedBy: finding.LinkedByTrace, LinkedOn: TraceID(1),
		},
	}
}

func actions() finding.Actions {
	return finding.Actions{
		Immediate: []string{"Restart payment, or roll back from version 2.1.0.", "Raise the memory limit of /tapio-checkout/payment above 64 MiB to gain time."},
		ShortTerm: []string{"Take a heap profile of payment 2.1.0 under load: it grew to 64 MiB."},
		LongTerm:  []string{"Alert when payment's memory passes 80 % of its limit (51 MiB)."},
	}
}

// Minimal returns a finding with only what FromLog demands, the n-th of a
// series that began a second apart: its id, times and state.
func Minimal(n int) *finding.Finding {
	at := Start.Add(time.Duration(n) * time.Second)
	return &finding.Finding{
		ID: finding.NewID("test", "entity", at), Revision: 1, State: finding.StateOpen,
		Title: fmt.Sprintf("finding %d", n), StartedAt: at, DetectedAt: at, UpdatedAt: at,
	}
}

// TraceID returns the n-th of a series of valid trace ids.
func TraceID(n int) string { return fmt.Sprintf("4bf92f3577b34da6a3ce92%010x", n) }
