package sandboxtest

import (
	"bufio"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// self asks the first process of a new sandbox about itself.
func (s *suite) self() (Self, sandbox.Handle) {
	s.Helper()
	if s.Target.Self == nil {
		need.Lack(s, "the target's first process does not say what it is")
	}
	h := s.start()
	got, err := s.Target.Self(s.ctx, h)
	if err != nil {
		s.Fatalf("Self: %v", err)
	}
	return got, h
}

// processUser is about all that says who the first process is.
func processUser(s *suite) {
	s.Template.Capabilities = []string{"CAP_KILL", "CAP_CHOWN"}
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	for _, c := range []struct {
		user   string
		groups []string
		want   Self
	}{
		{"", nil, Self{Effective: caps, Bounding: caps}},
		{"app", []string{"other", "9"}, Self{UID: 1234, GID: 1235, Groups: []uint32{9, 77, 78},
			Bounding: caps}},
		{"77:app", nil, Self{UID: 77, GID: 1235, Bounding: caps}},
	} {
		s.Template.User, s.Template.Groups = c.user, c.groups
		got, h := s.self()
		// Whether the first group is among the others, too, makes no difference to what it may do.
		got.Groups = slices.DeleteFunc(got.Groups, func(g uint32) bool { return g == got.GID })
		got = Self{UID: got.UID, GID: got.GID, Groups: got.Groups, Effective: got.Effective,
			Bounding: got.Bounding}
		if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
			s.Errorf("user %q: -want +got\n%s", c.user, diff)
		}
		s.stop(h)
	}
	for _, bad := range []func(*sandbox.Template){
		func(t *sandbox.Template) { t.User = "nobody-knows" },
		func(t *sandbox.Template) { t.User = "app:nobody-knows" },
		func(t *sandbox.Template) { t.Groups = []string{"nobody-knows"} },
		func(t *sandbox.Template) { t.StopSignal = "SIGNONSENSE" },
	} {
		t := s.Template
		t.User, t.Groups = "", nil
		bad(&t)
		_, err := s.Runtime.Prepare(s.ctx, t, nil)
		s.wantClass(err, sandpool.Invalid)
	}
}

func processSecrets(s *suite) {
	s.Template.User = "app"
	s.Template.Env = append(slices.Clone(s.Template.Env), "PLAIN=1")
	s.Template.SecretEnv = []sandbox.SecretVar{
		{Name: "TOKEN", Value: sandpool.NewSecret("hunter2")}}
	s.Template.Dir = "/tmp"
	if s.Template.Start == sandbox.Restore {
		_, err := s.Runtime.Prepare(s.ctx, s.Template, nil)
		s.wantClass(err, sandpool.Invalid)
		return
	}
	key := s.prepare().Key
	got, _ := s.self()
	for _, kv := range []string{"PLAIN=1", "TOKEN=hunter2", "HOME=/srv/app"} {
		if !slices.Contains(got.Env, kv) {
			s.Errorf("the environment %q lacks %s", got.Env, kv)
		}
	}
	if got.Dir != "/tmp" {
		s.Errorf("the working directory is %q", got.Dir)
	}
	s.Template.SecretEnv[0].Value = sandpool.NewSecret("hunter3")
	if s.prepare().Key != key {
		s.Error("the key depends on a secret")
	}
	if got, _ := s.self(); !slices.Contains(got.Env, "TOKEN=hunter3") {
		s.Errorf("the environment %q lacks the new secret", got.Env)
	}
}

func processFiles(s *suite) {
	s.Template.HostFiles = sandbox.AllHostFiles
	got, h := s.self()
	if got.Hostname == "" || !strings.Contains(got.Hosts, got.Hostname) ||
		strings.TrimSpace(got.HostnameFile) != got.Hostname {
		s.Errorf("the host name is %q, the host files are %q and %q", got.Hostname, got.Hosts,
			got.HostnameFile)
	}
	if !strings.Contains(got.Hosts, "localhost") || got.Resolv == "" ||
		strings.TrimSpace(got.HostnameFile) == "" {
		s.Errorf("the host files are %q, %q and %q", got.Hosts, got.HostnameFile, got.Resolv)
	}
	if s.Template.Start == sandbox.Boot && !strings.Contains(got.Hosts, string(h.ID)) {
		s.Errorf("/etc/hosts does not know the sandbox: %q", got.Hosts)
	}
}

// stopSignal looks at what the first process hears before its end.
func stopSignal(s *suite) {
	s.Template.Channel = true
	s.Template.Env = append(slices.Clone(s.Template.Env), "GUEST_SIGNALS=1")
	s.Template.StopSignal, s.Template.Grace = "10", ioLimit // images say numbers, too
	h := s.start()
	conn := s.channel(h)
	exits := s.wait(s.Runtime, h)
	began := time.Now()
	s.stop(h)
	if took := time.Since(began); took > ioLimit/2 {
		s.Errorf("Stop took %v although the process ended at once", took)
	}
	if said, err := bufio.NewReader(conn).ReadString('\n'); err != nil || said != "SIGUSR1\n" {
		s.Errorf("the first process said %q, %v, when it was stopped", said, err)
	}
	if exit := <-exits; exit.Reason != sandbox.Stopped {
		s.Errorf("Wait of a stopped sandbox = %+v", exit)
	}
	s.wantGone(h.ID)
}

