package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/finding"
)

// A window is named as such only when all of it was seen.
func TestObjectiveNamesWhatWasSeen(t *testing.T) {
	o := finding.Objective{Service: "cart", Promise: "95 % of requests good in 30 days", Burn: 3.5, BurnSeconds: 3 * 86400, CoveredSeconds: 725, Severity: "ticket", Left: 0.5}
	assert.Contains(t, objectiveText(o), "burning 3.5 times too fast over the 12 minutes that were seen of 3 days (ticket)")
	o.CoveredSeconds = 3 * 86400
	assert.Contains(t, objectiveText(o), "burning 3.5 times too fast over 3 days (ticket)")
}
