package operation

import (
	"strings"
	"time"
)

const ms = uint64(time.Millisecond)

// story makes records as a runtime and its plugins would.
type story struct {
	*Assembler
	now  uint64
	dir  string
	done []*Operation
}

func newStory() *story { return &story{Assembler: NewAssembler(follow), now: 1e12} }

// links are symbolic links of the machine that the stories are about.
var links = map[string]string{"/opt/plugins": "/opt/cni/bin", "/usr/local/bin/br": "/opt/cni/bin/bridge", "/snap/cni": "/usr/lib/cni"}

func follow(path string) string {
	for link, target := range links {
		if rest, ok := strings.CutPrefix(path, link); ok && (rest == "" || rest[0] == '/') {
			return target + rest
		}
	}
	return path
}

// startIn is start in a working directory.
func (s *story) startIn(dir string, pid, parent uint32, plugin string, env ...string) *story {
	s.dir = dir
	defer func() { s.dir = "" }()
	return s.start(pid, parent, plugin, env...)
}

func (s *story) wait(d uint64) *story { s.now += d; return s }

func (s *story) tick() *story { s.done = append(s.done, s.Expire(s.now)...); return s }

// runtime is the pid that calls plugins, unless a test says otherwise.
const runtime = 100

func id(pid uint32) ID { return ID{PID: pid, Start: uint64(pid) * 1000} }

// start begins a plugin. env comes before what every plugin has, so it wins.
func (s *story) start(pid, parent uint32, plugin string, env ...string) *story {
	all := append(env, "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=/run/netns/c1", "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin:/usr/lib/cni",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=payment-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1")
	path := plugin
	if !strings.Contains(path, "/") {
		path = "/opt/cni/bin/" + plugin
	}
	s.now += ms
	s.done = append(s.done, s.Add(Exec{
		At: s.now, ID: id(pid), Parent: parent, PID: pid, ParentPID: parent, Path: path, Dir: s.dir, Env: []byte(strings.Join(all, "\x00") + "\x00"),
	})...)
	return s
}

func (s *story) reads(pid uint32, text string) *story { return s.moves(pid, Stdin, 0, text, false) }

func (s *story) writes(pid uint32, text string) *story { return s.moves(pid, Stdout, 0, text, false) }

func (s *story) moves(pid uint32, stream Stream, offset int, text string, more bool) *story {
	s.now += ms
	s.done = append(s.done, s.Add(Data{At: s.now, ID: id(pid), Stream: stream, Offset: offset, Bytes: []byte(text), More: more})...)
	return s
}

func (s *story) exits(pid uint32, code uint32) *story { return s.ends(pid, code<<8) }

func (s *story) ends(pid uint32, status uint32) *story {
	s.now += ms
	s.done = append(s.done, s.Add(Exit{At: s.now, ID: id(pid), Status: status})...)
	return s
}

// tree writes operations as text: name, outcome and, below it, what it called.
func tree(operations []*Operation) string {
	var b strings.Builder
	var write func(c *Call, indent string)
	write = func(c *Call, indent string) {
		outcome := "ok"
		switch {
		case c.End == 0:
			outcome = "unfinished"
		case c.HasFailed():
			outcome = c.ErrorType()
		}
		b.WriteString(indent + c.Plugin + " " + c.Command + " " + outcome + "\n")
		for _, child := range c.Children {
			write(child, indent+"  ")
		}
	}
	told := map[*Operation]bool{}
	for _, o := range operations {
		if told[o] { // when it was found to be stuck
			continue
		}
		told[o] = true
		outcome := o.Outcome()
		if !o.IsOver() {
			outcome = "running"
		}
		b.WriteString(o.Request().Command + " " + outcome + "\n")
		for _, c := range o.Calls {
			write(c, "  ")
		}
	}
	return b.String()
}
