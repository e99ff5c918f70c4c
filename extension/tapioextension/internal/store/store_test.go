package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envWriter); path != "" {
		writeForever(path)
	}
	goleak.VerifyTestMain(m)
}

func options(t *testing.T) Options {
	t.Helper()
	return Options{Path: filepath.Join(t.TempDir(), "state", "findings.db"), Retention: time.Hour, MaxFindings: 100}
}

func mustOpen(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func save(t *testing.T, s *Store, fs ...*finding.Finding) {
	t.Helper()
	for _, f := range fs {
		require.NoError(t, s.Save(t.Context(), f))
	}
}

func get(t *testing.T, s *Store, id finding.ID) *finding.Finding {
	t.Helper()
	b, err := s.Get(t.Context(), id.String())
	require.NoError(t, err)
	f := new(finding.Finding)
	require.NoError(t, json.Unmarshal(b, f))
	return f
}

func decode(t *testing.T, page []json.RawMessage) []string {
	t.Helper()
	titles := make([]string, 0, len(page))
	for _, b := range page {
		var f finding.Finding
		require.NoError(t, json.Unmarshal(b, &f))
		titles = append(titles, f.Title)
	}
	return titles
}

func TestFindingsSurviveRestart(t *testing.T) {
	o := options(t)
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	save(t, s, findingtest.Full(), findingtest.Minimal(1))
	require.NoError(t, s.Close())

	s = mustOpen(t, o)
	assert.Equal(t, findingtest.Full(), get(t, s, findingtest.Full().ID))
	n, err := s.Held(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2, n)
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	o := options(t)
	s := mustOpen(t, o)
	save(t, s, findingtest.Minimal(1))
	for path, want := range map[string]os.FileMode{
		filepath.Dir(o.Path): 0o700, o.Path: 0o600, o.Path + ".lock": 0o600, o.Path + "-wal": 0o600, o.Path + "-shm": 0o600,
	} {
		fi, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, want, fi.Mode().Perm(), path)
	}
	assert.Greater(t, s.Size(), int64(0))
}

func TestPathIsNoURI(t *testing.T) {
	o := options(t)
	o.Path = filepath.Join(filepath.Dir(o.Path), "a?mode=memory#b%20 c.db")
	save(t, mustOpen(t, o), findingtest.Minimal(1))
	_, err := os.Stat(o.Path)
	assert.NoError(t, err)
}

func TestOnlyNewerRevisionsReplace(t *testing.T) {
	s := mustOpen(t, options(t))
	revision := func(n int) *finding.Finding {
		f := findingtest.Minimal(1)
		f.Revision, f.Title = n, fmt.Sprint("revision ", n)
		return f
	}
	for _, n := range []int{2, 1, 2, 5, 4} {
		save(t, s, revision(n))
	}
	assert.Equal(t, "revision 5", get(t, s, revision(1).ID).Title)
	c := s.Counts()
	assert.EqualValues(t, 2, c.Saved)
	assert.EqualValues(t, 3, c.Ignored)
}

func TestTraceIndexFollowsTheRevision(t *testing.T) {
	s := mustOpen(t, options(t))
	f := findingtest.Full()
	f.HurtTraces = append(f.HurtTraces, finding.HurtTrace{TraceID: "not a trace"}, finding.HurtTrace{TraceID: strings.ToUpper(findingtest.TraceID(0xabc))})
	save(t, s, f, findingtest.Minimal(1))
	for _, id := range []string{findingtest.TraceID(1), findingtest.TraceID(2), findingtest.TraceID(0xabc), f.ID.String()} {
		page, err := s.ByTrace(t.Context(), id, 10)
		require.NoError(t, err)
		assert.Equal(t, []string{f.Title}, decode(t, page), id)
	}
	assert.EqualValues(t, 1, s.Counts().TracesNotIndexed)

	f.Revision++
	f.HurtTraces = f.HurtTraces[:1]
	save(t, s, f)
	page, err := s.ByTrace(t.Context(), findingtest.TraceID(2), 10)
	require.NoError(t, err)
	assert.Empty(t, page)
}

