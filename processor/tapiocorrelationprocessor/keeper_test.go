package tapiocorrelationprocessor

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/finding"
)

// fakeStore stands in for the tapio extension, which this package must not import.
type fakeStore struct {
	component.StartFunc
	component.ShutdownFunc
	mu     sync.Mutex
	handed []finding.Finding
	open   []*finding.Finding
}

func (k *fakeStore) HandOver(f *finding.Finding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handed = append(k.handed, *f)
}

func (k *fakeStore) OpenFindings(context.Context) ([]*finding.Finding, error) { return k.open, nil }

func (k *fakeStore) resumeOf(f *finding.Finding) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.handed {
		if k.handed[i].ID == f.ID && k.handed[i].Revision == f.Revision {
			return k.handed[i].Resume
		}
	}
	return ""
}

type storeHost struct {
	component.Host
	store *fakeStore
}

func (h storeHost) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{component.MustNewID("tapio"): h.store}
}

// handedBefore notes whether a store had what resumes a finding when its record left.
type handedBefore struct {
	consumertest.LogsSink
	t     *testing.T
	store *fakeStore
}

func (h *handedBefore) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	for _, rl := range ld.ResourceLogs().All() {
		r := rl.ScopeLogs().At(0).LogRecords().At(0)
		if f, err := finding.FromLog(rl.Resource(), r); err == nil && !f.State.Over() {
			assert.NotEmpty(h.t, h.store.resumeOf(f))
			for _, v := range r.Attributes().All() {
				assert.NotEqual(h.t, h.store.resumeOf(f), v.AsString())
			}
		}
	}
	return h.LogsSink.ConsumeLogs(ctx, ld)
}

// TestWhatResumesAFindingGoesToTheStoreAlone, and a next start goes on with it.
func TestWhatResumesAFindingGoesToTheStoreAlone(t *testing.T) {
	store := &fakeStore{}
	host := storeHost{componenttest.NewNopHost(), store}
	logs := &handedBefore{t: t, store: store}
	p := startPipelines(t, host, []consumer.Traces{consumertest.NewNop()}, []consumer.Logs{logs})
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(time.Now())))
	p.stop(t)
	found := findingsIn(t, &logs.LogsSink)
	require.NotEmpty(t, found)
	last := found[len(found)-1]
	last.Resume = store.resumeOf(last)

	store.open = []*finding.Finding{last}
	logs = &handedBefore{t: t, store: store}
	p = startPipelines(t, host, nil, []consumer.Logs{logs})
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(time.Now())))
	p.stop(t)
	again := findingsIn(t, &logs.LogsSink)
	require.NotEmpty(t, again)
	assert.Equal(t, last.ID, again[0].ID)
	assert.Greater(t, again[0].Revision, last.Revision)
}
