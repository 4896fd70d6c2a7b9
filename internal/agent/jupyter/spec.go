package jupyter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is read of kernelspecs, which the user may write.
const (
	maxSpec    = 64 << 10 // bytes of a kernel.json
	MaxKernels = 128      // listed
	maxText    = 256      // bytes of a name that is shown
)

// Kernelspec is a kernel that is installed.
type Kernelspec struct {
	Name string `json:"-"`
	// Dir is where it was found.
	Dir           string            `json:"-"`
	Argv          []string          `json:"argv"`
	DisplayName   string            `json:"display_name"`
	Language      string            `json:"language"`
	InterruptMode string            `json:"interrupt_mode"` // "signal", which is the default, or "message"
	Env           map[string]string `json:"env"`
}

// Dirs returns where kernelspecs are looked for, in order, in an environment of KEY=value: that of
// the kernel, with the user's HOME.
func Dirs(env []string) []string {
	var dirs []string
	add := func(prefix ...string) {
		dir := filepath.Join(append(prefix, "kernels")...)
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	get := func(name string) string {
		for _, kv := range slices.Backward(env) {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
	for _, dir := range filepath.SplitList(get("JUPYTER_PATH")) {
		add(dir)
	}
	add(get("HOME"), ".local/share/jupyter")
	for _, dir := range filepath.SplitList(get("PATH")) {
		if filepath.Base(dir) == "bin" {
			add(filepath.Dir(dir), "share/jupyter")
		}
	}
	add("/usr/local/share/jupyter")
	add("/usr/share/jupyter")
	return dirs
}

// Find returns the first kernelspec of that name, however it is written. There being none is an
// error that is fs.ErrNotExist. It must run with the rights of the user, who may have written it.
func Find(dirs []string, name string) (Kernelspec, error) {
	for _, dir := range dirs {
		names, err := kernelNames(dir)
		if err != nil {
			continue
		}
		for _, n := range names {
			if strings.EqualFold(n, name) {
				return read(filepath.Join(dir, n), n)
			}
		}
	}
	return Kernelspec{}, fmt.Errorf("kernelspec %q in %q: %w", name, dirs, fs.ErrNotExist)
}

// List returns the kernelspecs that can be read, in the order of their names, at most MaxKernels.
// If two have one name, the first counts. It must run with the rights of the user.
func List(dirs []string) []Kernelspec {
	found := map[string]Kernelspec{}
	for _, dir := range dirs {
		names, err := kernelNames(dir)
		if err != nil {
			continue
		}
		for _, n := range names {
			key := strings.ToLower(n)
			if _, ok := found[key]; ok || len(found) == MaxKernels {
				continue
			}
			if spec, err := read(filepath.Join(dir, n), n); err == nil {
				found[key] = spec
			}
		}
	}
	all := make([]Kernelspec, 0, len(found))
	for _, spec := range found {
		all = append(all, spec)
	}
	slices.SortFunc(all, func(a, b Kernelspec) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// kernelNames lists the directories that could be kernels. What is in the place of dir may be
// anything: it is opened without waiting.
func kernelNames(dir string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	names, err := d.Readdirnames(8 * MaxKernels)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return slices.DeleteFunc(names, func(n string) bool {
		return n == "" || n[0] == '.' || len(n) > 64 || strings.IndexFunc(n, unfit) >= 0
	}), nil
}

// unfit says of a character that it is in no kernel's name.
func unfit(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' &&
		c != '_' && c != '.'
}

// read reads a kernelspec. Its file may be anything: it is opened without waiting.
func read(dir, name string) (Kernelspec, error) {
	file := filepath.Join(dir, "kernel.json")
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return Kernelspec{}, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return Kernelspec{}, fmt.Errorf("kernelspec %q: not a regular file", file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return Kernelspec{}, err
	}
	if len(text) > maxSpec {
		return Kernelspec{}, fmt.Errorf("kernelspec %q: more than %d bytes", file, maxSpec)
	}
	spec, err := parse(text)
	if err != nil {
		return Kernelspec{}, fmt.Errorf("kernelspec %q: %w", file, err)
	}
	spec.Name, spec.Dir = name, dir
	return spec, nil
}

// parse reads the text of a kernel.json.
func parse(text []byte) (Kernelspec, error) {
	var spec Kernelspec
	if err := json.Unmarshal(text, &spec); err != nil {
		return spec, err
	}
	if len(spec.Argv) == 0 || spec.Argv[0] == "" {
		return spec, errors.New(`"argv" names no program`)
	}
	switch spec.InterruptMode {
	case "":
		spec.InterruptMode = "signal"
	case "signal", "message":
	default:
		return spec, fmt.Errorf(`"interrupt_mode" is %.32q, neither "signal" nor "message"`,
			spec.InterruptMode)
	}
	spec.DisplayName, spec.Language = shown(spec.DisplayName), shown(spec.Language)
	return spec, nil
}

// shown bounds a text that is for people.
func shown(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}

// command returns the command line and the environment of the kernel.
func (s Kernelspec) command(connection string, env []string) (argv, environ []string) {
	fill := strings.NewReplacer("{connection_file}", connection, "{resource_dir}", s.Dir)
	for _, a := range s.Argv {
		argv = append(argv, fill.Replace(a))
	}
	values := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	// The programs of the prefix that the kernel is installed in go first: "python" is its Python.
	if prefix, ok := strings.CutSuffix(filepath.Dir(s.Dir), "/share/jupyter/kernels"); ok {
		values["PATH"] = prefix + "/bin:" + values["PATH"]
	}
	added := map[string]string{}
	for name, value := range s.Env {
		added[name] = os.Expand(value, func(of string) string {
			if v, ok := values[of]; ok {
				return v
			}
			return "${" + of + "}"
		})
	}
	for name, value := range added {
		values[name] = value
	}
	for name, value := range values {
		environ = append(environ, name+"="+value)
	}
	slices.Sort(environ)
	argv[0] = program(argv[0], values["PATH"])
	return argv, environ
}

// program finds a program in a PATH. A plain "python" stands for the Python that the kernel is
// installed in, which Debian calls python3.
func program(name, path string) string {
	if strings.Contains(name, "/") {
		return name
	}
	names := []string{name}
	if name == "python" {
		names = append(names, "python3")
	}
	for _, name := range names {
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() &&
				info.Mode()&0o111 != 0 {
				return file
			}
		}
	}
	return name
}
