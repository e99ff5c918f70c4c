package tapioextension

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/confmap"

	"github.com/yairfalse/tapio/internal/findingsapi"
	"github.com/yairfalse/tapio/internal/section"
)

// Defaults and bounds of Config.
const (
	defaultRetention   = 720 * time.Hour
	defaultMaxFindings = 10_000
	// maxMaxFindings keeps the file and the time that each save takes to count it
	// in proportion: a finding has about 6 KiB.
	maxMaxFindings = 1_000_000
	// systemPath is the database of a collector that runs as root.
	systemPath = "/var/lib/tapio/findings.db"
)

// Config configures the store and its HTTP API.
type Config struct {
	// HTTP is the server of the API: endpoint, tls, auth, cors and the rest of
	// the collector's confighttp.
	HTTP confighttp.ServerConfig `mapstructure:",squash"`
	// Path is the database file. Empty means /var/lib/tapio/findings.db for root,
	// else $XDG_STATE_HOME/tapio/findings.db or ~/.local/state/tapio/findings.db.
	Path string `mapstructure:"path"`
	// Retention is how long a finding is kept after its last change.
	Retention time.Duration `mapstructure:"retention"`
	// MaxFindings is how many findings are kept; those that changed longest ago
	// are deleted first.
	MaxFindings int `mapstructure:"max_findings"`
}

func createDefaultConfig() component.Config {
	server := confighttp.NewDefaultServerConfig()
	server.NetAddr.Endpoint = findingsapi.DefaultAddress
	// Requests are a few hundred bytes without a body: a client that needs longer
	// holds a connection for nothing.
	server.ReadHeaderTimeout = 10 * time.Second
	server.ReadTimeout = 10 * time.Second
	return &Config{HTTP: server, Retention: defaultRetention, MaxFindings: defaultMaxFindings}
}

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return section.Unmarshal(conf, c) }

// Validate names the key that is wrong, its value and what is allowed.
func (c *Config) Validate() error {
	var errs []error
	if err := checkEndpoint(c.HTTP.NetAddr.Endpoint, c.HTTP.NetAddr.Transport == "unix"); err != nil {
		errs = append(errs, err)
	}
	switch {
	case strings.ContainsRune(c.Path, 0):
		errs = append(errs, fmt.Errorf("path: %q contains a zero byte", c.Path))
	case c.Path == ":memory:" || strings.HasPrefix(c.Path, "file:"):
		errs = append(errs, fmt.Errorf("path: %q, want the name of a file, not a SQLite URI", c.Path))
	case strings.HasSuffix(c.Path, "/"):
		errs = append(errs, fmt.Errorf("path: %q is a directory, want a file such as %s", c.Path, filepath.Join(c.Path, "findings.db")))
	}
	if c.Retention <= 0 {
		errs = append(errs, fmt.Errorf("retention: %s, want a duration above 0, such as %s", c.Retention, defaultRetention))
	}
	if c.MaxFindings < 1 || c.MaxFindings > maxMaxFindings {
		errs = append(errs, fmt.Errorf("max_findings: %d, want 1 to %d", c.MaxFindings, maxMaxFindings))
	}
	return errors.Join(errs...)
}

func checkEndpoint(endpoint string, socket bool) error {
	const want = "want host:port such as " + findingsapi.DefaultAddress
	if endpoint == "" {
		return errors.New("endpoint: must not be empty, " + want)
	}
	if socket {
		return nil
	}
	_, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: %q is not allowed, %s", endpoint, want)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > math.MaxUint16 {
		return fmt.Errorf("endpoint: %q is not allowed: port %q, want 0 to %d; %s", endpoint, port, math.MaxUint16, want)
	}
	return nil
}

// databasePath resolves an empty Path for the user with that id.
func databasePath(configured string, uid int, getenv func(string) string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	if uid == 0 {
		return systemPath, nil
	}
	// The XDG specification says to ignore a relative XDG_STATE_HOME.
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tapio", "findings.db"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "tapio", "findings.db"), nil
	}
	return "", errors.New("path: there is no default, as neither XDG_STATE_HOME nor HOME is set: set it to a file that this user may write to")
}

func (c *Config) databasePath() (string, error) { return databasePath(c.Path, os.Getuid(), os.Getenv) }
