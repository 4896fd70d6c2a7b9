// Package kernels is the one table of the languages that the agent drives. An entry says how a
// language's kernel is started and warmed up and what it understands; the kernel itself is a
// program that the agent hands to the interpreter of the image. Nothing of ours has to be
// installed in an image. Another language is another entry and another program.
//
// # Descriptors
//
// A kernel starts with these descriptors beside its three streams: 3, the socket on which it
// talks to the agent; 4, its program; 5, the memory that it shares with the agent, OutputSize
// bytes; 6, a file that holds the standard input of the cell that runs. Descriptor 0 reads the same
// file, from its beginning with each cell that has one. It runs in a session of its own, as the
// user.
//
// # Frames
//
// The agent sends Requests, in the form that Spec.Encode gives them. What a kernel says is a
// frame: a 4 byte big-endian length and a JSON object.
//
//	out {op: display, id, data, display, update}, {op: clear, id, wait}, {op: sync, id} while a
//	    cell runs, {op: done, id, value, error, exit, ns, info}
//
// All that a cell has printed is in the pipes, or in the memory, before its done frame is sent. A
// clear frame is acknowledged, and while somebody watches a cell (Live) each frame before
// done, so that what is printed after it comes after it.
//
// # Memory
//
// In the memory a kernel may gather what it prints until it moves it into its standard output and
// error; whatever ends it, the agent finds there what it did not move. Each stream has an area of
// AreaSize bytes, standard output first, and each area two windows of WindowSize bytes. The kernel
// adds text to the one and moves what is in the other. An area begins with numbers of 8
// little-endian bytes: which window is added to (0 or 1), and for each the offset from which on its
// text was not moved. From byte AreaHeader on come the windows. A TextEnd follows the text of
// each; it is not in UTF-8, and what contains it is not gathered.
// The agent only looks while no kernel moves text: when it has ended, or under a
// POSIX lock of the whole memory.
package kernels

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// The layout of the memory that a kernel shares with the agent.
const (
	AreaHeader = 4 << 10
	WindowSize = 32 << 10
	AreaSize   = AreaHeader + 2*WindowSize
	OutputSize = 2 * AreaSize
	TextEnd    = 0xff
)

// Spec is all that the agent knows of a language.
type Spec struct {
	// Name is what images, command lines and logs call the language: "python".
	Name string
	// Command is the interpreter, a name to be found in PATH, and the arguments that make it run
	// the program on descriptor 4. The data directory and the home directory of the user are added.
	Command []string
	// Program returns the text of the kernel.
	Program func() (string, error)
	// Env is what the environment has besides what all kernels find there, as KEY=value.
	Env []string
	// Rehearsal is a cell that prints something and has a value. It is executed before the snapshot
	// and after each restore, so that the first request finds in memory what it takes.
	Rehearsal string
	// Encode writes a request; nil means as a frame of JSON.
	Encode func(Request) ([]byte, error)
	// Start is how long a kernel may take to start; zero means as long as those of the table.
	Start time.Duration
	// Fixed says that environment and working directory are the kernel's, and no cell has its own.
	Fixed bool
	// Statuses says that cells are commands, which end with an exit status: that of the
	// kernel too, if a command takes its place.
	Statuses bool
}

// The operations of requests.
const (
	OpWarm = "warm" // import and run what first cells use, and describe the language
	OpInit = "init" // take Seed and Env: this is a clone of a snapshot
	OpRun  = "run"  // run Code
)

// Request is what the agent asks of a kernel.
type Request struct {
	Op   string `json:"op"`
	ID   string `json:"id"`
	Code string `json:"code"`
	Seed string `json:"seed,omitempty"` // 64 hexadecimal digits
	Live bool   `json:"live,omitempty"` // somebody watches the cell
	// Args is a program with its arguments, to be run in place of Code; of commands alone.
	Args []string `json:"args,omitempty"`
	// Posix asks for the shell that POSIX describes, of commands alone.
	Posix bool `json:"posix,omitempty"`
	// Input says that there is something to read from standard input, which descriptor 6 holds
	// too. Of a cell without it both are empty.
	Input bool `json:"input,omitempty"`
	// Env is added to the environment and Dir is the working directory during the cell alone. Env
	// of OpInit stays.
	Env map[string]string `json:"env,omitempty"`
	Dir string            `json:"dir,omitempty"`
}

// table lists the languages.
func table() []Spec { return []Spec{python(), node(), shell()} }

// Names lists the names of the languages.
func Names() []string {
	var names []string
	for _, s := range table() {
		names = append(names, s.Name)
	}
	return names
}

// Find returns the language of that name.
func Find(name string) (Spec, error) {
	for _, s := range table() {
		if s.Name == name {
			return s, nil
		}
	}
	return Spec{}, fmt.Errorf("there is no kernel %q; there are: %s", name,
		strings.Join(Names(), ", "))
}

// jupyterStart is for the slowest of them: some compile themselves first.
const jupyterStart = 80 * time.Second

// Jupyter is the language of a kernel that the image has for Jupyter. program is the agent's own,
// which is started as the bridge to it (package jupyter).
func Jupyter(program, name string) Spec {
	return Spec{Name: name, Command: []string{program, JupyterCommand, name},
		Program: func() (string, error) { return "", nil }, Start: jupyterStart, Fixed: true}
}

// JupyterCommand is the first argument of the agent's program as a bridge; the kernel's name, the
// data directory and the home directory follow.
const JupyterCommand = "jupyter"

// modules returns the texts of a kernel's modules, by their names without the ending.
func modules(from embed.FS, pattern string) (map[string]string, error) {
	files, err := fs.Glob(from, pattern)
	if err != nil {
		return nil, fmt.Errorf("modules of a kernel %q: %w", pattern, err)
	}
	sources := map[string]string{}
	for _, name := range files {
		text, err := from.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("module of a kernel: %w", err)
		}
		sources[strings.TrimSuffix(path.Base(name), path.Ext(name))] = string(text)
	}
	return sources, nil
}
