package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// controllers are what a sandbox needs; cgroup v1 accounts CPU time in a fourth.
func controllers() []string { return []string{"cpu", "memory", "pids"} }

// mounts is where the kernel's cgroup hierarchies are.
type mounts struct {
	v1 map[string]string // by controller
	v2 string
}

// find looks for the hierarchies that this process sees.
func find() (mounts, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mounts{}, fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	m, err := parse(f)
	if err != nil {
		return mounts{}, fmt.Errorf("find cgroups: %w", err)
	}
	return m, nil
}

// parse reads a mountinfo file (proc_pid_mountinfo(5)).
func parse(mountinfo io.Reader) (mounts, error) {
	m := mounts{v1: map[string]string{}}
	scan := bufio.NewScanner(mountinfo)
	for scan.Scan() {
		before, after, ok := strings.Cut(scan.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		switch tail[0] {
		case "cgroup2":
			if m.v2 == "" {
				m.v2 = head[4]
			}
		case "cgroup":
			for opt := range strings.SplitSeq(tail[2], ",") {
				m.v1[opt] = head[4]
			}
		}
	}
	return m, scan.Err()
}

func (m mounts) missingV1() (missing []string) {
	for _, c := range append(controllers(), "cpuacct") {
		if m.v1[c] == "" {
			missing = append(missing, c)
		}
	}
	return missing
}

func (m mounts) missingV2() (missing []string) {
	if m.v2 == "" {
		return controllers()
	}
	have, err := kernfile.Text(filepath.Join(m.v2, "cgroup.controllers"))
	if err != nil {
		return controllers()
	}
	for _, c := range controllers() {
		if !slices.Contains(strings.Fields(have), c) {
			missing = append(missing, c)
		}
	}
	return missing
}

// open opens the tree of the version that has all controllers.
func (m mounts) open(name string) (*Tree, error) {
	if len(m.missingV2()) == 0 {
		return openV2(m.v2, name)
	}
	if lacking := m.missingV1(); len(lacking) > 0 {
		return nil, &Lack{
			Err: fmt.Errorf("no cgroup controllers %s", strings.Join(lacking, ", ")),
			Fix: "Boot with cgroup v2 (kernel option systemd.unified_cgroup_hierarchy=1), or " +
				"mount these controllers of cgroup v1.",
		}
	}
	return openV1(m.v1, name)
}
