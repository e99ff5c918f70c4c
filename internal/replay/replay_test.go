package replay

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/replay/replaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// format is how the file exporter can write a message, and a file of messages.
type format struct {
	json, lengths bool
	message, file func(*testing.T, []byte) []byte
}

func plain(_ *testing.T, b []byte) []byte { return b }

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// encoder is made once: it is large.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) { return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) })

func zstandard(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := encoder()
	require.NoError(t, err)
	return w.EncodeAll(b, nil)
}

var formats = map[string]format{
	"json":                          {json: true, message: plain, file: plain},
	"json, gzip":                    {json: true, message: plain, file: gzipped},
	"json, zstd (native)":           {json: true, message: plain, file: zstandard},
	"json, each message by zstd":    {json: true, lengths: true, message: zstandard, file: plain},
	"proto":                         {lengths: true, message: plain, file: plain},
	"proto, gzip":                   {lengths: true, message: plain, file: gzipped},
	"proto, zstd (native)":          {lengths: true, message: plain, file: zstandard},
	"proto, each message by zstd":   {lengths: true, message: zstandard, file: plain},
	"json, each by zstd, then gzip": {json: true, lengths: true, message: zstandard, file: gzipped},
}

func (f format) write(t *testing.T, messages []replaytest.Message) []byte {
	t.Helper()
	var out []byte
	for _, m := range messages {
		b := f.message(t, marshal(t, m, f.json))
		if f.lengths {
			out = binary.BigEndian.AppendUint32(out, uint32(len(b)))
		}
		out = append(out, b...)
		if !f.lengths {
			out = append(out, '\n')
		}
	}
	return f.file(t, out)
}

func marshal(t *testing.T, m replaytest.Message, asJSON bool) []byte {
	t.Helper()
	var b []byte
	var err error
	switch {
	case m.Traces != nil && asJSON:
		b, err = new(ptrace.JSONMarshaler).MarshalTraces(*m.Traces)
	case m.Traces != nil:
		b, err = new(ptrace.ProtoMarshaler).MarshalTraces(*m.Traces)
	case m.Logs != nil && asJSON:
		b, err = new(plog.JSONMarshaler).MarshalLogs(*m.Logs)
	case m.Logs != nil:
		b, err = new(plog.ProtoMarshaler).MarshalLogs(*m.Logs)
	case asJSON:
		b, err = new(pmetric.JSONMarshaler).MarshalMetrics(*m.Metrics)
	default:
		b, err = new(pmetric.ProtoMarshaler).MarshalMetrics(*m.Metrics)
	}
	require.NoError(t, err)
	return b
}

func fileOf(t *testing.T, contents []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "telemetry")
	require.NoError(t, os.WriteFile(path, contents, 0o600))
	return path
}

// run replays files and returns the findings as JSON.
func run(t *testing.T, lateness time.Duration, paths ...string) (found string, counts Counts, err error) {
	t.Helper()
	cfg, err := LoadConfig("")
	require.NoError(t, err)
	cfg.Ring.Capacity = 1 << 14 // as many events as there are: memory is what these tests cost
	engine, err := Start(t.Context(), cfg, zaptest.NewLogger(t))
	require.NoError(t, err)
	buffer := NewBuffer(engine, DefaultMaxHeld)
	files, err := OpenFiles(paths)
	require.NoError(t, err)
	err = files.Run(t.Context(), buffer, lateness, func(Progress) {})
	require.NoError(t, files.Close())
	findings, dropped, finished := engine.Finish(context.WithoutCancel(t.Context()))
	require.NoError(t, finished)
	assert.Empty(t, dropped)
	return textOf(t, findings), buffer.Counts, err
}

func textOf(t *testing.T, findings []*finding.Finding) string {
	t.Helper()
	b, err := json.MarshalIndent(findings, "", " ")
	require.NoError(t, err)
	return string(b)
}

// wholeShop is what is in the recording.
var wholeShop = Counts{Spans: 3*1200 - 80, Records: 602, Points: 10}

