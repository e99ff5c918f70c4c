package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// state is what the orchestrator writes to run.json.
type state struct {
	Collector struct {
		OTLPGRPC string `json:"otlp_grpc"`
		OTLPHTTP string `json:"otlp_http"`
		API      string `json:"api"`
		Health   string `json:"health"`
		Database string `json:"database"`
	} `json:"collector"`
	Payment struct {
		PID        int64      `json:"pid"`
		Version    string     `json:"version"`
		Limit      string     `json:"limit"`
		LimitBytes int64      `json:"limit_bytes"`
		Cgroup     string     `json:"cgroup"`
		Ended      string     `json:"ended"`
		EndedAt    *time.Time `json:"ended_at"`
		OOMKills   *int64     `json:"oom_kills"`
	} `json:"payment"`
	PIDs map[string]int `json:"pids"`
}

// report is what the load generator counted.
type report struct {
	Complete       bool       `json:"complete"`
	Sent           int64      `json:"sent"`
	OK             int64      `json:"ok"`
	Failed         int64      `json:"failed"`
	NotSent        int64      `json:"not_sent"`
	FailedUsers    []string   `json:"failed_users"`
	FailedAmount   float64    `json:"failed_amount"`
	FailedTraceIDs []string   `json:"failed_trace_ids"`
	FirstFailure   *time.Time `json:"first_failure"`
}

// shop is one run of the orchestrator, with a directory for its files.
type shop struct {
	*program
	dir string
}

// newShop returns the command of a run, not yet started.
func newShop(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "run")
	args = append([]string{
		"run", "--collector", bin(t, collectorName), "--tapio", bin(t, tapioName), "--config", defaultConfig(t), "--output-dir", dir,
	}, args...)
	cmd = exec.CommandContext(context.WithoutCancel(t.Context()), bin(t, checkoutName), args...)
	cmd.Env = environ(env...)
	return cmd, dir
}

// startShop starts a run. When the test ends, nothing of it may be left.
func startShop(t *testing.T, env []string, args ...string) *shop {
	t.Helper()
	cmd, dir := newShop(t, env, args...)
	return startCommand(t, cmd, dir)
}

func startCommand(t *testing.T, cmd *exec.Cmd, dir string) *shop {
	t.Helper()
	s := &shop{dir: dir}
	t.Cleanup(func() { // after the orchestrator was stopped: cleanups run last in, first out
		if s.exists("run.json") {
			s.assertNothingLeft(t)
		}
	})
	s.program = start(t, cmd)
	return s
}

// assertNothingLeft checks that the processes and the cgroup of the run are gone.
func (s *shop) assertNothingLeft(t *testing.T) {
	t.Helper()
	st := s.state(t)
	for name, pid := range st.PIDs {
		assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "%s (process %d) is left", name, pid)
	}
	if st.Payment.Cgroup != "" {
		assert.NoDirExists(t, st.Payment.Cgroup)
	}
}

func (s *shop) exists(name string) bool {
	_, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil
}

func (s *shop) read(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, into), name)
}

func (s *shop) state(t *testing.T) state {
	t.Helper()
	var st state
	s.read(t, "run.json", &st)
	return st
}

func (s *shop) report(t *testing.T) report {
	t.Helper()
	var r report
	s.read(t, "report.json", &r)
	require.True(t, r.Complete)
	require.Equal(t, r.Sent, r.OK+r.Failed)
	return r
}

// findings are all that the collector knew at the end of the run, without what
// really happened to others on this machine meanwhile.
func (s *shop) findings(t *testing.T) []*finding.Finding {
	t.Helper()
	var all []*finding.Finding
	s.read(t, "findings.json", &all)
	return ofShop(t, all, s.state(t))
}

// ofShop drops, and logs, out-of-memory kills of processes that are none of the
// shop's and hurt no request: tests of the kernel receiver may run on the same
// machine. Everything else counts.
func ofShop(t *testing.T, all []*finding.Finding, st state) []*finding.Finding {
	t.Helper()
	return slices.DeleteFunc(all, func(f *finding.Finding) bool {
		pid, ok := f.RootCause.Entity.Attributes[event.KeyProcessPID].(int64)
		elsewhere := ok && f.RootCause.Event == event.OOMKill && f.Impact.FailedRequests == 0 && f.Impact.SlowRequests == 0
		for _, own := range st.PIDs {
			elsewhere = elsewhere && int64(own) != pid
		}
		if elsewhere {
			t.Logf("not counted, it happened to another process: %s", f.Summary)
		}
		return elsewhere
	})
}

// onlyFinding is the one finding of a run that broke one thing.
func (s *shop) onlyFinding(t *testing.T) *finding.Finding {
	t.Helper()
	all := s.findings(t)
	for _, f := range all {
		t.Logf("finding %s: %s (%s), confidence %.2f", f.ID, f.Summary, f.Pattern, f.Confidence.Score)
	}
	require.Len(t, all, 1, "one incident, one finding")
	return all[0]
}

// listed asks the tapio command for all findings.
func listed(t *testing.T, api string) ([]*finding.Finding, error) {
	t.Helper()
	out, code := run(t, environ("TAPIO_ENDPOINT="+api), bin(t, tapioName), "findings", "--output", "json")
	if code != 0 {
		return nil, errors.New(out)
	}
	var page struct {
		Findings []*finding.Finding `json:"findings"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &page), out)
	return page.Findings, nil
}