func TestSaveRefusesWhatCannotBeKept(t *testing.T) {
	s := mustOpen(t, options(t))
	large := findingtest.Full()
	large.Summary = strings.Repeat("x", MaxFindingBytes)
	noState := findingtest.Minimal(1)
	noState.State = ""
	noRevision := findingtest.Minimal(1)
	noRevision.Revision = 0
	for name, f := range map[string]*finding.Finding{"empty": {}, "large": large, "state": noState, "revision": noRevision} {
		assert.ErrorIs(t, s.Save(t.Context(), f), ErrRefused, name)
	}
	assert.EqualValues(t, 4, s.Counts().Refused)
}

func TestListPagesNewestFirst(t *testing.T) {
	s := mustOpen(t, options(t))
	var want []string
	for n := range 7 {
		f := findingtest.Minimal(n / 2) // two start at the same time
		f.ID = finding.NewID("test", fmt.Sprint(n), f.StartedAt)
		f.Title = fmt.Sprint(n)
		if n%3 == 0 {
			f.State = finding.StateResolved
		}
		save(t, s, f)
	}
	cursor, pages := "", 0
	for {
		after, err := ParseCursor(cursor)
		require.NoError(t, err)
		page, next, err := s.List(t.Context(), "", findingsapi.OrderNewest, after, 3)
		require.NoError(t, err)
		want = append(want, decode(t, page)...)
		pages++
		if next == "" {
			break
		}
		cursor = next
	}
	assert.Equal(t, 3, pages)
	assert.ElementsMatch(t, []string{"0", "1", "2", "3", "4", "5", "6"}, want)
	assert.Equal(t, "6", want[0])
	assert.ElementsMatch(t, []string{"4", "5"}, want[1:3])
	page, next, err := s.List(t.Context(), finding.StateResolved, findingsapi.OrderNewest, first, 3)
	require.NoError(t, err)
	assert.Equal(t, []string{"6", "3", "0"}, decode(t, page))
	assert.Empty(t, next, "three match: there is no further page")
}

// TestListByImpact: what an engineer on call wants to see first, page by page.
func TestListByImpact(t *testing.T) {
	s := mustOpen(t, options(t))
	for n, f := range []struct {
		title        string
		state        finding.State
		failed, slow int64
	}{
		{"open, failed", finding.StateOpen, 3, 0},
		{"open, slow", finding.StateOpen, 0, 1},
		{"over, failed", finding.StateResolved, 9, 0},
		{"withdrawn", finding.StateWithdrawn, 9, 0},
		{"over", finding.StateResolved, 0, 0},
		{"predicted", finding.StatePredicted, 0, 0},
		{"open", finding.StateOpen, 0, 0},
		{"mended, failed", finding.StateMended, 1, 0},
		{"mended", finding.StateMended, 0, 0},
		{"open, changed", finding.StateOpen, 0, 0},
	} {
		x := findingtest.Minimal(n)
		x.Title, x.State, x.Impact.FailedRequests, x.Impact.SlowRequests = f.title, f.state, f.failed, f.slow
		x.HurtTraces = nil
		if f.title == "open, changed" {
			x.HurtTraces = findingtest.Full().HurtTraces
		}
		save(t, s, x)
	}
	var all []string
	for cursor := ""; ; {
		after, err := ParseCursor(cursor)
		require.NoError(t, err)
		page, next, err := s.List(t.Context(), "", findingsapi.OrderImpact, after, 2)
		require.NoError(t, err)
		all = append(all, decode(t, page)...)
		if cursor = next; next == "" {
			break
		}
	}
	assert.Equal(t, []string{"open, changed", "open, slow", "open, failed", "open", "predicted", "mended, failed", "mended", "over, failed", "over", "withdrawn"}, all)
	page, _, err := s.List(t.Context(), finding.StateOpen, findingsapi.OrderImpact, first, 9)
	require.NoError(t, err)
	assert.Equal(t, []string{"open, changed", "open, slow", "open, failed", "open"}, decode(t, page))
}