// stopDeaf stops a process that does not end by itself, with and without the handle's data.
func stopDeaf(s *suite) {
	s.Template.Env = append(slices.Clone(s.Template.Env), "GUEST_SIGNALS=deaf")
	s.Template.Grace = 300 * time.Millisecond
	h := s.start()
	began := time.Now()
	s.stop(h)
	if took := time.Since(began); took < s.Template.Grace || took > ioLimit {
		s.Errorf("Stop of a deaf process took %v, with %v of grace", took, s.Template.Grace)
	}
	s.wantGone(h.ID)
	s.Template.Grace = ioLimit
	h = s.start()
	began = time.Now()
	s.stop(sandbox.Handle{ID: h.ID})
	if took := time.Since(began); took > ioLimit/2 {
		s.Errorf("Stop by the ID alone took %v: it waits for the process", took)
	}
}

// waitExited checks that the code of the first process is told, also after a restart.
func waitExited(s *suite) {
	if s.Quit == nil {
		need.Lack(s, "the target's first process does not end by itself")
	}
	h := s.start()
	exits := s.wait(s.Runtime, h)
	s.Quit(s.T, h, 3)
	if exit := <-exits; exit != (sandbox.Exit{Reason: sandbox.Exited, Code: 3}) {
		s.Errorf("Wait = %+v, want that it exited with 3", exit)
	}
	h = s.start()
	s.Runtime = s.Reopen(s.T)
	exits = s.wait(s.Runtime, h)
	s.Quit(s.T, h, 4)
	if exit := <-exits; exit != (sandbox.Exit{Reason: sandbox.Exited, Code: 4}) {
		s.Errorf("Wait of an adopted sandbox = %+v, want that it exited with 4", exit)
	}
}

func probeTCP(s *suite) {
	s.Template.Ready = sandpool.Probe{TCP: sandpool.TCPProbe{Port: s.Template.Ready.HTTP.Port}}
	s.answersAt(s.start(), s.Template.Ready.TCP.Port, "/")
}

func probeExec(s *suite) {
	if s.Exit == nil {
		need.Lack(s, "the target's root has no program that ends")
	}
	port := s.Template.Ready.HTTP.Port
	s.Template.Ready = sandpool.Probe{Exec: s.Exit(0)}
	s.stop(s.start())
	s.Template.Ready = sandpool.Probe{Exec: s.Exit(1), Period: 10 * time.Millisecond}
	s.Template.ReadyTimeout = 500 * time.Millisecond
	p, err := s.Runtime.Prepare(s.ctx, s.Template, nil)
	if err == nil {
		_, err = s.Runtime.Start(s.ctx, s.id(), p)
	}
	if err == nil {
		s.Errorf("a sandbox whose probe of port %d fails is ready", port)
	}
}

// probeNever checks that a start ends with its time, and leaves nothing.
func probeNever(s *suite) {
	s.Template.Ready = sandpool.Probe{HTTP: s.Template.Ready.HTTP, Period: 10 * time.Millisecond,
		Failures: 20}
	s.Template.Ready.HTTP.Port, s.Template.Ready.HTTP.Path = 0, ""
	if s.Exit == nil {
		need.Lack(s, "the target's root has no program that ends")
	}
	s.Template.Ready.Exec = s.Exit(1)
	began := time.Now()
	p, err := s.Runtime.Prepare(s.ctx, s.Template, nil)
	id := s.id()
	if err == nil {
		_, err = s.Runtime.Start(s.ctx, id, p)
	}
	if err == nil || errors.Is(err, s.ctx.Err()) && s.ctx.Err() != nil ||
		time.Since(began) > ioLimit {
		s.Errorf("a sandbox that never gets ready: %v after %v", err, time.Since(began))
	}
	s.wantGone(id)
}

func execCodes(s *suite) {
	runner, ok := s.Runtime.(sandbox.Executor)
	if !ok || s.Exit == nil {
		need.Lack(s, "the engine runs no further programs")
	}
	s.Template.User = "app"
	h := s.start()
	for _, code := range []int{0, 7} {
		got, err := runner.Exec(s.ctx, h, sandbox.Program{Args: s.Exit(code)})
		if err != nil || got.Code != code || !strings.Contains(got.Output, "code") {
			s.Errorf("Exec = %+v, %v; want the code %d and what it says", got, err, code)
		}
	}
	_, err := runner.Exec(s.ctx, h, sandbox.Program{Args: []string{"/no/such/program"}})
	s.wantClass(err, sandpool.Invalid)
	next, ok := s.Reopen(s.T).(sandbox.Executor)
	if !ok {
		s.Fatal("the engine runs no further programs after a restart")
	}
	if got, err := next.Exec(s.ctx, h, sandbox.Program{Args: s.Exit(5)}); err != nil ||
		got.Code != 5 {
		s.Errorf("Exec after a restart = %+v, %v", got, err)
	}
	s.Runtime, _ = next.(sandbox.Runtime)
	s.stop(h)
	_, err = next.Exec(s.ctx, h, sandbox.Program{Args: s.Exit(0)})
	s.wantClass(err, sandpool.Ended)
}
