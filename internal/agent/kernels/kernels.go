// Package kernels holds the runners of the languages that the agent drives, as
// source text that the agent hands to the interpreter of the image. Nothing of
// ours has to be installed in an image.
package kernels

import _ "embed"

// The runner of Python cells, in the order of its parts. The first comment
// describes how the agent talks to it.
var (
	//go:embed python.py
	pythonKernel string
	//go:embed start.py
	pythonStart string
)

// Python returns the source of the Python runner.
func Python() string { return pythonKernel + "\n\n" + pythonStart }
