//go:build linux && (amd64 || arm64)

package bpf

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
)

// objects are all files of kernel programs.
var objects = map[string]func() (*ebpf.CollectionSpec, error){
	"process": LoadProcess, "memory": LoadMemory, "network": LoadNetwork, "syscalls": LoadSyscalls, "cni": LoadCNI, "dns": LoadDNS,
	"disk": LoadDisk, "drops": LoadDrops,
	"reclaim": LoadReclaim, "forks": LoadForks, "scheduler": LoadScheduler,
	"http": LoadHTTP,
}

func skipUnlessPrivileged(t *testing.T) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("loading kernel programs needs root")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skipf("loading kernel programs needs BTF: %v", err)
	}
}
