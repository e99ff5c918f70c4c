package store

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

// envWriter makes the test binary a process that saves findings to that file and
// prints the number of each once Save has returned.
const envWriter = "TAPIO_TEST_STORE_WRITER"

func writeForever(path string) {
	s, err := Open(context.Background(), Options{Path: path, Retention: time.Hour, MaxFindings: 1_000_000})
	if err != nil {
		panic(err)
	}
	held, err := s.Held(context.Background())
	if err != nil {
		panic(err)
	}
	for n := int(held); ; n++ { // goes on where the killed one ended
		if err := s.Save(context.Background(), findingtest.Minimal(n)); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

// TestKillLosesNothingThatWasSaved kills a writing process with SIGKILL, again
// and again, while this process reads the same file.
func TestKillLosesNothingThatWasSaved(t *testing.T) {
	o := options(t)
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	db, err := sql.Open("sqlite", dsn(o.Path, "_query_only=1"))
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	reader := &Store{read: db}
	acknowledged := 0
	for round := range 5 {
		acknowledged = killAfter(t, o.Path, acknowledged+25)
		for n := range acknowledged + 1 {
			_, err = reader.Get(t.Context(), findingtest.Minimal(n).ID.String())
			require.NoError(t, err, "finding %d of %d, round %d", n, acknowledged, round)
		}
	}
	again := mustOpen(t, o) // recovers the log that the killed process left
	held, err := again.Held(t.Context())
	require.NoError(t, err)
	assert.Greater(t, held, int64(acknowledged))
}

// killAfter starts the writer, kills it when it has acknowledged n findings, and
// returns the last one that it acknowledged.
func killAfter(t *testing.T, path string, n int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envWriter+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	last := -1
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		last, err = strconv.Atoi(lines.Text())
		require.NoError(t, err)
		if last == n {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	assert.Error(t, cmd.Wait(), "it was killed")
	require.GreaterOrEqual(t, last, n)
	return last
}
