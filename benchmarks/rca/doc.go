// Command rca measures how well the correlation processor finds root causes, on
// recordings of failures whose cause is known. It replays every case as OTLP in
// event time through the processor that the factory makes, and compares what it
// says with the labels; then it does the same with fault-free recordings, where
// it should say nothing.
//
// Every case gets a fresh engine, warmed with the fault-free recordings of the
// same services, moved in time so that the last ends where the case begins. The
// engine is never told that, when or where something is broken. Findings that
// were seen or went on in the case count. Those that began in it come before those
// that were there before, then the confidence decides, then which came first. A
// case without a finding is wrong.
//
//	go run ./rca --data DIR [--json FILE] [--cases REGEXP] [--no-logs] [-v] ...
package main
