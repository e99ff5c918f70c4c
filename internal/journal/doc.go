// Package journal reads the files of systemd's journal, as described in
// https://systemd.io/JOURNAL_FILE_FORMAT/, without libsystemd and without
// journalctl: regular and compact files, with or without keyed hashes, fields
// compressed by zstd, lz4 or xz, while journald writes, rotates and deletes them.
//
// The way of an entry: a file walks its chain of entry arrays and decodes one
// entry at a time, through a pool of windows that all files share; Reader merges
// the files of all directories in the order that journalctl shows and remembers
// how many entries of each file were handed on. Nothing is mapped into memory: a
// file that shrinks while it is read is an error, not a signal.
//
// Files are data from elsewhere: every offset and size in them is checked, and
// what cannot be read is skipped and counted.
package journal
