package incident

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/finding"
)

func TestBusinessWordsSayWhatTheSumIsOf(t *testing.T) {
	m := finding.Impact{FailedRequests: 43, Users: new(int64(27)), Value: new(4430.7), ValueRequests: 43}
	_, detail := businessWords(m, "order.amount")
	assert.Equal(t, "order.amount 4430.70 in total", detail)
	m.ValueRequests = 2
	_, detail = businessWords(m, "order.amount")
	assert.Equal(t, "order.amount 4430.70 in total of the 2 of 43 requests that carry it", detail)
	at := time.Date(2026, 11, 26, 20, 22, 50, 0, time.UTC)
	m.Gaps = []finding.Gap{{From: at, To: at.Add(5 * time.Second)}}
	_, detail = businessWords(m, "order.amount")
	assert.Equal(t, "order.amount 4430.70 in total of the 2 of 43 requests that carry it; requests from 20:22:50.000 UTC to 20:22:55.000 UTC may be missing: no collector ran", detail)
}
