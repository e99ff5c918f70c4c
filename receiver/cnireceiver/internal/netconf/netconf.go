// Package netconf reads network configurations of CNI, as container runtimes
// do, and says which line is wrong. It follows the specification of CNI 1.1
// (https://www.cni.dev/docs/spec/), the loader of libcni 1.3 and, for address
// ranges, the documented rules of host-local.
package netconf

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// MaxSize is the largest file that is read, in bytes. Real ones have a few KiB.
const MaxSize = 1 << 20

// Kinds of mistakes, the values of error.type.
const (
	// ErrorSyntax: not JSON.
	ErrorSyntax = "syntax"
	// ErrorSchema: JSON, but no network configuration.
	ErrorSchema = "schema"
	// ErrorUnreadable: the file cannot be read, or is too large.
	ErrorUnreadable = "unreadable"
)

// Error is what is wrong with a configuration.
type Error struct {
	// Type is one of the kinds above.
	Type string
	// Line is where, from 1; 0 when it is about the file as a whole.
	Line int
	// Reason is for people and names the key.
	Reason string
	// Network is the network's name, empty where the file does not get so far.
	Network string
}

// Error is the reason, with the line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// Network is a configuration that runtimes can use.
type Network struct {
	// Name is the network's name, which the address store uses too.
	Name string
	// Version is that with which plugins are called, empty when the file has none.
	Version string
	// Plugins are called in this order.
	Plugins []Plugin
	// HasPluginDir: plugins are also read from a directory with the network's
	// name beside the file (libcni 1.3).
	HasPluginDir bool
}

// Plugin is one of a network.
type Plugin struct {
	// Type is the name of the executable.
	Type string
	// IPAM is the plugin that this one asks for addresses, nil when it asks none.
	IPAM *IPAM
	// Bridge is the name of the bridge that a bridge plugin makes or uses.
	Bridge string
	// MTU is what the configuration asks for in bytes, 0 when it leaves it to the plugin.
	MTU int
	// SubnetFile is where flannel looks for its subnet.
	SubnetFile string
	// DataDir is where flannel and its like keep their state.
	DataDir string
}

// Types returns the types of all plugins, each ipam behind the plugin that
// calls it.
func (n *Network) Types() []string {
	var types []string
	for _, p := range n.Plugins {
		types = append(types, p.Type)
		if p.IPAM != nil {
			types = append(types, p.IPAM.Type)
		}
	}
	return types
}

// Extensions are those of the files that runtimes look at.
var Extensions = []string{".conf", ".conflist", ".json"}

// IsConfig says whether a file of that name is a network configuration.
func IsConfig(name string) bool {
	for _, ext := range Extensions {
		if path.Ext(name) == ext {
			return true
		}
	}
	return false
}