func TestParseCursorRefusesOthers(t *testing.T) {
	for _, in := range []string{"x", "1", "1-x", "1-1-x", "-1-1-" + findingtest.Full().ID.String(), "1-1-" + strings.Repeat("0", 32), "1-" + findingtest.Full().ID.String()} {
		_, err := ParseCursor(in)
		assert.ErrorContains(t, err, "not the `next` of a page", in)
	}
}

func TestOldestChangesAreEvictedAboveTheBound(t *testing.T) {
	o := options(t)
	o.MaxFindings = 3
	s := mustOpen(t, o)
	now := findingtest.Start
	s.now = func() time.Time { now = now.Add(time.Second); return now }
	for n := range 3 {
		save(t, s, findingtest.Minimal(n))
	}
	again := findingtest.Minimal(0) // changed after 1 and 2
	again.Revision = 2
	save(t, s, again, findingtest.Minimal(3))
	s.now = func() time.Time { return findingtest.Start.Add(-time.Hour) } // a clock set back
	save(t, s, findingtest.Minimal(4))

	page, _, err := s.List(t.Context(), "", findingsapi.OrderNewest, first, 10)
	require.NoError(t, err)
	assert.Equal(t, []string{"finding 4", "finding 3", "finding 0"}, decode(t, page))
	assert.EqualValues(t, 2, s.Counts().EvictedByCount)
	_, err = s.Get(t.Context(), findingtest.Minimal(1).ID.String())
	assert.ErrorIs(t, err, ErrNotFound)
	page, err = s.ByTrace(t.Context(), findingtest.Minimal(1).ID.String(), 10)
	require.NoError(t, err)
	assert.Empty(t, page, "its index entries went with it")
}

func TestExpire(t *testing.T) {
	s := mustOpen(t, options(t))
	s.now = func() time.Time { return findingtest.Start }
	save(t, s, findingtest.Minimal(1))
	s.now = func() time.Time { return findingtest.Start.Add(time.Minute) }
	save(t, s, findingtest.Minimal(2))
	s.now = func() time.Time { return findingtest.Start.Add(time.Hour + time.Second) }
	n, err := s.Expire(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	assert.EqualValues(t, 1, s.Counts().EvictedByAge)
	_, err = s.Get(t.Context(), findingtest.Minimal(2).ID.String())
	assert.NoError(t, err)
	st, err := s.Status(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1, st.Open)
	assert.Equal(t, findingtest.Start.Add(time.Minute), *st.OldestChange)
}

func TestReadsGoOnDuringWrites(t *testing.T) {
	s := mustOpen(t, options(t))
	const writers, each = 4, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				assert.NoError(t, s.Save(t.Context(), findingtest.Minimal(w*each+n)))
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 50 {
				page, _, err := s.List(t.Context(), "", findingsapi.OrderNewest, first, 200)
				assert.NoError(t, err)
				for i := 1; i < len(page); i++ {
					assert.NotEqual(t, page[i-1], page[i])
				}
			}
		})
	}
	wg.Wait()
	n, err := s.Held(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, writers*each, n)
	assert.EqualValues(t, writers*each, s.Counts().Saved)
}

