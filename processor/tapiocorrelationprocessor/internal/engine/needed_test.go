package engine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// every returns a stay like all others, changed in one of k requests.
func every(k int, change func(*stay)) func(int) stay {
	return func(n int) stay {
		v := usual()
		if n%k == 0 {
			change(&v)
		}
		return v
	}
}

// visits plays minutes of usual stays, which before changes, and then others.
func visits(before, now func(*stay)) func(*scenario) {
	return func(s *scenario) {
		s.stays(4*time.Minute, every(1, before))
		s.stays(40*time.Second, every(1, now))
		s.wait(15 * time.Second)
	}
}

func nothing(*stay) {}

// cpu hands over one sample of a process's CPU.
func (s *scenario) cpu(of service, cores float64) {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	of.resource(rm.Resource())
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("container.cpu.usage")
	dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
	dp.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
	dp.SetDoubleValue(cores)
	s.engine.Metrics(md)
}

// busy plays visits with a sample of payment's CPU every ten seconds.
func (s *scenario) busy(d time.Duration, cores float64, v func(int) stay) {
	for range int(d / (10 * time.Second)) {
		s.cpu(payment, cores)
		s.stays(10*time.Second, v)
	}
}

// plays are a case of each pattern whose cause spans, metrics or processes tell: its
// scenario is no list of events, and has no file in testdata of package pattern.
var plays = map[string]func(*scenario){
	"memory-limit-oom-kill": oomOf("cgroup"),
	"node-out-of-memory":    oomOf("node"),
	"process-killed":        dies(killed),
	"process-crashed":       dies(segfault),
	"process-stopped":       dies(sigterm),
	"connection-refused": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"callee-failing": func(s *scenario) {
		s.healthy(2 * time.Minute)
		s.traffic(20*time.Second, 2, failing(500, 3*time.Millisecond))
	},
	"not-responding": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.wait(2 * time.Second)
		for range 15 {
			s.send(hanging(2*time.Second, deadline))
			s.wait(time.Second)
		}
	},
	"unit-failed": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.unit("payments.service", payment, "failed", failed3)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"unit-stopped": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.unit("payments.service", payment, "deactivated", nil)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"unit-dependency-failed": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.unit("payments.service", payment, "activated", nil)
		s.unit("payments.service", service{}, "dependency_failed", map[string]any{"tapio.systemd.dependencies": []any{"db.service"}})
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"unit-out-of-space": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.unit("payments.service", payment, "activated", nil)
		s.enospc(payment)
		s.unit("payments.service", payment, "failed", failed3)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"request-out-of-space": outOfSpace(true, event.AssociationThread),
	"process-out-of-space": refusedByKernel("ENOSPC", payment),
	"process-out-of-files": refusedByKernel("EMFILE", payment),
	"node-rebooted": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.system("shutdown", map[string]any{"tapio.system.shutdown.kind": "reboot"})
		s.wait(10 * time.Millisecond)
		s.unit("payments.service", payment, "deactivated", nil)
		s.refusals(10, "u")
		s.system("boot_completed", nil)
		s.wait(5 * time.Second)
	},
	"node-restarted": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.refusals(10, "u")
		s.wait(20 * time.Second)
		s.system("boot_completed", nil)
		s.wait(5 * time.Second)
	},
	"name-unresolved": func(s *scenario) {
		for n := range 80 {
			err := ""
			if n >= 50 {
				if n == 50 {
					s.dnsFailed(storefront, "payment.shop", "NXDOMAIN")
				}
				err = noSuchHost
			}
			s.byName(err)
			s.wait(100 * time.Millisecond)
		}
		s.wait(5 * time.Second)
	},
	"limit-predicted": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.grow(30, steady)
		s.healthy(time.Second)
		s.grow(14, leak)
	},
	"callee-unanswered": func(s *scenario) {
		s.stays(4*time.Minute, every(1, func(v *stay) { v.direct = true }))
		s.stays(40*time.Second, func(n int) stay { v := usual(); v.calls, v.direct = n%2, n%2 == 0; return v })
		s.wait(15 * time.Second)
	},
	"errors-logged":     errorsLogged,
	"step-vanished":     visits(nothing, func(v *stay) { v.says = v.says[:2] }),
	"step-appeared":     visits(nothing, func(v *stay) { v.says = append(v.says, "ERROR TaxException: no rate for region 77") }),
	"operation-failing": visits(nothing, func(v *stay) { v.fails = true }),
	"step-slow":         visits(nothing, func(v *stay) { v.query = 200 * time.Millisecond }),
	"operation-slow":    visits(nothing, func(v *stay) { v.own = 200 * time.Millisecond }),
	"call-delayed":      visits(nothing, func(v *stay) { v.lost = 200 * time.Millisecond }),
	"calls-multiplied":  visits(nothing, func(v *stay) { v.calls = 20 }),
	"retry-storm":       storm(20*ms, 30*ms, false),
	"thundering-herd":   herd(true, 0),
	"cascading-failure": cascade(2*time.Second, 400*ms),
	"resource-abnormal": func(s *scenario) {
		s.busy(5*time.Minute, 0.05, every(1, nothing))
		s.busy(time.Minute, 0.9, every(4, func(v *stay) { v.own = 60 * time.Millisecond }))
		s.wait(15 * time.Second)
	},
}

// TestEveryPatternIsNeeded takes one pattern after the other out of the library: the
// scenario that it has, here or in a file that TestLibrary of package patterns plays,
// then has no finding of it any more.
func TestEveryPatternIsNeeded(t *testing.T) {
	library, err := pattern.Library()
	require.NoError(t, err)
	ids := map[string]bool{}
	for _, p := range library {
		ids[p.ID] = true
		_, here := plays[p.ID]
		for _, which := range []string{"fires.yaml", "nearly.yaml"} {
			_, err := os.Stat(filepath.Join("..", "pattern", "testdata", p.ID, which))
			assert.NotEqual(t, here, err == nil, "%s: want a case in plays, or testdata/%s/%s", p.ID, p.ID, which)
		}
	}
	for id, play := range plays {
		require.True(t, ids[id], "a case of %s, which is not in the library", id)
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			of := func(f *finding.Finding) bool { return f.Pattern == id && f.State != finding.StateWithdrawn }
			s := newScenario(t)
			play(s)
			require.True(t, slices.ContainsFunc(s.latest(), of), "%v", titles(s.latest()))
			without := newScenario(t, func(o *Options) {
				o.Patterns = slices.DeleteFunc(slices.Clone(o.Patterns), func(p *pattern.Pattern) bool { return p.ID == id })
			})
			play(without)
			require.False(t, slices.ContainsFunc(without.latest(), of))
		})
	}
}
