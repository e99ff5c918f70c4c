package bpf

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type record_kind -type process_id -type cgroup_path -type exec_record -type exit_record -type signal_record Process process.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type process_id -type cgroup_path -type oom_record -type container_fate Memory memory.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type process_id -type cgroup_path -type syscall_record -type failure_key Syscalls syscalls.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type process_id -type cgroup_path -type connect_record Network network.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type cni_kind -type cni_skip -type cni_process -type process_id -type cni_exec_record -type cni_data_record -type cni_exit_record CNI cni.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
