package operation

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// settle is how long after a plugin's success the runtime may take to start
	// the next one of the chain. libcni does so at once.
	settle = uint64(500 * time.Millisecond)
	// patience is how long an operation may run before that is told. The kubelet
	// gives a sandbox four minutes at most.
	patience = uint64(5 * time.Minute)
	// giveUpAfter is how long the end of one is waited for: it may have been lost.
	giveUpAfter = uint64(time.Hour)
	// maxCalls bounds the calls that are held; each may hold 8 KiB.
	maxCalls = 1024
	// maxCallsEach bounds the calls of one operation.
	maxCallsEach = 64
)

// Counts are what became of records since the start.
type Counts struct {
	// Operations were finished, Unfinished given up because the end of a plugin
	// was not seen, or to make room.
	Operations, Unfinished int64
	// Ignored execs were no plugin's, or a VERSION, which changes nothing.
	Ignored int64
	// Overflow calls were left out of an operation that had too many.
	Overflow int64
	// Silent calls failed, and no message of theirs was seen.
	Silent int64
}

// Assembler makes operations of records. It is not safe for concurrent use.
type Assembler struct {
	// resolve follows the symbolic links of a path.
	resolve func(string) string

	live   map[uint32]*Call // by ID.PID
	joins  map[key]*Operation
	open   map[*Operation]struct{}
	calls  int
	counts Counts
}

// NewAssembler returns one that holds nothing. resolve returns where a path of the
// machine leads, all symbolic links followed, or the path itself when that is not known.
func NewAssembler(resolve func(path string) string) *Assembler {
	return &Assembler{resolve: resolve, live: map[uint32]*Call{}, joins: map[key]*Operation{}, open: map[*Operation]struct{}{}}
}

// Counts are those since the start.
func (a *Assembler) Counts() Counts { return a.counts }

// Held is how many calls are held.
func (a *Assembler) Held() int { return a.calls }

// Add takes down a record, in the order of time. It returns operations that this
// shows to be over, or that had to make room.
func (a *Assembler) Add(r Record) []*Operation {
	switch r := r.(type) {
	case Exec:
		return a.exec(r)
	case Data:
		return a.data(r)
	case Exit:
		return a.exit(r)
	}
	return nil
}

// exec takes down that a plugin began.
func (a *Assembler) exec(e Exec) []*Operation {
	var done []*Operation
	if before := a.live[e.ID.PID]; before != nil {
		if before.ID == e.ID {
			return nil // a wrapper that becomes what it wraps
		}
		done = append(done, a.abandon(before.operation, e.At)) // its exit was lost
	}
	parent := a.live[e.Parent]
	r := parseRequest(e.Env)
	executable, isPlugin := "", false
	if commands[r.Command] && r.Command != "VERSION" {
		executable, isPlugin = r.executable(e, parent != nil, a.resolve)
	}
	if !isPlugin {
		a.counts.Ignored++
		return done
	}
	e.Path = executable
	if a.calls >= maxCalls {
		done = append(done, a.giveUp(a.oldest(), e.At))
		parent = a.live[e.Parent]
	}
	if parent != nil {
		a.addChild(parent, e, r)
		return done
	}
	return append(done, a.addCall(e, r)...)
}

func (a *Assembler) addChild(parent *Call, e Exec, r Request) {
	o := parent.operation
	if o.size >= maxCallsEach {
		a.counts.Overflow++
		return
	}
	parent.Children = append(parent.Children, a.start(o, e, r))
}

// addCall adds a call of the runtime to the operation that goes on, or to a new
// one. It returns an operation that is over when this one begins.
func (a *Assembler) addCall(e Exec, r Request) []*Operation {
	k := key{r.Command, r.ContainerID, r.Interface}
	var done []*Operation
	o := a.joins[k]
	if o != nil && !o.takes(e) {
		done = append(done, a.finish(o)) // takes is true while it runs
		o = nil
	}
	if o == nil {
		o = &Operation{key: k}
		a.joins[k] = o
		a.open[o] = struct{}{}
	}
	if o.size >= maxCallsEach {
		a.counts.Overflow++
		return done
	}
	o.Calls = append(o.Calls, a.start(o, e, r))
	return done
}

// takes says whether a call of the runtime belongs to the operation: the same
// runtime process goes on with the chain, and does not begin it again. Another
// process does the same for the same interface only while the first is at it, as
// a daemon on its behalf.
func (o *Operation) takes(e Exec) bool {
	if o.running > 0 {
		return true
	}
	first := o.Calls[0]
	return first.by == e.Parent && first.Path != e.Path && e.At-min(o.last, e.At) <= settle
}

func (a *Assembler) start(o *Operation, e Exec, r Request) *Call {
	c := newCall(e, r, o)
	c.by = e.Parent
	a.live[e.ID.PID] = c
	a.calls++
	o.size++
	o.running++
	o.last = max(o.last, e.At)
	return c
}

