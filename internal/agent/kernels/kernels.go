// Package kernels holds the runners of the languages that the agent drives, as
// source text that the agent hands to the interpreter of the image. Nothing of
// ours has to be installed in an image.
package kernels

import _ "embed"

// Python is the runner of Python cells; its first comment describes how the
// agent talks to it.
//
//go:embed python.py
var python string

// Python returns the source of the Python runner.
func Python() string { return python }
