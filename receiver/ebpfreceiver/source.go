package ebpfreceiver

import "fmt"

// reader gives one event after the other.
type reader interface {
	// read waits for the next event. It may be nil: what came is for nobody else. After
	// stop it returns those that are left, then os.ErrClosed; any other error is about
	// one record.
	read() (kernelEvent, error)
	// hasMore says that read has not to wait. The goroutine that calls read calls it.
	hasMore() bool
}

// source is where events come from: the kernel, or a test.
type source interface {
	reader
	// attached are the names of the programs that run, failed those that do not.
	attached() []string
	failed() []failure
	// sample returns what is counted in the kernel and not sent: the growth since it
	// was called last, up to a bound. It is called by one goroutine, at times.
	sample() []kernelEvent
	// poll returns what shows only when something does not happen in time, such as
	// an answer. The goroutine that calls sample calls it each second.
	poll() []kernelEvent
	// last is sample and poll for the last time: it returns what else would be told later.
	// The goroutine that calls sample calls it.
	last() []kernelEvent
	// stats may be called at any time before close returns.
	stats() sourceStats
	// stop ends the making of events and does not wait for their reader.
	stop() error
	// close stops and frees everything, with what is left unread. It is called
	// when nobody reads any more.
	close() error
}

// sourceStats are counts since the start, and how full the ring buffer is.
type sourceStats struct {
	// lost counts events that did not fit in the ring buffer, by event name.
	lost map[string]int64
	// suppressed counts events that were held back because there were too many.
	suppressed map[string]int64
	// missed counts calls that the kernel skipped, by program.
	missed map[string]int64
	// requests counts HTTP requests, by what became of their traceparent.
	requests map[string]int64
	// goroutines counts those that were followed to the request for which they were
	// started; goroutinesForgotten requests that may have lost some.
	goroutines, goroutinesForgotten int64
	// probedFiles is how many executables and libraries have probes now, probesFailed
	// how many were to have some and could not.
	probedFiles, probesFailed int64
	// ringUsed is bytes that wait to be read.
	ringUsed int64
}

// failure is a program that is enabled and does not run.
type failure struct {
	program string
	// reason is for people: what is missing and how to get it.
	reason string
}

func (f failure) String() string { return fmt.Sprintf("%s: %s", f.program, f.reason) }
