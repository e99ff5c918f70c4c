//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// associations are the values of tapio.trace.association.
var associations = [...]string{
	1: event.AssociationGoroutine, 2: event.AssociationThread, 3: event.AssociationSocket, 4: event.AssociationSDK,
	5: event.AssociationGoroutineChild,
}

// withTrace adds to an event the request that the kernel sent behind its record,
// when it sent one.
func withTrace(ev kernelEvent, rest []byte) kernelEvent {
	var c bpf.HTTPTraceContext
	size := int(unsafe.Sizeof(c))
	if len(rest) < size || rest[unsafe.Offsetof(c.Association)] == 0 {
		return ev
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), size), rest)
	if int(c.Association) >= len(associations) {
		return ev
	}
	t := traced{traceContext{traceID: c.TraceId, spanID: c.SpanId, flags: c.Flags, association: associations[c.Association]}}
	switch ev := ev.(type) {
	case connectEvent:
		ev.traced = t
		return ev
	case resetEvent:
		ev.traced = t
		return ev
	case retransmitEvent:
		ev.traced = t
		return ev
	case syscallEvent:
		ev.traced = t
		return ev
	case exitEvent:
		ev.traced = t
		return ev
	case oomEvent:
		ev.traced = t
		return ev
	}
	return ev
}

// traceMaps say which task works on which request: http.bpf.c fills them, others
// look there.
var traceMaps = []string{
	bpf.HTTPMapTracees, bpf.HTTPMapRequests, bpf.HTTPMapSocketTraces, bpf.HTTPMapTracesCtxV1,
	bpf.HTTPMapExchanges, bpf.HTTPMapOutgoing, bpf.HTTPMapEventLoops, bpf.HTTPMapHttpCounts, bpf.HTTPMapSdks,
	bpf.HTTPMapChildren, bpf.HTTPMapChildrenCount, bpf.HTTPMapStarting, bpf.HTTPMapTlsCalls, bpf.HTTPMapTlsSockets,
}

// traces are those maps, when the group http runs.
type traces struct {
	maps map[string]*ebpf.Map
	// hasSDKs says that one of them is that of OpenTelemetry eBPF Instrumentation.
	hasSDKs bool
	// followsChildren says that goroutines are followed to those that they start.
	followsChildren bool
	// seesTLS says that the group tls runs.
	seesTLS bool
}

// openTraces makes the maps, but takes that of OpenTelemetry eBPF Instrumentation
// when it is at context_map. If it is not, ours is put there: by its protocol who comes first
// makes the map, and the other takes it.
func openTraces(cfg *Config, log *zap.Logger) (*traces, error) {
	contextMap := cfg.Programs.HTTP.ContextMap
	spec, err := bpf.LoadHTTP()
	if err != nil {
		return nil, err
	}
	t := &traces{maps: map[string]*ebpf.Map{}, followsChildren: cfg.Programs.HTTP.GoroutineChildren, seesTLS: cfg.Programs.TLS.Enabled}
	for _, name := range traceMaps {
		switch name {
		case bpf.HTTPMapChildren:
			if !t.followsChildren {
				spec.Maps[name].MaxEntries = 1
			}
		case bpf.HTTPMapTlsCalls, bpf.HTTPMapTlsSockets:
			if !t.seesTLS {
				spec.Maps[name].MaxEntries = 1
			}
		}
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create map %s: %w", name, err), t.close())
		}
		t.maps[name] = m
	}
	if contextMap == "" {
		return t, nil
	}
	ours := t.maps[bpf.HTTPMapTracesCtxV1]
	theirs, err := ebpf.LoadPinnedMap(contextMap, nil)
	if errors.Is(err, fs.ErrNotExist) {
		if err = offerContexts(ours, contextMap); err == nil {
			t.hasSDKs = true
			return t, nil
		}
		log.Debug("trace contexts of an OpenTelemetry eBPF Instrumentation that starts later will not be seen", zap.String("context_map", contextMap), zap.Error(err))
		return t, nil
	}
	if err != nil {
		log.Warn("the trace contexts of OpenTelemetry eBPF Instrumentation cannot be read", zap.String("context_map", contextMap), zap.Error(err))
		return t, nil
	}
	if theirs.Type() != ours.Type() || theirs.KeySize() != ours.KeySize() || theirs.ValueSize() != ours.ValueSize() {
		log.Warn("the map at context_map is not one of trace contexts", zap.String("context_map", contextMap), zap.Stringer("map", theirs))
		return t, theirs.Close()
	}
	t.maps[bpf.HTTPMapTracesCtxV1], t.hasSDKs = theirs, true
	return t, ours.Close()
}

