package tapioextension

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/yairfalse/tapio/extension/tapioextension/internal/metadatatest"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

func testConfig(t *testing.T) *Config {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Path = filepath.Join(t.TempDir(), "findings.db")
	cfg.HTTP.NetAddr.Endpoint = "127.0.0.1:0"
	return cfg
}

func started(t *testing.T, cfg *Config, host component.Host) *tapioExtension {
	t.Helper()
	return startedWith(t, extensiontest.NewNopSettings(NewFactory().Type()), cfg, host)
}

func startedWith(t *testing.T, set extension.Settings, cfg *Config, host component.Host) *tapioExtension {
	t.Helper()
	ext, err := NewFactory().Create(t.Context(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, ext.Start(t.Context(), host))
	t.Cleanup(func() { assert.NoError(t, ext.Shutdown(context.Background())) })
	return ext.(*tapioExtension)
}

func (e *tapioExtension) url(path string) string { return "http://" + e.address.String() + path }

// request sends one and returns status, headers and body.
func request(t *testing.T, method, url string, change func(*http.Request)) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(body)
}

func client(t *testing.T, e *tapioExtension) *findingsapi.Client {
	t.Helper()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	c, err := findingsapi.NewClient(e.url(""), "", 10*time.Second)
	require.NoError(t, err)
	return c
}

