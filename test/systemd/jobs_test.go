package systemd

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// related are units that are stopped with others, and that nobody else keeps loaded.
var related = map[string]string{
	"base.service":      "[Service]\nExecStart=/bin/sleep infinity\n",
	"bound.service":     "[Unit]\nBindsTo=base.service\nAfter=base.service\n[Service]\nExecStart=/bin/sleep infinity\n",
	"part.service":      "[Unit]\nPartOf=base.service\n[Service]\nExecStart=/bin/sleep infinity\n",
	"one.service":       "[Service]\nExecStart=/bin/sleep infinity\n",
	"other.service":     "[Unit]\nConflicts=one.service\n[Service]\nExecStart=/bin/sleep infinity\n",
	"template@.service": "[Service]\nExecStart=/bin/sleep infinity\n",
}

// TestJobsOfOneRequest: what is stopped together is one trace, though systemd forgets the
// units at once; the links say who waited; and no span has a parent or a link that was
// not sent.
func TestJobsOfOneRequest(t *testing.T) {
	m := boot(t, func(m *machine) { m.units = related })
	c := newCollector(t, m, 0)
	c.start(t)
	// apart ends a request: the next one is not queued together with it.
	apart := func(units ...string) {
		for _, unit := range units {
			job(t, c, unit+".service", "start")
		}
	}
	m.systemctl("start", "base", "bound", "part", "one", "template@a")
	apart("base", "bound", "part", "one", "template@a")
	m.systemctl("stop", "base")
	base, bound, part := job(t, c, "base.service", "stop"), job(t, c, "bound.service", "stop"), job(t, c, "part.service", "stop")
	for _, s := range []span{bound, part} {
		assert.Equal(t, base.TraceID(), s.TraceID(), s.Name())
		assert.Equal(t, base.SpanID(), s.ParentSpanID(), s.Name())
		assert.Zero(t, s.Links().Len(), "%s waited for nobody", s.Name())
	}
	require.Equal(t, 1, base.Links().Len())
	assert.Equal(t, bound.SpanID(), base.Links().At(0).SpanID(), "it waited for who comes after it")

	m.systemctl("start", "other")
	other, one := job(t, c, "other.service", "start"), job(t, c, "one.service", "stop")
	assert.Equal(t, other.TraceID(), one.TraceID())
	assert.Equal(t, other.SpanID(), one.ParentSpanID())
	assert.NotEqual(t, job(t, c, "one.service", "start").TraceID(), one.TraceID())

	sent := map[string]bool{}
	for _, s := range c.spans(t, "") {
		sent[s.SpanID().String()] = true
	}
	for _, s := range c.spans(t, "") {
		assert.True(t, s.ParentSpanID().IsEmpty() || sent[s.ParentSpanID().String()], "the parent of %s was sent", s.Name())
		for _, l := range s.Links().All() {
			assert.True(t, sent[l.SpanID().String()], "what %s links to was sent", s.Name())
		}
	}
}
