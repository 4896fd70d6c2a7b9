package agent

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Bounds of contexts.
const (
	// DefaultContext is the name of the one that a sandbox begins with, and that executions are of
	// which name none.
	DefaultContext = "default"
	MaxContexts    = 8  // of a sandbox, the default one included
	MaxContextName = 64 // bytes of the name of a context or of a kernel
)

// Context is a kernel of its own in a sandbox. Contexts share its files and its limits, and run at
// the same time.
type Context struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"`
	// Created is by the sandbox's clock; the default context has no time of its own.
	Created time.Time `json:"created,omitzero"`
	// Running says that an execution runs; Waiting is how many wait for it.
	Running bool  `json:"running,omitempty"`
	Waiting int64 `json:"waiting,omitempty"`
}

// Kernel is a kernel that can be named in a request.
type Kernel struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
	Language    string `json:"language"`
	// Jupyter says that it is one of Jupyter's, which the image has or the session has installed.
	Jupyter bool `json:"jupyter,omitempty"`
}

// maxKernels bounds a list of them.
const maxKernels = 256

// Kernels lists the kernels that the sandbox has: ours first, then those of Jupyter, by their
// names.
func (c *Client) Kernels(ctx context.Context) ([]Kernel, error) {
	var all kernelList
	err := c.call(ctx, http.MethodGet, "/kernels", nil, nil, &all, maxAnswer)
	return all, err
}

// kernelList is the list as it is read.
type kernelList []Kernel

// UnmarshalJSON implements json.Unmarshaler.
func (l *kernelList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[Kernel](text, maxKernels)
	return err
}

// CheckName is an error of class Invalid unless name is fit for a context or a kernel: letters,
// digits, hyphens, underscores and dots. what says of which.
func CheckName(what, name string) error {
	if name == "" || len(name) > MaxContextName || strings.IndexFunc(name, unfit) >= 0 {
		return sandpool.Errorf(sandpool.Invalid, "InvalidName", what,
			"The name of a %s has 1 to %d letters, digits, hyphens, underscores and dots.", what,
			MaxContextName)
	}
	return nil
}

func unfit(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' &&
		c != '_' && c != '.'
}

// CheckEnv is an error of class Invalid unless a shell could set each variable, and none is ours.
func CheckEnv(env map[string]string) error {
	if len(env) > MaxEnv {
		return sandpool.Errorf(sandpool.Invalid, "InvalidEnvironment", "env",
			"There are %d variables; %d is the most.", len(env), MaxEnv)
	}
	for name, value := range env {
		lower := strings.ToLower(name)
		switch {
		case name == "" || len(name) > 255 || strings.IndexFunc(name, notInName) >= 0 ||
			name[0] >= '0' && name[0] <= '9':
			return sandpool.Errorf(sandpool.Invalid, "InvalidEnvironment", "env",
				"%.64q is no name of a variable. Use letters, digits and underscores.", name)
		case strings.HasPrefix(lower, "sandpool_") || strings.HasPrefix(lower, "__sandpool_"):
			return sandpool.Errorf(sandpool.Invalid, "InvalidEnvironment", "env",
				"Names that begin with SANDPOOL_ or __sandpool_ are reserved. Use another.")
		case strings.ContainsRune(value, 0):
			return sandpool.Errorf(sandpool.Invalid, "InvalidEnvironment", "env",
				"The value of %q holds NUL, which no variable can.", name)
		}
	}
	return nil
}

func notInName(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_'
}

// Contexts lists the contexts by their names, the default one first.
func (c *Client) Contexts(ctx context.Context) ([]Context, error) {
	var all contextList
	err := c.call(ctx, http.MethodGet, "/contexts", nil, nil, &all, maxAnswer)
	return all, err
}

// contextList is the list as it is read.
type contextList []Context

// UnmarshalJSON implements json.Unmarshaler.
func (l *contextList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[Context](text, MaxContexts)
	return err
}

// MakeContext starts a kernel of the named kind in a context of its own. One of the same kind that
// is there already is returned as it is; one of another kind is an error of class Conflict.
func (c *Client) MakeContext(ctx context.Context, name, kernel string) (Context, error) {
	var made Context
	err := c.call(ctx, http.MethodPut, "/context", url.Values{"name": {name}, "kernel": {kernel}},
		nil, &made, maxAnswer)
	return made, err
}

// DeleteContext ends a context and what runs in it. The default one cannot be deleted.
func (c *Client) DeleteContext(ctx context.Context, name string) error {
	return c.inContext(ctx, http.MethodDelete, "/context", name)
}

// RestartContext replaces the kernel of a context: what its cells have defined is gone, and one
// that runs ends.
func (c *Client) RestartContext(ctx context.Context, name string) error {
	return c.inContext(ctx, http.MethodPost, "/context/restart", name)
}

// InterruptContext interrupts the cell that runs in a context; without one it does nothing.
func (c *Client) InterruptContext(ctx context.Context, name string) error {
	return c.inContext(ctx, http.MethodPost, "/context/interrupt", name)
}

func (c *Client) inContext(ctx context.Context, method, path, name string) error {
	return c.call(ctx, method, path, url.Values{"name": {name}}, nil, nil, 0)
}
