package cgroup

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const (
	cid    = "3c5f0ad4e2b9f6a1c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5"
	outer  = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
	uid    = "2f1c7a3e-9d4b-4c55-8f60-0a1b2c3d4e5f"
	uidSys = "2f1c7a3e_9d4b_4c55_8f60_0a1b2c3d4e5f"
	static = "0123456789abcdef0123456789abcdef"
)

func TestParse(t *testing.T) {
	t.Parallel()
	pod := Identity{ContainerID: cid, PodUID: uid}
	for name, tc := range map[string]struct {
		path string
		want Identity
	}{
		"root":                   {"/", Identity{}},
		"nothing":                {"", Identity{}},
		"docker cgroupfs":        {"/docker/" + cid, Identity{ContainerID: cid}},
		"docker systemd":         {"/system.slice/docker-" + cid + ".scope", Identity{ContainerID: cid}},
		"podman":                 {"/machine.slice/libpod-" + cid + ".scope/container", Identity{ContainerID: cid}},
		"podman monitor":         {"/machine.slice/libpod-conmon-" + cid + ".scope", Identity{}},
		"containerd cgroupfs":    {"/kubepods/burstable/pod" + uid + "/" + cid, pod},
		"guaranteed cgroupfs":    {"/kubepods/pod" + uid + "/" + cid, pod},
		"containerd systemd":     {"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSys + ".slice/cri-containerd-" + cid + ".scope", pod},
		"guaranteed systemd":     {"/kubepods.slice/kubepods-pod" + uidSys + ".slice/cri-containerd-" + cid + ".scope", pod},
		"crio systemd":           {"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidSys + ".slice/crio-" + cid + ".scope", pod},
		"crio with crun":         {"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uidSys + ".slice/crio-" + cid + ".scope/container", pod},
		"crio cgroupfs":          {"/kubepods/besteffort/pod" + uid + "/crio-" + cid, pod},
		"crio monitor":           {"/kubepods.slice/kubepods-besteffort-pod" + uidSys + ".slice/crio-conmon-" + cid + ".scope", Identity{PodUID: uid}},
		"drivers differ":         {"/system.slice/containerd.service/kubepods-burstable-pod" + uidSys + ".slice:cri-containerd:" + cid, Identity{ContainerID: cid, PodUID: uid, Unit: "containerd.service"}},
		"pod, no container":      {"/kubepods/burstable/pod" + uid, Identity{PodUID: uid}},
		"static pod":             {"/kubepods/burstable/pod" + static + "/" + cid, Identity{ContainerID: cid, PodUID: static}},
		"kind":                   {"/docker/" + outer + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + uidSys + ".slice/cri-containerd-" + cid + ".scope", pod},
		"kind on systemd":        {"/system.slice/docker-" + outer + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uidSys + ".slice/cri-containerd-" + cid + ".scope", pod},
		"systemd in a container": {"/docker/" + cid + "/system.slice/nginx.service", Identity{ContainerID: cid, Unit: "nginx.service"}},
		"ecs":                    {"/ecs/cluster/task/" + cid, Identity{ContainerID: cid}},
		"fargate":                {"/ecs/" + static + "/" + static + "-1234567890", Identity{ContainerID: static + "-1234567890"}},
		"unit":                   {"/system.slice/postgresql@16-main.service", Identity{Unit: "postgresql@16-main.service"}},
		"user unit":              {"/user.slice/user-1000.slice/user@1000.service/app.slice/app-editor.service", Identity{Unit: "app-editor.service"}},
		"session":                {"/user.slice/user-0.slice/session-3.scope", Identity{Unit: "session-3.scope"}},
		"escaped unit":           {"/system.slice/_cpu.service", Identity{Unit: "cpu.service"}},
		"init":                   {"/init.scope", Identity{Unit: "init.scope"}},
		"unit with colons":       {"/system.slice/dev-a:b:c.service", Identity{Unit: "dev-a:b:c.service"}},
		"slice alone":            {"/system.slice", Identity{}},
		"only a suffix":          {"/.service", Identity{}},
		"cut at the top":         {".../kubepods-burstable-pod" + uidSys + ".slice/cri-containerd-" + cid + ".scope", pod},
		"short hash":             {"/docker/" + cid[:63], Identity{}},
		"not hexadecimal":        {"/docker/" + strings.Repeat("x", 64), Identity{}},
		"pod without uid":        {"/kubepods/podinfo", Identity{}},
		"slice named pod":        {"/my-pod" + uidSys + ".slice", Identity{}},
		"removed while alive":    {"/docker/" + cid + " (deleted)", Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, Parse(tc.path))
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/kubepods.slice/kubepods-pod" + uidSys + ".slice/cri-containerd-" + cid + ".scope")
	f.Add("/a:b:c//d.service/")
	f.Fuzz(func(t *testing.T, path string) {
		id := Parse(path)
		if id.ContainerID != "" && !strings.Contains(path, id.ContainerID) {
			t.Errorf("container id %q is not in %q", id.ContainerID, path)
		}
		if n := len(id.PodUID); n != 0 && n != 32 && n != 36 {
			t.Errorf("pod uid %q has %d characters", id.PodUID, n)
		}
		if strings.Contains(id.Unit, "/") {
			t.Errorf("unit %q is more than one name", id.Unit)
		}
	})
}
