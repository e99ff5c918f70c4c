// Package storagetest has a storage extension for tests.
package storagetest

import (
	"context"
	"maps"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Map is a storage extension that keeps everything in a map, which outlives receivers as a
// database does. It stands in for one on disk where a test is about what is written, not where.
type Map struct {
	component.StartFunc
	component.ShutdownFunc
	mu sync.Mutex
	// Values are what is stored; a test sets them before the first use, and reads a Copy.
	Values map[string][]byte
	// Refuse is the error of every write, nil for none.
	Refuse error
}

// GetClient implements storage.Extension: all clients have the same values.
func (m *Map) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return m, nil
}

// Get implements storage.Client.
func (m *Map) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Values[key], nil
}

// Set implements storage.Client.
func (m *Map) Set(ctx context.Context, key string, value []byte) error {
	return m.Batch(ctx, storage.SetOperation(key, value))
}

// Delete implements storage.Client.
func (m *Map) Delete(ctx context.Context, key string) error {
	return m.Batch(ctx, storage.DeleteOperation(key))
}

// Batch implements storage.Client: all of it or, with Refuse, nothing.
func (m *Map) Batch(_ context.Context, operations ...*storage.Operation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Refuse != nil {
		return m.Refuse
	}
	if m.Values == nil {
		m.Values = map[string][]byte{}
	}
	for _, o := range operations {
		switch o.Type {
		case storage.Set:
			m.Values[o.Key] = o.Value
		case storage.Delete:
			delete(m.Values, o.Key)
		case storage.Get:
			o.Value = m.Values[o.Key]
		}
	}
	return nil
}

// Close implements storage.Client.
func (m *Map) Close(context.Context) error { return nil }

// Copy is what a collector that starts after a kill at this moment finds.
func (m *Map) Copy() *Map {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Map{Values: maps.Clone(m.Values)}
}

// SetRefuse changes Refuse while others write.
func (m *Map) SetRefuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Refuse = err
}
