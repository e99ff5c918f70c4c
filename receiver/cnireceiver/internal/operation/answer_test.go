package operation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseFailure(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		raw   string
		isCut bool
		want  Failure
	}{
		"plain":                          {`{"cniVersion":"0.4.0","code":999,"msg":"no","details":"really"}`, false, Failure{999, "no", "really"}},
		"pretty":                         {"{\n    \"code\": 7,\n    \"msg\": \"bad\"\n}\n", false, Failure{7, "bad", ""}},
		"trailing":                       {`{"code":7,"msg":"bad"} and more`, false, Failure{7, "bad", ""}},
		"control characters":             {`{"code":7,"msg":"a\nb\u001b[31m\u0000"}`, false, Failure{7, "a b [31m", ""}},
		"no UTF-8":                       {"{\"code\":7,\"msg\":\"a\xff\"}", false, Failure{7, "a\uFFFD", ""}},
		"code of a type":                 {`{"code":"7","msg":"bad"}`, false, Failure{0, "bad", ""}},
		"negative code":                  {`{"code":-1,"msg":"bad"}`, false, Failure{0, "bad", ""}},
		"message of a type":              {`{"code":7,"msg":["bad"]}`, false, Failure{7, "", ""}},
		"a result":                       {`{"cniVersion":"1.0.0","ips":[]}`, false, Failure{}},
		"nothing":                        {``, false, Failure{}},
		"not JSON":                       {`{code}`, false, Failure{}},
		"an array":                       {`[1]`, false, Failure{}},
		"cut in the message":             {`{"code":7,"msg":"it was a lo`, true, Failure{7, "it was a lo", ""}},
		"cut in an escape":               {`{"code":7,"msg":"quote \`, true, Failure{7, "quote", ""}},
		"cut in \\u":                     {`{"code":7,"msg":"quote \u00`, true, Failure{7, "quote", ""}},
		"cut after \\u":                  {`{"code":7,"msg":"quote \u00e4`, true, Failure{7, "quote ä", ""}},
		"cut after an escape":            {`{"code":7,"msg":"say \"hi\" and`, true, Failure{7, `say "hi" and`, ""}},
		"cut after":                      {`{"code":7,"msg":"bad",`, true, Failure{7, "bad", ""}},
		"cut in a name":                  {`{"code":7,"msg":"bad","deta`, true, Failure{7, "bad", ""}},
		"cut after a name":               {`{"code":7,"msg":"bad","details":`, true, Failure{7, "bad", ""}},
		"cut in an object":               {`{"code":7,"msg":"bad","x":{"y":"z`, true, Failure{7, "bad", ""}},
		"cut in details before the rest": {`{"cniVersion":"1.0.0","details":"a long sto`, true, Failure{0, "", "a long sto"}},
		"cut at once":                    {`{"co`, true, Failure{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseFailure([]byte(tc.raw), tc.isCut)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.want != Failure{}, ok)
		})
	}
}

func TestNetworkName(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ config, want string }{
		"plain":         {`{"cniVersion":"1.0.0","name":"cbr0","type":"bridge"}`, "cbr0"},
		"not the inner": {`{"ipam":{"name":"inner"},"x":["name","no"],"name":"cbr0"}`, "cbr0"},
		"not a value":   {`{"x":"name","y":"z"}`, ""},
		"value is name": {`{"x":"name","name":"n"}`, "n"},
		"cut before":    {`{"ipam":{"ranges":[[{"subnet":"10.`, ""},
		"cut after":     {`{"name":"cbr0","prevResult":{"ips`, "cbr0"},
		"no string":     {`{"name":{"a":1}}`, ""},
		"an array":      {`["name","x"]`, ""},
		"nothing":       {``, ""},
		"hostile":       {"{\"name\":\"a\\u0000b\xff\"}", "a b\uFFFD"},
		"closed":        {`{}{"name":"second"}`, ""},
		"deeply nested": {strings.Repeat("[", 5000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, networkName([]byte(tc.config)))
		})
	}
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	env := "CNI_COMMAND=ADD\x00CNI_COMMAND=DEL\x00CNI_NOISE=1\x00CNI_NETNS=/run/netns/a=b\x00CNI_IFNAME=et\x1bh0\x00" +
		"CNI_ARGS=K8S_POD_NAME=a;K8S_POD_NAME=b;;=;K8S_POD_UID;K8S_POD_NAMESPACE=\xff\x00CNI_CONTAINERID\x00garbage\x00\x00CNI_PATH=/a"
	want := Request{Command: "ADD", Netns: "/run/netns/a=b", Interface: "et h0", PodName: "b", PodNamespace: "\uFFFD", searchPath: "/a"}
	assert.Equal(t, want, parseRequest([]byte(env)))
	assert.Equal(t, Request{}, parseRequest(nil))
}

// A variable that is as long as what the kernel program keeps of one may have been longer.
func TestParseRequestOfACutEnvironment(t *testing.T) {
	t.Parallel()
	cut := func(variable string) string { return variable[:maxVariable] + "\x00" }
	long := strings.Repeat("x", 950)
	env := cut("CNI_ARGS=IgnoreUnknown=1;X="+long+";K8S_POD_NAMESPACE=shop;K8S_POD_NAME=payment-service-7f9c8d-abcde;K8S_POD_UID=u") +
		cut("CNI_PATH=/a:/b:/"+long+long) + cut("CNI_NETNS=/run/netns/"+long+long) + "CNI_COMMAND=ADD\x00"
	assert.Equal(t, Request{Command: "ADD", PodNamespace: "shop", searchPath: "/a:/b:"}, parseRequest([]byte(env)))
}

func TestIsPlugin(t *testing.T) {
	t.Parallel()
	r := Request{searchPath: "/opt/cni/bin/:/usr//lib/cni::"}
	for path, want := range map[string]bool{
		"/opt/cni/bin/bridge": true, "/usr/lib/cni/bridge": true, "/opt/cni/bin/../bin/bridge": true,
		"/opt/cni/bin/sub/bridge": false, "/usr/sbin/iptables": false, "bridge": false, "": false,
	} {
		_, got := r.executable(Exec{Path: path}, true, follow)
		assert.Equal(t, want, got, path)
	}
}
