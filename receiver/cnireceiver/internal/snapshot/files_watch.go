package snapshot

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// maxWatches bounds the directories that are watched; the rest is seen when
// everything is read at intervals.
const maxWatches = 256

// FileWatcher says that something changed in a directory of CNI. Directories
// that are not there yet are awaited at the next one above that is.
type FileWatcher struct {
	inotify *fsnotify.Watcher
	wanted  []string
}

// WatchFiles starts to watch nothing; Update says what.
func WatchFiles() (*FileWatcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &FileWatcher{inotify: w}, nil
}

// Events are changes; IsRelevant tells whether one matters.
func (w *FileWatcher) Events() <-chan fsnotify.Event { return w.inotify.Events }

// Errors are losses of events: after one, everything must be read again.
func (w *FileWatcher) Errors() <-chan error { return w.inotify.Errors }

// IsRelevant says whether a change is in a directory that is wanted, or on the
// way to one. Reading and changing times is none.
func (w *FileWatcher) IsRelevant(ev fsnotify.Event) bool {
	for _, dir := range w.wanted {
		if ev.Name == dir || strings.HasPrefix(ev.Name, dir+"/") || strings.HasPrefix(dir, ev.Name+"/") {
			return true
		}
	}
	return false
}

// Update watches what r's next picture is made of, and nothing else. It says
// whether a directory is watched that was not before: p may lack what came into it
// since it was read. The error is the first, such as a limit of the system
// (fs.inotify.max_user_watches).
func (w *FileWatcher) Update(r *Reader, p *state.Picture) (isNew bool, first error) {
	w.wanted = w.wanted[:0]
	for _, dir := range r.watchedDirs(p) {
		w.wanted = append(w.wanted, r.host(dir))
	}
	need := make(map[string]bool, len(w.wanted))
	for _, dir := range w.wanted {
		if at := existing(dir); at != "/" && len(need) < maxWatches {
			need[at] = true
		}
	}
	watched := make(map[string]bool)
	for _, at := range w.inotify.WatchList() {
		watched[at] = true
		if !need[at] {
			_ = w.inotify.Remove(at) // fails when the directory went by itself
		}
	}
	for at := range need {
		// Also one that is watched already: it may be another of the same name.
		switch err := w.inotify.Add(at); {
		case err == nil:
			isNew = isNew || !watched[at]
		case os.IsNotExist(err): // it went, or the way to what is wanted did
			isNew = true
		case first == nil:
			first = err
		}
	}
	return isNew, first
}

// Close ends it.
func (w *FileWatcher) Close() error { return w.inotify.Close() }

// existing is the directory itself, or the next above that is there.
func existing(dir string) string {
	for dir != "/" && dir != "." {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "/"
}

// watchedDirs are the configured directories, the networks in the stores of
// addresses, and where flannel puts its subnet.
func (r *Reader) watchedDirs(p *state.Picture) []string {
	var dirs []string
	for _, list := range [][]string{r.opts.ConfigDirs, r.opts.PluginDirs, r.opts.ResultDirs, r.opts.NamespaceDirs} {
		dirs = append(dirs, list...)
	}
	for _, c := range p.Configs {
		if c.Network != nil && c.Network.HasPluginDir {
			dirs = append(dirs, filepath.Join(filepath.Dir(c.Path), c.Network.Name))
		}
	}
	if !r.opts.Pools {
		return dirs
	}
	for _, dir := range r.dataDirs(p) {
		dirs = append(dirs, dir)
		for _, entry := range r.list(p, state.SourcePools, dir) {
			if r.isDir(dir, entry) {
				dirs = append(dirs, filepath.Join(dir, entry.Name()))
			}
		}
	}
	for path := range p.Subnets {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}
