package sandboxtest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing/fstest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

// Users and Groups are the /etc/passwd and /etc/group of a Target's root.
const (
	Users  = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1235:App:/srv/app:/bin/sh\n"
	Groups = "root:x:0:\napp:x:1235:\nextra:x:77:app\nother:x:78:\n"
)

// Self is what the first process of a sandbox sees of itself.
type Self struct {
	UID, GID  uint32
	Groups    []uint32
	Env       []string
	Dir       string
	Effective []string // capabilities, sorted
	Bounding  []string // capabilities, sorted
	Hostname  string
	// Hosts, HostnameFile and Resolv are the texts of the files in /etc.
	Hosts, HostnameFile, Resolv string
}

// checkProcess refuses what no engine can start, and finds who the first process is.
func checkProcess(t sandbox.Template) (passwd.Identity, error) {
	if t.Start == sandbox.Restore && len(t.SecretEnv) > 0 {
		return passwd.Identity{}, sandpool.Errorf(sandpool.Invalid, "", "secretEnv",
			"A snapshot would hold the secret %q.", t.SecretEnv[0].Name)
	}
	if t.StopSignal != "" && sandbox.ParseSignal(t.StopSignal) == 0 {
		return passwd.Identity{}, sandpool.Errorf(sandpool.Invalid, "", "stopSignal",
			"The stop signal %q is unknown.", t.StopSignal)
	}
	root := fstest.MapFS{"etc/passwd": {Data: []byte(Users)}, "etc/group": {Data: []byte(Groups)}}
	return passwd.Lookup(root, t.User, t.Groups)
}

// Self says what the first process of a running sandbox sees of itself.
func (f *Fake) Self(_ context.Context, h sandbox.Handle) (Self, error) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sandboxes[h.ID]
	if b == nil || !b.running {
		return Self{}, ended(h.ID)
	}
	t, caps := b.template, slices.Sorted(slices.Values(b.template.Capabilities))
	s := Self{UID: b.user.UID, GID: b.user.GID, Groups: b.user.Groups, Env: slices.Clone(t.Env),
		Dir:      t.Dir,
		Bounding: caps, Hostname: string(h.ID)}
	if s.Dir == "" {
		s.Dir = "/"
	}
	for _, v := range t.SecretEnv {
		s.Env = append(s.Env, v.Name+"="+v.Value.Reveal())
	}
	s.Env = append(s.Env, "HOME="+b.user.Home)
	if s.UID == 0 {
		s.Effective = caps
	}
	if t.HostFiles == sandbox.AllHostFiles {
		s.Hosts, s.HostnameFile, s.Resolv = fmt.Sprintf("127.0.0.1 localhost\n127.0.0.1 %s\n",
			h.ID), string(h.ID)+"\n", "# none\n"
	}
	return s, nil
}

// Exec implements sandbox.Executor.
func (f *Fake) Exec(ctx context.Context, h sandbox.Handle,
	p sandbox.Program) (sandbox.ProgramResult, error) {
	w := f.world
	w.mu.Lock()
	b := w.sandboxes[h.ID]
	running := b != nil && b.running
	w.mu.Unlock()
	if !running {
		return sandbox.ProgramResult{}, ended(h.ID)
	}
	if err := ctx.Err(); err != nil {
		return sandbox.ProgramResult{}, err
	}
	return exit(p.Args)
}

// exit is the one program of the fake's root.
func exit(args []string) (sandbox.ProgramResult, error) {
	if len(args) != 2 || args[0] != "/exit" {
		return sandbox.ProgramResult{}, sandpool.Errorf(sandpool.Invalid, "", "args",
			"The program %q cannot be started.", args)
	}
	code, err := strconv.Atoi(args[1])
	return sandbox.ProgramResult{Code: code, Output: "code " + args[1]}, err
}

// listens reports whether something in a sandbox of t listens on the port.
func (f *Fake) listens(t sandbox.Template, port int) bool {
	return port != 0 && (port == t.Ready.HTTP.Port || port == t.Ready.TCP.Port) ||
		slices.Contains(f.ports, port)
}

// check repeats the readiness check until it passes.
func (f *Fake) check(ctx context.Context, id sandbox.ID, t sandbox.Template) error {
	ctx, cancel := context.WithTimeout(ctx, t.BootTimeout())
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f.passes(ctx, id, t.Ready) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (f *Fake) passes(ctx context.Context, id sandbox.ID, p sandpool.Probe) bool {
	switch {
	case p.HTTP.Port != 0:
		ctx = context.WithValue(ctx, place{}, location{id, p.HTTP.Port})
		request := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://sandbox/", nil)
		if p.HTTP.Path != "" {
			request.URL.Path = p.HTTP.Path
		}
		for _, h := range p.HTTP.Headers {
			request.Header.Add(h.Name, h.Value)
		}
		answer := httptest.NewRecorder()
		f.handler.ServeHTTP(answer, request)
		return answer.Code >= 200 && answer.Code <= 399
	case len(p.Exec) > 0:
		got, err := exit(p.Exec)
		return err == nil && got.Code == 0
	}
	return p.TCP.Port != 0
}
