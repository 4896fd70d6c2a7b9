package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
)

// Settings say where keys are. At most one is set; with none they are in a file of the data
// directory.
type Settings struct {
	File     string   `yaml:"file"`
	Variable string   `yaml:"variable"` // the name of an environment variable
	Command  []string `yaml:"command"`  // prints them to its standard output
}

const (
	// maxText bounds what a source may say.
	maxText = 64 << 10
	// commandTime is what a command may take.
	commandTime = 30 * time.Second
	// ours begins the names of variables that are settings themselves.
	ours = "SANDPOOL_"
)

// variableName is what variables are called. The text of a key is no such name.
var variableName = pattern.Lazy(`^[A-Za-z_][A-Za-z0-9_]{0,40}$`)

// ErrNone is in the error of a source that does not exist, or a variable that is not set.
var ErrNone = errors.New("there is no key")

// Validate finds what is wrong with s.
func (s Settings) Validate() (problems []error) {
	set := 0
	for _, is := range []bool{s.File != "", s.Variable != "", len(s.Command) > 0} {
		if is {
			set++
		}
	}
	if set > 1 {
		problems = append(problems, errors.New(
			"configuration: store_key has several sources; use one of file, variable and command"))
	}
	if s.File != "" && !filepath.IsAbs(s.File) {
		problems = append(problems, errors.New( // which may be a key itself
			"configuration: store_key.file is no absolute path; name the file that has the key"))
	}
	if s.Variable != "" && !variableName().MatchString(s.Variable) {
		problems = append(problems, errors.New("configuration: store_key.variable is no name of "+
			"an environment variable; name the one that has the key"))
	}
	if strings.HasPrefix(s.Variable, ours) {
		problems = append(problems, fmt.Errorf("configuration: store_key.variable is %q; use a "+
			"name that does not begin with %s", s.Variable, ours))
	}
	return problems
}

// Source is where the keys of a server are.
type Source struct {
	Settings
	// Default is the file that has them without settings.
	Default string
}

// Path is the file that the keys are in; empty if they are in none.
func (s Source) Path() string {
	switch {
	case s.File != "":
		return s.File
	case s.Variable != "" || len(s.Command) > 0:
		return ""
	}
	return s.Default
}

// IsDefault reports whether nothing is set.
func (s Source) IsDefault() bool { return s.Path() == s.Default }

// String names the source, with the setting that leads to it.
func (s Source) String() string {
	switch {
	case s.File != "":
		return s.File + " (store_key.file)"
	case s.Variable != "":
		return "the environment variable " + s.Variable + " (store_key.variable)"
	case len(s.Command) > 0:
		return "what " + s.Command[0] + " prints (store_key.command)"
	}
	return s.Default + " (no setting store_key)"
}

// Read reads the keys.
func (s Source) Read(ctx context.Context) (*Ring, error) {
	text, err := s.text(ctx)
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("it has more than %d bytes", maxText)
	}
	var ring *Ring
	if err == nil {
		ring, err = Parse(string(text))
	}
	if err != nil {
		return nil, &sandpool.Error{Class: sandpool.Invalid, Code: "StoreKey", Target: "store_key",
			Err: err, Message: fmt.Sprintf(
				"The key of the store's secrets cannot be read from %s: %v.", s, err)}
	}
	return ring, nil
}

func (s Source) text(ctx context.Context) ([]byte, error) {
	switch {
	case s.Variable != "":
		text, ok := os.LookupEnv(s.Variable)
		if !ok {
			return nil, fmt.Errorf("%w: the variable is not set", ErrNone)
		}
		return []byte(text), nil
	case len(s.Command) > 0:
		return s.run(ctx)
	}
	f, err := os.Open(s.Path())
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: the file does not exist", ErrNone)
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	return text, errors.Join(err, f.Close())
}

// run returns what the command prints. What it says to standard error is in the error.
func (s Source) run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	var out, complaints limited
	cmd := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &complaints, time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it takes more than %s", commandTime)
		}
		return nil, fmt.Errorf("%w: %.300q", err, strings.TrimSpace(complaints.String()))
	}
	return out.Bytes(), nil
}

// limited keeps a little more than may be said, and drops the rest.
type limited struct{ bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if room := maxText + 1 - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Add makes a key and puts it before those in the file at path, which it makes if there is none. It
// returns when the file has reached the disk, and what was in it stays in it.
func Add(path string) (id string, err error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	text, id := NewKey()
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // has mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString("# " + time.Now().UTC().Format(time.DateOnly) + ", key " + id + "\n" +
		text + "\n" + string(old))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return id, errors.Join(dir.Sync(), dir.Close())
}
