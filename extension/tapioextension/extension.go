package tapioextension

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/extension/tapioextension/internal/metadata"
	"github.com/yairfalse/tapio/extension/tapioextension/internal/store"
	"github.com/yairfalse/tapio/internal/finding"
)

const (
	// maxHeaderBytes bounds the header of a request; a long bearer token has 4 KiB.
	maxHeaderBytes = 16 << 10
	// expireInterval is how often findings are checked for their age. A shorter
	// retention is checked ten times within it.
	expireInterval = time.Hour
	// expireTimeout bounds one such check.
	expireTimeout = time.Minute
)

// ErrRefused is wrapped by the error of SaveFinding for a finding that will never
// be accepted, so that trying again is useless.
var ErrRefused = store.ErrRefused

// FindingStore keeps findings. The tapio extension implements it; a component
// finds it by id in component.Host.GetExtensions.
type FindingStore interface {
	// HandOver tells what of a revision does not travel with it, its Resume, which SaveFinding
	// keeps together with the revision. It is to be called before the revision leaves for the
	// exporter; it keeps the newest of each finding, of at most MaxOpenFindings.
	HandOver(f *finding.Finding)
	// SaveFinding commits a revision to disk. It is ignored, without an error, when
	// the store holds that revision or a newer one. An error that wraps ErrRefused
	// is final; after any other the same call may be repeated. It may be called
	// concurrently, between the extension's Start and Shutdown.
	SaveFinding(ctx context.Context, f *finding.Finding) error
	// OpenFindings returns the findings that are neither resolved nor withdrawn and can
	// be resumed (finding.Finding.Resume), at most MaxOpenFindings, newest start first.
	OpenFindings(ctx context.Context) ([]*finding.Finding, error)
}

// MaxOpenFindings bounds what OpenFindings returns, and what waits of HandOver.
const MaxOpenFindings = 1000

var (
	_ FindingStore      = (*tapioExtension)(nil)
	_ storage.Extension = (*tapioExtension)(nil)
)

// errNotRunning is returned before Start and after Shutdown.
var errNotRunning = errors.New("the tapio extension is not running")

type tapioExtension struct {
	cfg *Config
	set extension.Settings

	host      component.Host
	store     atomic.Pointer[store.Store]
	handed    handedOver
	telemetry *metadata.TelemetryBuilder
	server    *http.Server
	address   net.Addr
	failing   atomic.Bool // the last save failed
	stop      context.CancelFunc
	running   sync.WaitGroup
}

func newExtension(set extension.Settings, cfg *Config) *tapioExtension {
	return &tapioExtension{cfg: cfg, set: set}
}

// Start opens the database and the listener. It fails with an error that says
// which of the two is the problem and what to do about it.
func (e *tapioExtension) Start(ctx context.Context, host component.Host) error {
	e.host = host
	if err := e.start(ctx); err != nil {
		return errors.Join(err, e.Shutdown(ctx))
	}
	e.set.Logger.Info("Keeping findings and serving them",
		zap.String("path", e.store.Load().Path()), zap.Stringer("endpoint", e.address), zap.Int64("size_bytes", e.store.Load().Size()))
	return nil
}

func (e *tapioExtension) start(ctx context.Context) error {
	path, err := e.cfg.databasePath()
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{Path: path, Retention: e.cfg.Retention, MaxFindings: e.cfg.MaxFindings})
	if err != nil {
		return err
	}
	e.store.Store(s)
	if e.telemetry, err = newTelemetry(e.set.TelemetrySettings, s, &e.handed); err != nil {
		return err
	}
	if err := e.serve(ctx, s); err != nil {
		return err
	}
	background, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	e.running.Go(func() { e.expire(background, s) })
	return nil
}

