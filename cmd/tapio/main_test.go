package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/yairfalse/tapio/extension/tapioextension"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// startExtension runs a real tapio extension and returns its store and endpoint.
func startExtension(t *testing.T) (tapioextension.FindingStore, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	f := tapioextension.NewFactory()
	cfg := f.CreateDefaultConfig().(*tapioextension.Config)
	cfg.HTTP.NetAddr.Endpoint = address
	cfg.Path = filepath.Join(t.TempDir(), "findings.db")
	ext, err := f.Create(t.Context(), extensiontest.NewNopSettings(f.Type()), cfg)
	require.NoError(t, err)
	require.NoError(t, ext.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, ext.Shutdown(context.Background())) })
	return ext.(tapioextension.FindingStore), "http://" + address
}

// tapio runs the command line with env and returns what it printed.
func tapio(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, terminal{Writer: &out, width: defaultWidth}, &errs, func(k string) string { return env[k] })
	return code, out.String(), errs.String()
}

func TestAgainstARealExtension(t *testing.T) {
	store, endpoint := startExtension(t)
	env := map[string]string{envEndpoint: endpoint}
	code, out, _ := tapio(t, env, "findings")
	assert.Equal(t, exitOK, code)
	assert.Equal(t, "No findings.\n", out)

	full := findingtest.Full()
	require.NoError(t, store.SaveFinding(t.Context(), full))
	for n := range 250 { // more than one page of the API
		require.NoError(t, store.SaveFinding(t.Context(), findingtest.Minimal(n+1)))
	}

	code, out, _ = tapio(t, env, "findings", "--state", "resolved")
	assert.Equal(t, exitOK, code)
	golden(t, "findings.txt", out)
	code, out, _ = tapio(t, env, "findings", "--limit", "230", "--output", "json")
	assert.Equal(t, exitOK, code)
	var page findingsapi.Page
	require.NoError(t, json.Unmarshal([]byte(out), &page))
	assert.Len(t, page.Findings, 230)
	assert.Equal(t, "finding 250", page.Findings[0].Title)
	assert.Equal(t, "finding 21", page.Findings[229].Title)

	code, out, _ = tapio(t, env, "findings", "show", full.ID.String())
	assert.Equal(t, exitOK, code)
	golden(t, "full_100.txt", out)
	code, out, _ = tapio(t, env, "findings", "show", full.ID.String(), "-o", "json")
	assert.Equal(t, exitOK, code)
	got := new(finding.Finding)
	require.NoError(t, json.Unmarshal([]byte(out), got))
	assert.Equal(t, full, got)

	code, out, _ = tapio(t, env, "findings", "show", strings.ToUpper(full.ID.String()[:6]))
	assert.Equal(t, exitOK, code)
	golden(t, "full_100.txt", out)
	alike := findingtest.Minimal(1)
	alike.ID = full.ID
	alike.ID[15]++
	require.NoError(t, store.SaveFinding(t.Context(), alike))
	code, _, errs := tapio(t, env, "findings", "show", full.ID.String()[:6])
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, full.ID.String()+", "+alike.ID.String()+"; want more digits")

	for _, id := range []string{findingtest.TraceID(1), strings.ToUpper(findingtest.TraceID(1)), full.ID.String()} {
		code, out, _ = tapio(t, env, "correlate", "--trace-id", id)
		assert.Equal(t, exitOK, code)
		golden(t, "full_100.txt", out)
	}
	code, out, _ = tapio(t, map[string]string{}, "--endpoint", endpoint, "correlate", "--trace-id", findingtest.TraceID(1), "--output", "json")
	assert.Equal(t, exitOK, code)
	page = findingsapi.Page{}
	require.NoError(t, json.Unmarshal([]byte(out), &page))
	assert.Equal(t, []*finding.Finding{full}, page.Findings)
}

func TestWhatIsUnknownIsExitCodeOne(t *testing.T) {
	_, endpoint := startExtension(t)
	env := map[string]string{envEndpoint: endpoint}
	code, out, errs := tapio(t, env, "correlate", "--trace-id", findingtest.TraceID(9))
	assert.Equal(t, exitNotFound, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, "no finding explains trace "+findingtest.TraceID(9))
	code, out, _ = tapio(t, env, "correlate", "--trace-id", findingtest.TraceID(9), "-o", "json")
	assert.Equal(t, exitNotFound, code)
	assert.JSONEq(t, `{"findings": []}`, out)
	code, _, errs = tapio(t, env, "findings", "show", findingtest.TraceID(9))
	assert.Equal(t, exitNotFound, code)
	assert.Contains(t, errs, "no finding "+findingtest.TraceID(9)+" is kept")
}

