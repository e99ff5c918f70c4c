package finding_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

// overTheWire returns what a receiver of f's OTLP form reads.
func overTheWire(t *testing.T, f *finding.Finding) (pcommon.Resource, plog.LogRecord) {
	t.Helper()
	ld := plog.NewLogs()
	require.NoError(t, f.ToLog(ld.ResourceLogs().AppendEmpty(), f.UpdatedAt.Add(time.Millisecond)))
	b, err := (&plog.ProtoMarshaler{}).MarshalLogs(ld)
	require.NoError(t, err)
	ld, err = (&plog.ProtoUnmarshaler{}).UnmarshalLogs(b)
	require.NoError(t, err)
	rl := ld.ResourceLogs().At(0)
	return rl.Resource(), rl.ScopeLogs().At(0).LogRecords().At(0)
}

func TestOTLPRoundTrip(t *testing.T) {
	unknownImpact := findingtest.Full()
	unknownImpact.Impact.Users, unknownImpact.Impact.Value = nil, nil
	for name, want := range map[string]*finding.Finding{
		"full": findingtest.Full(), "minimal": findingtest.Minimal(1), "impact unknown, keys known": unknownImpact,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := finding.FromLog(overTheWire(t, want))
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

// TestWhatResumesAFindingDoesNotTravel: no other exporter of the pipeline sees it.
func TestWhatResumesAFindingDoesNotTravel(t *testing.T) {
	f := findingtest.Minimal(2)
	_, without := overTheWire(t, f)
	f.Resume = `{"version":1}`
	_, with := overTheWire(t, f)
	assert.Equal(t, without.Attributes().AsRaw(), with.Attributes().AsRaw())
	assert.Equal(t, without.Body().AsString(), with.Body().AsString())
}

func TestToLogFieldsForOtherBackends(t *testing.T) {
	f := findingtest.Full()
	_, r := overTheWire(t, f)
	assert.Equal(t, event.Finding, r.EventName())
	assert.Equal(t, pcommon.TraceID(f.ID), r.TraceID())
	assert.Equal(t, plog.SeverityNumberInfo, r.SeverityNumber(), "resolved")
	assert.Equal(t, f.Summary, r.Body().Str())
	assert.Equal(t, f.UpdatedAt, r.Timestamp().AsTime())
	f.State = finding.StateOpen
	_, r = overTheWire(t, f)
	assert.Equal(t, plog.SeverityNumberError, r.SeverityNumber(), "open")
	f.State = finding.StateMended
	_, r = overTheWire(t, f)
	assert.Equal(t, plog.SeverityNumberWarn, r.SeverityNumber(), "mended")
}

func TestToLogSaysWhatItCannotWrite(t *testing.T) {
	f := findingtest.Full()
	f.RootCause.Evidence["bad"] = math.NaN()
	err := f.ToLog(plog.NewLogs().ResourceLogs().AppendEmpty(), time.Now())
	assert.ErrorContains(t, err, finding.KeyCauseEvidence)
	f = findingtest.Full()
	f.RootCause.Entity.Attributes["bad"] = struct{}{}
	assert.Error(t, f.ToLog(plog.NewLogs().ResourceLogs().AppendEmpty(), time.Now()))
}

func TestFromLogRefusesOtherRecords(t *testing.T) {
	res, r := overTheWire(t, findingtest.Full())
	r.SetEventName(event.OOMKill)
	_, err := finding.FromLog(res, r)
	assert.ErrorIs(t, err, finding.ErrNotFinding)
}

func TestFromLogNamesTheDamagedAttribute(t *testing.T) {
	for _, tc := range []struct {
		name, key string
		damage    func(pcommon.Map)
	}{
		{"id missing", finding.KeyID, func(m pcommon.Map) { m.Remove(finding.KeyID) }},
		{"id short", finding.KeyID, func(m pcommon.Map) { m.PutStr(finding.KeyID, "abc") }},
		{"revision text", finding.KeyRevision, func(m pcommon.Map) { m.PutStr(finding.KeyRevision, "1") }},
		{"revision zero", finding.KeyRevision, func(m pcommon.Map) { m.PutInt(finding.KeyRevision, 0) }},
		{"state", finding.KeyState, func(m pcommon.Map) { m.PutStr(finding.KeyState, "closed") }},
		{"start no time", finding.KeyStartedAt, func(m pcommon.Map) { m.PutStr(finding.KeyStartedAt, "yesterday") }},
		{"start out of range", finding.KeyStartedAt, func(m pcommon.Map) { m.PutStr(finding.KeyStartedAt, "9000-01-01T00:00:00Z") }},
		{"resolved no time", finding.KeyResolvedAt, func(m pcommon.Map) { m.PutStr(finding.KeyResolvedAt, "") }},
		{"confidence NaN", finding.KeyConfidence, func(m pcommon.Map) { m.PutDouble(finding.KeyConfidence, math.NaN()) }},
		{"value infinite", finding.KeyValue, func(m pcommon.Map) { m.PutDouble(finding.KeyValue, math.Inf(1)) }},
		{"users a double", finding.KeyUsers, func(m pcommon.Map) { m.PutDouble(finding.KeyUsers, 1) }},
		{"chain cut", finding.KeyChain, func(m pcommon.Map) { m.PutStr(finding.KeyChain, `[{"key":"a"`) }},
		{"evidence a list", finding.KeyCauseEvidence, func(m pcommon.Map) { m.PutStr(finding.KeyCauseEvidence, `[]`) }},
		{"evidence beyond float", finding.KeyCauseEvidence, func(m pcommon.Map) { m.PutStr(finding.KeyCauseEvidence, `{"a":1e999}`) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, r := overTheWire(t, findingtest.Full())
			tc.damage(r.Attributes())
			f, err := finding.FromLog(res, r)
			assert.Nil(t, f)
			assert.ErrorContains(t, err, "attribute "+tc.key+":")
		})
	}
}

func TestFromLogIgnoresUnknownAttributes(t *testing.T) {
	res, r := overTheWire(t, findingtest.Full())
	r.Attributes().PutStr("tapio.finding.from_the_future", "x")
	got, err := finding.FromLog(res, r)
	require.NoError(t, err)
	assert.Equal(t, findingtest.Full(), got)
}

func TestFromLogRefusesNonFiniteResourceAttributes(t *testing.T) {
	res, r := overTheWire(t, findingtest.Full())
	res.Attributes().PutEmptySlice("load").AppendEmpty().SetDouble(math.NaN())
	_, err := finding.FromLog(res, r)
	assert.ErrorContains(t, err, "attribute load:")
}

// FuzzFromLog replaces one attribute of a whole finding: FromLog neither panics
// nor accepts a finding that the store could not keep as JSON.
func FuzzFromLog(f *testing.F) {
	for _, key := range []string{finding.KeyID, finding.KeyRevision, finding.KeyChain, finding.KeyCauseEvidence, finding.KeyStartedAt, finding.KeyUsers} {
		f.Add(key, `[{"time":"2026-01-01T00:00:00Z","count":1e3}]`, 1.5, uint8(0), false)
	}
	f.Add(finding.KeyConfidence, "", math.Inf(1), uint8(1), false)
	f.Add("host.load", "", math.NaN(), uint8(1), true)
	f.Fuzz(func(t *testing.T, key, text string, number float64, kind uint8, resource bool) {
		ld := plog.NewLogs()
		full := findingtest.Full()
		if err := full.ToLog(ld.ResourceLogs().AppendEmpty(), full.UpdatedAt); err != nil {
			t.Fatal(err)
		}
		rl := ld.ResourceLogs().At(0)
		r := rl.ScopeLogs().At(0).LogRecords().At(0)
		into := r.Attributes()
		if resource {
			into = rl.Resource().Attributes()
		}
		putAny(into, key, text, number, kind)
		checkAccepted(t, rl.Resource(), r)
	})
}

func putAny(m pcommon.Map, key, text string, number float64, kind uint8) {
	switch kind % 7 {
	case 0:
		m.PutStr(key, text)
	case 1:
		m.PutDouble(key, number)
	case 2:
		m.PutInt(key, int64(math.Float64bits(number)))
	case 3:
		m.PutBool(key, number > 0)
	case 4:
		m.PutEmptyBytes(key).FromRaw([]byte(text))
	case 5:
		m.PutEmptyMap(key).PutDouble(text, number)
	case 6:
		m.PutEmptySlice(key).AppendEmpty().SetStr(text)
	}
}

func checkAccepted(t *testing.T, res pcommon.Resource, r plog.LogRecord) {
	got, err := finding.FromLog(res, r)
	if err != nil {
		return
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatalf("accepted, but is no JSON: %v", err)
	}
	if err := json.Unmarshal(b, new(finding.Finding)); err != nil {
		t.Fatalf("its JSON cannot be read back: %v", err)
	}
}