func TestFindingsAreServedAsTheyWereSaved(t *testing.T) {
	e := started(t, testConfig(t), componenttest.NewNopHost())
	full := findingtest.Full()
	require.NoError(t, e.SaveFinding(t.Context(), full))
	require.NoError(t, e.SaveFinding(t.Context(), findingtest.Minimal(1)))
	c := client(t, e)

	got, err := c.Finding(t.Context(), full.ID.String())
	require.NoError(t, err)
	assert.Equal(t, full, got)

	got, err = c.Finding(t.Context(), strings.ToUpper(full.ID.String()[:8]))
	require.NoError(t, err)
	assert.Equal(t, full.ID, got.ID)

	page, err := c.Findings(t.Context(), findingsapi.Query{Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, []*finding.Finding{findingtest.Minimal(1)}, page.Findings, "it started later")
	page, err = c.Findings(t.Context(), findingsapi.Query{Limit: 1, Before: page.Next})
	require.NoError(t, err)
	assert.Equal(t, []*finding.Finding{full}, page.Findings)
	assert.Empty(t, page.Next)

	page, err = c.Findings(t.Context(), findingsapi.Query{State: finding.StateOpen})
	require.NoError(t, err)
	assert.Equal(t, []*finding.Finding{findingtest.Minimal(1)}, page.Findings)

	for _, id := range []string{findingtest.TraceID(2), strings.ToUpper(findingtest.TraceID(2)), full.ID.String()} {
		page, err = c.TraceFindings(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, []*finding.Finding{full}, page.Findings)
	}
	_, err = c.Finding(t.Context(), findingtest.Minimal(9).ID.String())
	assert.ErrorIs(t, err, findingsapi.ErrNotFound)

	st, err := c.Status(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1, st.Store.Open)
	assert.EqualValues(t, 1, st.Store.Resolved)
	assert.Equal(t, map[finding.State]int64{finding.StatePredicted: 0, finding.StateMended: 0, finding.StateOpen: 1, finding.StateResolved: 1, finding.StateWithdrawn: 0}, st.Store.States)
	assert.EqualValues(t, 2, st.Store.SinceStart.Saved)
	assert.Equal(t, e.cfg.Path, st.Store.Path)
}

func TestBadRequestsSayWhatIsAllowed(t *testing.T) {
	e := started(t, testConfig(t), componenttest.NewNopHost())
	id := findingtest.Full().ID.String()
	for _, tc := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/api/v1/findings?limit=0", 400, `limit: \"0\", want a whole number from 1 to 200`},
		{"GET", "/api/v1/findings?limit=201", 400, "from 1 to 200"},
		{"GET", "/api/v1/findings?limit=many", 400, "from 1 to 200"},
		{"GET", "/api/v1/findings?state=closed", 400, "want predicted, open, mended, resolved or withdrawn"},
		{"GET", "/api/v1/findings?before=x", 400, "before:"},
		{"GET", "/api/v1/findings?sate=open", 400, "allowed are before, limit, order, state"},
		{"GET", "/api/v1/findings?limit=1&limit=2", 400, "given 2 times"},
		{"GET", "/api/v1/findings?limit=%zz", 400, "malformed query"},
		{"GET", "/api/v1/findings/123", 400, "32 hexadecimal digits"},
		{"GET", "/api/v1/findings/12x4", 400, "or the first 4 or more of them"},
		{"GET", "/api/v1/findings/1234", 404, "no finding 1234"},
		{"GET", "/api/v1/findings/" + strings.Repeat("0", 32), 400, "never all zero"},
		{"GET", "/api/v1/findings/" + id, 404, "no finding " + id},
		{"GET", "/api/v1/findings/" + id + "?x=1", 400, "none is allowed"},
		{"GET", "/api/v1/traces/xyz/findings", 400, "is not a trace id"},
		{"GET", "/api/v1/traces/" + id + "/findings", 200, `"findings":[]`},
		{"GET", "/api/v1/findings", 200, `"findings":[]`},
		{"GET", "/", 404, "/api/v1/findings"},
		{"GET", "/healthz", 200, `"ok"`},
		{"POST", "/api/v1/findings", 405, "only GET"},
		{"DELETE", "/api/v1/findings/" + id, 405, "only GET"},
	} {
		status, header, body := request(t, tc.method, e.url(tc.path), nil)
		assert.Equal(t, tc.status, status, tc.path)
		assert.Contains(t, body, tc.want, tc.path)
		assert.Equal(t, "application/json", header.Get("Content-Type"), tc.path)
		assert.Equal(t, "no-store", header.Get("Cache-Control"))
		if status != 200 {
			var e findingsapi.Error
			require.NoError(t, json.Unmarshal([]byte(body), &e), tc.path)
			assert.NotEmpty(t, e.Error)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	e := started(t, testConfig(t), componenttest.NewNopHost())
	status, _, _ := request(t, "GET", e.url("/healthz"), func(r *http.Request) { r.Header.Set("X-Large", strings.Repeat("x", 64<<10)) })
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status)
}

func TestLoopbackRefusesForeignHosts(t *testing.T) {
	e := started(t, testConfig(t), componenttest.NewNopHost())
	for host, want := range map[string]int{
		"evil.example": 403, "evil.example:8467": 403, "10.0.0.1": 403, "127.0.0.1.evil.example": 403,
		"localhost": 200, "localhost:1": 200, "127.0.0.1": 200, "[::1]:8467": 200, "[::1]": 200,
	} {
		status, _, body := request(t, "GET", e.url("/healthz"), func(r *http.Request) { r.Host = host })
		assert.Equal(t, want, status, "%s: %s", host, body)
	}
}

// tokenAuth is an authenticator extension that wants one token.
type tokenAuth struct {
	component.StartFunc
	component.ShutdownFunc
}

func (tokenAuth) Authenticate(ctx context.Context, sources map[string][]string) (context.Context, error) {
	if v := sources["Authorization"]; len(v) == 1 && v[0] == "Bearer secret" {
		return ctx, nil
	}
	return ctx, errors.New("wrong token")
}

var _ extensionauth.Server = tokenAuth{}

// reportingHost runs extensions and remembers what components report.
type reportingHost struct {
	extensions map[component.ID]component.Component
	mu         sync.Mutex
	events     []componentstatus.Status
}

func (h *reportingHost) GetExtensions() map[component.ID]component.Component { return h.extensions }

func (h *reportingHost) Report(e *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e.Status())
}

func TestTheCollectorsAuthenticationGuardsTheAPI(t *testing.T) {
	id := component.MustNewID("token")
	cfg := testConfig(t)
	cfg.HTTP.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: id}})
	e := started(t, cfg, &reportingHost{extensions: map[component.ID]component.Component{id: tokenAuth{}}})
	status, _, body := request(t, "GET", e.url("/api/v1/findings"), nil)
	assert.Equal(t, http.StatusUnauthorized, status)
	assert.Contains(t, body, `{"error":`)
	c, err := findingsapi.NewClient(e.url(""), "secret", 5*time.Second)
	require.NoError(t, err)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	_, err = c.Findings(t.Context(), findingsapi.Query{})
	assert.NoError(t, err)
}