// data takes down what went through a stream of a plugin. It returns an operation that
// is over, because this shows another one to have begun.
func (a *Assembler) data(d Data) []*Operation {
	c := a.live[d.ID.PID]
	if c == nil || c.ID != d.ID {
		return nil
	}
	if d.Stream != Stdin {
		c.output.add(d)
		return nil
	}
	c.input.add(d)
	return a.split(c)
}

// split makes an operation of a call that turns out to be of another network than those
// before it: a runtime asks one network after another for GC and STATUS.
func (a *Assembler) split(c *Call) []*Operation {
	o := c.operation
	last := len(o.Calls) - 1
	if last == 0 || o.Calls[last] != c || o.running > 1 || len(c.Children) > 0 || c.Network != "" {
		return nil
	}
	c.readNetwork()
	if c.Network == o.Network() {
		return nil
	}
	o.Calls, o.running, o.size, o.last = o.Calls[:last], 0, o.size-1, 0
	for _, before := range o.Calls {
		o.last = max(o.last, before.End)
	}
	done := a.finish(o)
	c.operation = &Operation{key: o.key, Calls: []*Call{c}, running: 1, size: 1, last: c.Start}
	a.joins[o.key], a.open[c.operation] = c.operation, struct{}{}
	return []*Operation{done}
}

// exit takes down the end of a plugin. It returns the operation when that is
// over: a failure is the end of a chain.
func (a *Assembler) exit(e Exit) []*Operation {
	c := a.live[e.ID.PID]
	if c == nil || c.ID != e.ID {
		return nil
	}
	delete(a.live, e.ID.PID)
	c.end(e)
	if c.HasFailed() && !c.HasFailure {
		a.counts.Silent++
	}
	o := c.operation
	o.running--
	o.last = max(o.last, c.End)
	if o.running == 0 && o.Failed() != nil {
		return []*Operation{a.finish(o)}
	}
	return nil
}

// Expire returns the operations that are over at a time: nothing runs any more
// and no other plugin began for a while. And, once, those that run for too long:
// their end is still waited for.
func (a *Assembler) Expire(now uint64) []*Operation {
	var done []*Operation
	for _, o := range a.sorted() {
		switch {
		case o.running == 0:
			if now-min(o.last, now) > settle {
				done = append(done, a.finish(o))
			}
		case now-min(o.Start(), now) > giveUpAfter:
			done = append(done, a.abandon(o, now))
		case !o.IsStuck && now-min(o.Start(), now) > patience:
			a.tellStuck(o, now)
			done = append(done, o)
		}
	}
	return done
}

// tellStuck makes an operation one that runs for too long. The same for the same
// sandbox is another try from now on.
func (a *Assembler) tellStuck(o *Operation, now uint64) {
	o.IsStuck, o.last = true, max(o.last, now)
	for _, c := range o.Calls {
		c.readNetwork()
	}
	a.leave(o)
}

// Flush returns all that is held, for the end at a time: what settles is finished,
// what runs is unfinished.
func (a *Assembler) Flush(now uint64) []*Operation {
	var done []*Operation
	for _, o := range a.sorted() {
		done = append(done, a.giveUp(o, now))
	}
	return done
}

// giveUp ends an operation that might have gone on.
func (a *Assembler) giveUp(o *Operation, now uint64) *Operation {
	if o.running == 0 {
		return a.finish(o)
	}
	return a.abandon(o, now)
}

func (a *Assembler) finish(o *Operation) *Operation {
	a.counts.Operations++
	a.forget(o)
	return o
}

// abandon gives up an operation of which a call still runs, or seems to.
func (a *Assembler) abandon(o *Operation, now uint64) *Operation {
	a.counts.Unfinished++
	o.IsUnfinished, o.last = true, max(o.last, now)
	for _, c := range a.live {
		if c.operation == o {
			delete(a.live, c.ID.PID)
			c.read()
		}
	}
	a.forget(o)
	return o
}

func (a *Assembler) forget(o *Operation) {
	a.leave(o)
	delete(a.open, o)
	a.calls -= o.size
}

// leave makes the next call of the same key another operation.
func (a *Assembler) leave(o *Operation) {
	if a.joins[o.key] == o {
		delete(a.joins, o.key)
	}
}

// sorted are the operations that are held, the oldest first.
func (a *Assembler) sorted() []*Operation {
	return slices.SortedFunc(maps.Keys(a.open), byStart)
}

func (a *Assembler) oldest() *Operation {
	return slices.MinFunc(slices.Collect(maps.Keys(a.open)), byStart)
}

func byStart(x, y *Operation) int {
	return cmp.Or(cmp.Compare(x.Start(), y.Start()), cmp.Compare(x.Calls[0].ID.PID, y.Calls[0].ID.PID))
}