func TestEveryFormatGivesTheSameFindings(t *testing.T) {
	want, counts, err := run(t, DefaultLateness, fileOf(t, formats["json"].write(t, replaytest.Shop())))
	require.NoError(t, err)
	assert.Equal(t, wholeShop, counts)
	var findings []*finding.Finding
	require.NoError(t, json.Unmarshal([]byte(want), &findings))
	require.Len(t, findings, 1)
	assert.Equal(t, "memory-limit-oom-kill", findings[0].Pattern)
	assert.Equal(t, "payment", findings[0].RootCause.Entity.Attributes["service.name"])
	assert.Equal(t, replaytest.Start.Add(210*time.Second), findings[0].StartedAt)
	assert.EqualValues(t, 80, findings[0].Impact.FailedRequests)
	for name, f := range formats {
		t.Run(name, func(t *testing.T) {
			got, counts, err := run(t, DefaultLateness, fileOf(t, f.write(t, replaytest.Shop())))
			require.NoError(t, err)
			assert.Equal(t, wholeShop, counts)
			assert.Equal(t, want, got)
		})
	}
}

// shuffled breaks messages up into items and mixes them so that none is further
// than late from its place, then puts them together again, several to a message.
func shuffled(t *testing.T, messages []replaytest.Message, late time.Duration, seed uint64) []replaytest.Message {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	all := &collected{}
	b := NewBuffer(all, 1<<30)
	for _, m := range messages {
		switch {
		case m.Traces != nil:
			_, err := b.Traces(*m.Traces)
			require.NoError(t, err)
		case m.Logs != nil:
			_, err := b.Logs(*m.Logs)
			require.NoError(t, err)
		default:
			_, err := b.Metrics(*m.Metrics)
			require.NoError(t, err)
		}
	}
	type arrival struct {
		item item
		at   int64
	}
	var arrivals []arrival
	for _, it := range b.items {
		arrivals = append(arrivals, arrival{it, it.at + random.Int64N(int64(late))})
	}
	slices.SortFunc(arrivals, func(x, y arrival) int { return cmp.Compare(x.at, y.at) })
	var out []replaytest.Message
	for _, a := range arrivals {
		out = append(out, messageOf(a.item))
	}
	return out
}

func messageOf(it item) replaytest.Message {
	switch it.signal {
	case signalTraces:
		td := ptrace.NewTraces()
		it.span.CopyTo(it.origin.spans(td.ResourceSpans().AppendEmpty()).AppendEmpty())
		return replaytest.Message{Traces: &td}
	case signalLogs:
		ld := plog.NewLogs()
		it.record.CopyTo(it.origin.logs(ld.ResourceLogs().AppendEmpty()).AppendEmpty())
		return replaytest.Message{Logs: &ld}
	default:
		md := pmetric.NewMetrics()
		it.metric.CopyTo(it.origin.metrics(md.ResourceMetrics().AppendEmpty()).AppendEmpty())
		return replaytest.Message{Metrics: &md}
	}
}

func TestOrderInsideTheBoundDoesNotMatter(t *testing.T) {
	want, _, err := run(t, 30*time.Second, fileOf(t, formats["proto"].write(t, replaytest.Shop())))
	require.NoError(t, err)
	for seed := range uint64(4) {
		mixed := shuffled(t, replaytest.Shop(), 30*time.Second, seed)
		got, counts, err := run(t, 30*time.Second, fileOf(t, formats["proto"].write(t, mixed)))
		require.NoError(t, err)
		assert.Equal(t, wholeShop, counts)
		assert.Equal(t, want, got)
	}
}

func TestFilesAreReadSideBySide(t *testing.T) {
	whole := replaytest.Shop()
	want, _, err := run(t, time.Second, fileOf(t, formats["json"].write(t, whole)))
	require.NoError(t, err)
	var traces, logs, metrics []replaytest.Message
	for _, m := range replaytest.Shop() {
		switch {
		case m.Traces != nil:
			traces = append(traces, m)
		case m.Logs != nil:
			logs = append(logs, m)
		default:
			metrics = append(metrics, m)
		}
	}
	// A file for each signal, of traces two as rotation makes them, the newer first.
	got, counts, err := run(t, time.Second, fileOf(t, formats["json"].write(t, traces[150:])), fileOf(t, formats["proto, gzip"].write(t, logs)),
		fileOf(t, formats["json, zstd (native)"].write(t, metrics)), fileOf(t, formats["json"].write(t, traces[:150])), fileOf(t, nil))
	require.NoError(t, err)
	assert.Equal(t, wholeShop, counts)
	assert.Equal(t, want, got)
}

