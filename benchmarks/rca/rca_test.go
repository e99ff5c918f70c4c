package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/benchmarks/rca/nezha/nezhatest"
	"github.com/yairfalse/tapio/internal/finding"
)

// measure runs the harness on a small data set and returns its JSON.
func measure(t *testing.T, labels bool, change func(*options)) map[string]any {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, nezhatest.Write(dir, labels))
	o := options{data: dir, json: filepath.Join(t.TempDir(), "result.json"), parallel: 1}
	change(&o)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, o))
	assert.Contains(t, out.String(), "expected calibration error")
	b, err := os.ReadFile(o.json)
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(b, &got))
	return got
}

func TestASlowServiceIsFound(t *testing.T) {
	got := measure(t, true, func(*options) {})
	for key, want := range map[string]any{"cases": 1., "a1": 1., "a3": 1., "a5": 1., "exact": 1., "silent": 0., "false_findings": 0.} {
		assert.Equal(t, want, got[key], key)
	}
	assert.InDelta(t, 5, got["fault_free_minutes"], 0.1)
	assert.NotNil(t, got["ece"])
	details := got["details"].([]any)
	require.Len(t, details, 1)
	d := details[0].(map[string]any)
	assert.Equal(t, "one", d["case"])
	assert.Equal(t, nezhatest.Root, d["entity"])
	assert.InDelta(t, d["after_start_s"].(float64)-30, d["after_onset_s"], 0.01)
	assert.Less(t, d["after_onset_s"], 60.)
	assert.InDelta(t, 5, d["warm_minutes"], 0.1)
	assert.EqualValues(t, 3*2*(300+180), d["spans"], "warmed with the fault-free minutes")
	assert.Positive(t, d["cpu_s"])
}

// The caller of a service whose certificate has expired says so in its log, and its
// visits change: both are of the same requests, whose cause is the service.
func TestWhatHurtsARequestIsNotProofAgainstItsCaller(t *testing.T) {
	sum, err := measured(t.Context(), options{scenario: "services=20,minutes=5,seed=2", cases: "^certificate expired 1$", parallel: 1})
	require.NoError(t, err)
	assert.Equal(t, 1, sum.Cases)
	assert.Equal(t, 1, sum.A1, "%+v", sum.Details)
}

func TestWithheldSignalsAreNotFed(t *testing.T) {
	got := measure(t, true, func(o *options) { o.noTraces, o.noLogs, o.noMetrics = true, true, true })
	assert.EqualValues(t, 1, got["silent"])
	assert.EqualValues(t, 0, got["a5"], "a case without a finding is wrong")
	d := got["details"].([]any)[0].(map[string]any)
	assert.Zero(t, d["spans"])
	assert.Zero(t, d["log_records"])
	assert.Zero(t, d["data_points"])
}

func TestWithoutLabelsAndInParallel(t *testing.T) {
	got := measure(t, false, func(o *options) { o.parallel = 2 })
	assert.EqualValues(t, 0, got["cases"])
	assert.EqualValues(t, 1, got["unlabelled"])
	d := got["details"].([]any)[0].(map[string]any)
	assert.Equal(t, nezhatest.Root, d["entity"], "what is found does not need a label")
	assert.Nil(t, d["cpu_s"])
}

func TestWrongOptions(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, nezhatest.Write(dir, true))
	for want, o := range map[string]options{
		"want --data, the directory of a data":  {parallel: 1},
		"--parallel 0: want 1 to 64":            {data: dir},
		"no such file":                          {data: filepath.Join(dir, "none"), parallel: 1},
		"no recording of a data set is there":   {data: filepath.Join(dir, "one"), parallel: 1},
		"no case of":                            {data: dir, cases: "two", parallel: 1},
		"--cases: error parsing regexp":         {data: dir, cases: "(", parallel: 1},
		filepath.Join(dir, "labels.json") + ":": {data: dir, config: filepath.Join(dir, "labels.json"), parallel: 1},
	} {
		err := run(t.Context(), &bytes.Buffer{}, o)
		require.ErrorContains(t, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, run(ctx, &bytes.Buffer{}, options{data: dir, parallel: 1}), context.Canceled)
}

// said is a finding that was detected and last updated some seconds after Start.
func said(name string, confidence float64, detected, updated int) *finding.Finding {
	at := func(s int) time.Time { return nezhatest.Start.Add(time.Duration(s) * time.Second) }
	return &finding.Finding{
		RootCause:  finding.RootCause{Entity: finding.Entity{Kind: "service", Name: name}},
		Confidence: finding.Confidence{Score: confidence}, DetectedAt: at(detected), UpdatedAt: at(updated),
	}
}

func names(findings []*finding.Finding) (out []string) {
	for _, f := range findings {
		out = append(out, f.RootCause.Entity.Name)
	}
	return out
}

func TestOrderOfFindings(t *testing.T) {
	o := &outcome{recording: &dataset.Recording{Start: nezhatest.Start}}
	taken := said("taken back", 1, 20, 30)
	taken.State = finding.StateWithdrawn
	o.sort([]*finding.Finding{
		taken,
		said("over before", 1, -60, -30), said("goes on", 0.99, -60, 10), said("late", 0.9, 50, 60), said("early", 0.9, 20, 90), said("sure", 0.95, 70, 70),
	})
	assert.Equal(t, []string{"sure", "early", "late", "goes on", "taken back"}, names(o.findings))
	assert.Equal(t, []string{"over before"}, names(o.before))
}

// truth has the name right.
type truth string