// names of networks, as libcni accepts them.
var names = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`)

// Parse reads the file of that name. A .conflist has a list of plugins; the
// others are one plugin.
func Parse(name string, content []byte) (*Network, *Error) {
	root, err := parse(content)
	if err != nil {
		s, _ := err.(*syntaxError) //nolint:errorlint // parse returns no other
		return nil, &Error{Type: ErrorSyntax, Line: lineOf(content, s.offset), Reason: s.reason}
	}
	r := &reader{content: content}
	network := r.network(root, path.Ext(name) == ".conflist")
	if r.err != nil {
		if network != nil {
			r.err.Network = network.Name
		}
		return nil, r.err
	}
	return network, nil
}

// reader reads nodes and keeps the first mistake.
type reader struct {
	content []byte
	err     *Error
}

func (r *reader) fail(n *node, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Type: ErrorSchema, Line: lineOf(r.content, n.offset), Reason: fmt.Sprintf(format, args...)}
	}
}

func (r *reader) network(root *node, isList bool) *Network {
	if root.kind != kindObject {
		r.fail(root, "the file is %s, not an object", root.kind)
		return nil
	}
	n := &Network{Version: r.version(root, isList)}
	r.name(root, n)
	if !isList {
		if root.field("type") == nil && root.field("plugins") != nil {
			r.fail(root.field("plugins"), `plugins: a list of plugins belongs in a file that ends in .conflist`)
		}
		n.Plugins = []Plugin{r.plugin(root, "")}
		return n
	}
	inlineOnly := r.flag(root, "loadOnlyInlinedPlugins")
	r.flag(root, "disableCheck")
	r.flag(root, "disableGC")
	list := root.field("plugins")
	switch {
	case list == nil && inlineOnly:
		r.fail(root, "plugins: missing, and loadOnlyInlinedPlugins is true")
	case list == nil && root.field("type") != nil:
		r.fail(root, "plugins: missing; a single plugin belongs in a file that ends in .conf")
	case list != nil && list.kind != kindList:
		r.fail(list, "plugins: is %s, not a list", list.kind)
	case list != nil && len(list.items) == 0:
		r.fail(list, "plugins: the list is empty")
	case list != nil:
		for i, item := range list.items {
			n.Plugins = append(n.Plugins, r.plugin(item, fmt.Sprintf("plugins[%d].", i)))
		}
	}
	n.HasPluginDir = !inlineOnly
	return n
}

func (r *reader) name(root *node, n *Network) {
	n.Name = r.text(root, "name", "")
	switch f := root.field("name"); {
	case f == nil:
		r.fail(root, "name: missing")
	case f.kind == kindText && !names.MatchString(n.Name):
		r.fail(f, "name: %q is not letters, digits, '_', '.' and '-', beginning with a letter or digit", n.Name)
	}
}

func (r *reader) plugin(n *node, prefix string) Plugin {
	if n.kind != kindObject {
		r.fail(n, "%s is %s, not an object", strings.TrimSuffix(prefix, "."), n.kind)
		return Plugin{}
	}
	p := Plugin{
		Type:       r.text(n, "type", prefix),
		Bridge:     optionalText(n, "bridge"),
		SubnetFile: optionalText(n, "subnetFile"),
		DataDir:    optionalText(n, "dataDir"),
		MTU:        optionalNumber(n, "mtu"),
	}
	switch {
	case n.field("type") == nil || p.Type == "":
		r.fail(n, "%stype: missing", prefix)
	case strings.ContainsAny(p.Type, `/\`):
		r.fail(n.field("type"), "%stype: %q is a path; it must be the name of an executable", prefix, p.Type)
	}
	if ipam := n.field("ipam"); ipam != nil && ipam.kind != kindNull {
		p.IPAM = r.ipam(ipam, prefix+"ipam")
	}
	return p
}

// text reads a key that must be a string when it is there.
func (r *reader) text(n *node, key, prefix string) string {
	f := n.field(key)
	if f == nil {
		return ""
	}
	s, ok := f.value.(string)
	if !ok {
		r.fail(f, "%s%s: is %s, not a string", prefix, key, f.kind)
	}
	return s
}

// flag reads a boolean, which libcni also takes as a string.
func (r *reader) flag(n *node, key string) bool {
	f := n.field(key)
	if f == nil {
		return false
	}
	switch v := f.value.(type) {
	case bool:
		return v
	case string:
		switch strings.ToLower(v) {
		case "true":
			return true
		case "false":
			return false
		}
		r.fail(f, "%s: %q is not true or false", key, v)
	default:
		r.fail(f, "%s: is %s, not true or false", key, f.kind)
	}
	return false
}

// optionalText and optionalNumber read keys whose meaning is the plugin's own:
// what has another type is somebody else's key, not a mistake.
func optionalText(n *node, key string) string {
	if f := n.field(key); f != nil {
		s, _ := f.value.(string)
		return s
	}
	return ""
}

func optionalNumber(n *node, key string) int {
	f := n.field(key)
	if f == nil {
		return 0
	}
	number, _ := f.value.(json.Number)
	v, err := strconv.Atoi(number.String())
	if err != nil {
		return 0
	}
	return v
}

// ParsePlugin reads a file with one plugin, as in a directory of plugins, where
// the network's name is that of the directory.
func ParsePlugin(content []byte) (Plugin, *Error) {
	root, err := parse(content)
	if err != nil {
		s, _ := err.(*syntaxError) //nolint:errorlint // parse returns no other
		return Plugin{}, &Error{Type: ErrorSyntax, Line: lineOf(content, s.offset), Reason: s.reason}
	}
	r := &reader{content: content}
	p := r.plugin(root, "")
	return p, r.err
}
