// Command benchmarks compares what the correlation costs in a whole collector with
// what other processors cost: OTLP over gRPC in, one processor, nothing out. It
// starts otelcol-tapio once for each processor and round, the rounds interleaved,
// sends the same spans, and prints the median of the rounds and that of their ratios
// to the round of a collector without a processor. What the first spans cost, while
// memory, tables and samplers fill, and what those after them do is told apart.
//
// CPU and memory are those of the collector's process, read from /proc, so that
// the load generator beside it does not count.
package main
