package findingsapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewClientRefusesOtherEndpoints(t *testing.T) {
	for _, endpoint := range []string{
		"", "127.0.0.1:8467", "localhost:8467", "ftp://a", "http://", "http://a/api", "http://a?x=1", "http://u:p@a", "://",
	} {
		_, err := NewClient(endpoint, "", time.Second)
		assert.ErrorContains(t, err, "want http://host:port", endpoint)
	}
	for _, endpoint := range []string{"http://127.0.0.1:8467", "http://[::1]:8467/", "https://tapio.example"} {
		_, err := NewClient(endpoint, "", time.Second)
		assert.NoError(t, err, endpoint)
	}
}

func TestTokenNeedsEncryptionOrLoopback(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:1": true, "http://localhost:1": true, "https://tapio.example": true,
		"http://tapio.example": false, "http://10.0.0.1:1": false, "http://localhost.example": false,
	} {
		_, err := NewClient(endpoint, "secret", time.Second)
		assert.Equal(t, ok, err == nil, "%s: %v", endpoint, err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the token left the host that the user named")
	}))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, "secret", time.Second)
	require.NoError(t, err)
	_, err = c.Status(t.Context())
	assert.ErrorContains(t, err, "no findings API")
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST.": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true,
		"": false, "0.0.0.0": false, "10.0.0.1": false, "127.0.0.1.example": false, "localhost.example": false,
	} {
		assert.Equal(t, want, IsLoopback(host), host)
	}
}