func TestCorrelateWaits(t *testing.T) {
	store, endpoint := startExtension(t)
	env := map[string]string{envEndpoint: endpoint}
	began := time.Now()
	code, _, errs := tapio(t, env, "correlate", "--trace-id", findingtest.TraceID(1), "--wait", "300ms")
	assert.Equal(t, exitNotFound, code)
	assert.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	assert.Contains(t, errs, "after 300ms")

	saved := make(chan error, 1)
	time.AfterFunc(400*time.Millisecond, func() { saved <- store.SaveFinding(context.Background(), findingtest.Full()) })
	code, out, _ := tapio(t, env, "correlate", "--trace-id", findingtest.TraceID(1), "--wait", "30s")
	assert.Equal(t, exitOK, code)
	assert.NoError(t, <-saved)
	golden(t, "full_100.txt", out)
}

func TestWrongUsage(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"bogus", `unknown command "bogus"`},
		{"findings bogus", `unknown command "bogus"`},
		{"finding", `unknown command "finding" for "tapio"; do you mean findings?; see: tapio --help`},
		{"findings shwo", `; do you mean show?; see: tapio findings --help`},
		{"findings --limit x", "--limit"},
		{"findings --limit 0", "--limit 0: want 1 to 100000"},
		{"findings --state closed", `--state "closed": want predicted, open, mended, resolved or withdrawn`},
		{"findings --output xml", `--output "xml": want table or json`},
		{"findings --nope", "unknown flag: --nope"},
		{"findings show", "accepts 1 arg"},
		{"findings show 12", "32 hexadecimal digits"},
		{"findings show " + findingtest.TraceID(1) + " -o table", `want text or json`},
		{"correlate", "--trace-id is missing"},
		{"correlate --trace-id 12", `--trace-id "12": want 32 hexadecimal digits`},
		{"correlate --trace-id " + findingtest.TraceID(1) + " --wait -1s", "--wait -1s: want"},
		{"findings --endpoint 127.0.0.1:8467", "want http://host:port"},
		{"findings --endpoint ftp://a", "want http://host:port"},
		{"findings --timeout 0s", "--timeout 0s: want"},
	} {
		code, out, errs := tapio(t, nil, strings.Fields(tc.args)...)
		assert.Equal(t, exitUsage, code, tc.args)
		assert.Contains(t, errs, tc.want, tc.args)
		assert.Empty(t, out, tc.args)
	}
}

func TestUnreachableIsExitCodeThreeAndSaysWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	code, _, errs := tapio(t, map[string]string{envEndpoint: closed}, "findings")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "nothing listens at "+closed+". Is the collector running with the tapio extension?")
}

func TestOtherServersAreToldApart(t *testing.T) {
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a web page": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "no findings API"},
		"broken JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"findings":7}`))
		}, "does not understand"},
		"unauthorized": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"\u001b[31mno token"}`))
		}, `\u001b[31mno token; if it demands a bearer token, set TAPIO_TOKEN`},
		"slow": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "did not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(tc.answer)
			t.Cleanup(server.Close)
			code, _, errs := tapio(t, nil, "findings", "--endpoint", server.URL, "--timeout", "300ms")
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, errs, tc.want)
		})
	}
}

func TestTokenIsSentAndNeverInTheClear(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"findings":[]}`))
	}))
	t.Cleanup(server.Close)
	env := map[string]string{envToken: "secret"}
	code, _, _ := tapio(t, env, "findings", "--endpoint", server.URL)
	assert.Equal(t, exitOK, code)
	assert.Equal(t, "Bearer secret", got)
	code, _, errs := tapio(t, env, "findings", "--endpoint", "http://192.0.2.1:8467")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "refusing to send a token over plain http")
}

func TestHelpAndVersion(t *testing.T) {
	code, out, _ := tapio(t, nil, "--help")
	assert.Equal(t, exitOK, code)
	for _, want := range []string{"Exit codes:", "TAPIO_ENDPOINT", "NO_COLOR", "correlate", "findings"} {
		assert.Contains(t, out, want)
	}
	for _, arg := range []string{"version", "--version"} {
		code, out, _ = tapio(t, nil, arg)
		assert.Equal(t, exitOK, code)
		assert.Regexp(t, `^tapio \S+ \(commit \S+, go1\.\S+, \w+/\w+\)\n$`, out)
	}
}

func TestTableOnATerminal(t *testing.T) {
	f := findingtest.Full()
	f.Title = "a very long title that has no place on a terminal that is only eighty characters wide"
	for width, lines := range map[int]int{60: 6, 80: 6, 100: 6, 110: 3, 120: 3} {
		plain := table([]*finding.Finding{f, hostile()}, terminal{width: width, interactive: true})
		assert.Equal(t, lines, strings.Count(plain, "\n"))
		for l := range strings.Lines(plain) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(l, "\n")), width, l)
		}
		assert.NotContains(t, plain, "\x1b")
		assert.Contains(t, plain, "a very long")
		assert.NotContains(t, plain, "characters")
	}
	colored := table([]*finding.Finding{f}, terminal{width: 100, interactive: true, color: true})
	assert.Contains(t, colored, "\x1b["+sgrGreen+"mresolved\x1b[0m")
	assert.Contains(t, table([]*finding.Finding{f}, terminal{width: 80}), f.Title, "whole when no terminal")
}
