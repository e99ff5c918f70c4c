//go:build !linux || !(amd64 || arm64)

package ebpfreceiver

import (
	"os"
	"runtime"

	"go.uber.org/zap"
)

// openSource has nothing to open on this system. The receiver starts all the
// same and says so, because one configuration may serve several systems.
func openSource(cfg *Config, _ *zap.Logger) source {
	const reason = "kernel events need Linux on amd64 or arm64; this is " + runtime.GOOS + " on " + runtime.GOARCH
	s := &noSource{stopped: make(chan struct{})}
	for _, name := range groupNames() {
		if name != kmsgName && isEnabled(&cfg.Programs, name) {
			s.failures = append(s.failures, failure{program: name, reason: reason})
		}
	}
	return s
}

type noSource struct {
	failures []failure
	stopped  chan struct{}
}

func (s *noSource) read() (kernelEvent, error) {
	<-s.stopped
	return nil, os.ErrClosed
}

func (s *noSource) hasMore() bool         { return false }
func (s *noSource) sample() []kernelEvent { return nil }
func (s *noSource) poll() []kernelEvent   { return nil }
func (s *noSource) last() []kernelEvent   { return nil }
func (s *noSource) attached() []string    { return nil }
func (s *noSource) failed() []failure     { return s.failures }
func (s *noSource) stats() sourceStats    { return sourceStats{} }

func (s *noSource) stop() error {
	close(s.stopped)
	return nil
}

func (s *noSource) close() error { return nil }
