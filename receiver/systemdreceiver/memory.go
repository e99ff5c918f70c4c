package systemdreceiver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/yairfalse/tapio/internal/storageclient"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

// memory keeps in a storage extension what was told, so that a restart of the
// collector tells nothing twice. Without an extension it keeps nothing.
//
// Units are spread over shards, so that one change writes little and loading
// them needs no index.
type memory struct {
	client storage.Client
	// shards hold what was told last, by the name of the unit.
	shards    [shardCount]map[string]unit.Memory
	jobs      openJobs
	unwritten storageclient.Unwritten
	// forgotten counts values that could not be understood.
	forgotten int64
}

const shardCount = 64

// openJobs is what is remembered of jobs.
type openJobs struct {
	// Seed is the run of systemd that numbered them.
	Seed string    `json:"seed"`
	Jobs []job.Job `json:"jobs,omitempty"`
	// Shutdown is when it was last told that the machine goes down, also by another run.
	Shutdown time.Time `json:"shutdown,omitzero"`
	// Boot says that the boot was told. Until then BootJobs are the jobs that were
	// told in the boot's trace, by unit.
	Boot     bool              `json:"boot,omitempty"`
	BootJobs map[string]uint32 `json:"boot_jobs,omitempty"`
}

const jobsKey = "jobs"

func shardKey(i int) string { return "units/" + strconv.Itoa(i) }

// openMemory reads what was remembered. id nil is a memory that keeps nothing.
func openMemory(ctx context.Context, host component.Host, id *component.ID, of component.ID) (*memory, error) {
	m := &memory{unwritten: storageclient.Unwritten{}}
	for i := range m.shards {
		m.shards[i] = map[string]unit.Memory{}
	}
	if id == nil {
		return m, nil
	}
	client, err := storageclient.Open(ctx, host, id, of, "units")
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
		if err := load(ctx, m, shardKey(i), &m.shards[i]); err != nil {
			return err
		}
	}
	return load(ctx, m, jobsKey, &m.jobs)
}

// load reads one value, if there is one. One that cannot be understood is as
// good as none, is counted, and replaced by the next write.
func load[T any](ctx context.Context, m *memory, key string, into *T) error {
	data, err := m.client.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("storage: read %s: %w", key, err)
	}
	if data == nil || string(data) == "null" {
		return nil
	}
	var value T
	if json.Unmarshal(data, &value) == nil {
		*into = value
	} else {
		m.forgotten++
	}
	return nil
}

// restore hands to the tracker what was remembered.
func (m *memory) restore(t *unit.Tracker) {
	for _, shard := range m.shards {
		for name, remembered := range shard {
			t.Restore(name, remembered)
		}
	}
}

// save remembers the units of these names as the tracker has them now.
func (m *memory) save(ctx context.Context, t *unit.Tracker, names map[string]struct{}) error {
	if m.client == nil {
		return nil
	}
	for name := range names {
		i := shardOf(name)
		before, was := m.shards[i][name]
		now, is := t.Memory(name)
		switch {
		case !is && !was || is && was && reflect.DeepEqual(before, now):
			continue
		case is:
			m.shards[i][name] = now
		default:
			delete(m.shards[i], name)
		}
		m.unwritten.Add(shardKey(i))
	}
	return m.write(ctx)
}

// saveJobs remembers the jobs that have not ended.
func (m *memory) saveJobs(ctx context.Context) error {
	if m.client == nil {
		return nil
	}
	m.unwritten.Add(jobsKey)
	return m.write(ctx)
}

func (m *memory) write(ctx context.Context) error {
	return m.unwritten.Write(ctx, m.client, func(key string) ([]byte, error) { return json.Marshal(m.value(key)) })
}

// value is what is kept under a key.
func (m *memory) value(key string) any {
	for i := range m.shards {
		if key == shardKey(i) {
			return m.shards[i]
		}
	}
	return m.jobs
}

// close tries once more to write what could not be written.
func (m *memory) close(ctx context.Context) error {
	if m.client == nil {
		return nil
	}
	return errors.Join(m.write(ctx), m.client.Close(ctx))
}

func shardOf(name string) int { return storageclient.Shard(name, shardCount) }
