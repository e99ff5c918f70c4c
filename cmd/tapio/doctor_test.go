package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver"
)

// recordedDiagnosis is that of a machine with an old kernel and a process with few
// rights, with a hostile name in it.
func recordedDiagnosis(t *testing.T) *diagnosis {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "doctor.json"))
	require.NoError(t, err)
	var d diagnosis
	require.NoError(t, json.Unmarshal(content, &d))
	return &d
}

func TestRenderDiagnosis(t *testing.T) {
	d := recordedDiagnosis(t)
	golden(t, "doctor_100.txt", renderDiagnosis(d, style{width: 100}))
	for width := minWidth; width <= maxWidth; width++ {
		for l := range strings.Lines(renderDiagnosis(d, style{width: width})) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(l, "\n")), width, "width %d: %q", width, l)
		}
	}
}

func TestWhatIsLacking(t *testing.T) {
	require.EqualError(t, recordedDiagnosis(t).lacking(),
		"programs that are on by default do not run here: oom_kill; could not be tried by this process: kmsg")
	d := &diagnosis{Groups: []ebpfreceiver.GroupSupport{{Name: "scheduler", Programs: []ebpfreceiver.ProgramSupport{{Name: "off"}}}}}
	require.NoError(t, d.lacking(), "what is off by default is not missed")
	assert.Equal(t, exitNotFound, exitCode(lackingError("")))
}

func TestDoctorUsage(t *testing.T) {
	code, _, stderr := tapio(t, nil, "doctor", "-o", "table")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, stderr, `--output "table": want text or json`)
	code, _, _ = tapio(t, nil, "doctor", "me")
	assert.Equal(t, exitUsage, code)
}
