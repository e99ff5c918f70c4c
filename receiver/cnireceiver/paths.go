package cnireceiver

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
)

// absentPaths returns "key: path" of what the user named and is not there: the paths of
// the default configuration are on few machines all. withLogs is whether logs are read.
func (c *Config) absentPaths(withLogs bool) (absent []string) {
	if c.RootPath != "" && isAbsent(c.RootPath) {
		return []string{"root_path: " + c.RootPath} // nothing below it is there either
	}
	if c.HostNamespace != "" && isAbsent(snapshot.Resolve(c.RootPath, c.HostNamespace)) {
		absent = append(absent, "host_namespace: "+c.HostNamespace)
	}
	lists, defaults := c.paths(withLogs), createDefaultConfig().(*Config).paths(withLogs)
	for i, list := range lists {
		for j, path := range list.paths {
			if !slices.Contains(defaults[i].paths, path) && isAbsent(snapshot.Resolve(c.RootPath, path)) {
				absent = append(absent, fmt.Sprintf("%s[%d]: %s", list.key, j, path))
			}
		}
	}
	return absent
}

// pathList is a list of paths of the configuration.
type pathList struct {
	key   string
	paths []string
}

func (c *Config) paths(withLogs bool) []pathList {
	all := []pathList{
		{"config_dirs", c.ConfigDirs},
		{"plugin_dirs", c.PluginDirs},
		{"result_dirs", c.ResultDirs},
		{"namespace_dirs", c.NamespaceDirs},
		{"ipam::data_dirs", c.IPAM.DataDirs},
	}
	if withLogs {
		all = append(all, pathList{"logs::files", c.Logs.Files}, pathList{"logs::journal_dirs", c.Logs.JournalDirs})
	}
	return all
}

// isAbsent says that nothing is there; what may not be looked at is told by who reads it.
func isAbsent(path string) bool {
	_, err := os.Stat(path)
	return err != nil && !errors.Is(err, os.ErrPermission)
}

// sharesResults says that a node that is a container may be taken for another one: its
// network namespace is its own, and nobody said so of the results.
func (c *Config) sharesResults() bool { return c.HostNamespace != "" && !c.resultDirsSet }
