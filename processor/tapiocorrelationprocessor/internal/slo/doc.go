// Package slo tells how fast services use up the failures that their objectives
// allow: the burn rate, by several windows at once, and the budget that is left.
//
// A burn rate of 1 uses up the budget exactly at the end of the objective's window.
// The windows and rates at which a burn matters are those of the multiwindow,
// multi-burn-rate alerts of the Google SRE Workbook, chapter 5, "Alerting on SLOs":
// each pairs a long window, so that little is no alarm, with one a twelfth of it, so
// that the alarm ends when the burn does.
// https://sre.google/workbook/alerting-on-slos/
//
// Counts are kept in memory: after a restart the budget is that of what was seen
// since, and Status says how much that is.
package slo
