package sandpooltest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// Code is what a caller has a session run.
type Code struct {
	// Session is the identifier of the session.
	Session string
	// Text is the source.
	Text string
	// Files are the session's files, which code may read and change.
	Files *Files
}

// Outcome is what came of code.
type Outcome struct {
	Stdout, Stderr string
	// Value is the value of the last expression as Python prints it; empty means that there is
	// none.
	Value string
	// Error is the exception that ended the code; nil means that none did.
	Error *Exception
}

// Exception is an exception that ended code.
type Exception struct{ Name, Message string }

// agentOf is what answers for the sandbox of a session: the test's function, and files in memory.
type agentOf struct {
	session string
	run     func(context.Context, Code) Outcome
	files   *Files

	turn chan struct{} // holds a token while code runs
}

var _ interpreter.Agent = (*agentOf)(nil)

// connect returns what answers for the sandbox of l.
func (s *Server) connect(l interpreter.Session) interpreter.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := l.Sandbox()
	a := s.agents[row.ID]
	if a == nil {
		a = &agentOf{session: string(row.Identifier), run: s.options.Run,
			files: &Files{content: map[string][]byte{}, changed: map[string]time.Time{}},
			turn:  make(chan struct{}, 1)}
		s.agents[row.ID] = a
		context.AfterFunc(l.Context(), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.agents, row.ID)
		})
	}
	return a
}

// Execute implements interpreter.Agent.
func (a *agentOf) Execute(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult,
	error) {
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return agent.ExecuteResult{}, context.Cause(ctx)
	}
	defer func() { <-a.turn }()
	if r.Room != nil {
		r.Room.Sent()
	}
	limited, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, agent.DefaultTimeout))
	defer cancel()
	began := time.Now()
	var o Outcome
	if a.run != nil {
		o = a.run(limited, Code{Session: a.session, Text: r.Code, Files: a.files})
	}
	if ctx.Err() != nil {
		return agent.ExecuteResult{}, context.Cause(ctx)
	}
	res := agent.ExecuteResult{Outcome: agent.OK, Stdout: o.Stdout, Stderr: o.Stderr,
		HasValue: o.Value != "", Text: o.Value, Duration: time.Since(began)}
	switch {
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		res.Outcome, res.HasValue = agent.TimeoutInterrupted, false
	case o.Error != nil:
		res.Outcome, res.HasValue = agent.Failed, false
		text := strings.TrimSuffix(o.Error.Name+": "+o.Error.Message, ": ")
		res.Error = &agent.ExecutionError{Name: o.Error.Name, Message: o.Error.Message,
			Traceback: "Traceback (most recent call last):\n" + text}
	}
	return res, nil
}

// Close implements interpreter.Agent.
func (a *agentOf) Close() {}

// Upload implements interpreter.Agent.
func (a *agentOf) Upload(_ context.Context, name string, r io.Reader, limit int64) (agent.FileInfo,
	error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return agent.FileInfo{}, err
	}
	if int64(len(data)) > limit {
		return agent.FileInfo{}, agent.TooLarge(limit)
	}
	a.files.Write(name, data)
	return a.files.info(name)
}

// List implements interpreter.Agent.
func (a *agentOf) List(_ context.Context, dir string, recursive bool,
	_ agent.Room) ([]agent.FileInfo, error) {
	return a.files.list(dir, recursive), nil
}

// Stat implements interpreter.Agent.
func (a *agentOf) Stat(_ context.Context, name string) (agent.FileInfo, error) {
	return a.files.info(name)
}

// Open implements interpreter.Agent.
func (a *agentOf) Open(ctx context.Context, name, rangeHeader string) (*agent.Content, error) {
	info, err := a.files.info(name)
	if err != nil {
		return nil, err
	}
	data, _ := a.files.Read(name)
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if rangeHeader != "" {
		r.Header.Set("Range", rangeHeader)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", info.ContentType)
	http.ServeContent(w, r, "", info.ModTime, bytes.NewReader(data))
	return &agent.Content{Status: w.Code, Header: w.Header(), Body: w.Result().Body}, nil
}

// Delete implements interpreter.Agent.
func (a *agentOf) Delete(_ context.Context, name string) error {
	if !a.files.Remove(name) {
		return noFile(name)
	}
	return nil
}

func noFile(name string) error {
	return sandpool.Errorf(sandpool.NotFound, "FileNotFound", "path", "There is no file %q.", name)
}

// Files are the files of a session. Names are below /mnt/data, such as "out/table.csv". Its methods
// may be called from several goroutines.
type Files struct {
	mu      sync.Mutex // guards the fields below it
	content map[string][]byte
	changed map[string]time.Time
}

// Read returns the content of a file, and whether there is one of that name.
func (f *Files) Read(name string) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.content[name]
	return slices.Clone(data), ok
}

// Write makes or replaces a file.
func (f *Files) Write(name string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content[name], f.changed[name] = slices.Clone(data), time.Now()
}

// Remove removes a file or a directory with all that is in it, and reports whether there was one.
func (f *Files) Remove(name string) (found bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := range f.content {
		if n == name || strings.HasPrefix(n, name+"/") {
			delete(f.content, n)
			delete(f.changed, n)
			found = true
		}
	}
	return found
}

// info describes a file.
func (f *Files) info(name string) (agent.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.content[name]; !ok {
		return agent.FileInfo{}, noFile(name)
	}
	return f.infoLocked(name), nil
}

func (f *Files) infoLocked(name string) agent.FileInfo {
	return agent.FileInfo{Name: path.Base(name), Path: name, Type: agent.File,
		Size: int64(len(f.content[name])), ModTime: f.changed[name],
		ContentType: agent.ContentType(name)}
}

// list describes what is in a directory, and below it if recursive.
func (f *Files) list(dir string, recursive bool) []agent.FileInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := map[string]agent.FileInfo{}
	for name, at := range f.changed {
		rest, ok := strings.CutPrefix("/"+name, strings.TrimSuffix("/"+dir, "/")+"/")
		if !ok {
			continue
		}
		first, _, below := strings.Cut(rest, "/")
		if below {
			d := path.Join(dir, first)
			found[d] = agent.FileInfo{Name: first, Path: d, Type: agent.Directory, ModTime: at}
		}
		if !below || recursive {
			found[name] = f.infoLocked(name)
		}
	}
	list := []agent.FileInfo{}
	for _, info := range found {
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b agent.FileInfo) int { return strings.Compare(a.Path, b.Path) })
	return list
}
