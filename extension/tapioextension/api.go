package tapioextension

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/config/confighttp"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/extension/tapioextension/internal/store"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// api answers the requests of the findings API.
type api struct {
	store   *store.Store
	version string
	logger  *zap.Logger
}

// page is findingsapi.Page with the findings as the store keeps them: a finding
// of a later version keeps fields that this one does not know.
type page struct {
	Findings []json.RawMessage `json:"findings"`
	Next     string            `json:"next,omitempty"`
}

// badRequest is an error of the client; its text says what is allowed.
type badRequest string

func (e badRequest) Error() string { return string(e) }

// unknown is a badRequest for what does not exist.
type unknown string

func (e unknown) Error() string { return string(e) }

func newAPI(s *store.Store, version string, logger *zap.Logger) http.Handler {
	a := &api{store: s, version: version, logger: logger}
	mux := http.NewServeMux()
	for path, answer := range map[string]func(*http.Request) (any, error){
		findingsapi.PathFindings:      a.list,
		findingsapi.PathFinding:       a.get,
		findingsapi.PathTraceFindings: a.byTrace,
		findingsapi.PathStatus:        a.status,
		findingsapi.PathHealth:        a.health,
		"/":                           a.notFound,
	} {
		mux.Handle(path, a.handler(answer))
	}
	return onlyGet(mux)
}

// handler turns what answer returns into JSON with the right status.
func (a *api) handler(answer func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r)
		var bad badRequest
		var absent unknown
		switch {
		case err == nil:
			writeJSON(w, http.StatusOK, v)
		case errors.As(err, &bad):
			writeError(w, http.StatusBadRequest, bad.Error())
		case errors.As(err, &absent):
			writeError(w, http.StatusNotFound, absent.Error())
		case errors.Is(err, context.Canceled):
			// The client has gone; there is nobody to answer.
		default:
			a.logger.Error("Findings API: the store failed", zap.String("path", r.URL.Path), zap.Error(err))
			writeError(w, http.StatusServiceUnavailable, "the findings database cannot be read; the collector's log says why")
		}
	})
}

func (a *api) list(r *http.Request) (any, error) {
	q, err := parameters(r.URL, findingsapi.ParamBefore, findingsapi.ParamLimit, findingsapi.ParamOrder, findingsapi.ParamState)
	if err != nil {
		return nil, err
	}
	state := finding.State(q.Get(findingsapi.ParamState))
	if state != "" && state.Check() != nil {
		return nil, badRequest(state.Check().Error())
	}
	limit := findingsapi.DefaultLimit
	if v := q.Get(findingsapi.ParamLimit); v != "" {
		limit, err = strconv.Atoi(v)
		if err != nil || limit < 1 || limit > findingsapi.MaxLimit {
			return nil, badRequest(fmt.Sprintf("limit: %q, want a whole number from 1 to %d", v, findingsapi.MaxLimit))
		}
	}
	order := cmp.Or(findingsapi.Order(q.Get(findingsapi.ParamOrder)), findingsapi.OrderNewest)
	if err := order.Check(); err != nil {
		return nil, badRequest(err.Error())
	}
	after, err := store.ParseCursor(q.Get(findingsapi.ParamBefore))
	if err != nil {
		return nil, badRequest("before: " + err.Error())
	}
	found, next, err := a.store.List(r.Context(), state, order, after, limit)
	return page{Findings: notNil(found), Next: next}, err
}

func (a *api) get(r *http.Request) (any, error) {
	if _, err := parameters(r.URL); err != nil {
		return nil, err
	}
	id, err := finding.ParseIDPrefix(r.PathValue("id"))
	if err != nil {
		return nil, badRequest(err.Error())
	}
	f, err := a.store.Get(r.Context(), id)
	var several *store.AmbiguousError
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, unknown(fmt.Sprintf("no finding %s is kept", id))
	case errors.As(err, &several):
		return nil, badRequest(several.Error())
	}
	return f, err
}

func (a *api) byTrace(r *http.Request) (any, error) {
	if _, err := parameters(r.URL); err != nil {
		return nil, err
	}
	id, err := store.ParseTraceID(r.PathValue("trace_id"))
	if err != nil {
		return nil, badRequest(err.Error())
	}
	found, err := a.store.ByTrace(r.Context(), id, findingsapi.MaxLimit)
	return page{Findings: notNil(found)}, err
}

func (a *api) status(r *http.Request) (any, error) {
	st, err := a.store.Status(r.Context())
	return findingsapi.Status{Version: a.version, Store: st}, err
}

func (a *api) health(r *http.Request) (any, error) {
	return findingsapi.Health{Status: "ok"}, a.store.Ping(r.Context())
}

func (a *api) notFound(r *http.Request) (any, error) {
	return nil, unknown(fmt.Sprintf("there is no %q here; the API is %s", r.URL.Path, strings.Join([]string{
		findingsapi.PathFindings, findingsapi.PathFinding, findingsapi.PathTraceFindings, findingsapi.PathStatus, findingsapi.PathHealth,
	}, ", ")))
}

// parameters returns the query and refuses parameters that are not allowed or
// come twice: a typing error must not select everything.
func parameters(u *url.URL, allowed ...string) (url.Values, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, badRequest("malformed query: " + err.Error())
	}
	for k, v := range q {
		switch {
		case !slices.Contains(allowed, k) && len(allowed) == 0:
			return nil, badRequest(fmt.Sprintf("unknown parameter %q: none is allowed here", k))
		case !slices.Contains(allowed, k):
			return nil, badRequest(fmt.Sprintf("unknown parameter %q: allowed are %s", k, strings.Join(allowed, ", ")))
		case len(v) > 1:
			return nil, badRequest(fmt.Sprintf("%s: given %d times, want once", k, len(v)))
		}
	}
	return q, nil
}

// notNil makes an empty list [] in JSON, not null.
func notNil(v []json.RawMessage) []json.RawMessage {
	if v == nil {
		return []json.RawMessage{}
	}
	return v
}

func onlyGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			writeError(w, http.StatusMethodNotAllowed, fmt.Sprintf("method %s: only GET is allowed", r.Method))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requireLoopbackHost refuses requests whose Host names another machine. A web
// page can make a browser here send requests to 127.0.0.1 under a name of its own
// and read the answers (DNS rebinding); the name gives it away.
func requireLoopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if !findingsapi.IsLoopback(host) {
			writeError(w, http.StatusForbidden, fmt.Sprintf(
				"host %q: without `auth`, an endpoint on loopback answers to localhost, 127.0.0.1 and [::1] only", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// withJSONErrors gives errors of confighttp, such as a failed authentication, the
// form of the API's own.
func withJSONErrors() confighttp.ToServerOption {
	return confighttp.WithErrorHandler(func(w http.ResponseWriter, _ *http.Request, message string, code int) {
		writeError(w, code, message)
	})
}

func writeError(w http.ResponseWriter, code int, message string) {
	writeJSON(w, code, findingsapi.Error{Error: message})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		code, b = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // a client that has gone is no error of ours
}