func (t truth) String() string                { return string(t) }
func (t truth) Right(f *finding.Finding) bool { return f.RootCause.Entity.Name == string(t) }
func (t truth) Judge(findings []*finding.Finding) dataset.Verdict {
	for i, f := range findings {
		if t.Right(f) {
			return dataset.Verdict{Rank: i + 1, Exact: i == 0}
		}
	}
	return dataset.Verdict{}
}

func TestSummary(t *testing.T) {
	recording := dataset.Recording{Start: nezhatest.Start, End: nezhatest.Start.Add(3 * time.Minute)}
	caseOf := func(group, right string, findings ...*finding.Finding) *outcome {
		c := &dataset.Case{Recording: recording, Onset: nezhatest.Onset, Group: group}
		if right != "" {
			c.Truth = truth(right)
		}
		return &outcome{recording: &recording, of: c, findings: findings}
	}
	taken := said("c", 1, 20, 30)
	taken.State = finding.StateWithdrawn
	s := summarize("set", []*outcome{
		caseOf("x", "a", said("a", 0.95, 40, 50), said("b", 0.95, 35, 60), taken),
		caseOf("x", "a", said("b", 0.85, 20, 30), said("c", 0.8, 20, 30), said("a", 0.8, 60, 70)),
		caseOf("y", "a"),
		caseOf("y", "a", said("b", 1, 20, 30)),
		caseOf("y", "", said("b", 0.1, 20, 30)),
		{recording: &recording, findings: []*finding.Finding{said("a", 0.95, 1, 2)}},
	}, nil)
	assert.Equal(t, []group{{"x", 2, 1, 2, 2, 1}, {"y", 2, 0, 0, 0, 0}}, s.Groups)
	assert.Equal(t, []int{4, 1, 2, 2, 1, 1, 1}, []int{s.Cases, s.A1, s.A3, s.A5, s.Exact, s.Silent, s.Unlabelled})
	assert.Equal(t, 1, s.FalseFindings)
	assert.Equal(t, 1, s.Withdrawn)
	assert.InDelta(t, 3, s.FaultFreeMinutes, 1e-9)
	assert.InDelta(t, 10, *s.AfterOnsetP50, 1e-9, "to the finding that is right, not to the first")
	assert.InDelta(t, 30, *s.AfterOnsetP90, 1e-9)
	// The first of each case, and the false one: 0.8-0.9: 0.85, wrong; 0.9-1: 0.95 twice and 1, one of three right.
	assert.Equal(t, 1, s.Calibration[8].Findings)
	assert.InDelta(t, 0, s.Calibration[8].Right, 1e-9)
	assert.InDelta(t, 2.9/3, s.Calibration[9].Confidence, 1e-9)
	assert.Equal(t, 0, s.Calibration[1].Findings, "without a label there is no right or wrong")
	assert.InDelta(t, (0.85+3*(2.9/3-1./3))/4, s.ECE, 1e-9)
}

func TestKnownFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.json")
	read := func(text string) ([]known, error) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return readKnown(path)
	}
	failures, err := read(`[{"recording": "quiet", "entity": "a", "peer": "b", "reason": "its logs say so"}]`)
	require.NoError(t, err)
	about := func(peer string) *finding.Finding {
		f := said("a", 0.8, 1, 2)
		f.RootCause.Evidence = map[string]any{"tapio.peer": peer}
		return f
	}
	recording := dataset.Recording{ID: "quiet", Start: nezhatest.Start, End: nezhatest.Start.Add(time.Minute)}
	s := summarize("set", []*outcome{{recording: &recording, findings: []*finding.Finding{about("b"), about("c"), said("d", 0.8, 1, 2)}}}, failures)
	assert.Equal(t, 2, s.FalseFindings, "another peer, another service")
	assert.Equal(t, 1, s.KnownFindings)
	assert.Equal(t, []string{"its logs say so", "", ""}, s.FaultFree[0].Known)
	assert.InDelta(t, 1./3, s.Calibration[8].Right, 1e-9)
	var out bytes.Buffer
	printFaultFree(&out, s)
	assert.Contains(t, out.String(), "2 false findings in 1.0 minutes, and 1 of failures that are known")
	assert.Contains(t, out.String(), "known: its logs say so")

	for text, want := range map[string]string{`{`: "unexpected end", `[{"recording": "quiet", "entity": "a"}]`: "element 0: want recording, entity and reason"} {
		_, err := read(text)
		require.ErrorContains(t, err, want)
	}
	_, err = readKnown(filepath.Join(t.TempDir(), "none.json"))
	require.Error(t, err)
}

func TestOverlap(t *testing.T) {
	assert.InDelta(t, 0.5, overlap([]string{"a", "b"}, []string{"b", "c", "d"}), 1e-9)
	assert.Zero(t, overlap(nil, []string{"a"}))
}

func TestOrderOfWarming(t *testing.T) {
	recordingOf := func(id string, signals int, away time.Duration, services ...string) *dataset.Recording {
		return &dataset.Recording{ID: id, Signals: signals, Start: nezhatest.Start.Add(away), Services: services}
	}
	order := nearestFirst(recordingOf("case", 3, 0, "a", "b"), []*dataset.Recording{
		recordingOf("far", 2, 24*time.Hour, "a", "b"), recordingOf("spans only", 1, -time.Minute, "a", "b"),
		recordingOf("other", 3, 0, "c"), recordingOf("near", 2, -time.Hour, "a"),
	})
	var ids []string
	for _, r := range order {
		ids = append(ids, r.ID)
	}
	assert.Equal(t, []string{"near", "far", "spans only"}, ids)
}
