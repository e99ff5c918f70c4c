//go:build linux && (amd64 || arm64)

package bpf

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

// objects are all files of kernel programs.
var objects = map[string]func() (*ebpf.CollectionSpec, error){
	"process": LoadProcess, "memory": LoadMemory, "network": LoadNetwork, "syscalls": LoadSyscalls, "cni": LoadCNI, "dns": LoadDNS,
	"disk": LoadDisk, "drops": LoadDrops,
	"reclaim": LoadReclaim, "forks": LoadForks, "scheduler": LoadScheduler,
	"http": LoadHTTP,
}

// Every program must pass the verifier of the kernel that the tests run on.
func TestProgramsLoad(t *testing.T) {
	for name, load := range objects {
		t.Run(name, func(t *testing.T) {
			spec, err := load()
			require.NoError(t, err)
			skipUnlessPrivileged(t)
			collection, err := ebpf.NewCollection(spec)
			var rejected *ebpf.VerifierError
			if ok := errors.As(err, &rejected); ok {
				t.Fatalf("%+v", rejected)
			}
			require.NoError(t, err)
			collection.Close()
		})
	}
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
