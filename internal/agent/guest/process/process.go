// Package process reads what the files beneath /proc say of the processes of the
// sandbox. The user chooses the names and command lines in them, and ends processes
// while they are read; what the system writes beside them is relied on.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool/internal/agent"
	"golang.org/x/sys/unix"
)

// List returns the processes beneath proc in the order of their ids, the first
// agent.MaxProcesses of them. One that ends meanwhile is left out.
func List(proc string) ([]agent.Process, error) {
	boot, err := bootTime(proc)
	if err != nil {
		return nil, err
	}
	ids, err := pids(proc)
	if err != nil {
		return nil, err
	}
	out := []agent.Process{} // none is a list too
	for _, pid := range ids {
		if len(out) == agent.MaxProcesses {
			break
		}
		p, err := describe(filepath.Join(proc, strconv.Itoa(pid)), boot)
		if over(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		p.PID = pid
		out = append(out, p)
	}
	return out, nil
}

// Groups returns the process groups of a session that have a process which has not ended.
func Groups(proc string, session int) ([]int, error) {
	ids, err := pids(proc)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, pid := range ids {
		s, err := readStat(filepath.Join(proc, strconv.Itoa(pid)))
		if over(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		if s.session == session && s.state != 'Z' && s.state != 'X' &&
			!slices.Contains(out, s.group) {
			out = append(out, s.group)
		}
	}
	return out, nil
}

// over reports whether err says that a process has ended.
func over(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func pids(proc string) ([]int, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", proc, err)
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out, nil
}

// bootTime is what start times are relative to. It is told by the clock of now: that of
// a restored sandbox stood still between its snapshot and its restore.
func bootTime(proc string) (time.Time, error) {
	text, err := read(filepath.Join(proc, "uptime"))
	if err != nil {
		return time.Time{}, err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	up, err := time.ParseDuration(first + "s")
	if err != nil {
		return time.Time{}, fmt.Errorf("uptime %.100q: %w", text, err)
	}
	return time.Now().Add(-up), nil
}

func describe(dir string, boot time.Time) (agent.Process, error) {
	s, err := readStat(dir)
	if err != nil {
		return agent.Process{}, err
	}
	status, err := read(filepath.Join(dir, "status"))
	if err != nil {
		return agent.Process{}, err
	}
	user, err := userOf(status)
	if err != nil {
		return agent.Process{}, err
	}
	raw, err := readSome(filepath.Join(dir, "cmdline"), agent.MaxCommand+utf8.UTFMax)
	if err != nil {
		return agent.Process{}, err
	}
	command, cut := printable(raw)
	if command == "" { // of those that have ended, and of the system's own
		command, cut = printable([]byte("[" + s.name + "]"))
	}
	return agent.Process{Parent: s.parent, UserID: user, Command: command, CommandTruncated: cut,
		State:   stateOf(s.state),
		Started: boot.Add(s.start), ResidentBytes: s.pages * int64(os.Getpagesize()),
		CPUTime: s.cpu}, nil
}

// printable turns arguments that end with a zero byte each into valid UTF-8 of a bounded length.
func printable(raw []byte) (command string, cut bool) {
	text := strings.ToValidUTF8(string(bytes.TrimRight(raw, "\x00")), "\uFFFD")
	text = strings.ReplaceAll(text, "\x00", " ")
	if len(text) <= agent.MaxCommand {
		return text, len(raw) > agent.MaxCommand
	}
	end := agent.MaxCommand
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end], true
}

// userOf finds the effective user id in a status file. The last such line counts: gVisor
// writes the name of a process, which comes first, as it is, with what lines it has.
func userOf(status []byte) (int, error) {
	_, line, ok := cutLast(status, "\nUid:\t")
	fields := bytes.Fields(line)
	if !ok || len(fields) < 2 {
		return 0, fmt.Errorf("no user in the status %.200q", status)
	}
	return strconv.Atoi(string(fields[1]))
}

func cutLast(text []byte, sep string) (before, after []byte, found bool) {
	i := bytes.LastIndex(text, []byte(sep))
	if i < 0 {
		return text, nil, false
	}
	return text[:i], text[i+len(sep):], true
}

func stateOf(letter byte) agent.ProcessState {
	switch letter {
	case 'R':
		return agent.ProcessRunning
	case 'S', 'I':
		return agent.ProcessSleeping
	case 'D':
		return agent.ProcessBlocked
	case 'T', 't':
		return agent.ProcessStopped
	case 'Z', 'X':
		return agent.ProcessEnded
	}
	return agent.ProcessUnknown
}

// fileLimit is of the files that the system alone fills.
const fileLimit = 16 << 10

func read(name string) ([]byte, error) { return readSome(name, fileLimit) }

// readSome reads at most limit bytes.
func readSome(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
