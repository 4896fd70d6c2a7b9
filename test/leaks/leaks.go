// Package leaks counts what a sandpool server takes from its host, so that
// tests can show that all of it was given back.
package leaks

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Found is what exists on the host on behalf of one data directory: processes
// that name it in their command line, cgroups that such processes' sandboxes
// belong to, mounts beneath it, and files of sandboxes in it.
type Found struct {
	Processes []string
	Cgroups   []string
	Mounts    []string
	Files     []string
	Netns     int // network namespaces on the whole host
}

// Count looks at the host. cgroups holds the sandboxes' cgroup path below each
// controller, such as /sandpool.
func Count(dataDir, cgroups string) (Found, error) {
	var f Found
	netns := map[string]bool{}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return f, err
	}
	for _, p := range procs {
		if ns, err := os.Readlink(filepath.Join(p, "ns/net")); err == nil {
			netns[ns] = true
		}
		cmd, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err == nil && bytes.Contains(cmd, []byte(dataDir)) {
			f.Processes = append(f.Processes, filepath.Base(p)+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	f.Netns = len(netns)
	if f.Cgroups, err = cgroupDirs(cgroups); err != nil {
		return f, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dataDir) {
			f.Mounts = append(f.Mounts, strings.TrimSpace(line))
		}
	}
	f.Files, err = sandboxFiles(dataDir)
	return f, err
}

// cgroupDirs lists the cgroups below path in every hierarchy.
func cgroupDirs(path string) ([]string, error) {
	var dirs []string
	roots, err := filepath.Glob("/sys/fs/cgroup/*" + path)
	if err != nil {
		return nil, err
	}
	for _, root := range append(roots, "/sys/fs/cgroup"+path) {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it went away while we looked
			}
			if d.IsDir() && p != root {
				dirs = append(dirs, p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	sort.Strings(dirs)
	return dirs, nil
}

// sandboxFiles lists what the engine keeps below the data directory, snapshots
// aside: those belong to templates and outlive sandboxes.
func sandboxFiles(dataDir string) ([]string, error) {
	var files []string
	root := filepath.Join(dataDir, "engine")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() && d.Name() == "snapshots" {
			return filepath.SkipDir
		}
		if !d.IsDir() {
			files = append(files, p)
		}
		return nil
	})
	return files, err
}

// Sandboxes returns the process ids of the sandbox processes (not their
// helpers) that serve dataDir.
func (f Found) Sandboxes() []int {
	var pids []int
	for _, p := range f.Processes {
		pid, cmd, _ := strings.Cut(p, " ")
		if n, err := strconv.Atoi(pid); err == nil && strings.HasPrefix(cmd, "runsc-sandbox") {
			pids = append(pids, n)
		}
	}
	return pids
}

// Diff says what f has that before had not, one line each; nothing means no leak.
func (f Found) Diff(before Found) []string {
	var out []string
	add := func(kind string, now, then []string) {
		had := map[string]bool{}
		for _, s := range then {
			had[s] = true
		}
		for _, s := range now {
			if !had[s] {
				out = append(out, kind+": "+s)
			}
		}
	}
	add("process", f.Processes, before.Processes)
	add("cgroup", f.Cgroups, before.Cgroups)
	add("mount", f.Mounts, before.Mounts)
	add("file", f.Files, before.Files)
	if f.Netns > before.Netns {
		out = append(out, fmt.Sprintf("network namespaces: %d, were %d", f.Netns, before.Netns))
	}
	return out
}
