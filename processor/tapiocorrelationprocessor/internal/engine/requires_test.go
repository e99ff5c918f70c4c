package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestRequiredUnitFailsInAnyOrder: two units are restarted, of which one requires the
// other, which fails. Whatever is told first, that is the root.
func TestRequiredUnitFailsInAnyOrder(t *testing.T) {
	requires := map[string]any{"tapio.systemd.dependencies": []any{"db.service"}}
	tell := []func(*scenario, time.Time){
		func(s *scenario, at time.Time) { s.unitAt(at, "payments.service", service{}, "deactivated", requires) },
		func(s *scenario, at time.Time) {
			s.unitAt(at.Add(20*time.Millisecond), "db.service", service{pid: 50}, "failed", failed3)
		},
		func(s *scenario, at time.Time) {
			s.unitAt(at.Add(25*time.Millisecond), "payments.service", service{}, "dependency_failed", requires)
		},
		func(s *scenario, _ time.Time) { s.refusals(3, "u") },
	}
	for a := range tell {
		for b := range tell {
			for c := range tell {
				d := 6 - a - b - c
				if a == b || a == c || b == c {
					continue
				}
				t.Run(fmt.Sprint(a, b, c, d), func(t *testing.T) {
					s := newScenario(t)
					s.healthy(5 * time.Second)
					s.unit("payments.service", payment, "activated", nil)
					at := s.clock
					for _, i := range []int{a, b, c, d} {
						tell[i](s, at)
					}
					s.refusals(5, "u")
					s.wait(5 * time.Second)
					f := s.one()
					assert.Equal(t, "unit-failed", f.Pattern)
					assert.Equal(t, "db.service", f.RootCause.Entity.Name)
				})
			}
		}
	}
}
