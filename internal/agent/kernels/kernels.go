// Package kernels holds the runners of the languages that the agent drives, as
// source text that the agent hands to the interpreter of the image. Nothing of
// ours has to be installed in an image.
//
// A runner starts with these descriptors beside its three streams: 3, the
// socket on which it talks to the agent; 4, its source; 5, the memory that it
// shares with the agent, OutputSize bytes. There it may gather what it prints
// until it moves it into its standard output and error; whatever ends it, the
// agent finds there what it did not move. Each stream has an area of AreaSize
// bytes, standard output first: where the gathered text starts and where it ends,
// 8 little-endian bytes each, and from byte AreaHeader on the text.
// The agent only looks while no runner can write: when it has ended, or under a
// POSIX lock of the whole memory.
package kernels

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// The layout of the memory that a runner shares with the agent.
const (
	AreaSize   = 128 << 10
	AreaHeader = 4 << 10
	OutputSize = 2 * AreaSize
)

// The modules of the runner of Python cells. cells.py describes how the agent talks to it.
//
//go:embed python/*.py
var python embed.FS

// Python returns the source of the Python runner: a program that loads its modules, which
// come as one dictionary from name to text.
func Python() (string, error) {
	files, err := fs.Glob(python, "python/*.py")
	if err != nil {
		return "", fmt.Errorf("modules of the Python runner: %w", err)
	}
	sources := map[string]string{}
	for _, name := range files {
		text, err := python.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("module of the Python runner: %w", err)
		}
		sources[strings.TrimSuffix(path.Base(name), ".py")] = string(text)
	}
	load := sources["load"]
	delete(sources, "load")
	dictionary, err := json.Marshal(sources) // strings of JSON are strings of Python
	if err != nil {
		return "", fmt.Errorf("encode the Python runner: %w", err)
	}
	return load + "\nload(" + string(dictionary) + ")('start').main(*__import__('sys').argv[1:])\n", nil
}
