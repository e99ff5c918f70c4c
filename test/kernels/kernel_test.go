package kernels

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernel is one that was downloaded.
type kernel struct {
	release string            // as uname -r prints it
	image   string            // vmlinuz
	modules map[string]string // files, by name
}

// patience makes apt-get try again when a server does not answer; it pauses longer
// each time.
var patience = []string{"--option=Acquire::Retries=5", "--option=Acquire::http::Timeout=30"}

// fetch returns the newest kernel that a meta package of Debian stands for. It is
// downloaded unless the cache has it. Root may have the lists of packages renewed.
func fetch(metaPackage, cache string) (*kernel, error) {
	k, err := fetchListed(metaPackage, cache)
	if err == nil || os.Geteuid() != 0 {
		return k, err
	}
	if updateErr := command(".", "apt-get", append(patience, "update", "--quiet=2")...); updateErr != nil {
		return nil, errors.Join(err, updateErr)
	}
	return fetchListed(metaPackage, cache)
}

func fetchListed(metaPackage, cache string) (*kernel, error) {
	out, err := exec.Command("apt-cache", "depends", metaPackage).Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache depends %s: %w", metaPackage, err)
	}
	found := regexp.MustCompile(`Depends: linux-image-(\d\S+)`).FindStringSubmatch(string(out))
	if found == nil {
		return nil, fmt.Errorf("apt-cache depends %s names no kernel: Debian 12 has this package; apt-get update may help", metaPackage)
	}
	name := "linux-image-" + found[1]
	folder := filepath.Join(cache, name)
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		if err := download(name, folder); err != nil {
			return nil, fmt.Errorf("download %s: %w", name, err)
		}
	}
	return &kernel{
		release: found[1],
		image:   filepath.Join(folder, "boot", "vmlinuz-"+found[1]),
		modules: modulesIn(folder),
	}, nil
}

// download makes folder of the contents of a package, all or nothing.
func download(name, folder string) error {
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(folder), ".download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	if err := command(scratch, "apt-get", append(patience, "download", "--quiet=2", name)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(scratch, "*.deb"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("apt-get download left %d packages: %w", len(files), err)
	}
	if err := command(scratch, "dpkg", "-x", files[0], "contents"); err != nil {
		return err
	}
	return os.Rename(filepath.Join(scratch, "contents"), folder)
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

func modulesIn(folder string) map[string]string {
	files := map[string]string{}
	_ = filepath.WalkDir(folder, func(path string, _ os.DirEntry, _ error) error {
		name := strings.TrimSuffix(filepath.Base(path), ".xz")
		if module, ok := strings.CutSuffix(name, ".ko"); ok {
			files[strings.ReplaceAll(module, "-", "_")] = path
		}
		return nil
	})
	return files
}

// module is the content of a kernel module, ready to load.
type module struct {
	name    string
	content []byte
}

// load returns modules in the order in which they can be loaded, those that they
// need included. One that is not a file is built in, or not there: what needs it
// will say so.
func (k *kernel) load(names []string, done map[string]bool) (out []module, err error) {
	for _, name := range names {
		name = strings.ReplaceAll(name, "-", "_")
		file := k.modules[name]
		if file == "" || done[name] {
			continue
		}
		done[name] = true
		content, err := uncompressed(file)
		if err != nil {
			return nil, err
		}
		needs, err := dependencies(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		before, err := k.load(needs, done)
		if err != nil {
			return nil, err
		}
		out = append(append(out, before...), module{name, content})
	}
	return out, nil
}

func uncompressed(file string) ([]byte, error) {
	if !strings.HasSuffix(file, ".xz") {
		return os.ReadFile(file)
	}
	out, err := exec.Command(busybox, "xz", "-d", "-c", file).Output()
	if err != nil {
		return nil, fmt.Errorf("uncompress %s: %w", file, err)
	}
	return out, nil
}

// dependencies are in the section .modinfo, as depends=a,b.
func dependencies(content []byte) ([]string, error) {
	object, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := object.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
