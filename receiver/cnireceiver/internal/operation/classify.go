package operation

import (
	"strconv"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
)

// known messages of plugins, by what they mean. The table grows: a line needs a
// plugin that says so, and a class that tells its reader what to do.
var messages = []struct {
	text  string // lower case
	class string
}{
	{"no ip addresses available in range set", event.ErrorAddressPoolExhausted},      // host-local
	{"could not allocate ip in range", event.ErrorAddressPoolExhausted},              // whereabouts
	{"failed to assign an ip address to container", event.ErrorAddressPoolExhausted}, // aws-vpc-cni
	{"datastore has no available ip", event.ErrorAddressPoolExhausted},               // ipamd of aws-vpc-cni
	{"assigned 0 out of", event.ErrorAddressPoolExhausted},                           // calico-ipam
	{"range is full", event.ErrorAddressPoolExhausted},                               // cilium
	{"duplicate allocation is not allowed", event.ErrorAddressAlreadyAllocated},      // host-local
	{"failed to find plugin", event.ErrorPluginMissing},                              // libcni, of a delegate
	{"exec format error", event.ErrorPluginNotExecutable},                            // the kernel (ENOEXEC), of a delegate
	{"failed to open netns", event.ErrorNetnsMissing},                                // containernetworking/plugins
	{"unable to connect to cilium agent", event.ErrorAgentUnreachable},               // cilium
	{"loadflannelsubnetenv failed", event.ErrorAgentUnreachable},                     // flannel: flanneld has not written its file
	{"already exists", event.ErrorInterfaceExists},                                   // bridge, ptp: the interface in the pod
}

// codes are those of the CNI specification, version 1.1.0, "Error". Codes from 100
// on are the plugin's own; containernetworking's use 999 for everything.
var codes = map[uint64]string{
	1:  "incompatible_cni_version",
	2:  "unsupported_field",
	3:  "unknown_container",
	4:  "invalid_environment",
	5:  "io_failure",
	6:  "decoding_failure",
	7:  "invalid_network_config",
	11: "try_again_later",
	50: "plugin_not_available",
	51: "limited_connectivity",
}

// ErrorType classifies a call that failed, for error.type.
func (c *Call) ErrorType() string {
	if c.Signal() != 0 {
		return event.ErrorKilled
	}
	if class := Classify(c.Failure.Message + "\n" + c.Failure.Details); class != event.ErrorPluginFailed {
		return class
	}
	if class, ok := codes[c.Failure.Code]; ok {
		return class
	}
	return event.ErrorPluginFailed
}

// Classify returns the class of what a plugin said, plugin_failed when it is not
// known.
func Classify(message string) string {
	text := strings.ToLower(message)
	for _, m := range messages {
		if strings.Contains(text, m.text) {
			return m.class
		}
	}
	return event.ErrorPluginFailed
}

// Reason says for people why a call failed.
func (c *Call) Reason() string {
	var said []string
	if f := c.Failure; f.Message != "" {
		said = append(said, f.Message)
	} else if s := c.Signal(); s != 0 {
		said = append(said, "killed by signal "+strconv.Itoa(s))
	} else {
		code, _ := c.ExitCode()
		said = append(said, "exit code "+strconv.Itoa(code))
	}
	if c.Failure.Details != "" {
		said = append(said, c.Failure.Details)
	}
	return strings.Join(said, "; ")
}
