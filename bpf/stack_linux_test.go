//go:build linux && (amd64 || arm64)

package bpf

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// stackLimit is what the kernel allows the functions that are active at one time
	// together (MAX_BPF_STACK).
	stackLimit = 512
	// frameUnit is what each function's stack is rounded up to: 32 bytes before Linux
	// 6.8 (16 since, where programs are compiled). The old way holds on all.
	frameUnit = 32
	// stackMargin is kept free: a frame of its own for one more small function, whose
	// least is 32 bytes, and one step of rounding where another release of the compiler
	// keeps one more value on the stack.
	stackMargin = 2 * frameUnit
)

// fullStacks take all that there is, with the group http on: they may not grow.
var fullStacks = map[string]bool{"process_exit": true, "oom_kill": true}

// older are programs for whose tracepoints some supported kernels are too old: another
// program does the same there.
var older = map[string]bool{"dns_stream_send": true, "dns_stream_receive": true}

// stackDepth is in the verifier's log: the depth of each function, in their order in
// the program.
var stackDepth = regexp.MustCompile(`stack depth (\d+(?:\+\d+)*)`)

// TestProgramsLoad: every program must pass the verifier of the kernel that the tests run
// on, with the group http on. On every kernel all functions that call each other must
// fit into 512 bytes of stack together: most programs must not come near them.
func TestProgramsLoad(t *testing.T) {
	for object, load := range objects {
		t.Run(object, func(t *testing.T) {
			spec, err := load()
			require.NoError(t, err)
			skipUnlessPrivileged(t)
			for _, name := range []string{"traces_enabled", "sdk_traces_enabled", "children_enabled", "tls_enabled"} {
				if v := spec.Variables[name]; v != nil { // else the verifier takes out what they turn on
					require.NoError(t, v.Set(true))
				}
			}
			for name, p := range spec.Programs {
				if older[name] && !isTracepoint(t, p.AttachTo) {
					t.Logf("%s: this kernel has no tracepoint %s", name, p.AttachTo)
					delete(spec.Programs, name)
				}
			}
			c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
			var rejected *ebpf.VerifierError
			if errors.As(err, &rejected) {
				t.Fatalf("%+v", rejected)
			}
			require.NoError(t, err)
			defer c.Close()
			for name, p := range c.Programs {
				functions, depths := functionsOf(spec.Programs[name].Instructions), depthsOf(t, p.VerifierLog)
				require.Len(t, depths, len(functions), "%s: the verifier took out some: %v", name, functions)
				chain, depth := deepest(functions, depths)
				t.Logf("%s: %d bytes of stack: %s", name, depth, chain)
				limit := stackLimit
				if !fullStacks[name] {
					limit -= stackMargin
				}
				assert.LessOrEqual(t, depth, limit, "%s: %s", name, chain)
			}
		})
	}
}

// isTracepoint says whether the kernel has a tracepoint.
func isTracepoint(t *testing.T, name string) bool {
	t.Helper()
	kernel, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	_, err = kernel.AnyTypeByName("btf_trace_" + name)
	return err == nil
}

func depthsOf(t *testing.T, log string) (depths []int) {
	t.Helper()
	found := stackDepth.FindStringSubmatch(log)
	require.NotNil(t, found, "the verifier does not tell the depth of the stack: %s", log)
	for text := range strings.SplitSeq(found[1], "+") {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		depths = append(depths, n)
	}
	return depths
}

// function is one of a program: whom it calls, or gives to a helper to be called.
type function struct {
	name  string
	calls map[string]bool
	loops bool
}

// loopFrame is what the kernel adds to the frame of a function when, after it has
// looked at the depth, it puts the loop in place of a call of bpf_loop.
const loopFrame = 24

// functionsOf are the functions of a program in their order.
func functionsOf(program asm.Instructions) (all []function) {
	for _, ins := range program {
		if f := btf.FuncMetadata(&ins); f != nil {
			all = append(all, function{name: f.Name, calls: map[string]bool{}})
		}
		if ins.IsBuiltinCall() && asm.BuiltinFunc(ins.Constant) == asm.FnLoop {
			all[len(all)-1].loops = true
		}
		if ins.IsFunctionReference() {
			all[len(all)-1].calls[ins.Reference()] = true
		}
	}
	return all
}

// deepest is the chain of calls, from the first function on, that takes most stack.
func deepest(all []function, depths []int) (chain string, depth int) {
	var from func(name string) (string, int)
	from = func(name string) (chain string, depth int) {
		for i, f := range all {
			if f.name != name {
				continue
			}
			own := depths[i]
			if f.loops {
				own -= loopFrame
			}
			own = (max(own, 1) + frameUnit - 1) / frameUnit * frameUnit
			for callee := range f.calls {
				if below, n := from(callee); n > depth {
					chain, depth = " > "+below, n
				}
			}
			return fmt.Sprintf("%s %d%s", name, own, chain), own + depth
		}
		return name, 0
	}
	return from(all[0].name)
}
