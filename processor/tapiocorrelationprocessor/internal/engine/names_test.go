package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// byName sends a request through storefront, which calls payment by its name: in
// vain with err, else answered.
func (s *scenario) byName(err string) {
	s.serial++
	name := time.Duration(s.serial).String()
	trace, entry, client := id16("named"+name), id8("entry"+name), id8("named client"+name)
	fail := func(sp ptrace.Span, message string) {
		if err != "" {
			sp.Status().SetCode(ptrace.StatusCodeError)
			sp.Status().SetMessage(message)
		}
	}
	if err == "" {
		_, td := newSpan(payment, trace, id8("named server"+name), client, "POST /payment", spanServer, s.clock.Add(-3*time.Millisecond), s.clock)
		s.deliver(item{traces: td})
	}
	sp, td := newSpan(storefront, trace, client, entry, "POST", spanClient, s.clock.Add(-4*time.Millisecond), s.clock)
	sp.Attributes().PutStr(event.KeyServerAddress, "payment.shop")
	sp.Attributes().PutInt(event.KeyServerPort, payment.port)
	fail(sp, err)
	s.deliver(item{traces: td})
	sp, td = newSpan(storefront, trace, entry, pcommon.SpanID{}, "POST /checkout", spanServer, s.clock.Add(-5*time.Millisecond), s.clock)
	fail(sp, "")
	s.deliver(item{traces: td})
}

func (s *scenario) dnsFailed(v service, question, errorType string) {
	s.kernel(v, event.DNSFailed, s.clock, map[string]any{
		event.KeyDNSQuestion: question, event.KeyErrorType: errorType, event.KeyServerAddress: "10.96.0.10", event.KeyServerPort: 53, event.KeyDNSCount: 1,
	})
}

const noSuchHost = `Post "http://payment.shop:8081/charge": dial tcp: lookup payment.shop on 10.96.0.10:53: no such host`

func TestNameUnresolved(t *testing.T) {
	named := func(d time.Duration, s *scenario) {
		for range int(d / (100 * time.Millisecond)) {
			s.byName("")
			s.wait(100 * time.Millisecond)
		}
	}
	inVain := func(s *scenario, err string) {
		for range 30 {
			s.byName(err)
			s.wait(100 * time.Millisecond)
		}
	}
	for _, tc := range []struct {
		name, want, entity string // want: the pattern, "" for any but name-unresolved
		play               func(*scenario)
	}{
		{"the kernel saw it first", "name-unresolved", "storefront", func(s *scenario) {
			s.dnsFailed(storefront, "payment.shop", "NXDOMAIN")
			inVain(s, noSuchHost)
		}},
		{"it is told later, of a name in a domain that is searched", "name-unresolved", "storefront", func(s *scenario) {
			inVain(s, "context deadline exceeded")
			s.dnsFailed(storefront, "Payment.shop.svc.cluster.local", "timeout")
		}},
		{"payment serves others meanwhile", "name-unresolved", "storefront", func(s *scenario) {
			s.dnsFailed(storefront, "payment.shop", "SERVFAIL")
			for range 3 {
				inVain(s, noSuchHost)
				s.send(good("u", 1))
			}
		}},
		{"nearly: another name", "", "", func(s *scenario) {
			s.dnsFailed(storefront, "payment.shopping", "NXDOMAIN")
			inVain(s, noSuchHost)
		}},
		{"nearly: another process asked", "", "", func(s *scenario) {
			s.dnsFailed(ledger, "payment.shop", "NXDOMAIN")
			inVain(s, noSuchHost)
		}},
		{"nearly: it had an address", "connection-refused", "payment", func(s *scenario) {
			s.dnsFailed(storefront, "payment.shop", "NXDOMAIN")
			inVain(s, refused)
		}},
		{"nearly: no call failed", "", "", func(s *scenario) {
			s.dnsFailed(storefront, "payment.shop", "NXDOMAIN")
			named(3*time.Second, s)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScenario(t)
			s.healthy(5 * time.Second)
			named(20*time.Second, s)
			tc.play(s)
			s.wait(20 * time.Second)
			if tc.want == "" {
				for _, f := range s.latest() {
					assert.NotEqual(t, "name-unresolved", f.Pattern)
				}
				return
			}
			if tc.want == "name-unresolved" { // what to do follows the response code
				advice := strings.Join(slices.Concat(s.one().Actions.Immediate, s.one().Actions.LongTerm), "\n")
				unknown := s.one().RootCause.Evidence[event.KeyErrorType] == "NXDOMAIN"
				assert.Equal(t, unknown, strings.Contains(advice, "is spelled right"), advice)
				assert.Equal(t, !unknown, strings.Contains(advice, "kube-dns"), advice)
				assert.Equal(t, !unknown, strings.Contains(advice, "NodeLocal DNSCache"), advice)
			}
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern)
			assert.Equal(t, tc.entity, f.RootCause.Entity.Name)
			assert.GreaterOrEqual(t, f.Impact.FailedRequests, int64(30))
			if f.Pattern != "name-unresolved" {
				return
			}
			assert.Equal(t, "What the DNS server knows, and why: its own log is not part of this finding.", missingText(f))
			require.GreaterOrEqual(t, len(f.Chain), 3)
			assert.Equal(t, event.DNSFailed, f.Chain[0].Event)
			assert.Equal(t, finding.LinkedByAddress, f.Chain[1].LinkedBy)
			assert.Contains(t, f.Chain[1].LinkedOn, "payment.shop:8081")
		})
	}
}

