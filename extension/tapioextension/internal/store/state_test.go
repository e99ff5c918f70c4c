package store

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

func TestState(t *testing.T) {
	ctx, o := t.Context(), options(t)
	s, err := Open(ctx, o)
	require.NoError(t, err)
	journal, units := s.State("receiver/tapio_systemd/journal"), s.State("receiver/tapio_systemd/units")
	value, err := journal.Get(ctx, "position")
	require.NoError(t, err)
	assert.Nil(t, value, "never set")
	require.NoError(t, journal.Set(ctx, "position", []byte("1")))
	require.NoError(t, journal.Set(ctx, "position", []byte{0, 0xff}))
	require.NoError(t, journal.Set(ctx, "empty", nil))
	require.NoError(t, units.Set(ctx, "position", []byte("of another one")))
	require.NoError(t, units.Delete(ctx, "nothing"))
	require.NoError(t, journal.Close(ctx))
	require.NoError(t, s.Close())

	s = mustOpen(t, o)
	get := storage.GetOperation("position")
	again := s.State("receiver/tapio_systemd/journal")
	require.NoError(t, again.Batch(ctx, get, storage.DeleteOperation("position"), storage.SetOperation("done", []byte("x"))))
	assert.Equal(t, []byte{0, 0xff}, get.Value)
	value, err = again.Get(ctx, "empty")
	require.NoError(t, err)
	assert.Empty(t, value)
	value, err = again.Get(ctx, "position")
	require.NoError(t, err)
	assert.Nil(t, value)
	value, err = s.State("receiver/tapio_systemd/units").Get(ctx, "position")
	require.NoError(t, err)
	assert.Equal(t, "of another one", string(value))

	err = again.Batch(ctx, storage.SetOperation("done", []byte("y")), &storage.Operation{Key: "k", Type: 7})
	require.ErrorContains(t, err, `state of receiver/tapio_systemd/journal: key "k": operation 7`)
	value, err = again.Get(ctx, "done")
	require.NoError(t, err)
	assert.Equal(t, "x", string(value), "all of a batch or nothing")
}

// TestStateDoesNotWait: its writes are not synced one by one, those of findings are.
func TestStateDoesNotWait(t *testing.T) {
	s := mustOpen(t, options(t))
	var state, write int
	require.NoError(t, s.state.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&state))
	require.NoError(t, s.write.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&write))
	assert.Equal(t, []int{1, 2}, []int{state, write}, "NORMAL, FULL")
}

// TestStateBesideFindings: both are written at once, and neither fails.
func TestStateBesideFindings(t *testing.T) {
	s := mustOpen(t, options(t))
	var running sync.WaitGroup
	for c := range 3 {
		running.Go(func() {
			state := s.State(fmt.Sprint(c))
			for i := range 100 {
				assert.NoError(t, state.Set(t.Context(), "k", []byte{byte(i)}))
			}
		})
	}
	for n := range 50 {
		require.NoError(t, s.Save(t.Context(), findingtest.Minimal(n)))
	}
	running.Wait()
	for c := range 3 {
		value, err := s.State(fmt.Sprint(c)).Get(t.Context(), "k")
		require.NoError(t, err)
		assert.Equal(t, []byte{99}, value)
	}
}

// BenchmarkState keeps what the journal keeps after each batch: some kilobytes.
func BenchmarkState(b *testing.B) {
	s, _ := filled(b, 1)
	state, value := s.State("receiver/tapio_systemd/journal"), make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		if err := state.Set(b.Context(), "position", value); err != nil {
			b.Fatal(err)
		}
	}
}
