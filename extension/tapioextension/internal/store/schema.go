package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// migrations[i] brings a database from schema version i to i+1. SQLite keeps the
// version in the file's header (PRAGMA user_version). Never change one that was
// released: append.
var migrations = []string{
	`CREATE TABLE finding (
		id         TEXT PRIMARY KEY,  -- 32 hexadecimal digits
		revision   INTEGER NOT NULL,
		state      TEXT NOT NULL,
		started_at INTEGER NOT NULL,  -- nanoseconds since 1970, event time
		saved_at   INTEGER NOT NULL,  -- nanoseconds since 1970, this machine's clock
		body       TEXT NOT NULL      -- the finding as JSON
	) STRICT;
	CREATE INDEX finding_newest ON finding (started_at, id);
	CREATE INDEX finding_newest_in_state ON finding (state, started_at, id);
	CREATE INDEX finding_changed ON finding (saved_at);
	CREATE TABLE finding_trace (
		trace_id   TEXT NOT NULL,
		finding_id TEXT NOT NULL REFERENCES finding (id) ON DELETE CASCADE,
		PRIMARY KEY (trace_id, finding_id)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX finding_trace_by_finding ON finding_trace (finding_id);`,
	// What the processor needs to go on with an open finding after a restart, '' for one
	// that is over or another process's.
	`ALTER TABLE finding ADD COLUMN resume TEXT NOT NULL DEFAULT ''`,
	// What components keep over a restart, see State.
	`CREATE TABLE state (
		component TEXT NOT NULL,
		key       TEXT NOT NULL,
		value     BLOB NOT NULL,
		PRIMARY KEY (component, key)
	) STRICT, WITHOUT ROWID`,
}

// applicationID marks the file as Tapio's: "TAPI" in ASCII, in the field of the
// SQLite header that is meant for it.
const applicationID = 0x54415049

var (
	errForeign = errors.New("it is a SQLite database of another program")
	errDamaged = errors.New("integrity check failed")
)

// newerSchemaError is the version of a database that a later Tapio wrote.
type newerSchemaError int

func (e newerSchemaError) Error() string {
	return fmt.Sprintf("its schema version is %d, this collector knows up to %d", int(e), len(migrations))
}

// check refuses, without changing anything, a file that this version must not
// write to.
func check(ctx context.Context, db *sql.DB) error {
	var version, app, tables int
	for query, into := range map[string]*int{
		"PRAGMA user_version":                &version,
		"PRAGMA application_id":              &app,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := db.QueryRowContext(ctx, query).Scan(into); err != nil {
			return err
		}
	}
	switch {
	case tables > 0 && app != applicationID:
		return errForeign
	case version > len(migrations):
		return newerSchemaError(version)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	return nil
}

// migrate applies the missing migrations, each in a transaction of its own that
// also raises the version.
func migrate(ctx context.Context, db *sql.DB) error {
	for {
		done, err := migrateOne(ctx, db)
		if done || err != nil {
			return err
		}
	}
}

func migrateOne(ctx context.Context, db *sql.DB) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, err
	}
	if version >= len(migrations) {
		return true, nil
	}
	if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
		return false, fmt.Errorf("raising the schema to version %d: %w", version+1, err)
	}
	// PRAGMA takes no bound parameters; both values are our own numbers.
	mark := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version+1)
	if _, err := tx.ExecContext(ctx, mark); err != nil {
		return false, err
	}
	return false, tx.Commit()
}
