package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// hostile returns a finding whose every text tries to take over the terminal.
func hostile() *finding.Finding {
	const bad = "\x1b[2J\x1b]0;owned\x07evil\nroot@host# \u202egnp.exe\u200b \x9b31m\xff\x00"
	f := findingtest.Full()
	f.Title, f.Pattern, f.RootCause.Description = bad, bad, bad
	f.RootCause.Entity = finding.Entity{Kind: bad, Name: bad, Attributes: map[string]any{
		event.KeyServiceName: bad, event.KeyServiceVersion: bad, event.KeyContainerID: bad, event.KeyPodName: bad,
		event.KeyNamespaceName: bad, event.KeyHostName: bad, event.KeyProcessPID: bad,
	}}
	f.RootCause.Evidence = map[string]any{bad: bad, event.KeyMemoryCgroup: bad, event.KeyMemoryLimit: bad, event.KeyExitSignalName: bad, event.KeyProcessExitCode: bad}
	f.Impact.UserAttribute, f.Impact.ValueAttribute = bad, bad
	f.Impact.Services, f.Impact.Operations, f.Missing = []string{bad}, []string{bad}, []string{bad}
	f.Ending = bad
	f.EarlierCauses = []finding.EarlierCause{{Title: bad, Pattern: bad, Reason: bad, Until: f.StartedAt}}
	f.RootCause.LastLines = []finding.LogLine{{Time: f.StartedAt, Text: bad}}
	f.Chain[0].Title, f.Chain[0].Detail, f.Chain[0].Layer = bad, bad, bad
	f.Chain[1].LinkedOn, f.Chain[1].LinkedBy = bad, bad
	f.Actions = finding.Actions{Immediate: []string{bad}, ShortTerm: []string{bad}, LongTerm: []string{bad}}
	f.Rejected = []finding.Hypothesis{{Pattern: bad, Entity: finding.Entity{Kind: bad, Name: bad}, Score: 0.01, Reason: bad}}
	f.State = finding.State(bad)
	return f
}

// What fits no better than not at all is counted; who was cleared is listed.
func TestRejectedThatDoNotFit(t *testing.T) {
	text := func(hs ...finding.Hypothesis) string {
		p := &page{style: style{width: 80}}
		p.rejected(hs)
		return p.text.String()
	}
	entity := finding.Entity{Kind: "service", Name: "ledger"}
	no := finding.Hypothesis{Pattern: "disk-full", Entity: entity, Reason: "ruled out: body is x, not containing y"}
	cleared := finding.Hypothesis{Pattern: calleeFailing, Entity: entity, Reason: "it answered."}
	assert.Equal(t, "  no other explanation\n", text())
	assert.Equal(t, "  - 2 patterns do not fit\n", text(no, no))
	assert.Equal(t, "  - callee-failing: service ledger, score 0.00\n    it answered.\n  - 1 more pattern does not fit\n", text(no, cleared))
}

func open() *finding.Finding {
	f := findingtest.Full()
	f.State, f.ResolvedAt, f.Ending, f.Revision, f.EarlierCauses = finding.StateOpen, nil, "", 1, nil
	f.DetectedAt = f.StartedAt.Add(-2300 * time.Millisecond) // by a clock that is behind
	f.Impact.Users, f.Impact.Value = nil, nil
	f.RootCause.Event = event.ProcessExit
	f.RootCause.Evidence = map[string]any{event.KeyProcessExitCode: int64(7)}
	f.RootCause.Description = "payment (pid 4242) exited with code 7."
	f.RootCause.Entity.Attributes[event.KeyContainerID] = "4f1c2ab9"
	f.RootCause.Entity.Attributes[event.KeyPodName] = "payment-7d9"
	f.RootCause.Entity.Attributes[event.KeyNamespaceName] = "shop"
	f.Chain[3].Last = findingtest.Start.Add(26 * time.Hour)
	f.Rejected = nil
	return f
}

func TestRenderGolden(t *testing.T) {
	for name, tc := range map[string]struct {
		f *finding.Finding
		s style
	}{
		"full_100.txt":    {findingtest.Full(), style{width: 100}},
		"full_80.txt":     {findingtest.Full(), style{width: 80}},
		"full_120.txt":    {findingtest.Full(), style{width: 120}},
		"full_40.txt":     {findingtest.Full(), style{width: 40}},
		"full_color.txt":  {findingtest.Full(), style{width: 100, color: true}},
		"open_100.txt":    {open(), style{width: 100}},
		"minimal_100.txt": {findingtest.Minimal(1), style{width: 100}},
		"hostile_100.txt": {hostile(), style{width: 100}},
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, render(tc.f, tc.s)) })
	}
}

