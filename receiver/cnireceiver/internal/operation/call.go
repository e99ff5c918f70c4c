package operation

import (
	"cmp"
	"path"
	"slices"
	"time"
)

// Call is one run of a plugin.
type Call struct {
	Request
	ID ID
	// PID and Parent are numbers in the collector's pid namespace, 0 when unknown.
	PID, Parent uint32
	// Plugin is the name of the executable, Path where it is.
	Plugin, Path string
	// Network is the name in the configuration, "" when it was not seen.
	Network string
	// Start and End are nanoseconds of CLOCK_BOOTTIME. End is 0 while it runs.
	Start, End uint64
	// Status is what wait(2) returned for it.
	Status uint32
	// Failure is what it said of its failure; HasFailure is false when it said
	// nothing, or nothing was seen.
	Failure    Failure
	HasFailure bool
	// Children are the plugins that it called, in order.
	Children []*Call

	// by is the process that called it, a number as in ID.
	by        uint32
	operation *Operation
	input     stream
	output    stream
}

// stream is the beginning of what went through a file descriptor.
type stream struct {
	bytes []byte
	isCut bool
}

// maxStream is what is kept of a stream: all that the kernel program sends.
const maxStream = 4096

// add appends data that follows on what is there. After a gap nothing is added.
func (s *stream) add(d Data) {
	if s.isCut || d.Offset != len(s.bytes) || len(s.bytes)+len(d.Bytes) > maxStream {
		s.isCut = true
		return
	}
	s.bytes = append(s.bytes, d.Bytes...)
	s.isCut = d.More
}

func newCall(e Exec, r Request, o *Operation) *Call {
	return &Call{
		Request: r, ID: e.ID, PID: e.PID, Parent: e.ParentPID,
		Plugin: path.Base(e.Path), Path: e.Path, Start: e.At, operation: o,
	}
}

// end takes down how the plugin ended and reads what it said. Of its streams
// nothing else is kept.
func (c *Call) end(e Exit) {
	c.End, c.Status = max(e.At, c.Start), e.Status
	c.read()
}

func (c *Call) read() {
	c.readNetwork()
	if c.HasFailed() && len(c.output.bytes) > 0 {
		c.Failure, c.HasFailure = parseFailure(c.output.bytes, c.output.isCut)
	}
	c.input, c.output = stream{}, stream{}
}

func (c *Call) readNetwork() {
	if c.Network == "" {
		c.Network = networkName(c.input.bytes)
	}
}

// HasFailed says that it ended, and not with exit code 0.
func (c *Call) HasFailed() bool { return c.End != 0 && c.Status != 0 }

// ExitCode is what it passed to exit(2); false when a signal ended it, or it runs.
func (c *Call) ExitCode() (int, bool) {
	return int(c.Status >> 8 & 0xff), c.End != 0 && c.Signal() == 0
}

// Signal is the number of the signal that ended it, 0 if none did.
func (c *Call) Signal() int { return int(c.Status & 0x7f) }

// Origin is the call whose failure this failed call only passed on, or itself: a
// child that was to do the same and failed. What a plugin calls to clean up has
// another command.
func (c *Call) Origin() *Call {
	for i := len(c.Children) - 1; i >= 0; i-- {
		if child := c.Children[i]; child.HasFailed() && child.Command == c.Command {
			return child.Origin()
		}
	}
	return c
}

// Operation is what a runtime wanted for one interface of one sandbox: the calls
// that it made for it, one after another.
type Operation struct {
	Calls []*Call
	// IsUnfinished says that it was given up before the end of a call was seen;
	// IsStuck that a call ran, or runs, for longer than patience.
	IsUnfinished, IsStuck bool

	key     key
	running int // calls of the tree that run
	size    int // calls of the tree
	// last is when the latest thing happened to it.
	last uint64
}

// key is what the calls of one operation have in common.
type key struct{ command, container, iface string }

// Request is that of the first call.
func (o *Operation) Request() Request { return o.Calls[0].Request }

// Network is the first name that was seen in a configuration.
func (o *Operation) Network() string {
	for _, c := range o.Calls {
		if c.Network != "" {
			return c.Network
		}
	}
	return ""
}

// Start and End are nanoseconds of CLOCK_BOOTTIME.
func (o *Operation) Start() uint64 { return o.Calls[0].Start }

// End is when the last of the calls ended; of an operation that is stuck, when that
// was found; of an unfinished one, when it was given up.
func (o *Operation) End() uint64 { return o.last }

// IsOver says that nothing more will be known of it: it ended, or was given up.
func (o *Operation) IsOver() bool { return o.running == 0 || o.IsUnfinished }

// Running is the call whose end was not seen and that others wait for: the last of
// them, and of its children. nil when the end of all was seen.
func (o *Operation) Running() *Call { return running(o.Calls) }

func running(calls []*Call) *Call {
	for _, c := range slices.Backward(calls) {
		if c.End == 0 {
			return cmp.Or(running(c.Children), c)
		}
	}
	return nil
}

// Duration is how long it took.
func (o *Operation) Duration() time.Duration { return time.Duration(o.End() - o.Start()) }

// Failed is the latest call that failed, which made the operation fail. nil when
// the operation succeeded or its end is not known.
func (o *Operation) Failed() *Call {
	for _, c := range slices.Backward(o.Calls) {
		if c.HasFailed() {
			return c
		}
	}
	return nil
}

// Outcome is ok, failed or unfinished.
func (o *Operation) Outcome() string {
	switch {
	case o.Failed() != nil:
		return "failed"
	case o.IsUnfinished:
		return "unfinished"
	default:
		return "ok"
	}
}
