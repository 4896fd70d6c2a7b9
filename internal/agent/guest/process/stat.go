package process

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of times beneath /proc: USER_HZ is 100 on every architecture that Go
// and gVisor know.
const tick = 10 * time.Millisecond

// stat is what /proc/<pid>/stat tells, see proc_pid_stat(5).
type stat struct {
	name    string // not always UTF-8
	state   byte
	parent  int
	group   int
	session int
	cpu     time.Duration // in user and in system mode
	start   time.Duration // since the system booted
	pages   int64
}

func readStat(dir string) (stat, error) {
	text, err := read(filepath.Join(dir, "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// parseStat takes the line apart. The name may hold anything, parentheses and line ends too; what
// follows it is numbers, so it ends with the last parenthesis.
func parseStat(text []byte) (stat, error) {
	before, after, ok := cutLast(text, ")")
	_, name, opened := bytes.Cut(before, []byte("("))
	fields := bytes.Fields(after)
	const least = 22 // up to the resident pages
	if !ok || !opened || len(fields) < least {
		return stat{}, fmt.Errorf("stat %.200q is not what it should be", text)
	}
	var numbers [least]int64
	for i := 1; i < least; i++ {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		// the size of the address space, which may be larger than an int64
		if err != nil && i != 20 {
			return stat{}, fmt.Errorf("stat %.200q: %w", text, err)
		}
		numbers[i] = n
	}
	return stat{
		name: string(name), state: fields[0][0],
		parent: int(numbers[1]), group: int(numbers[2]), session: int(numbers[3]),
		cpu:   time.Duration(numbers[11]+numbers[12]) * tick,
		start: time.Duration(numbers[19]) * tick,
		pages: numbers[21],
	}, nil
}