func TestUnreadableFilesAreNamedWithTheOffset(t *testing.T) {
	shop := replaytest.Shop()
	lines, lengths := formats["json"].write(t, shop), formats["proto"].write(t, shop)
	first := bytes.IndexByte(lines, '\n') + 1
	firstLength := 4 + int(binary.BigEndian.Uint32(lengths))
	for name, tc := range map[string]struct {
		contents []byte
		want     string
	}{
		"line cut":            {lines[:first+100], fmt.Sprintf("offset %d of the uncompressed contents: OTLP as JSON: ", first)},
		"message cut":         {lengths[:firstLength+100], fmt.Sprintf("offset %d of the uncompressed contents: the file ends in the middle of a message", firstLength)},
		"length cut":          {lengths[:firstLength+2], fmt.Sprintf("offset %d of the uncompressed contents: the file ends in the middle of a message", firstLength)},
		"gzip cut":            {gzipped(t, lines)[:2000], "the file ends in the middle of a message"},
		"zstd cut":            {zstandard(t, lengths)[:2000], "the file ends in the middle of a message"},
		"text":                {[]byte("2026-03-01 hello, this is a log file\n"), "offset 0 of the uncompressed contents: neither a line of JSON"},
		"other JSON":          {[]byte(`{"hello":1}` + "\n"), "offset 0 of the uncompressed contents: not OTLP"},
		"other after":         {append(bytes.Clone(lines[:first]), "hello\n"...), fmt.Sprintf("offset %d of the uncompressed contents: not OTLP", first)},
		"random after length": {[]byte("\x00\x00\x00\x04\xff\xff\xff\xff"), "offset 0 of the uncompressed contents: not OTLP"},
		"zstd of nothing":     {append([]byte{0, 0, 0, 8}, append(bytes.Clone(zstdMagic), 1, 2, 3, 4)...), "offset 0 of the uncompressed contents: "},
	} {
		t.Run(name, func(t *testing.T) {
			path := fileOf(t, tc.contents)
			_, _, err := run(t, time.Second, path)
			require.Error(t, err)
			assert.Contains(t, err.Error(), path+": ")
			assert.Contains(t, err.Error(), tc.want)
		})
	}
}

func TestAFileThatIsCutIsReplayedUpToThere(t *testing.T) {
	whole, broken := formats["json"].write(t, replaytest.Shop()), formats["json"].write(t, replaytest.Shop())
	broken = broken[:len(broken)-50]
	want, _, err := run(t, time.Second, fileOf(t, whole))
	require.NoError(t, err)
	got, counts, err := run(t, time.Second, fileOf(t, broken))
	require.Error(t, err)
	assert.Less(t, counts.Spans+counts.Records, wholeShop.Spans+wholeShop.Records)
	assert.Contains(t, got, "memory-limit-oom-kill")
	assert.NotEmpty(t, want)
}

func TestFilesThatCannotBeOpened(t *testing.T) {
	_, err := OpenFiles([]string{filepath.Join(t.TempDir(), "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
	dir := t.TempDir()
	_, err = OpenFiles([]string{dir})
	require.ErrorContains(t, err, dir+": is a directory")
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := NewBuffer(&collected{}, DefaultMaxHeld)
	n := 0
	files, err := OpenFiles([]string{fileOf(t, formats["json"].write(t, replaytest.Shop()))})
	require.NoError(t, err)
	defer func() { require.NoError(t, files.Close()) }()
	require.ErrorIs(t, files.Run(ctx, b, time.Second, func(Progress) {
		if n++; n == 100 {
			cancel()
		}
	}), context.Canceled)
	assert.Equal(t, 100, n)
}

// collected keeps what a buffer hands on.
type collected struct {
	times   []int64
	batches int
}

func (c *collected) ConsumeTraces(_ context.Context, td ptrace.Traces) error {
	c.batches++
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				c.times = append(c.times, int64(s.EndTimestamp()))
			}
		}
	}
	return nil
}