func TestFindingsSurviveTheExtension(t *testing.T) {
	cfg := testConfig(t)
	first := newExtension(extensiontest.NewNopSettings(NewFactory().Type()), cfg)
	require.NoError(t, first.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, first.SaveFinding(t.Context(), findingtest.Full()))
	require.NoError(t, first.Shutdown(t.Context()))
	assert.ErrorIs(t, first.SaveFinding(t.Context(), findingtest.Full()), errNotRunning)

	got, err := client(t, started(t, cfg, componenttest.NewNopHost())).Finding(t.Context(), findingtest.Full().ID.String())
	require.NoError(t, err)
	assert.Equal(t, findingtest.Full(), got)
}

// TestResumeIsKeptWithItsRevision: what is handed over is kept when the revision comes,
// whatever has happened to either meanwhile.
func TestResumeIsKeptWithItsRevision(t *testing.T) {
	e := started(t, testConfig(t), componenttest.NewNopHost())
	revision := func(n int, resume string) *finding.Finding {
		f := findingtest.Minimal(1)
		f.Revision, f.Resume = n, resume
		return f
	}
	hand := func(n int) { e.HandOver(revision(n, fmt.Sprintf("for %d", n))) }
	save := func(n int) string {
		t.Helper()
		require.NoError(t, e.SaveFinding(t.Context(), revision(n, "what comes with a record is nobody's")))
		open, err := e.OpenFindings(t.Context())
		require.NoError(t, err)
		if len(open) == 0 {
			return ""
		}
		assert.Equal(t, n, open[0].Revision)
		return open[0].Resume
	}
	assert.Empty(t, save(1), "nothing was handed over")
	hand(2)
	assert.Equal(t, "for 2", save(2))
	assert.Empty(t, e.handed.byID, "the store has it now")
	assert.Equal(t, "for 2", save(3), "one that waited in a queue on disk: of an earlier process")
	hand(4)
	hand(5)
	assert.Equal(t, "for 5", save(4), "the queue is behind")
	assert.Equal(t, "for 5", save(5))
	assert.Empty(t, e.handed.byID)

	e.HandOver(revision(6, "for 6"))
	over := revision(7, "")
	over.State, over.ResolvedAt = finding.StateResolved, &over.UpdatedAt
	e.HandOver(over)
	assert.Empty(t, e.handed.byID)
	require.NoError(t, e.SaveFinding(t.Context(), over))
	open, err := e.OpenFindings(t.Context())
	require.NoError(t, err)
	assert.Empty(t, open)
}

func TestWhatIsHandedOverIsBounded(t *testing.T) {
	var h handedOver
	for n := range MaxOpenFindings + 10 {
		f := findingtest.Minimal(n + 1)
		f.Resume = strconv.Itoa(n)
		h.put(f)
	}
	assert.Len(t, h.byID, MaxOpenFindings)
	assert.EqualValues(t, 10, h.lost())
	assert.Empty(t, h.of(findingtest.Minimal(10).ID, 1), "the oldest went")
	assert.Equal(t, "10", h.of(findingtest.Minimal(11).ID, 1))
}

func TestOldFindingsExpireWhileItRuns(t *testing.T) {
	cfg := testConfig(t)
	cfg.Retention = 200 * time.Millisecond
	e := started(t, cfg, componenttest.NewNopHost())
	require.NoError(t, e.SaveFinding(t.Context(), findingtest.Minimal(1)))
	require.Eventually(t, func() bool { return e.store.Load().Counts().EvictedByAge == 1 }, 10*time.Second, 10*time.Millisecond)
}

func TestStartFailsClearly(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, busy.Close()) }()
	noFile := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(noFile, []byte(strings.Repeat("text ", 1000)), 0o600))
	for want, change := range map[string]func(*Config){
		"cannot serve the findings API":     func(c *Config) { c.HTTP.NetAddr.Endpoint = busy.Addr().String() },
		noFile + " is damaged or no SQLite": func(c *Config) { c.Path = noFile },
		"cannot create the directory":       func(c *Config) { c.Path = noFile + "/findings.db" },
		"failed to resolve authenticator": func(c *Config) {
			c.HTTP.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: component.MustNewID("none")}})
		},
	} {
		cfg := testConfig(t)
		change(cfg)
		e := newExtension(extensiontest.NewNopSettings(NewFactory().Type()), cfg)
		assert.ErrorContains(t, e.Start(t.Context(), componenttest.NewNopHost()), want)
		assert.NoError(t, e.Shutdown(t.Context()))
	}
}

