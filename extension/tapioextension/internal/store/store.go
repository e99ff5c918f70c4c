// Package store keeps findings in one SQLite file: the newest revision of each,
// bounded by age and by number, with an index from trace id to finding. Beside them it
// keeps what components want to know again after a restart (State).
//
// What Save has returned for without an error is committed and synced to disk:
// neither a killed process nor a lost power supply takes it back.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite" // registers the database/sql driver "sqlite"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// busyTimeout is how long a connection waits for another one, of this or another
// process, that writes. Each write takes milliseconds.
const busyTimeout = 5 * time.Second

// readers is how many reads go on at once; more wait for their turn.
const readers = 4

// Options say where findings are kept and how many.
type Options struct {
	// Path is the database file. Its directory is created when missing.
	Path string
	// Retention is how long a finding is kept after its last change.
	Retention time.Duration
	// MaxFindings is how many findings are kept; those that changed longest ago
	// go first.
	MaxFindings int
}

// Store is an open database of findings. All methods may be called concurrently.
type Store struct {
	opts   Options
	lock   *os.File
	write  *sql.DB // one connection: SQLite has one writer at a time
	read   *sql.DB
	state  *sql.DB // one connection that does not wait for the disk
	now    func() time.Time
	counts counts
}

// Open opens the database, creates it (mode 0600, its directory 0700) or brings
// an older schema up to date. It fails with an error that names the file and says
// what to do when the file is in use by another collector, locked, damaged, another
// program's, or of a newer schema.
func Open(ctx context.Context, opts Options) (*Store, error) {
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", opts.Path, err)
	}
	opts.Path = path
	if err := createFile(path); err != nil {
		return nil, err
	}
	s := &Store{opts: opts, now: time.Now}
	if s.lock, err = lock(ctx, path); err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(explain(path, err), s.Close())
	}
	return s, nil
}

// createFile makes the file before SQLite does, which would let everybody read
// it. SQLite gives the mode of the database to its log files too.
func createFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot create the directory of the findings database: %w; set `path` to a place that this user may write to", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the findings database: %w; set `path` to a file that this user may write to", err)
	}
	return f.Close()
}

func (s *Store) open(ctx context.Context) error {
	var err error
	if s.write, err = sql.Open("sqlite", dsn(s.opts.Path, "_txlock=immediate&_synchronous=FULL")); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := check(ctx, s.write); err != nil {
		return err
	}
	// WAL lets reads go on during a write; synchronous FULL makes each commit
	// durable in that mode.
	if _, err := s.write.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
		return err
	}
	if err := migrate(ctx, s.write); err != nil {
		return err
	}
	if s.state, err = sql.Open("sqlite", dsn(s.opts.Path, "_txlock=immediate&_synchronous=NORMAL")); err != nil {
		return err
	}
	s.state.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn(s.opts.Path, "_query_only=1")); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(readers)
	return s.read.PingContext(ctx)
}

// dsn names the file as a URI, so that no character of the path is taken for a
// parameter.
func dsn(path, more string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: "_busy_timeout=" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) +
		"&_foreign_keys=1&_error_rc=1&_defensive=1&" + more}
	return u.String()
}

// Close waits for running calls and closes the file. The last connection to
// close folds the write-ahead log into the database.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.state, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Ping fails when the database cannot be read.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return s.read.QueryRowContext(ctx, "SELECT 1 FROM (SELECT count(*) FROM (SELECT id FROM finding LIMIT 1))").Scan(&one)
}

// Status counts what is held.
func (s *Store) Status(ctx context.Context) (st findingsapi.StoreStatus, err error) {
	st = findingsapi.StoreStatus{
		Path: s.opts.Path, SizeBytes: s.Size(), SchemaVersion: len(migrations),
		Retention: s.opts.Retention.String(), MaxFindings: s.opts.MaxFindings, SinceStart: s.Counts(),
	}
	st.States = map[finding.State]int64{finding.StatePredicted: 0, finding.StateOpen: 0, finding.StateMended: 0, finding.StateResolved: 0, finding.StateWithdrawn: 0}
	rows, err := s.read.QueryContext(ctx, "SELECT state, count(*), min(saved_at) FROM finding GROUP BY state")
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var state finding.State
		var n, saved int64
		if err := rows.Scan(&state, &n, &saved); err != nil {
			return st, err
		}
		st.States[state] = n
		if state.Over() {
			st.Resolved += n
		} else {
			st.Open += n
		}
		if t := time.Unix(0, saved).UTC(); st.OldestChange == nil || t.Before(*st.OldestChange) {
			st.OldestChange = &t
		}
	}
	return st, rows.Err()
}

// Held returns how many findings the store holds.
func (s *Store) Held(ctx context.Context) (n int64, err error) {
	err = s.read.QueryRowContext(ctx, "SELECT count(*) FROM finding").Scan(&n)
	return n, err
}

// Path returns the absolute name of the database file.
func (s *Store) Path() string { return s.opts.Path }

// Size returns the bytes of the database file and its log files.
func (s *Store) Size() int64 {
	var n int64
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if fi, err := os.Stat(s.opts.Path + suffix); err == nil {
			n += fi.Size()
		}
	}
	return n
}
