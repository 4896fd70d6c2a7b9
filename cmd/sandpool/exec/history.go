package exec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// The bounds of what is remembered of one language.
const (
	mostLines   = 1000
	longestLine = 4096
)

// history is the lines that were typed, the last one last. It is in a file of the user's, who alone
// can read it, because people type secrets.
type history struct {
	path  string // "" remembers nothing for the next time
	lines []string
}

// openHistory reads the lines of a language. What the file holds beyond the bounds leaves it.
func openHistory(language string) (*history, error) {
	path, err := historyPath(language)
	if err != nil {
		return &history{}, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return &history{}, fmt.Errorf("make the directory of the history: %w", err)
	}
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &history{path: path}, nil
	}
	if err != nil {
		return &history{}, fmt.Errorf("read the history: %w", err)
	}
	h := &history{path: path}
	for line := range strings.Lines(data) {
		h.keep(console.PrintableText(strings.TrimSuffix(line, "\n")))
	}
	// Written anew with the mode that it is to have.
	whole := strings.Join(append(h.lines, ""), "\n")
	f, err := os.CreateTemp(filepath.Dir(path), ".history-")
	if err != nil {
		return &history{}, fmt.Errorf("write the history: %w", err)
	}
	_, err = f.WriteString(whole)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return &history{}, errors.Join(fmt.Errorf("write the history: %w", err),
			os.Remove(f.Name()))
	}
	return h, nil
}

// historyPath is the file, by the XDG Base Directory Specification.
func historyPath(language string) (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the directory of the history: %w", err)
		}
		dir = filepath.Join(home, ".local", "state")
	}
	name := strings.Map(func(r rune) rune {
		if r == os.PathSeparator || r == 0 {
			return '_'
		}
		return r
	}, language)
	return filepath.Join(dir, "sandpool", "history-"+name), nil
}

// readBounded reads the end of a file, as much as the history may have.
func readBounded(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%q is no regular file", path)
	}
	data := make([]byte, min(info.Size(), mostLines*longestLine))
	n, err := f.ReadAt(data, info.Size()-int64(len(data)))
	if n < len(data) {
		return "", err
	}
	return string(data), nil
}

func (h *history) keep(line string) bool {
	if strings.TrimSpace(line) == "" || len(line) > longestLine ||
		len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return false
	}
	h.lines = append(h.lines, line)
	if len(h.lines) > mostLines {
		h.lines = h.lines[1:]
	}
	return true
}

// Add remembers a line. It is in the file at once, so that nothing is lost when the program is
// ended; a file that cannot be written costs the next time's history.
func (h *history) Add(line string) {
	if !h.keep(line) || h.path == "" {
		return
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	_, _ = f.WriteString(line + "\n")
	_ = f.Close()
}

// Len is how many lines there are.
func (h *history) Len() int { return len(h.lines) }

// At is a line; 0 is the last one.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }
