package finding_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

func TestNewIDTellsIncidentsApart(t *testing.T) {
	at := findingtest.Start
	id := finding.NewID("oom", "payment", at)
	assert.Equal(t, id, finding.NewID("oom", "payment", at.In(time.FixedZone("x", 3600))), "the zone is not part of the instant")
	for name, other := range map[string]finding.ID{
		"event":    finding.NewID("exit", "payment", at),
		"entity":   finding.NewID("oom", "ledger", at),
		"time":     finding.NewID("oom", "payment", at.Add(1)),
		"boundary": finding.NewID("oomp", "ayment", at),
	} {
		assert.NotEqual(t, id, other, name)
	}
}

func TestParseID(t *testing.T) {
	want := finding.NewID("oom", "payment", findingtest.Start)
	got, err := finding.ParseID(want.String())
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for in, wantErr := range map[string]string{
		"":                      "32 hexadecimal digits",
		"12":                    "32 hexadecimal digits",
		strings.Repeat("0", 32): "never all zero",
		strings.Repeat("g", 32): "not a finding id",
		strings.Repeat("a", 33): "32 hexadecimal digits",
	} {
		_, err := finding.ParseID(in)
		assert.ErrorContains(t, err, wantErr, in)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	for _, want := range []*finding.Finding{findingtest.Full(), findingtest.Minimal(1)} {
		b, err := json.Marshal(want)
		require.NoError(t, err)
		got := new(finding.Finding)
		require.NoError(t, json.Unmarshal(b, got))
		assert.Equal(t, want, got)
	}
}

func TestJSONKeepsLargeIntegers(t *testing.T) {
	f := findingtest.Full()
	const exact = int64(1)<<62 + 1 // a float64 would round it
	f.RootCause.Evidence["size"] = exact
	f.RootCause.Evidence["ratio"] = 0.5
	f.RootCause.Entity.Attributes["args"] = []any{"-n", int64(3)}
	b, err := json.Marshal(f)
	require.NoError(t, err)
	got := new(finding.Finding)
	require.NoError(t, json.Unmarshal(b, got))
	assert.Equal(t, f.RootCause, got.RootCause)
}

func TestTimeToDetection(t *testing.T) {
	assert.Equal(t, 412*time.Millisecond, findingtest.Full().TimeToDetection())
}