func TestSaveFailsWithItsContext(t *testing.T) {
	s := mustOpen(t, options(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, s.Save(ctx, findingtest.Minimal(1)), context.Canceled)
	assert.EqualValues(t, 1, s.Counts().Failed)
	save(t, s, findingtest.Minimal(1)) // and the store goes on
}

// execIn runs statements on the file as another program would.
func execIn(t *testing.T, path string, statements ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	db.SetMaxOpenConns(1)
	for _, q := range statements {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	return db
}

func TestOpenExplainsWhatIsWrong(t *testing.T) {
	fill := func(t *testing.T, path string) {
		s, err := Open(t.Context(), Options{Path: path, Retention: time.Hour, MaxFindings: 100})
		require.NoError(t, err)
		for n := range 50 {
			save(t, s, findingtest.Minimal(n))
		}
		require.NoError(t, s.Close())
	}
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    []string
	}{
		{"no SQLite file", func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no database ", 100)), 0o600))
		}, []string{"damaged or no SQLite file", "move it away"}},
		{"damaged in the middle", func(t *testing.T, path string) {
			fill(t, path)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte(strings.Repeat("\xff", 8192)), 4096)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, []string{"damaged or no SQLite file", ".recover"}},
		{"newer schema", func(t *testing.T, path string) {
			fill(t, path)
			execIn(t, path, "PRAGMA user_version = 99")
		}, []string{"newer Tapio", "version is 99", "set `path`"}},
		{"another program's", func(t *testing.T, path string) {
			execIn(t, path, "CREATE TABLE bookmarks (url TEXT)")
		}, []string{"another program", "set `path`"}},
		{"a directory", func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o700))
		}, []string{"is a directory", "set `path`"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := options(t)
			require.NoError(t, os.MkdirAll(filepath.Dir(o.Path), 0o700))
			tc.prepare(t, o.Path)
			_, err := Open(t.Context(), o)
			for _, want := range append(tc.want, o.Path) {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestOpenExplainsALock(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the busy timeout")
	}
	t.Parallel()
	o := options(t)
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	execIn(t, o.Path, "PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE")
	_, err = Open(t.Context(), o)
	assert.ErrorContains(t, err, o.Path+" is locked by another process")
}

// TestOneCollectorAtATime: a second one is told who is there; one that is gone, however
// it went, is in nobody's way.
func TestOneCollectorAtATime(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the busy timeout")
	}
	t.Parallel()
	o := options(t)
	first, err := Open(t.Context(), o)
	require.NoError(t, err)
	_, err = Open(t.Context(), o)
	assert.EqualError(t, err, fmt.Sprintf("findings database %s is in use by another collector (process %d): "+
		"stop that one, or set `path` of this one to another file", o.Path, os.Getpid()))
	save(t, first, findingtest.Minimal(1))
	ending := time.AfterFunc(100*time.Millisecond, func() { assert.NoError(t, first.Close()) })
	defer ending.Stop()
	assert.EqualValues(t, "finding 1", get(t, mustOpen(t, o), findingtest.Minimal(1).ID).Title, "one that is about to end is waited for")
}

func TestOpenFailsWithoutAPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(t.Context(), Options{Path: filepath.Join(file, "findings.db")})
	assert.ErrorContains(t, err, "cannot create the directory")
}

func TestGetByTheBeginningOfAnID(t *testing.T) {
	s := mustOpen(t, options(t))
	withID := func(id string) *finding.Finding {
		f := findingtest.Minimal(1)
		var err error
		f.ID, err = finding.ParseID(id + strings.Repeat("0", 32-len(id)))
		require.NoError(t, err)
		return f
	}
	for _, id := range []string{"abcd1", "abcd2", "abce", "ffff"} {
		save(t, s, withID(id))
	}
	for prefix, want := range map[string]string{"abcd1": "abcd1", "abce": "abce", "ffff0000": "ffff", "fff": "ffff"} {
		body, err := s.Get(t.Context(), prefix)
		require.NoError(t, err, prefix)
		assert.Contains(t, string(body), `"id":"`+want, prefix)
	}
	_, err := s.Get(t.Context(), "abcf")
	assert.ErrorIs(t, err, ErrNotFound)
	_, err = s.Get(t.Context(), "abc")
	assert.EqualError(t, err, `"abc" is how the ids of several findings begin: `+withID("abcd1").ID.String()+", "+withID("abcd2").ID.String()+", "+
		withID("abce").ID.String()+"; want more digits")
	for n := range 6 {
		save(t, s, withID(fmt.Sprintf("abc%d", n)))
	}
	_, err = s.Get(t.Context(), "abc")
	assert.ErrorContains(t, err, " and others; want more digits")
}

