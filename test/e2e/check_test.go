package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
)

// minScore is the default of the processor: nothing less sure is emitted.
const minScore = 0.7

// checkFinding checks what must hold for every finding of the shop.
func checkFinding(t *testing.T, f *finding.Finding, r report) {
	t.Helper()
	checkImpact(t, f, r)
	checkChain(t, f)
	assert.GreaterOrEqual(t, f.Confidence.Score, minScore)
	assert.LessOrEqual(t, f.Confidence.Score, 1.0)
	assert.NotEmpty(t, f.Title)
	assert.NotEmpty(t, f.RootCause.Description)
	assert.NotEmpty(t, f.Actions.Immediate)
	assert.NotEmpty(t, f.Actions.ShortTerm)
	assert.NotEmpty(t, f.Actions.LongTerm)
	require.NotNil(t, r.FirstFailure)
	assert.WithinDuration(t, *r.FirstFailure, f.StartedAt, 2*time.Second, "the cause lies just before the first failed order")
	assert.GreaterOrEqual(t, f.TimeToDetection(), time.Duration(0))
	assert.Less(t, f.TimeToDetection(), 5*time.Second)
}

// checkImpact compares with the load generator's own count.
func checkImpact(t *testing.T, f *finding.Finding, r report) {
	t.Helper()
	require.NotZero(t, r.Failed)
	assert.Equal(t, r.Failed, f.Impact.FailedRequests, "failed requests")
	if assert.NotNil(t, f.Impact.Users) {
		assert.EqualValues(t, len(r.FailedUsers), *f.Impact.Users, "affected users")
	}
	if assert.NotNil(t, f.Impact.Value) {
		assert.InDelta(t, r.FailedAmount, *f.Impact.Value, 0.005, "value, to the cent")
	}
	assert.Equal(t, "user.id", f.Impact.UserAttribute)
	assert.Equal(t, "order.amount", f.Impact.ValueAttribute)
	assert.Contains(t, f.Impact.Services, "storefront")
	hurt := make([]string, 0, len(f.HurtTraces))
	for _, h := range f.HurtTraces {
		hurt = append(hurt, h.TraceID)
	}
	assert.ElementsMatch(t, r.FailedTraceIDs, hurt, "hurt traces")
}

// checkChain: the cause first, each link after the one that it follows from, in
// the list and in time, and with the evidence that links them.
func checkChain(t *testing.T, f *finding.Finding) {
	t.Helper()
	require.NotEmpty(t, f.Chain)
	cause := f.Chain[0]
	assert.Empty(t, cause.Parent, "the cause follows from nothing")
	assert.Equal(t, f.RootCause.Event, cause.Event)
	assert.WithinDuration(t, f.StartedAt, cause.Time, 0)
	seen := map[string]finding.Link{cause.Key: cause}
	for _, l := range f.Chain[1:] {
		parent, ok := seen[l.Parent]
		if assert.True(t, ok, "%q stands after its parent %q", l.Title, l.Parent) {
			assert.False(t, l.Time.Before(parent.Time), "%q (%s) comes before its cause %q (%s)", l.Title, l.Time, parent.Title, parent.Time)
		}
		assert.NotContains(t, seen, l.Key, "keys differ")
		assert.NotEmpty(t, l.LinkedBy, l.Title)
		assert.NotEmpty(t, l.LinkedOn, l.Title)
		assert.GreaterOrEqual(t, l.Count, int64(1), l.Title)
		assert.False(t, l.Last.Before(l.Time), l.Title)
		seen[l.Key] = l
	}
}

// layers of the chain, each once.
func layers(f *finding.Finding) map[finding.Layer]bool {
	m := map[finding.Layer]bool{}
	for _, l := range f.Chain {
		m[l.Layer] = true
	}
	return m
}
