// Package leaks counts what a sandpool server takes from its host, so that
// tests can show that all of it was given back.
package leaks

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Found is what exists on the host on behalf of one data directory.
type Found struct {
	// Sandboxes are the process ids in the engine's cgroups: gVisor's kernels
	// and the processes that they keep.
	Sandboxes []int
	// Servers are the processes that name the directory in their command line.
	Servers []string
	Cgroups []string
	Mounts  []string
	// Files are those of sandboxes, and images that are half made.
	Files []string
	// Namespaces are those of the whole host that a mount keeps. One without a
	// mount ends with the processes in it and the descriptors on it. The gateways of other
	// engines, whose tests may run beside, are theirs.
	Namespaces []string
}

// Count looks at the host on behalf of the server on dataDir.
func Count(dataDir string) (Found, error) {
	var f Found
	var err error
	if f.Cgroups, err = cgroupDirs(cgroupOf(dataDir)); err != nil {
		return f, err
	}
	for _, dir := range f.Cgroups {
		f.Sandboxes = append(f.Sandboxes, members(dir, cgroupOf(dataDir))...)
	}
	slices.Sort(f.Sandboxes)
	f.Sandboxes = slices.Compact(f.Sandboxes)
	if f.Servers, err = servers(dataDir); err != nil {
		return f, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(mounts)) {
		switch {
		case strings.Contains(line, dataDir):
			f.Mounts = append(f.Mounts, strings.TrimSpace(line))
		case strings.Contains(line, " - nsfs ") && !strings.Contains(line, "/gateway "):
			f.Namespaces = append(f.Namespaces, strings.TrimSpace(line))
		}
	}
	if f.Files, err = sandboxFiles(dataDir); err != nil {
		return f, err
	}
	half, err := filepath.Glob(filepath.Join(dataDir, "images", "tmp", "*"))
	f.Files = append(f.Files, half...)
	return f, err
}

// servers finds the processes that name dataDir.
func servers(dataDir string) ([]string, error) {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, p := range procs {
		cmd, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err == nil && bytes.Contains(cmd, []byte(dataDir)) {
			found = append(found, filepath.Base(p)+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	return found, nil
}

// cgroupOf is the cgroup of the engine on dataDir, whose name comes from the
// engine's directory.
func cgroupOf(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Join(dataDir, "engine")))
	return fmt.Sprintf("/sandpool/%x", sum[:6])
}

// Members returns the processes of one of Found.Cgroups of the server on dataDir.
func Members(dir, dataDir string) []int { return members(dir, cgroupOf(dataDir)) }

// members returns the processes of a cgroup below engine. A server is listed there, too, while one
// of its threads passes through to start a sandbox (cgroup v1); its first thread stays outside.
func members(dir, engine string) []int {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil // it went away while we looked
	}
	var pids []int
	for _, field := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err == nil && bytes.Contains(own, []byte(engine+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
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

// sandboxFiles lists what the engine keeps below the data directory, snapshots, its lock and the
// list of its cgroups aside, which belong to templates and to the directory, and logs, which stay
// for a while after their sandboxes.
func sandboxFiles(dataDir string) ([]string, error) {
	var files []string
	root := filepath.Join(dataDir, "engine")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if d.IsDir() && filepath.Dir(p) == root && (d.Name() == "snapshots" || d.Name() == "logs") {
			return filepath.SkipDir
		}
		if !d.IsDir() && p != filepath.Join(root, "lock") && p != filepath.Join(root, "cgroups") {
			files = append(files, p)
		}
		return nil
	})
	return files, err
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
	for _, pid := range f.Sandboxes {
		if !slices.Contains(before.Sandboxes, pid) {
			out = append(out, fmt.Sprintf("sandbox process: %d", pid))
		}
	}
	add("server", f.Servers, before.Servers)
	add("cgroup", f.Cgroups, before.Cgroups)
	add("mount", f.Mounts, before.Mounts)
	add("file", f.Files, before.Files)
	add("namespace", f.Namespaces, before.Namespaces)
	return out
}