func TestShutdownWithoutStart(t *testing.T) {
	e := newExtension(extensiontest.NewNopSettings(NewFactory().Type()), testConfig(t))
	assert.NoError(t, e.Shutdown(t.Context()))
}

func TestFailingStoreIsReportedAndRecovers(t *testing.T) {
	host := &reportingHost{}
	e := started(t, testConfig(t), host)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Error(t, e.SaveFinding(gone, findingtest.Minimal(1)))
	assert.Error(t, e.SaveFinding(gone, findingtest.Minimal(1)))
	assert.ErrorIs(t, e.SaveFinding(t.Context(), &finding.Finding{}), ErrRefused, "no trouble of the store")
	assert.NoError(t, e.SaveFinding(t.Context(), findingtest.Minimal(1)))
	assert.Equal(t, []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}, host.events)
}

func TestMetrics(t *testing.T) {
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, tel.Shutdown(context.Background())) })
	cfg := testConfig(t)
	cfg.MaxFindings = 1
	e := startedWith(t, metadatatest.NewSettings(tel), cfg, componenttest.NewNopHost())
	bad := findingtest.Minimal(2)
	bad.HurtTraces = []finding.HurtTrace{{TraceID: "x"}}
	for _, f := range []*finding.Finding{findingtest.Minimal(1), findingtest.Minimal(1), bad} {
		require.NoError(t, e.SaveFinding(t.Context(), f))
	}
	require.Error(t, e.SaveFinding(t.Context(), &finding.Finding{}))
	one := []metricdata.DataPoint[int64]{{Value: 1}}
	ignore := metricdatatest.IgnoreTimestamp()
	metadatatest.AssertEqualExtensionTapioFindings(t, tel, one, ignore)
	metadatatest.AssertEqualExtensionTapioRevisionsSaved(t, tel, []metricdata.DataPoint[int64]{{Value: 2}}, ignore)
	metadatatest.AssertEqualExtensionTapioRevisionsIgnored(t, tel, one, ignore)
	metadatatest.AssertEqualExtensionTapioRevisionsRefused(t, tel, one, ignore)
	metadatatest.AssertEqualExtensionTapioFindingsEvictedByCount(t, tel, one, ignore)
	metadatatest.AssertEqualExtensionTapioTracesNotIndexed(t, tel, one, ignore)
	m, err := tel.GetMetric("otelcol_extension_tapio_save_duration")
	require.NoError(t, err)
	assert.EqualValues(t, 4, m.Data.(metricdata.Histogram[float64]).DataPoints[0].Count)
}

// TestStorageOverARestart: what a component keeps in the database is there when the
// collector starts again, and another component does not see it.
func TestStorageOverARestart(t *testing.T) {
	cfg := testConfig(t)
	receiver := component.MustNewID("tapio_systemd")
	ext, err := NewFactory().Create(t.Context(), extensiontest.NewNopSettings(NewFactory().Type()), cfg)
	require.NoError(t, err)
	_, err = ext.(storage.Extension).GetClient(t.Context(), component.KindReceiver, receiver, "journal")
	require.ErrorIs(t, err, errNotRunning)
	require.NoError(t, ext.Start(t.Context(), componenttest.NewNopHost()))
	client, err := ext.(storage.Extension).GetClient(t.Context(), component.KindReceiver, receiver, "journal")
	require.NoError(t, err)
	require.NoError(t, client.Set(t.Context(), "position", []byte("here")))
	require.NoError(t, client.Close(t.Context()))
	require.NoError(t, ext.Shutdown(t.Context()))

	again := started(t, cfg, componenttest.NewNopHost())
	for id, want := range map[component.ID][]byte{receiver: []byte("here"), component.MustNewIDWithName("tapio_systemd", "2"): nil} {
		client, err := again.GetClient(t.Context(), component.KindReceiver, id, "journal")
		require.NoError(t, err)
		value, err := client.Get(t.Context(), "position")
		require.NoError(t, err)
		assert.Equal(t, want, value, id)
	}
}