func TestUnfinished(t *testing.T) {
	o := options(t)
	s := mustOpen(t, o)
	followed, other, over := findingtest.Minimal(1), findingtest.Minimal(2), findingtest.Minimal(3)
	followed.Resume, over.Resume = "what it takes", "what it took"
	over.State, over.ResolvedAt = finding.StateResolved, &over.UpdatedAt
	save(t, s, followed, other, over)
	open, err := s.Unfinished(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, open, 1, "neither the one of another process nor the one that is over")
	assert.Equal(t, followed, open[0])
	page, _, err := s.List(t.Context(), "", findingsapi.OrderNewest, first, 10)
	require.NoError(t, err)
	for _, body := range page {
		assert.NotContains(t, string(body), "what it t", "nobody else needs it")
	}

	later := *followed
	later.Revision, later.Resume = followed.Revision+1, ""
	later.State, later.ResolvedAt = finding.StateResolved, &later.UpdatedAt
	save(t, s, &later)
	open, err = s.Unfinished(t.Context(), 10)
	require.NoError(t, err)
	assert.Empty(t, open)
}

// TestRevisionWithoutResume: one that waited on disk while the collector was down.
func TestRevisionWithoutResume(t *testing.T) {
	s := mustOpen(t, options(t))
	f, later := findingtest.Minimal(1), findingtest.Minimal(1)
	f.Resume, later.Revision = "what it takes", f.Revision+1
	save(t, s, f, later)
	open, err := s.Unfinished(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, open, 1)
	assert.Equal(t, later.Revision, open[0].Revision)
	assert.Equal(t, "what it takes", open[0].Resume)
}

func TestUnfinishedIsBoundedAndSkipsWhatItCannotRead(t *testing.T) {
	s := mustOpen(t, options(t))
	for n := range 5 {
		f := findingtest.Minimal(n + 1)
		f.Resume = "x"
		save(t, s, f)
	}
	open, err := s.Unfinished(t.Context(), 3)
	require.NoError(t, err)
	assert.Len(t, open, 3)
	_, err = s.write.ExecContext(t.Context(), "UPDATE finding SET body = '{' WHERE id = ?", open[0].ID.String())
	require.NoError(t, err)
	open, err = s.Unfinished(t.Context(), 10)
	require.NoError(t, err)
	assert.Len(t, open, 4)
}

// TestFileOfTheFirstSchema: one that an earlier version wrote is brought up to date.
func TestFileOfTheFirstSchema(t *testing.T) {
	o := options(t)
	require.NoError(t, os.MkdirAll(filepath.Dir(o.Path), 0o700))
	db, err := sql.Open("sqlite", dsn(o.Path, ""))
	require.NoError(t, err)
	f := findingtest.Minimal(1)
	body, err := json.Marshal(f)
	require.NoError(t, err)
	for _, statement := range []string{migrations[0], fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 1", applicationID)} {
		_, err = db.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	_, err = db.ExecContext(t.Context(), "INSERT INTO finding VALUES (?, 1, 'open', ?, ?, ?)", f.ID.String(), f.StartedAt.UnixNano(), time.Now().UnixNano(), string(body))
	require.NoError(t, err)
	require.NoError(t, db.Close())

	s := mustOpen(t, o)
	assert.Equal(t, f, get(t, s, f.ID))
	open, err := s.Unfinished(t.Context(), 10)
	require.NoError(t, err)
	assert.Empty(t, open, "nothing is known of how to go on with it")
}