func (c *collected) ConsumeLogs(context.Context, plog.Logs) error { return nil }

func (c *collected) ConsumeMetrics(_ context.Context, md pmetric.Metrics) error {
	c.batches++
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				visitPoints(m, func(at pcommon.Timestamp) bool { c.times = append(c.times, int64(at)); return false })
			}
		}
	}
	return nil
}

// spansAt makes a batch with a span ending at each second.
func spansAt(seconds ...int64) ptrace.Traces {
	td := ptrace.NewTraces()
	spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for _, s := range seconds {
		spans.AppendEmpty().SetEndTimestamp(pcommon.Timestamp(s * 1e9))
	}
	return td
}

func TestBufferCountsWhatItCannotPlace(t *testing.T) {
	out := &collected{}
	b := NewBuffer(out, DefaultMaxHeld)
	newest, err := b.Traces(spansAt(10, 0, 30, time.Now().Add(time.Hour).Unix(), 20))
	require.NoError(t, err)
	assert.EqualValues(t, 30e9, newest)
	assert.Equal(t, Counts{Spans: 3, Invalid: 2}, b.Counts)
	require.NoError(t, b.Release(t.Context(), 25e9))
	assert.Equal(t, []int64{10e9, 20e9}, out.times)
	_, err = b.Traces(spansAt(24, 26))
	require.NoError(t, err)
	assert.EqualValues(t, 1, b.Counts.Late)
	require.NoError(t, b.Flush(t.Context()))
	assert.Equal(t, []int64{10e9, 20e9, 24e9, 26e9, 30e9}, out.times)
	assert.Zero(t, b.Held())
}

func TestOneClockThatIsAheadMakesNothingLate(t *testing.T) {
	shop := replaytest.Shop()
	want, _, err := run(t, 5*time.Second, fileOf(t, formats["proto"].write(t, shop)))
	require.NoError(t, err)
	shop = replaytest.Shop()
	var mixed []replaytest.Message
	for i, m := range shop {
		if i%3 == 0 {
			ld := plog.NewLogs()
			rl := ld.ResourceLogs().AppendEmpty()
			rl.Resource().Attributes().PutStr("service.name", "ahead")
			rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().SetTimestamp(
				pcommon.NewTimestampFromTime(replaytest.Start.Add(time.Hour + time.Duration(i)*time.Second)))
			mixed = append(mixed, replaytest.Message{Logs: &ld})
		}
		mixed = append(mixed, m)
	}
	got, counts, err := run(t, 5*time.Second, fileOf(t, formats["proto"].write(t, mixed)))
	require.NoError(t, err)
	assert.Zero(t, counts.Late)
	var before, after []*finding.Finding
	require.NoError(t, json.Unmarshal([]byte(want), &before))
	require.NoError(t, json.Unmarshal([]byte(got), &after))
	require.Len(t, after, 1)
	assert.Equal(t, before[0].ID, after[0].ID)
	assert.Equal(t, before[0].Impact, after[0].Impact)
	assert.Equal(t, before[0].DetectedAt, after[0].DetectedAt)
}

func TestLateItemsDoNotPileUp(t *testing.T) {
	out := &collected{}
	b := NewBuffer(out, 10)
	_, err := b.Traces(spansAt(1000))
	require.NoError(t, err)
	require.NoError(t, b.Release(t.Context(), 2000e9))
	for i := range int64(100) {
		_, err := b.Traces(spansAt(i + 1))
		require.NoError(t, err)
		require.NoError(t, b.Release(t.Context(), 0))
		assert.LessOrEqual(t, b.Held(), 10)
	}
	assert.EqualValues(t, 100, b.Counts.Late)
	assert.Len(t, out.times, 101)
}

