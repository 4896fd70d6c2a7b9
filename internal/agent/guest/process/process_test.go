package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool/internal/agent"
)

// rest is what follows the name in the stat of a process: its parent is 7, its group 8, its
// session 9, its cpu time 0.3 s, its start 50 s after that of the system.
const rest = " S 7 8 9 0 0 0 0 0 0 0 10 20 1000 2000 20 0 1 0 5000 18446744073709551615 3 0 0\n"

// fake makes a directory as /proc is, with processes by pid, of files by name.
func fake(t *testing.T, processes map[string]map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(text string, name ...string) {
		t.Helper()
		file := filepath.Join(append([]string{dir}, name...)...)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("100.00 1.00\n", "uptime")
	for pid, files := range processes {
		for name, text := range files {
			write(text, pid, name)
		}
	}
	return dir
}

func named(name, command string) map[string]string {
	return map[string]string{"stat": "5 (" + name + ")" + rest, "cmdline": command,
		"status": "Name:\t" + name + "\nState:\tS\nUid:\t1000\t1001\t1002\t1003\nGroups:\t\n"}
}

// Names and command lines are the user's to choose, and change nothing else.
func TestHostileNames(t *testing.T) {
	long := strings.Repeat("é", 1<<19)
	for _, c := range []struct {
		what, name, command, want string
		cut                       bool
	}{
		{"plain", "python", "python\x00-c\x00pass\x00", "python -c pass", false},
		{"no arguments", "kworker", "", "[kworker]", false},
		{"empty arguments", "x", "\x00\x00\x00", "[x]", false},
		{"parentheses", "a) R 1 1 1 (", "x\x00", "x", false},
		{"a user", "a\nUid:\t0\t0\t0", "x\x00", "x", false},
		{"a forged state", "\n) Z 1 1 (\n", "", "[\n) Z 1 1 (\n]", false},
		{"not UTF-8", "a\xff\xfeb", "", "[a\uFFFDb]", false},
		{"arguments not UTF-8", "x", "a\xff\x00\xc3", "a\uFFFD \uFFFD", false},
		{"line ends", "x", "a\nb\x00\x1b[2J\x00", "a\nb \x1b[2J", false},
		{"as long as can be", "x", strings.Repeat("y", agent.MaxCommand),
			strings.Repeat("y", agent.MaxCommand), false},
		{"a megabyte", "x", long, long[:agent.MaxCommand], true},
		{"a megabyte between runes", "x", "y" + long, "y" + long[:agent.MaxCommand-2], true},
		{"a megabyte not UTF-8", "x", strings.Repeat("a\xff", 1<<19), strings.Repeat("a\uFFFD",
			agent.MaxCommand/4), true},
	} {
		list, err := List(fake(t, map[string]map[string]string{"5": named(c.name, c.command)}))
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %+v, %v", c.what, list, err)
			continue
		}
		p := list[0]
		if p.Command != c.want || p.CommandTruncated != c.cut || !utf8.ValidString(p.Command) {
			t.Errorf("%s: command %.100q of %d, cut %v", c.what, p.Command, len(p.Command),
				p.CommandTruncated)
		}
		if age := time.Since(p.Started); age < 49*time.Second || age > 60*time.Second {
			t.Errorf("%s: started %v ago, want 50s", c.what, age)
		}
		p.Command, p.CommandTruncated, p.Started = "", false, time.Time{}
		want := agent.Process{PID: 5, Parent: 7, UserID: 1001, State: agent.ProcessSleeping,
			ResidentBytes: 3 * int64(os.Getpagesize()), CPUTime: 300 * time.Millisecond}
		if p != want {
			t.Errorf("%s: %+v, want %+v", c.what, p, want)
		}
	}
}

// Who ends while the list is made is not in it, wherever the reader has come to.
func TestVanishing(t *testing.T) {
	all := map[string]map[string]string{"1": named("init", "init\x00"), "self": named("x", ""),
		"-3": named("x", "")}
	for i, missing := range []string{"stat", "status", "cmdline"} {
		files := named("x", "x")
		delete(files, missing)
		all[strconv.Itoa(20+i)] = files
	}
	proc := fake(t, all)
	if err := os.Mkdir(filepath.Join(proc, "30"), 0o755); err != nil {
		t.Fatal(err)
	}
	list, err := List(proc)
	if err != nil || len(list) != 1 || list[0].Command != "init" {
		t.Errorf("%+v, %v; want init alone", list, err)
	}
}

// The list has an end, and the agent is in it.
func TestMany(t *testing.T) {
	all := map[string]map[string]string{}
	for i := range agent.MaxProcesses + 10 {
		all[strconv.Itoa(i+1)] = named("x", "x")
	}
	list, err := List(fake(t, all))
	if err != nil || len(list) != agent.MaxProcesses || list[0].PID != 1 ||
		list[len(list)-1].PID != agent.MaxProcesses {
		t.Errorf("%d processes, %v", len(list), err)
	}
}

// The groups of a session are those of its processes that live.
func TestGroups(t *testing.T) {
	line := func(state string, group, session int) map[string]string {
		return map[string]string{"stat": "1 (a) R 1 2 3) " + state + " 1 " + strconv.Itoa(group) +
			" " + strconv.Itoa(session) + strings.Repeat(" 0", 20)}
	}
	proc := fake(t, map[string]map[string]string{
		"1": line("S", 1, 1), "10": line("S", 10, 10), "11": line("T", 11, 10), "12": line("R", 11,
			10),
		"13": line("Z", 13, 10), "14": line("R", 14, 14), "15": {},
	})
	got, err := Groups(proc, 10)
	if err != nil || len(got) != 2 || got[0] != 10 || got[1] != 11 {
		t.Errorf("groups %v, %v; want 10 and 11", got, err)
	}
}

// What the system writes is understood.
func TestThisProcess(t *testing.T) {
	list, err := List("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.PID == os.Getpid() {
			if p.Parent != os.Getppid() || p.UserID != os.Geteuid() || p.ResidentBytes < 1<<20 ||
				!strings.HasPrefix(p.Command, os.Args[0]) || time.Since(p.Started) > time.Hour {
				t.Errorf("this process is %+v", p)
			}
			return
		}
	}
	if len(list) < agent.MaxProcesses {
		t.Error("this process is not listed")
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("5 (a)" + rest))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = parseStat(text)
		_, _ = userOf(text)
		if s, _ := printable(text); len(s) > agent.MaxCommand || !utf8.ValidString(s) {
			t.Errorf("%q of %q", s, text)
		}
	})
}
