package unit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// signal is what a real systemd 252 said of a unit: when, and which properties.
type signal struct {
	at         time.Time
	unit       string
	properties map[string]any
}

// recorded reads testdata/<name>.txt. Each line is a signal: when it came in µs, the unit,
// and the properties that differ from what was said before. ActiveState is always
// there, as it tells the signals of a unit from those of its type.
func recorded(t *testing.T, name string) []signal {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	require.NoError(t, err)
	var signals []signal
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, " ", 3)
		require.Len(t, fields, 3, line)
		at, err := strconv.ParseUint(fields[0], 10, 64)
		require.NoError(t, err)
		decoder := json.NewDecoder(bytes.NewReader([]byte(fields[2])))
		decoder.UseNumber()
		s := signal{at: Time(at), unit: fields[1]}
		require.NoError(t, decoder.Decode(&s.properties))
		for key, value := range s.properties {
			switch v := value.(type) {
			case json.Number:
				n, err := strconv.ParseUint(v.String(), 10, 64)
				require.NoError(t, err)
				s.properties[key] = n
			case string:
				if key == "InvocationID" {
					s.properties[key], err = hex.DecodeString(v)
					require.NoError(t, err)
				}
			}
		}
		signals = append(signals, s)
	}
	return signals
}

// TestRecorded: units of all types that are started again after they have failed. Each
// failure is told once, of the run that failed and by its own result, and the start limit
// only when systemd did not let the unit run.
func TestRecorded(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[string]string{
		"service":    {"r.service": "activated, failed signal, activated, failed signal, activated"},
		"executable": {"nobin.service": "activated, failed exit-code, activated, failed exit-code"},
		"control":    {"pre.service": "failed exit-code, failed exit-code"},
		"timeout":    {"notifyt.service": "failed timeout, failed timeout"},
		"oneshot":    {"one.service": "failed exit-code, failed exit-code, failed exit-code, failed exit-code"},
		"limit":      {"ratelimit.service": "activated, failed exit-code, activated, failed exit-code, activated, failed exit-code, limit exit-code"},
		"restarts":   {"rr.service": "activated, failed exit-code, restarting 1, restarting 2, failed signal, restarting 4, deactivated, activated, deactivated"},
		"given-up":   {"given.service": "activated, failed exit-code, restarting 1, restarting 2, limit exit-code, activated, failed signal, restarting 1, deactivated"},
		"mount":      {"mnt-x.mount": "failed exit-code, failed exit-code"},
		"badsocket":  {"badsk.socket": "failed resources, failed resources"},
		"socket": {
			"sk.socket":  "activated, failed trigger-limit-hit, activated, deactivated",
			"sk.service": "activated, failed exit-code, activated, failed exit-code, activated, failed exit-code",
		},
		"path": {
			"pa.path":    "activated, failed unit-start-limit-hit, activated, failed unit-start-limit-hit, activated",
			"pa.service": "failed exit-code, failed exit-code, failed exit-code, limit exit-code",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signals := recorded(t, name)
			told, pids := map[string][]string{}, map[string]map[int64]int{}
			tracker := newTracker()
			hear := func(events []Event) {
				for _, e := range events {
					text := kindName(&e)
					if e.Kind == Failed || e.Kind == StartLimitHit {
						text += " " + e.Unit.Result
					}
					told[e.Unit.Name] = append(told[e.Unit.Name], text)
					if e.Kind == Failed && e.Unit.ExecMainPID != 0 {
						if pids[e.Unit.Name] == nil {
							pids[e.Unit.Name] = map[int64]int{}
						}
						pids[e.Unit.Name][e.Unit.ExecMainPID]++
					}
				}
			}
			for _, s := range signals {
				hear(tracker.Tick(s.at))
				hear(tracker.Changed(s.unit, s.properties, s.at))
			}
			hear(tracker.Tick(signals[len(signals)-1].at.Add(time.Hour)))
			for unit, want := range want {
				assert.Equal(t, want, strings.Join(told[unit], ", "), unit)
				for pid, n := range pids[unit] {
					assert.Equal(t, 1, n, "the failures of process %d of %s", pid, unit)
				}
			}
			assert.Len(t, told, len(want))
		})
	}
}
