package kernels

import (
	_ "embed" // the program
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

//go:embed shell/kernel.sh
var shellText string

// shellLoop reads the program, which defines the functions, and runs one command after another at
// the top level of the shell. It is one line, so that line numbers in messages are those of the
// command. The loop within keeps a command's break from ending the one without; redirections are
// undone after each command, and with them what it did to its streams by exec. A function cannot
// take away the traps that are taken away here.
const shellLoop = `IFS= builtin read -rN 99999 -u 4 __sandpool_text; builtin eval "$__sandpool_text"; ` +
	`{ while __sandpool_next; do ` +
	`{ for __sandpool_once in 1; do builtin eval "$__sandpool_code"; done; } <"$__sandpool_in" >&14 2>&15; ` +
	`{ __sandpool_done $?; builtin trap - ERR DEBUG RETURN; } >&- 2>&-; ` +
	`done; } 3<&- 4<&- 5<&- 6<&- 7>&- 8>&-`

// shell is the language of bash: commands in one shell, which keeps its directory, variables and
// functions from one to the next.
func shell() Spec {
	return Spec{
		Name:      "shell",
		Command:   []string{"bash", "-c", shellLoop, "bash"},
		Program:   func() (string, error) { return shellText, nil },
		Rehearsal: "echo; /bin/true",
		Encode:    shellRecord,
		Statuses:  true,
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// shellAround is what puts variables and a directory in place for one command.
func shellAround(r Request) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		b.WriteString("__sandpool_let " + name + " " + quote(r.Env[name]) + "\n")
	}
	if r.Dir != "" {
		b.WriteString("__sandpool_enter " + quote(r.Dir) + "\n")
	}
	return b.String()
}

// shellExports is what puts variables in place for good.
func shellExports(env map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		b.WriteString("\nbuiltin export -- " + name + "=" + quote(env[name]))
	}
	return b.String()
}

// shellHead is the length of the head of a record, which bash reads whole at once.
const shellHead = 64

// shellRecord writes a request as bash can read it: a head of fixed length with the operation, the
// id, how many bytes follow, and flags; then the bytes.
func shellRecord(r Request) ([]byte, error) {
	text, flags := r.Code, ""
	switch {
	case r.Op == OpInit:
		text = r.Seed + shellExports(r.Env)
		r.Env = nil
	case len(r.Args) > 0:
		quoted := make([]string, len(r.Args))
		for i, a := range r.Args {
			quoted[i] = quote(a)
		}
		// A process of its own: a name is a program's, not a function's or a builtin's.
		text = "(exec -- " + strings.Join(quoted, " ") + ")"
	}
	if strings.Contains(text, "\x00") || !utf8.ValidString(text) {
		return nil, fmt.Errorf("a command is UTF-8 text without NUL")
	}
	around := shellAround(r)
	text = around + text
	if r.Posix {
		flags += "p"
	}
	if r.Input {
		flags += "i"
	}
	head := fmt.Sprintf("%s %s %d -%s", r.Op, r.ID, len(text), flags)
	if around != "" {
		head += " " + strconv.Itoa(len(around))
	}
	if len(head) > shellHead {
		return nil, fmt.Errorf("the id %q is too long", r.ID)
	}
	return append(fmt.Appendf(nil, "%-*s", shellHead, head), text...), nil
}
