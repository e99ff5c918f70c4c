package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/finding"
)

// mailer works without being asked: it logs, and no span tells of it.
var mailer = service{"mailer", "1.0.0", "node1", 77, 0}

// mails lets mailer work for a while, two items a second; every nth fails.
func (s *scenario) mails(d time.Duration, nth int) {
	for n := range int(d / (500 * time.Millisecond)) {
		ld := plog.NewLogs()
		rl := ld.ResourceLogs().AppendEmpty()
		mailer.resource(rl.Resource())
		r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
		r.SetSeverityNumber(plog.SeverityNumberInfo)
		r.Body().SetStr("mail 17 is sent")
		if n%nth == 0 {
			r.SetSeverityNumber(plog.SeverityNumberError)
			r.Body().SetStr("mail 17 cannot be sent: broken pipe")
		}
		s.deliver(item{logs: ld})
		s.wait(500 * time.Millisecond)
	}
}

func errorsLogged(s *scenario) {
	s.mails(7*time.Minute, 40)
	s.mails(40*time.Second, 1)
}

// TestErrorsWithoutSpans: a service of which there are log records alone is judged by
// how often they say that something fails.
func TestErrorsWithoutSpans(t *testing.T) {
	s := newScenario(t)
	errorsLogged(s)
	f := s.one()
	assert.Equal(t, "errors-logged", f.Pattern)
	assert.Equal(t, "mailer", f.RootCause.Entity.Name)
	assert.Contains(t, f.Summary, "cannot be sent")
	assertComplete(t, f)
	s.mails(8*time.Minute, 40)
	assert.Equal(t, finding.StateResolved, s.one().State)

	nearly := newScenario(t)
	nearly.mails(7*time.Minute, 10)
	nearly.mails(time.Minute, 4)
	require.Empty(t, titles(nearly.latest()))
}
