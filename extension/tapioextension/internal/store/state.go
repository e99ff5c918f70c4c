package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// State is what one component keeps over a restart, by key: how far a receiver has read,
// for example. It implements storage.Client. What was set outlives a kill of the process; a
// power cut takes back the last seconds, whole batches of them: nothing waits for the disk.
type State struct {
	db        *sql.DB
	component string
}

var _ storage.Client = (*State)(nil)

// State returns what the component of that name keeps.
func (s *Store) State(component string) *State { return &State{db: s.state, component: component} }

// Get returns nil for a key that was never set.
func (c *State) Get(ctx context.Context, key string) ([]byte, error) {
	op := storage.GetOperation(key)
	err := c.Batch(ctx, op)
	return op.Value, err
}

// Set keeps a value under a key, in place of the one that is there.
func (c *State) Set(ctx context.Context, key string, value []byte) error {
	return c.Batch(ctx, storage.SetOperation(key, value))
}

// Delete forgets a key.
func (c *State) Delete(ctx context.Context, key string) error {
	return c.Batch(ctx, storage.DeleteOperation(key))
}

// Batch does all of the operations, in their order, or none.
func (c *State) Batch(ctx context.Context, ops ...*storage.Operation) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("state of %s: %w", c.component, err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, op := range ops {
		if err := c.do(ctx, tx, op); err != nil {
			return fmt.Errorf("state of %s: key %q: %w", c.component, op.Key, err)
		}
	}
	return tx.Commit()
}

func (c *State) do(ctx context.Context, tx *sql.Tx, op *storage.Operation) (err error) {
	switch op.Type {
	case storage.Get:
		op.Value = nil
		err = tx.QueryRowContext(ctx, "SELECT value FROM state WHERE component = ? AND key = ?", c.component, op.Key).Scan(&op.Value)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
	case storage.Set:
		value := op.Value
		if value == nil {
			value = []byte{} // NULL is no value
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO state (component, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
			c.component, op.Key, value)
	case storage.Delete:
		_, err = tx.ExecContext(ctx, "DELETE FROM state WHERE component = ? AND key = ?", c.component, op.Key)
	default:
		err = fmt.Errorf("operation %d, want get, set or delete", op.Type)
	}
	return err
}

// Close does nothing: the store is closed by itself.
func (c *State) Close(context.Context) error { return nil }