// offerContexts puts a map where OpenTelemetry eBPF Instrumentation looks for one. It stays
// there, as theirs does, for who comes next. An error: no file system of BPF is mounted.
func offerContexts(m *ebpf.Map, path string) error {
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return m.Pin(path)
}

// use makes a program's object look there. Without traces it costs next to no
// memory, and no time: the verifier takes out what is for them.
func (t *traces) use(spec *ebpf.CollectionSpec, replacements map[string]*ebpf.Map) error {
	for _, name := range traceMaps {
		m := spec.Maps[name]
		switch {
		case m == nil:
		case t == nil:
			m.MaxEntries = 1
		default:
			m.MaxEntries, m.Flags = t.maps[name].MaxEntries(), t.maps[name].Flags()
			replacements[name] = t.maps[name]
		}
	}
	if t == nil || spec.Variables["traces_enabled"] == nil {
		return nil
	}
	if tls := spec.Variables["tls_enabled"]; tls != nil { // of http.bpf.c alone
		if err := tls.Set(t.seesTLS); err != nil {
			return err
		}
	}
	return errors.Join(
		spec.Variables["traces_enabled"].Set(true),
		spec.Variables["sdk_traces_enabled"].Set(t.hasSDKs),
		spec.Variables["children_enabled"].Set(t.followsChildren))
}

// outcomes are the values of the attribute outcome of
// otelcol_receiver_tapio_ebpf_http_requests.
var outcomes = map[bpf.HTTPHttpCount]string{
	bpf.HTTPHttpCountTAPIO_HTTP_TRACED:          outcomeTraced,
	bpf.HTTPHttpCountTAPIO_HTTP_UNTRACED:        outcomeUntraced,
	bpf.HTTPHttpCountTAPIO_HTTP_INVALID:         outcomeInvalid,
	bpf.HTTPHttpCountTAPIO_HTTP_CUT:             outcomeCut,
	bpf.HTTPHttpCountTAPIO_HTTP_PROCESS_UNKNOWN: outcomeProcessUnknown,
	bpf.HTTPHttpCountTAPIO_HTTP_RUNTIME_UNKNOWN: outcomeRuntimeUnknown,
}

// requests counts requests by what became of their traceparent.
func (t *traces) requests() map[string]int64 {
	counts := map[string]int64{}
	if t == nil {
		return counts
	}
	for number, name := range outcomes {
		counts[name] = sum(t.maps[bpf.HTTPMapHttpCounts], uint32(number))
	}
	return counts
}

// goroutines counts those that were followed to the request for which they were
// started, and requests of which some may have been forgotten before they ended.
func (t *traces) goroutines() (followed, forgotten int64) {
	if t == nil {
		return 0, 0
	}
	var n uint64
	if err := t.maps[bpf.HTTPMapChildrenCount].Lookup(uint32(0), &n); err != nil {
		return 0, 0
	}
	return int64(n), sum(t.maps[bpf.HTTPMapHttpCounts], uint32(bpf.HTTPHttpCountTAPIO_HTTP_CHILDREN_LOST))
}

func (t *traces) close() error {
	if t == nil {
		return nil
	}
	var errs []error
	for _, m := range t.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