func TestBufferIsBounded(t *testing.T) {
	out := &collected{}
	b := NewBuffer(out, 10)
	for i := range int64(100) {
		_, err := b.Traces(spansAt(i + 1))
		require.NoError(t, err)
		require.NoError(t, b.Release(t.Context(), 0))
		assert.LessOrEqual(t, b.Held(), 10)
	}
	assert.Positive(t, b.Counts.Crowded)
	assert.Zero(t, b.Counts.Late)
	assert.True(t, slices.IsSorted(out.times))
}

func TestPointsOfOneMetricWithSeveralTimes(t *testing.T) {
	for name, make := range map[string]func(m pmetric.Metric, at pcommon.Timestamp){
		"gauge": func(m pmetric.Metric, at pcommon.Timestamp) { m.Gauge().DataPoints().AppendEmpty().SetTimestamp(at) },
		"sum":   func(m pmetric.Metric, at pcommon.Timestamp) { m.Sum().DataPoints().AppendEmpty().SetTimestamp(at) },
		"histogram": func(m pmetric.Metric, at pcommon.Timestamp) {
			m.Histogram().DataPoints().AppendEmpty().SetTimestamp(at)
		},
		"exponential": func(m pmetric.Metric, at pcommon.Timestamp) {
			m.ExponentialHistogram().DataPoints().AppendEmpty().SetTimestamp(at)
		},
		"summary": func(m pmetric.Metric, at pcommon.Timestamp) { m.Summary().DataPoints().AppendEmpty().SetTimestamp(at) },
	} {
		t.Run(name, func(t *testing.T) {
			md := pmetric.NewMetrics()
			m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
			switch name {
			case "gauge":
				m.SetEmptyGauge()
			case "sum":
				m.SetEmptySum()
			case "histogram":
				m.SetEmptyHistogram()
			case "exponential":
				m.SetEmptyExponentialHistogram()
			case "summary":
				m.SetEmptySummary()
			}
			for _, s := range []int64{30, 10, 20, 10} {
				make(m, pcommon.Timestamp(s*1e9))
			}
			out := &collected{}
			b := NewBuffer(out, DefaultMaxHeld)
			_, err := b.Metrics(md)
			require.NoError(t, err)
			require.NoError(t, b.Flush(t.Context()))
			assert.Equal(t, Counts{Points: 4}, b.Counts)
			assert.Equal(t, []int64{10e9, 10e9, 20e9, 30e9}, out.times)
			assert.Equal(t, 3, out.batches)
		})
	}
}

func TestConfig(t *testing.T) {
	cfg, err := LoadConfig(fileOf(t, []byte("window: 2m\nring:\n  capacity: 4096\n")))
	require.NoError(t, err)
	assert.Equal(t, 2*time.Minute, cfg.Window)
	assert.Equal(t, 4096, cfg.Ring.Capacity)
	assert.Equal(t, 30*time.Minute, cfg.Retention)
	for contents, want := range map[string]string{
		"windov: 2m": "windov", "window: 1ns": "window: 1ns is not allowed", "{": "yaml", "window: [1]": "window",
	} {
		path := fileOf(t, []byte(contents))
		_, err := LoadConfig(path)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, want)
	}
	_, err = LoadConfig(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzFile(f *testing.F) {
	t := &testing.T{}
	shop := replaytest.Shop()[:3]
	for _, format := range formats {
		f.Add(format.write(t, shop))
	}
	f.Add([]byte("\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, contents []byte) {
		file, err := openFile(fileOf(t, contents))
		if err != nil {
			return
		}
		defer func() { _ = file.Close() }()
		b := NewBuffer(&collected{}, 1000)
		for range 100 {
			message, err := file.next()
			if errors.Is(err, io.EOF) {
				require.LessOrEqual(t, int64(0), file.offset)
			}
			if err != nil {
				break
			}
			if _, err := b.put(message); err != nil {
				break
			}
		}
		require.NoError(t, b.Flush(context.Background()))
	})
}
