package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ownPatterns = "../../examples/patterns"

func TestPatterns(t *testing.T) {
	code, out, errs := tapio(t, nil, "patterns", "list", ownPatterns)
	require.Equal(t, exitOK, code, errs)
	assert.Contains(t, out, "licence-expired")
	assert.Contains(t, out, "memory-limit-oom-kill")

	code, out, _ = tapio(t, nil, "patterns", "list", "-o", "json")
	require.Equal(t, exitOK, code)
	var list struct {
		Patterns []struct{ ID, Source string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	assert.Greater(t, len(list.Patterns), 50)
	assert.Equal(t, "built in", list.Patterns[0].Source)

	code, out, errs = tapio(t, nil, "patterns", "lint", ownPatterns)
	assert.Equal(t, exitOK, code, errs)
	assert.Equal(t, "2 patterns, no mistakes\n", out)

	code, out, errs = tapio(t, nil, "patterns", "test", ownPatterns)
	assert.Equal(t, exitOK, code, errs)
	assert.Equal(t, "ok cart-quota fires\nok cart-quota nearly\nok licence-expired fires\nok licence-expired nearly\n", out)
}

func TestPatternsThatAreWrong(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(ownPatterns)))
	file := filepath.Join(dir, "licence-expired.yaml")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(b), "weight: 4", "weight: -4", 1)), 0o600))
	code, out, errs := tapio(t, nil, "patterns", "lint", dir)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, out, file+":16: effects[0].weight: -4: want a number above 0")
	assert.Contains(t, errs, "1 problem\n")
	code, again, errs := tapio(t, nil, "patterns", "test", dir)
	assert.Equal(t, exitFailed, code)
	assert.Equal(t, out, again, "the same lines")
	assert.Contains(t, errs, dir+": patterns are not as they should be: 1 problem\n")
	twice := strings.Replace(strings.Replace(string(b), "weight: 4", "weight: -4", 1), "weight: 2", "weight: -2", 1)
	require.NoError(t, os.WriteFile(file, []byte(twice), 0o600))
	code, _, errs = tapio(t, nil, "patterns", "list", dir)
	assert.Equal(t, exitFailed, code)
	for i, line := range strings.Split(strings.TrimSpace(errs), "\n") {
		assert.True(t, strings.HasPrefix(line, fmt.Sprintf("tapio: %s: licence-expired.yaml: effects[%d].weight: ", dir, i)), line)
	}
	require.NoError(t, os.WriteFile(file, b, 0o600))
	fires := filepath.Join(dir, "testdata", "licence-expired", "fires.yaml")
	require.NoError(t, os.WriteFile(fires, []byte("events: [{at: soon}]\n"), 0o600))
	code, out, errs = tapio(t, nil, "patterns", "test", dir)
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, out, "FAIL licence-expired fires: "+fires+": ")
	assert.Contains(t, errs, "1 of 4 scenarios failed")
	code, _, errs = tapio(t, nil, "patterns", "lint")
	assert.Equal(t, exitUsage, code, errs)
	code, _, errs = tapio(t, nil, "patterns", "list", filepath.Join(dir, "none"))
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "none")
}