func (e *tapioExtension) serve(ctx context.Context, s *store.Store) error {
	listener, err := e.cfg.HTTP.ToListener(ctx)
	if err != nil {
		return fmt.Errorf("cannot serve the findings API: %w; set `endpoint` to a free address", err)
	}
	handler := newAPI(s, e.set.BuildInfo.Version, e.set.Logger)
	if !e.cfg.HTTP.Auth.HasValue() && isLoopback(listener.Addr()) {
		handler = requireLoopbackHost(handler)
	}
	e.server, err = e.cfg.HTTP.ToServer(ctx, e.host.GetExtensions(), e.set.TelemetrySettings, handler, withJSONErrors())
	if err != nil {
		return errors.Join(fmt.Errorf("cannot serve the findings API: %w", err), listener.Close())
	}
	e.server.MaxHeaderBytes = maxHeaderBytes
	e.address = listener.Addr()
	e.running.Go(func() {
		if err := e.server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			componentstatus.ReportStatus(e.host, componentstatus.NewFatalErrorEvent(fmt.Errorf("findings API: %w", err)))
		}
	})
	return nil
}

// expire deletes old findings until ctx ends.
func (e *tapioExtension) expire(ctx context.Context, s *store.Store) {
	tick := time.NewTicker(max(min(expireInterval, e.cfg.Retention/10), time.Millisecond))
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, expireTimeout)
		if _, err := s.Expire(once); err != nil && ctx.Err() == nil {
			e.set.Logger.Warn("Old findings stay for now", zap.Error(err))
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Shutdown ends the API, then closes the database. It may be called after a Start
// that failed, or without one.
func (e *tapioExtension) Shutdown(ctx context.Context) error {
	var errs []error
	if e.server != nil {
		if err := e.server.Shutdown(ctx); err != nil {
			errs = append(errs, err, e.server.Close())
		}
	}
	if e.stop != nil {
		e.stop()
	}
	e.running.Wait()
	if e.telemetry != nil {
		e.telemetry.Shutdown()
	}
	if s := e.store.Swap(nil); s != nil {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// HandOver implements FindingStore.
func (e *tapioExtension) HandOver(f *finding.Finding) { e.handed.put(f) }

// SaveFinding implements FindingStore.
func (e *tapioExtension) SaveFinding(ctx context.Context, f *finding.Finding) error {
	s := e.store.Load()
	if s == nil {
		return errNotRunning
	}
	began := time.Now()
	whole := *f
	whole.Resume = e.handed.of(f.ID, f.Revision)
	err := s.Save(ctx, &whole)
	if err == nil || errors.Is(err, ErrRefused) {
		e.handed.saved(f.ID, f.Revision)
	}
	e.telemetry.ExtensionTapioSaveDuration.Record(ctx, time.Since(began).Seconds())
	if !errors.Is(err, ErrRefused) {
		e.report(err)
	}
	return err
}

// OpenFindings implements FindingStore.
func (e *tapioExtension) OpenFindings(ctx context.Context) ([]*finding.Finding, error) {
	s := e.store.Load()
	if s == nil {
		return nil, errNotRunning
	}
	return s.Unfinished(ctx, MaxOpenFindings)
}

// GetClient implements storage.Extension: a component keeps in the database what it wants to
// know again after a restart, such as how far it has read.
func (e *tapioExtension) GetClient(_ context.Context, kind component.Kind, id component.ID, name string) (storage.Client, error) {
	s := e.store.Load()
	if s == nil {
		return nil, errNotRunning
	}
	return s.State(kind.String() + "/" + id.String() + "/" + name), nil
}

// report tells the host when the store begins to fail and when it works again.
func (e *tapioExtension) report(err error) {
	switch failing := err != nil; {
	case failing && e.failing.CompareAndSwap(false, true):
		componentstatus.ReportStatus(e.host, componentstatus.NewRecoverableErrorEvent(err))
	case !failing && e.failing.CompareAndSwap(true, false):
		componentstatus.ReportStatus(e.host, componentstatus.NewEvent(componentstatus.StatusOK))
	}
}
