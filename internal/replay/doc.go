// Package replay takes recorded telemetry through the correlation processor in
// event time: the recording's own clock, as fast as the machine allows.
//
// A Buffer puts spans, log records and data points in the order in which they
// happened and hands them on in slices of a quarter of a second. A Correlator is
// the processor, made by its factory, and keeps the last revision of what it
// finds. Files reads what the collector's file exporter wrote. What leaves the
// buffer depends on what the recording says and not on the order in which it was
// written, so that the findings of a recording are the same every time.
package replay
