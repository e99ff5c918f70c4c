package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// BenchmarkNodeInTrouble is one more event of a node on which units failed and that tells
// of thousands of processes that ended and calls that were refused: what it costs must not
// grow with what was seen before.
func BenchmarkNodeInTrouble(b *testing.B) {
	for _, before := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprint(before, " before"), func(b *testing.B) {
			s := newScenario(b, func(o *Options) { o.Now = time.Now })
			s.clock = time.Now()
			for n := range 20 {
				name := []string{api, "u1.service", "u2.service"}[n%3]
				s.unit(name, service{}, "failed", failed3)
				s.unit(name, service{}, "restarting", map[string]any{"tapio.systemd.unit.restarts": n/3 + 1})
			}
			one := func(n int) {
				s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 1}, s.process(int64(1000+n)))
				s.about(event.ProcessExit, map[string]any{event.KeyProcessExitCode: 1}, map[string]any{
					event.KeyProcessPID: int64(100_000 + n), event.KeyProcessExecutableName: "sh",
				})
				s.connectFailed(storefront, payment)
				if n%10 == 0 {
					s.unit("u3.service", service{}, "failed", failed3)
				}
				s.engine.Drain()
				s.engine.Advance()
			}
			for n := range before {
				one(n)
			}
			n := before
			for b.Loop() {
				one(n)
				n++
			}
		})
	}
}
