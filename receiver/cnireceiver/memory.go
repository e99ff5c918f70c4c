package cnireceiver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/yairfalse/tapio/internal/storageclient"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// memory keeps in a storage extension what was told and is not over, so that another
// start of the collector neither takes it for new nor misses its end. Without an extension
// it keeps nothing.
//
// What begins is written before it is told, and what ends is forgotten after that was told:
// a crash in between tells twice, with the same time, rather than never.
//
// Conditions are spread over shards, so that one change writes little and loading them
// needs no index. The decider bounds how many there are.
type memory struct {
	// client is nil when nothing is kept.
	client storage.Client
	shards [shardCount]map[string]state.Kept
	past   state.Past
	// over are the keys of conditions whose end was decided and not handed on yet.
	over      map[string]struct{}
	unwritten storageclient.Unwritten
	// forgotten says why values could not be understood.
	forgotten []error
}

const (
	shardCount = 32
	// maxOver bounds what is over and was not handed on: beyond it that is forgotten, and
	// after a kill nobody is told that it is over.
	maxOver = 8192
	pastKey = "past"
	// memoryVersion is that of what is written. What another one wrote is not understood.
	memoryVersion = 1
)

// stored is a value in the storage.
type stored struct {
	Version int             `json:"version"`
	Value   json.RawMessage `json:"value"`
}

func shardKey(i int) string { return "conditions/" + strconv.Itoa(i) }

// openMemory reads what was remembered. id nil is a memory that keeps nothing.
func openMemory(ctx context.Context, host component.Host, id *component.ID, of component.ID) (*memory, error) {
	m := &memory{over: map[string]struct{}{}, unwritten: storageclient.Unwritten{}}
	for i := range m.shards {
		m.shards[i] = map[string]state.Kept{}
	}
	if id == nil {
		return m, nil
	}
	client, err := storageclient.Open(ctx, host, id, of, "conditions")
	if err != nil {
		return nil, err
	}
	m.client = client
	if err := m.load(ctx); err != nil {
		return nil, errors.Join(err, client.Close(ctx))
	}
	return m, nil
}

func (m *memory) load(ctx context.Context) error {
	for i := range m.shards {
		list, err := load[[]state.Kept](ctx, m, shardKey(i))
		if err != nil {
			return err
		}
		for _, k := range list {
			if shardOf(k.Key) == i {
				m.shards[i][k.Key] = k
			}
		}
	}
	var err error
	m.past, err = load[state.Past](ctx, m, pastKey)
	return err
}

// load reads one value, if there is one. One that cannot be understood is as good as
// none, is noted, and replaced by the next write.
func load[T any](ctx context.Context, m *memory, key string) (value T, err error) {
	data, err := m.client.Get(ctx, key)
	if err != nil {
		return value, fmt.Errorf("storage: read %s: %w", key, err)
	}
	if data == nil {
		return value, nil
	}
	var s stored
	var understood T
	problem := json.Unmarshal(data, &s)
	if problem == nil && s.Version != memoryVersion {
		problem = fmt.Errorf("version %d, not %d", s.Version, memoryVersion)
	}
	if problem == nil {
		problem = json.Unmarshal(s.Value, &understood)
	}
	if problem != nil {
		m.forgotten = append(m.forgotten, fmt.Errorf("%s: %w", key, problem))
		return value, nil
	}
	return understood, nil
}

// restore hands to the decider what was remembered, and forgets what it does not look at.
func (m *memory) restore(d *state.Decider) {
	var all []state.Kept
	for _, shard := range m.shards {
		for _, k := range shard {
			all = append(all, k)
		}
	}
	for _, key := range d.Restore(m.past, all) {
		i := shardOf(key)
		delete(m.shards[i], key)
		m.unwritten.Add(shardKey(i))
	}
}

// before remembers what the decider is about to tell.
func (m *memory) before(ctx context.Context, d *state.Decider) error {
	told, over := d.Changed()
	if m.client == nil {
		return nil
	}
	for _, key := range over {
		m.over[key] = struct{}{}
	}
	for _, k := range told {
		delete(m.over, k.Key)
		m.shards[shardOf(k.Key)][k.Key] = k
		m.unwritten.Add(shardKey(shardOf(k.Key)))
	}
	if len(m.over) > maxOver {
		m.forget()
	}
	if past := d.Past(); !past.Equal(m.past) {
		m.past = past
		m.unwritten.Add(pastKey)
	}
	return m.write(ctx)
}

// after forgets what is over, as all that the decider told was handed on.
func (m *memory) after(ctx context.Context) error {
	m.forget()
	return m.write(ctx)
}

// forget forgets what is over.
func (m *memory) forget() {
	for key := range m.over {
		i := shardOf(key)
		if _, ok := m.shards[i][key]; ok {
			delete(m.shards[i], key)
			m.unwritten.Add(shardKey(i))
		}
	}
	clear(m.over)
}

func (m *memory) write(ctx context.Context) error {
	if m.client == nil {
		return nil
	}
	return m.unwritten.Write(ctx, m.client, m.encode)
}

// encode returns what is kept under a key.
func (m *memory) encode(key string) ([]byte, error) {
	var value any = m.past
	for i, shard := range m.shards {
		if key == shardKey(i) {
			value = slices.Collect(maps.Values(shard))
		}
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return json.Marshal(stored{memoryVersion, data})
}

// close tries once more to write what could not be written.
func (m *memory) close(ctx context.Context) error {
	if m.client == nil {
		return nil
	}
	return errors.Join(m.write(ctx), m.client.Close(ctx))
}

func shardOf(key string) int { return storageclient.Shard(key, shardCount) }
