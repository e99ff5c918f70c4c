package memlimit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	mountV2   = "35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountV1   = "33 32 0:28 / /sys/fs/cgroup/memory rw,relatime shared:16 - cgroup cgroup rw,memory\n"
	mountCPU  = "34 32 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
	mountRoot = "25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
)

// tree writes the files of a machine.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return root
}

func TestFindParents(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		// want are directories below the root.
		want    []Parent
		wantErr string
	}{
		"systemd, login session: the session's slice and all above it": {
			files: map[string]string{
				"proc/self/cgroup":                                                             "0::/user.slice/user-0.slice/session-3.scope\n",
				"proc/self/mountinfo":                                                          mountRoot + mountV2,
				"sys/fs/cgroup/cgroup.controllers":                                             "cpuset cpu io memory pids\n",
				"sys/fs/cgroup/cgroup.subtree_control":                                         "cpu io memory pids\n",
				"sys/fs/cgroup/user.slice/cgroup.subtree_control":                              "memory pids\n",
				"sys/fs/cgroup/user.slice/user-0.slice/cgroup.subtree_control":                 "memory pids\n",
				"sys/fs/cgroup/user.slice/user-0.slice/session-3.scope/cgroup.subtree_control": "\n",
			},
			want: []Parent{
				{2, "sys/fs/cgroup/user.slice/user-0.slice"},
				{2, "sys/fs/cgroup/user.slice"},
				{2, "sys/fs/cgroup"},
			},
		},
		"container with a cgroup namespace and nothing delegated": {
			files: map[string]string{
				"proc/self/cgroup":                     "0::/\n",
				"proc/self/mountinfo":                  mountV2,
				"sys/fs/cgroup/cgroup.controllers":     "cpu memory pids\n",
				"sys/fs/cgroup/cgroup.subtree_control": "\n",
			},
			wantErr: "no cgroup from / up hands its memory controller to children",
		},
		"hybrid: cgroup v2 without the memory controller": {
			files: map[string]string{
				"proc/self/cgroup":                         "4:memory:/process\n3:cpuset:/\n0::/\n",
				"proc/self/mountinfo":                      mountCPU + mountV1 + "42 32 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
				"sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n",
				"sys/fs/cgroup/memory/process/tasks":       "",
			},
			want: []Parent{{1, "sys/fs/cgroup/memory/process"}},
		},
		"v1 container: the mount shows the container's own cgroup": {
			files: map[string]string{
				"proc/self/cgroup":    "4:cpu,memory:/docker/0123abcd\n",
				"proc/self/mountinfo": "33 32 0:28 /docker/0123abcd /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n",
			},
			want: []Parent{{1, "sys/fs/cgroup/memory"}},
		},
		"v1 mount that does not show this process's cgroup": {
			files: map[string]string{
				"proc/self/cgroup":    "4:memory:/elsewhere\n",
				"proc/self/mountinfo": "33 32 0:28 /docker/0123abcd /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			},
			wantErr: "the memory controller of cgroup v1 is not mounted",
		},
		"the memory controller is switched off": {
			files: map[string]string{
				"proc/self/cgroup":                 "0::/\n",
				"proc/self/mountinfo":              mountV2,
				"sys/fs/cgroup/cgroup.controllers": "cpu pids\n",
			},
			wantErr: "cgroup v2 has no memory controller",
		},
		"no cgroups": {
			files:   map[string]string{"proc/self/cgroup": "", "proc/self/mountinfo": mountRoot},
			wantErr: "no cgroup v2\ncgroup v1 has no memory controller",
		},
		"damaged file": {
			files:   map[string]string{"proc/self/cgroup": "memory\n", "proc/self/mountinfo": mountRoot},
			wantErr: `line "memory": want three fields`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, tt.files)
			got, err := FindParents(root)
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				return
			}
			require.NoError(t, err)
			for i := range got {
				got[i].Dir, err = filepath.Rel(root, got[i].Dir)
				require.NoError(t, err)
			}
			assert.Equal(t, tt.want, got)
		})
	}
}