// TestLookupsThatFailAreOneFinding: name-unresolved, and with a second lookup also
// dns-failing or dns-name-unknown, can tell of the same calls. One does.
func TestLookupsThatFailAreOneFinding(t *testing.T) {
	t.Parallel()
	for errorType, want := range map[string]string{
		"NXDOMAIN": "name-unresolved", "SERVFAIL": "dns-failing", "REFUSED": "dns-failing", "timeout": "dns-failing", "connection_refused": "dns-failing",
	} {
		for _, failure := range []string{noSuchHost, "context deadline exceeded"} {
			for _, isLate := range []bool{false, true} {
				s := newScenario(t)
				s.healthy(5 * time.Second)
				for range 200 {
					s.byName("")
					s.wait(100 * time.Millisecond)
				}
				for n := range 60 {
					if n%10 == 0 && (!isLate || n > 0) {
						s.dnsFailed(storefront, "payment.shop", errorType)
					}
					s.byName(failure)
					s.wait(100 * time.Millisecond)
				}
				s.wait(20 * time.Second)
				var found []string
				for _, f := range s.latest() {
					if f.State != finding.StateWithdrawn {
						found = append(found, f.Pattern+" of "+f.RootCause.Entity.Name)
						assert.GreaterOrEqual(t, f.Impact.FailedRequests, int64(60), "%s, %s, late %v", errorType, failure, isLate)
					}
				}
				assert.Equal(t, []string{want + " of storefront"}, found, "%s, %s, late %v", errorType, failure, isLate)
			}
		}
	}
}

func TestSameName(t *testing.T) {
	t.Parallel()
	assert.True(t, sameName("payment.shop", "payment.shop"))
	assert.True(t, sameName("Payment.shop.", "payment.SHOP.svc.cluster.local"))
	assert.False(t, sameName("payment.shop", "payment.shopping"))
	assert.False(t, sameName("payment.shop", "payment"))
	assert.False(t, sameName("", "payment"))
}

// TestUnrelatedLookups: what a process does in vain explains nothing of services that
// it has nothing to do with, whenever it does it.
func TestUnrelatedLookups(t *testing.T) {
	lookups := func(s *scenario) {
		for range 8 {
			s.dnsFailed(ledger, "nobody.example", "SERVFAIL")
			s.wait(700 * time.Millisecond)
		}
	}
	for name, play := range map[string]func(*scenario){
		"after":  func(s *scenario) { s.refusals(20, "u"); s.wait(5 * time.Second); lookups(s) },
		"before": func(s *scenario) { lookups(s); s.refusals(20, "u") },
		"between": func(s *scenario) {
			s.refusals(10, "u")
			lookups(s)
			s.refusals(10, "u")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.healthy(20 * time.Second)
			play(s)
			s.wait(20 * time.Second)
			f := s.one()
			assert.Equal(t, "connection-refused", f.Pattern)
			assert.Equal(t, "payment", f.RootCause.Entity.Name)
		})
	}
}
