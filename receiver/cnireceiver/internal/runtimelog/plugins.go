package runtimelog

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// Calico is the log of Calico's plugin, by default in /var/log/calico/cni/cni.log:
// logrus in a format of its own. Only the line at the end of an operation is read
// (cni-plugin/pkg/plugin/plugin.go), which names no pod.
var Calico = Format{marks: []string{"Final result of CNI "}, parse: parseCalico}

var calico = regexp.MustCompile(`\[ERROR\]\[\d+\] \S+ \d+: Final result of CNI (ADD|DEL) was an error\. error=(.*)`)

func parseCalico(line string) []Failure {
	m := calico.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	return []Failure{{Command: m[1], Plugin: "calico", Message: cut(m[2])}}
}

// Cilium is the log of Cilium's plugin, by default in
// /var/run/cilium/cilium-cni.log: logfmt, of logrus and later of log/slog, or JSON
// where log-format says so (plugins/cilium-cni/cmd/cmd.go). The plugin logs some of
// its failures there, and hands all of them to the runtime.
var Cilium = Format{marks: []string{"cilium-cni"}, parse: parseCilium}

// ciliumFailures are messages that stand for an operation that failed, by its
// command. Others below level error do not: the operation goes on.
var ciliumFailures = map[string]string{
	"Unable to create endpoint": "ADD",
	"Chained ADD failed":        "ADD",
}

func parseCilium(line string) []Failure {
	fields := logfmt(line)
	if start := strings.IndexByte(line, '{'); start >= 0 && fields["subsys"] == "" {
		fields = jsonFields(line[start:])
	}
	command, isFailure := ciliumFailures[fields["msg"]]
	level := strings.ToLower(fields["level"])
	if fields["subsys"] != "cilium-cni" || !isFailure && level != "error" && level != "fatal" {
		return nil
	}
	message := fields["msg"]
	if reason := fields["error"]; reason != "" {
		message += ": " + reason
	}
	f := Failure{
		Command: command, Plugin: "cilium-cni", Message: cut(message), ContainerID: fields["containerID"],
		PodNamespace: fields["k8sNamespace"], PodName: fields["k8sPodName"],
	}
	f.readArgs(fields["args"])
	return []Failure{f}
}

// readArgs reads CNI_ARGS, of which a line may have a copy.
func (f *Failure) readArgs(args string) {
	for arg := range strings.SplitSeq(args, ";") {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "K8S_POD_NAMESPACE":
			f.PodNamespace = value
		case "K8S_POD_NAME":
			f.PodName = value
		case "K8S_POD_UID":
			f.PodUID = value
		}
	}
}

// Amazon is the log of Amazon's plugin and that of its daemon, by default in
// /var/log/aws-routed-eni/plugin.log and ipamd.log: zap's JSON
// (cmd/routed-eni-cni-plugin/cni.go, pkg/ipamd). The plugin names the container;
// the daemon says why it gave no address.
var Amazon = Format{marks: []string{`"level":"error"`, `"level":"fatal"`, "NetworkReply: ", "Rejecting "}, parse: parseAmazon}

var (
	amazonContainer = regexp.MustCompile(`container(?:ID| ID)? ([0-9a-f]{64})`)
	amazonPod       = regexp.MustCompile(`Pod Name (\S+) and NameSpace ([^\s:]+)`)
	// amazonReply is what the daemon answered; with an error behind it, "<nil>" for
	// none, or with the reason alone.
	amazonReply  = regexp.MustCompile(`^(?:Send|Rejecting) (Add|Del)Network(?:Reply| request): (.*)`)
	amazonReason = regexp.MustCompile(`(?i)\berr: (.*)|^((?:failed|no|error|unable|wrong|rpc error)\b.*)`)
)

// amazonCommands tell the command by what the plugin could not do.
var amazonCommands = []struct{ text, command string }{
	{"AddNetwork", "ADD"},
	{"assign an IP address", "ADD"},
	{"SetupPodNetwork", "ADD"},
	{"setup default network policy", "ADD"},
	{"DelNetwork", "DEL"},
	{"delete request", "DEL"},
	{"release IP", "DEL"},
	{"TeardownPodNetwork", "DEL"},
	{"teardown pod network", "DEL"},
	{"delete pod network policy", "DEL"},
}

func parseAmazon(line string) []Failure {
	fields := jsonFields(line)
	where, _, _ := strings.Cut(fields["caller"], "/")
	isError := fields["level"] == "error" || fields["level"] == "fatal"
	f := Failure{Plugin: "aws-cni", Message: cut(fields["msg"])}
	switch {
	case where == "routed-eni-cni-plugin" && isError && f.Message != "":
		f.readAmazon(fields["msg"])
	case where == "datastore" && isError && strings.HasPrefix(f.Message, "DataStore has no available IP"):
		f.Command = "ADD"
	case where == "rpc" || where == "ipamd":
		if !f.readReply(fields["msg"]) {
			return nil
		}
	default:
		return nil
	}
	return []Failure{f}
}

// readReply reads why the daemon gave or took no address, and says whether it
// failed to. Of addresses that are used up another line tells.
func (f *Failure) readReply(message string) bool {
	reply := amazonReply.FindStringSubmatch(message)
	if reply == nil {
		return false
	}
	m := amazonReason.FindStringSubmatch(reply[2])
	if m == nil || m[1] == "<nil>" || strings.Contains(m[0], "no available IP") {
		return false
	}
	f.Command, f.Message = strings.ToUpper(reply[1]), cut("ipamd: "+m[1]+m[2])
	return true
}

func (f *Failure) readAmazon(message string) {
	for _, known := range amazonCommands {
		if strings.Contains(message, known.text) {
			f.Command = known.command
			break
		}
	}
	if m := amazonContainer.FindStringSubmatch(message); m != nil {
		f.ContainerID = m[1]
	}
	if m := amazonPod.FindStringSubmatch(message); m != nil {
		f.PodName, f.PodNamespace = m[1], m[2]
	}
}

// maxFields bounds the fields of a line that are looked at.
const maxFields = 64

// logfmt reads key=value and key="value"; what is neither is passed over. Of a key
// that is there twice the last counts.
func logfmt(line string) map[string]string {
	fields := make(map[string]string)
	for range maxFields {
		equals := strings.IndexByte(line, '=')
		if equals < 0 {
			break
		}
		key := line[strings.LastIndexAny(line[:equals], " \t")+1 : equals]
		line = line[equals+1:]
		var value string
		if quoted, err := strconv.QuotedPrefix(line); err == nil && quoted[0] == '"' {
			value, _ = strconv.Unquote(quoted)
			line = line[len(quoted):]
		} else {
			value, line, _ = strings.Cut(line, " ")
		}
		fields[key] = value
	}
	return fields
}

// jsonFields reads the members of an object that are strings.
func jsonFields(line string) map[string]string {
	var members map[string]any
	if json.Unmarshal([]byte(line), &members) != nil {
		return nil
	}
	fields := make(map[string]string, len(members))
	for key, member := range members {
		if text, ok := member.(string); ok {
			fields[key] = text
		}
	}
	return fields
}
