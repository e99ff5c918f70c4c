package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/event"
)

// TestNameOfAServiceThatMayNotBe: that a name does not resolve follows from what Kubernetes
// says of it, a service that is named and does not exist, and that from the quota that keeps
// it from being made; another name is none of theirs.
func TestNameOfAServiceThatMayNotBe(t *testing.T) {
	const lookup = "dial tcp: lookup payment on 10.96.0.10:53: no such host"
	caller := resource{"service.name": "storefront", "k8s.pod.uid": "front-pod", "k8s.namespace.name": "shop", "k8s.deployment.name": "storefront"}
	quota := func(s *scenario) {
		s.event(resource{"k8s.namespace.name": "shop"}, event.K8sQuotaReached, map[string]any{
			event.KeyQuotaName: "compute", event.KeyQuotaResource: "services", event.KeyQuotaUsed: "10", event.KeyQuotaHard: "10",
		})
	}
	missing := func(s *scenario) {
		s.event(resource{"k8s.namespace.name": "shop", "k8s.deployment.name": "storefront"}, event.K8sReferenceMissing, map[string]any{
			event.KeyReferenceKind: "service", event.KeyReferenceName: "payment", event.KeyReferenceFrom: "env PAYMENT",
		})
	}
	asks := func(name string) func(*scenario) {
		return func(s *scenario) {
			s.event(caller, event.DNSFailed, map[string]any{event.KeyDNSQuestion: name, event.KeyErrorType: "NXDOMAIN", event.KeyDNSCount: 1})
		}
	}
	payment := asks("payment.shop.svc.cluster.local")
	for name, tc := range map[string]struct {
		want, called string
		told         []func(*scenario)
	}{
		"the quota is told first":      {"k8s-quota-services", "payment", []func(*scenario){quota, missing, payment}},
		"the lookup is told first":     {"k8s-quota-services", "payment", []func(*scenario){payment, missing, quota}},
		"nearly: nobody has a quota":   {"name-unresolved", "payment", []func(*scenario){missing, payment}},
		"nearly: it is another's name": {"name-unresolved", "ledger", []func(*scenario){quota, missing, asks("ledger.shop.svc.cluster.local")}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.requests(100, 100*time.Millisecond, caller, pay, "before", tc.called)
			for _, tell := range tc.told {
				tell(s)
				s.wait(time.Second)
			}
			for n := range 20 {
				s.request(caller, pay, fmt.Sprint("in vain", n), tc.called, lookup, false)
				s.wait(200 * time.Millisecond)
			}
			s.wait(5 * time.Second)
			hurt := 0
			for _, f := range s.lasting() {
				if f.Impact.FailedRequests > 0 {
					hurt++
					assert.Equal(t, tc.want, f.Pattern)
					assert.EqualValues(t, 20, f.Impact.FailedRequests)
				}
			}
			assert.Equal(t, 1, hurt, "findings that hurt")
		})
	}
}
