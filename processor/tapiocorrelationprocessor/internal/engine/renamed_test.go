package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRenamedCallee: who is called by another name since a deploy, or replaced by another
// service, has not vanished, where all who called it go on well.
func TestRenamedCallee(t *testing.T) {
	t.Parallel()
	direct := func(v *stay) { v.direct = true }
	for name, tc := range map[string]struct {
		before, now func(*stay)
		found       bool
	}{
		"by another name":                        {nothing, func(v *stay) { v.by = "payment-api" }, false},
		"nearly: nobody is called instead":       {direct, func(v *stay) { v.direct = false }, true},
		"nearly: it is, and what is asked fails": {nothing, func(v *stay) { v.by, v.gives = "payment-api", true }, true},
		"nearly: one is called instead of two":   {direct, func(v *stay) { v.by, v.direct = "payment-api", false }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.stays(4*time.Minute, every(1, tc.before))
			require.Empty(t, s.findings)
			s.stays(3*time.Minute, every(1, tc.now))
			s.wait(30 * time.Second)
			if !tc.found {
				require.Empty(t, titles(s.latest()))
				return
			}
			require.NotEmpty(t, s.findings)
			assert.Equal(t, "storefront", s.latest()[0].RootCause.Entity.Name)
		})
	}
}
