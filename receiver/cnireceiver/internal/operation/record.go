package operation

// Record is an Exec, Data or Exit.
type Record interface {
	// When it happened, in nanoseconds of CLOCK_BOOTTIME.
	When() uint64
}

// ID tells processes apart, also when their numbers are used again.
type ID struct {
	// PID is the number in the machine's first pid namespace.
	PID uint32
	// Start is when the process began.
	Start uint64
}

// Exec says that a process with CNI_COMMAND in its environment began to run a
// program.
type Exec struct {
	At uint64
	ID ID
	// Parent is the process that started it, a number as in ID.
	Parent uint32
	// PID and ParentPID are numbers in the collector's pid namespace, 0 when the
	// process has none there.
	PID, ParentPID uint32
	// Path is what was executed: of a script its own path. When it is relative, it
	// begins at Dir, which is "" when that is not known.
	Path, Dir string
	// Env holds NAME=value, each with its NUL, of the names that begin with CNI_.
	Env []byte
}

// Stream is a file descriptor of a plugin.
type Stream uint32

// The streams of which the first bytes are known.
const (
	Stdin  Stream = 0
	Stdout Stream = 1
)

// Data are bytes that a plugin read from Stdin or wrote to Stdout.
type Data struct {
	At     uint64
	ID     ID
	Stream Stream
	// Offset of Bytes in the stream.
	Offset int
	Bytes  []byte
	// More says that the stream went on and nothing more of it is known.
	More bool
}

// Exit says that the last thread of a process ended.
type Exit struct {
	At uint64
	ID ID
	// Status is what wait(2) returns.
	Status uint32
}

// When implements Record.
func (e Exec) When() uint64 { return e.At }

// When implements Record.
func (d Data) When() uint64 { return d.At }

// When implements Record.
func (e Exit) When() uint64 { return e.At }
