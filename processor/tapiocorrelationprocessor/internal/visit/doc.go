// Package visit finds the service that causes trouble from what its visits lost
// or gained.
//
// A visit is one stay of a request in a service: the entry span, the spans below
// it in the same service, their log records, and the calls that leave. Visits of
// the same operation (service and entry span) are alike, so a healthy past says
// what every visit should contain and how long its calls should take. The last
// minute is compared with that past:
//
//   - vanished: a statement, span or call that nearly every visit had is missing;
//   - stopped: what used to follow a step does not follow it any more;
//   - appeared: a statement, exception or call that is new in this operation;
//   - failed: spans that end with an error, more often than before;
//   - gap: the time between caller and callee that neither spent working;
//   - slow: a leaf span, such as a database call, takes longer;
//   - self: the service's own time grew;
//   - burst: more calls to one operation per visit than ever: retries, fan-out;
//   - resource: an anomaly of a metric, reported through Resource;
//   - errors: of a service without any span, log records that say that something fails,
//     many more in the last minute than in any of the last hour.
//
// All counts use one currency, the signed two-sample G statistic (detect.Score),
// so that a few samples say little and many say much. An anomalous visit counts
// for nothing when a visit below it, in another service of the same trace, is
// anomalous as well: causes lie downstream. The formulas and where their constants
// come from are in the comments of the constants; the labelled cases they were
// tried on are described in docs/accuracy.md.
//
// Use: every span and log record goes to Span and Log, time passes with Advance,
// and Judge returns the suspects, most suspicious first; a score of Alarm and
// more deserves a finding. An Analyzer is used by one goroutine; only Wants may be
// called by any.
package visit
