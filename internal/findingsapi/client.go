package findingsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
)

// maxResponse bounds what the client reads of an answer: a page of MaxLimit
// findings stays far below it.
const maxResponse = 256 << 20

// ErrNotFound is returned for an id that the store does not hold.
var ErrNotFound = errors.New("not found")

// StatusError is an answer of the API that is no success.
type StatusError struct {
	// Code is the HTTP status.
	Code int
	// Message is what the API said.
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the findings API answered %d: %s", e.Code, e.Message)
}

// Is makes a 404 an ErrNotFound.
func (e *StatusError) Is(target error) bool {
	return target == ErrNotFound && e.Code == http.StatusNotFound
}

// Client reads findings from a tapio extension. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// NewClient returns a client for the API at endpoint (http://host:port or
// https://host:port), which sends token, when not empty, as a bearer token. Each
// request may take timeout. It fails on an endpoint of another form, and when
// the token would cross a network unencrypted.
func NewClient(endpoint, token string, timeout time.Duration) (*Client, error) {
	base, err := url.Parse(endpoint)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") ||
		strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.User != nil {
		return nil, fmt.Errorf("endpoint %q: want http://host:port or https://host:port, such as http://%s", endpoint, DefaultAddress)
	}
	if token != "" && base.Scheme == "http" && !IsLoopback(base.Hostname()) {
		return nil, fmt.Errorf("endpoint %q: refusing to send a token over plain http to another host: use https", endpoint)
	}
	base.Path = ""
	return &Client{base: base, token: token, http: &http.Client{Timeout: timeout, CheckRedirect: noRedirect}}, nil
}

// noRedirect keeps the token at the host that the user named.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// IsLoopback reports whether host (a name or an address, without port) is this
// machine for certain, without asking a name server.
func IsLoopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Query selects findings. Its zero value selects the newest DefaultLimit.
type Query struct {
	// State restricts to one state when not empty.
	State finding.State
	// Order is OrderNewest when empty.
	Order Order
	// Limit is at most MaxLimit; 0 means DefaultLimit.
	Limit int
	// Before is the Next of the preceding page.
	Before string
}

// Findings returns one page of findings.
func (c *Client) Findings(ctx context.Context, q Query) (*Page, error) {
	v := url.Values{}
	if q.State != "" {
		v.Set(ParamState, string(q.State))
	}
	if q.Order != "" {
		v.Set(ParamOrder, string(q.Order))
	}
	if q.Limit != 0 {
		v.Set(ParamLimit, strconv.Itoa(q.Limit))
	}
	if q.Before != "" {
		v.Set(ParamBefore, q.Before)
	}
	return get[Page](ctx, c, PathFindings, v)
}

// Finding returns the finding with that id or, when no other begins so, that beginning of
// an id (finding.ParseIDPrefix), or ErrNotFound.
func (c *Client) Finding(ctx context.Context, id string) (*finding.Finding, error) {
	return get[finding.Finding](ctx, c, strings.Replace(PathFinding, "{id}", url.PathEscape(id), 1), nil)
}

// TraceFindings returns the findings that explain the trace, none when it is
// unknown to the store.
func (c *Client) TraceFindings(ctx context.Context, traceID string) (*Page, error) {
	return get[Page](ctx, c, strings.Replace(PathTraceFindings, "{trace_id}", url.PathEscape(traceID), 1), nil)
}

// Status describes the store.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, PathStatus, nil)
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", target, err)
	}
	return decode[T](resp, body, target)
}

func decode[T any](resp *http.Response, body []byte, target string) (*T, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/json" {
		return nil, fmt.Errorf("%s answered %s with %q, which is no findings API: is that the endpoint of the tapio extension?",
			target, resp.Status, resp.Header.Get("Content-Type"))
	}
	if resp.StatusCode != http.StatusOK {
		var e Error
		if err := json.Unmarshal(body, &e); err != nil || e.Error == "" {
			e.Error = http.StatusText(resp.StatusCode)
		}
		return nil, &StatusError{Code: resp.StatusCode, Message: e.Error}
	}
	if len(body) > maxResponse {
		return nil, fmt.Errorf("%s answered with more than %d bytes: ask for fewer findings", target, maxResponse)
	}
	out := new(T)
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("%s answered with JSON that this version does not understand: %w", target, err)
	}
	return out, nil
}