func TestRenderKeepsItsWidthAndTheTerminalSafe(t *testing.T) {
	for _, f := range []*finding.Finding{findingtest.Full(), open(), findingtest.Minimal(1), hostile()} {
		for width := minWidth; width <= maxWidth; width++ {
			text := render(f, style{width: width})
			require.True(t, utf8.ValidString(text))
			for l := range strings.Lines(text) {
				l = strings.TrimSuffix(l, "\n")
				require.LessOrEqual(t, utf8.RuneCountInString(l), width, "width %d: %q", width, l)
				require.Equal(t, -1, strings.IndexFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", l)
			}
		}
	}
}

func TestColorChangesNothingButColor(t *testing.T) {
	for _, f := range []*finding.Finding{findingtest.Full(), hostile()} {
		colored := render(f, style{width: 90, color: true})
		for _, sgr := range []string{sgrBold, sgrDim, sgrRed, sgrGreen, sgrYellow, sgrBlue, sgrMagenta, sgrCyan, "0"} {
			colored = strings.ReplaceAll(colored, "\x1b["+sgr+"m", "")
		}
		assert.Equal(t, render(f, style{width: 90}), colored)
	}
}

func TestWrap(t *testing.T) {
	assert.Equal(t, []string{""}, wrap("", 10))
	assert.Equal(t, []string{"a bc", "def"}, wrap("a bc def", 4))
	assert.Equal(t, []string{"abcd", "efgh", "i"}, wrap("abcdefghi", 4))
	assert.Equal(t, []string{"x", "abcd", "e y"}, wrap("x abcde y", 4))
	assert.Equal(t, []string{"äöü", "ßé"}, wrap("äöüßé", 3))
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"payment":           "payment",
		"zürich 東京 é":       "zürich 東京 é",
		"a\nb\tc\u00a0d":    "a b c d",
		"\x1b[31mred":       `\u001b[31mred`,
		"\u202eevil\u200b":  `\u202eevil\u200b`,
		"\xff\xfe":          `\xff\xfe`,
		"\u009b2J":          `\u009b2J`,
		"replaced: \ufffd.": "replaced: \ufffd.",
	} {
		assert.Equal(t, want, clean(in))
	}
	long := clean(strings.Repeat("ä", maxText+5))
	assert.Equal(t, strings.Repeat("ä", maxText)+"... (10 bytes more)", long)
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 64 << 20: "64 MiB", 67104768: "64 MiB", 1536: "1.5 KiB", 5 << 40: "5 TiB",
		math.MaxInt64: "8 EiB", -1: "-1 B",
	} {
		assert.Equal(t, want, bytesText(n))
	}
	for v, want := range map[float64]string{0: "0.00", 12345.6: "12,345.60", -999.999: "-1,000.00", 1e20: "1e+20", 123: "123.00"} {
		assert.Equal(t, want, amountText(v))
	}
	for p, want := range map[float64]string{0: "0%", 0.926: "93%", 0.999: "99%", 1: "100%"} {
		assert.Equal(t, want, percentText(p))
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 250 * time.Microsecond: "250µs", 412 * time.Millisecond: "412 ms", 2500 * time.Millisecond: "2.5 s",
		-time.Second: "-1.0 s", 90 * time.Second: "1m30s",
	} {
		assert.Equal(t, want, durationText(d))
	}
	f := findingtest.Full()
	f.DetectedAt = f.StartedAt.Add(-11800 * time.Millisecond)
	f.EarlierCauses = []finding.EarlierCause{{Title: "another"}}
	assert.Equal(t, "none: this finding named an earlier cause 11.8 s before this one began", detectionText(f))
	f.EarlierCauses = nil
	assert.Contains(t, detectionText(f), "unknown: the clock")
	assert.Equal(t, "1 failed request", countText(1, "failed request"))
	assert.Equal(t, "1,234 failed requests", countText(1234, "failed request"))
}

// TestHostIsSaidOnce: of a finding about a host it is the name of the entity.
func TestHostIsSaidOnce(t *testing.T) {
	f := findingtest.Minimal(1)
	f.RootCause.Entity = finding.Entity{Kind: "host", Name: "node-1", Attributes: map[string]any{event.KeyHostName: "node-1"}}
	assert.Equal(t, 1, strings.Count(render(f, style{width: 100}), "node-1"))
	f.RootCause.Entity.Kind, f.RootCause.Entity.Name = "unit", "nginx.service"
	assert.Contains(t, render(f, style{width: 100}), "Host              node-1")
}

// TestActionsOfWhatIsOver: nothing is urgent any more.
func TestActionsOfWhatIsOver(t *testing.T) {
	f := findingtest.Minimal(1)
	f.Actions = finding.Actions{Immediate: []string{"Restart it."}, ShortTerm: []string{"Profile it."}}
	assert.Contains(t, render(f, style{width: 100}), "IMMEDIATE\n    - Restart it.")
	for _, state := range []finding.State{finding.StateResolved, finding.StateWithdrawn} {
		f.State = state
		text := render(f, style{width: 100})
		assert.NotContains(t, text, "IMMEDIATE")
		assert.Contains(t, text, "RECOMMENDED ACTIONS\n  SHORT-TERM\n    - Profile it.")
		assert.Contains(t, text, "IF IT HAPPENS AGAIN\n    - Restart it.")
	}
}

// TestConfidenceText: what is shown makes the score.
func TestConfidenceText(t *testing.T) {
	for want, c := range map[string]finding.Confidence{
		"98% (completeness 100%, reliability 96%, timing 99%)":                                       {Score: 0.98, Completeness: 1, Reliability: 0.96, Timing: 0.99},
		"99% (by how clearly requests changed; completeness 50%, timing 100%)":                       {Score: 0.99, Completeness: 0.5, Reliability: 0.99, Timing: 1},
		"97% (completeness 50%, reliability 90%, timing 80%; more, by how clearly requests changed)": {Score: 0.97, Completeness: 0.5, Reliability: 0.9, Timing: 0.8},
		"100% (completeness 100%, reliability 100%, timing 100%)":                                    {Score: 1, Completeness: 1, Reliability: 1, Timing: 1},
	} {
		assert.Equal(t, want, confidenceText(c))
	}
}
