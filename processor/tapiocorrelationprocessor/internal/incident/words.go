package incident

import (
	"fmt"
	"strings"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// summary is the finding in one sentence: the cause and whom it hurts.
func summary(f *finding.Finding) string {
	s := strings.TrimSuffix(f.RootCause.Description, ".")
	title, detail := businessWords(f.Impact, f.Impact.ValueAttribute)
	if f.Impact.FailedRequests+f.Impact.SlowRequests == 0 {
		return s + "; no request was seen to be hurt."
	}
	if detail != "" {
		title += " (" + detail + ")"
	}
	return s + "; " + title + "."
}

// businessWords says whom it hurt, without inventing what no telemetry carries.
func businessWords(m finding.Impact, valueKey string) (title, detail string) {
	switch {
	case m.FailedRequests > 0 && m.SlowRequests > 0:
		title = fmt.Sprintf("%s failed and %s slow", count(m.FailedRequests, "request"), count(m.SlowRequests, "more was", "more were"))
	case m.SlowRequests > 0:
		title = count(m.SlowRequests, "request was", "requests were") + " slow"
	default:
		title = count(m.FailedRequests, "request") + " failed"
	}
	if m.Users != nil {
		title += " for " + count(*m.Users, "user")
	} else {
		detail = "users unknown: no request carried a user attribute; "
	}
	switch {
	case m.FailedRequests == 0: // a slow order is not a lost one
		detail = strings.TrimSuffix(detail, "; ")
	case m.Value != nil:
		detail += fmt.Sprintf("%s %.2f in total", valueKey, *m.Value)
		if m.ValueRequests > 0 && m.ValueRequests < m.FailedRequests {
			detail += fmt.Sprintf(" of the %d of %d requests that carry it", m.ValueRequests, m.FailedRequests)
		}
	case valueKey == "":
		detail += "value unknown: no impact.value_attribute is configured"
	default:
		detail += "value unknown: no failed request carried " + valueKey
	}
	if n := len(m.Gaps); n > 0 {
		g := m.Gaps[n-1]
		detail = strings.TrimPrefix(fmt.Sprintf("%s; requests from %s to %s may be missing: no collector ran", detail, pattern.Clock(g.From.UnixNano()), pattern.Clock(g.To.UnixNano())), "; ")
	}
	return title, detail
}

// count writes "1 request" or "2 requests"; many is the plural where it is not
// the singular with an s.
func count(n int64, one string, many ...string) string {
	if n == 1 {
		return "1 " + one
	}
	if len(many) > 0 {
		return fmt.Sprintf("%d %s", n, many[0])
	}
	return fmt.Sprintf("%d %ss", n, one)
}
