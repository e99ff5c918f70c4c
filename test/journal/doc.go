// Package journal holds end-to-end tests of the journal part of the receiver
// tapio_systemd: the real collector follows a journald of its own, is killed in
// the middle, and must hand on over OTLP what journalctl shows.
//
// They need root and the Debian package systemd. Without them they are skipped,
// with the reason; with CI=true they fail instead.
package journal
