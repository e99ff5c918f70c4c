package demo

import (
	"fmt"
	"math"
	"strconv"

	"github.com/yairfalse/tapio/examples/checkout/internal/load"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// Elsewhere reports whether the finding is an out-of-memory kill, which is a
// fact, of a process that is none of the shop's (pids), with no request hurt: on
// a shared machine the kernel may kill others meanwhile.
func Elsewhere(f *finding.Finding, pids map[string]int) bool {
	if f.RootCause.Event != event.OOMKill || f.Impact.FailedRequests != 0 || f.Impact.SlowRequests != 0 {
		return false
	}
	pid, ok := f.RootCause.Entity.Attributes[event.KeyProcessPID].(int64)
	if !ok {
		return false
	}
	for _, own := range pids {
		if int64(own) == pid {
			return false
		}
	}
	return true
}

// Differences says, a sentence each, in which numbers of its impact the finding
// differs from what the load generator counted. None means that all are equal.
func Differences(r load.Report, f *finding.Finding) []string {
	var d []string
	add := func(what, counted, found string) {
		if counted != found {
			d = append(d, fmt.Sprintf("%s: the load generator counted %s, the finding says %s", what, counted, found))
		}
	}
	add("failed orders", strconv.FormatInt(r.Failed, 10), strconv.FormatInt(f.Impact.FailedRequests, 10))
	users, value := "unknown", "unknown"
	if f.Impact.Users != nil {
		users = strconv.FormatInt(*f.Impact.Users, 10)
	}
	if f.Impact.Value != nil {
		// To the cent: the finding sums floating-point amounts.
		value = fmt.Sprintf("%.2f", math.Round(*f.Impact.Value*100)/100)
	}
	add("affected users", strconv.Itoa(len(r.FailedUsers)), users)
	add("their value", r.FailedAmount.String(), value)
	return d
}
