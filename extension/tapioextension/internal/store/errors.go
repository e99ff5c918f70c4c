package store

import (
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrRefused is wrapped by the error of Save for a finding that will never be
// accepted: trying again is useless.
var ErrRefused = errors.New("finding refused")

// ErrNotFound is returned for an id that the store does not hold.
var ErrNotFound = errors.New("not found")

// maxAmbiguous bounds the findings that an AmbiguousError names.
const maxAmbiguous = 5

// AmbiguousError is returned for the beginning of an id that several findings share.
type AmbiguousError struct {
	Prefix string
	IDs    []string // at most one more than maxAmbiguous
}

func (e *AmbiguousError) Error() string {
	text := strings.Join(e.IDs[:min(len(e.IDs), maxAmbiguous)], ", ")
	if len(e.IDs) > maxAmbiguous {
		text += " and others"
	}
	return fmt.Sprintf("%q is how the ids of several findings begin: %s; want more digits", e.Prefix, text)
}

// inUseError is returned by Open when another collector keeps its findings there.
type inUseError struct{ path, by string }

func (e *inUseError) Error() string {
	return fmt.Sprintf("findings database %s is in use by another collector (%s): stop that one, or set `path` of this one to another file", e.path, e.by)
}

// explain adds to the cause of a failed Open which file it is and what to do.
func explain(path string, err error) error {
	var newer newerSchemaError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("findings database %s was written by a newer Tapio (%w): run that version, or set `path` to another file", path, err)
	case errors.Is(err, errForeign):
		return fmt.Errorf("findings database %s: %w: set `path` to a file of Tapio's own", path, err)
	case errors.Is(err, errDamaged):
		return damaged(path, err)
	}
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return fmt.Errorf("findings database %s: %w", path, err)
	}
	switch se.Code() & 0xff { // the low byte is the primary code, the rest refines it
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("findings database %s is locked by another process for more than %s (%w): "+
			"stop that process (another collector?), or set `path` to another file", path, busyTimeout, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return damaged(path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return fmt.Errorf("findings database %s cannot be written (%w): give this user write access to it and to its directory, or set `path` to another file", path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("findings database %s: the disk is full (%w): free space, or set `path` to another file", path, err)
	}
	return fmt.Errorf("findings database %s: %w", path, err)
}

func damaged(path string, err error) error {
	return fmt.Errorf("findings database %s is damaged or no SQLite file (%w): move it away, together with %s-wal and %s-shm, "+
		"to start with an empty one; `sqlite3 %s .recover` may save its findings", path, err, path, path, path)
}
