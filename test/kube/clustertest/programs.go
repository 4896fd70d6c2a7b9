package clustertest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// source is the folder with the pinned modules and the script that builds them.
func source() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("this program does not know its source")
	}
	// Under -trimpath it is a path from the module, and tests run in their package's folder.
	if !filepath.IsAbs(file) {
		root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			return "", fmt.Errorf("find the module: %w", err)
		}
		return filepath.Join(strings.TrimSpace(string(root)), "test", "kube", "cluster"), nil
	}
	return filepath.Join(filepath.Dir(file), "..", "cluster"), nil
}

// build returns the folder of the cluster's programs, and builds them if that was not done yet for
// the modules as they are pinned now. It is in the user's cache, apart from the source tree, or
// where SANDPOOL_TEST_KUBE_BIN says that somebody has built them.
func build() (string, error) {
	if bin := os.Getenv(programs); bin != "" {
		return bin, nil
	}
	from, err := source()
	if err != nil {
		return "", err
	}
	key, err := digest(from)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "sandpool")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := hold(filepath.Join(cache, "cluster.lock"), 0) // one builds, others wait for it
	if err != nil {
		return "", err
	}
	defer unlock()
	bin := filepath.Join(cache, "cluster-"+key)
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	fmt.Fprintln(os.Stderr, "clustertest: building Kubernetes and its parts, which takes some "+
		"12 minutes of processor time, once")
	half, err := os.MkdirTemp(cache, "half-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	cmd := exec.Command(filepath.Join(from, "build.sh"), half)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the cluster's programs: %w", err)
	}
	return bin, os.Rename(half, bin)
}

// digest is one of all that the programs are built from.
func digest(from string) (string, error) {
	var files []string
	for _, pattern := range []string{"build.sh", "*/go.mod", "*/go.sum", "*/*.txt"} {
		found, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version())
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, filepath.Base(filepath.Dir(name)), filepath.Base(name), len(text))
		if _, err := sum.Write(text); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}
