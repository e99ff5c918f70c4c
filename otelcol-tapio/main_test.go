package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runMain makes the test binary run main instead of its tests, so that the
// tests can start the collector as a process of its own.
const runMain = "OTELCOL_TAPIO_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// patience bounds every wait for the collector; a loaded machine takes seconds.
const patience = time.Minute

// command returns the collector, not started, with none of the variables of
// config.yaml but env ("NAME=value").
func command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TAPIO_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, runMain+"=1"), env...)
	return cmd
}

// output runs the collector to its end.
func output(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := command(ctx, env, args...).CombinedOutput()
	return string(out), err
}

// collector is a running one, with every listener on a free port of loopback.
type collector struct {
	cmd                               *exec.Cmd
	log                               *buffer
	otlpHTTP, health, zpages, metrics string
	done                              chan error
}

// start runs config.yaml and waits until the health check answers.
func start(t *testing.T, env ...string) *collector {
	t.Helper()
	ports := freePorts(t, 6)
	at := func(i int) string { return net.JoinHostPort("127.0.0.1", ports[i]) }
	c := &collector{log: &buffer{}, otlpHTTP: at(1), health: at(3), zpages: at(4), metrics: at(5), done: make(chan error, 1)}
	c.cmd = command(t.Context(), append([]string{
		"TAPIO_OTLP_GRPC_ENDPOINT=" + at(0), "TAPIO_OTLP_HTTP_ENDPOINT=" + c.otlpHTTP, "TAPIO_API_ENDPOINT=" + at(2),
		"TAPIO_HEALTH_ENDPOINT=" + c.health, "TAPIO_ZPAGES_ENDPOINT=" + c.zpages, "TAPIO_METRICS_PORT=" + ports[5],
		"TAPIO_DATABASE=" + filepath.Join(t.TempDir(), "findings.db"),
	}, env...), "--config", "config.yaml")
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.done <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("log of the collector:\n%s", c.log)
		}
	})
	c.waitFor(t, "health check", func() error { return get("http://" + c.health) })
	return c
}

// stop sends SIGTERM and returns how the process ended.
func (c *collector) stop(t *testing.T) error {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-c.done:
		return err
	case <-time.After(patience):
		// The stacks of all goroutines, into the log: they say who hangs.
		_ = c.cmd.Process.Signal(syscall.SIGQUIT)
		return errors.Join(errors.New("still running"), <-c.done)
	}
}

// waitFor calls probe until it returns nil; it fails when the collector ends.
func (c *collector) waitFor(t *testing.T, what string, probe func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		select {
		case ended := <-c.done:
			t.Fatalf("%s: the collector ended: %v", what, ended)
		default:
		}
		if err = probe(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// freePorts returns n ports on which nobody listens now.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		// Closed only at the end, so that all are different.
		defer l.Close()
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
	}
	return ports
}

// get returns an error unless url answers 200.
func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	return checked(resp, err)
}

func post(url, body string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Post(url, "application/json", strings.NewReader(body))
	return checked(resp, err)
}

func checked(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", resp.Request.URL, resp.Status)
	}
	return nil
}

// buffer may be written by one goroutine and read by another.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
