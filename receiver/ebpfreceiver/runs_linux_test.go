//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

// runsEnv names a file to which each rig adds what its programs did, one JSON
// object for each program: make kernel-matrix makes its table of it.
const runsEnv = "TAPIO_EBPF_TEST_RUNS"

// programRuns is how often the kernel ran a program, or why it does not run.
type programRuns struct {
	Program string `json:"program"`
	Runs    uint64 `json:"runs"` // 0 unless kernel.bpf_stats_enabled is set
	Failed  string `json:"failed,omitempty"`
}

func recordRuns(t *testing.T, src source) {
	t.Helper()
	file := os.Getenv(runsEnv)
	k, ok := src.(*kernel)
	if file == "" || !ok {
		return
	}
	k.mu.Lock()
	closed := k.closed
	k.mu.Unlock()
	if closed { // a test that stopped its receiver has recorded them before
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if !assert.NoError(t, err) {
		return
	}
	out := json.NewEncoder(f)
	for _, p := range k.running {
		stats, err := p.program.Stats()
		assert.NoError(t, err)
		assert.NoError(t, out.Encode(programRuns{Program: p.name, Runs: stats.RunCount}))
	}
	for _, failed := range k.failures {
		assert.NoError(t, out.Encode(programRuns{Program: failed.program, Failed: failed.reason}))
	}
	assert.NoError(t, f.Close())
}
