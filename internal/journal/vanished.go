package journal

// sight is what a scan of the directories found.
type sight struct {
	files map[ID]bool
	// folders are those with journal files; false is one with a file of which it
	// is not known which it is.
	folders map[string]bool
}

func newSight() sight { return sight{map[ID]bool{}, map[string]bool{}} }

// file notes a file; id is zero for one that is no journal.
func (s sight) file(f found, id ID) {
	s.files[id] = true
	if _, ok := s.folders[f.folder()]; !ok {
		s.folders[f.folder()] = true
	}
}

// unknown notes a file that could not be looked at.
func (s sight) unknown(f found) { s.folders[f.folder()] = false }

// lacks says that a file is not where it was, nor anywhere else. A folder that has
// no journal file at all says nothing: it may not be mounted yet, and journald
// deletes the one in /run when it has copied it to /var.
func (s sight) lacks(id ID, p position) bool { return !s.files[id] && s.folders[p.Folder] }

// countVanished counts what was not read of files that were deleted while nobody
// had them open, and forgets them. They must be missing twice, as a file that is
// renamed while the directory is read may not be seen.
func (r *Reader) countVanished(there sight) {
	for _, s := range r.open { // those that are deleted can still be read
		there.files[s.header.file] = true
	}
	missing := map[ID]bool{}
	for _, known := range []map[ID]position{r.state.files, r.waiting} {
		for id, p := range known {
			if there.lacks(id, p) || len(known) > maxFiles && !there.files[id] {
				missing[id] = true
			}
		}
	}
	for id := range missing {
		if !r.missing[id] {
			continue
		}
		p, ok := r.state.files[id]
		if !ok {
			p = r.waiting[id]
		}
		r.stats.LostDeleted += p.rest()
		delete(r.state.files, id)
		delete(r.waiting, id)
		delete(missing, id)
	}
	r.missing = missing
}
