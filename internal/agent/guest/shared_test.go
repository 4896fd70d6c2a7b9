package guest_test

import (
	"fmt"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

func (s *sandbox) attach(t testing.TB, name string, columns int) *shell {
	t.Helper()
	term, err := s.AttachTerminal(t.Context(), name, agent.TerminalSize{Columns: columns, Rows: 40})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.Close() })
	return &shell{Terminal: term}
}

// TestSharedTerminal: a terminal with a name goes on without viewers, and shows each who comes what
// was written last and what comes.
func TestSharedTerminal(t *testing.T) {
	s := start(t)
	a := s.attach(t, "main", 300)
	a.write(t, "echo fi''rst\n")
	a.await(t, "first")
	b := s.attach(t, "main", 200)
	b.await(t, "first")
	b.write(t, "echo sec''ond $(stty size)\n")
	a.await(t, "second 40 200")
	b.await(t, "second 40 200")
	list, err := s.Terminals(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != "main" || list[0].Viewers != 2 || list[0].Columns != 200 {
		t.Errorf("terminals: %+v, %v", list, err)
	}
	b.write(t, "x=kept; echo bo''th\n")
	b.await(t, "both")
	a.await(t, "both")
	for _, one := range []*shell{a, b} {
		if err := one.Close(); err != nil {
			t.Error(err)
		}
	}
	// One that nobody reads is no hindrance: the programs wait for it no longer than for others.
	again := s.attach(t, "main", 100)
	again.await(t, "both")
	idle := s.attach(t, "main", 100)
	again.write(t, "head -c 3000000 /dev/zero | tr '\\0' y | fold -w 99; echo $x en''ough\n")
	again.await(t, "kept enough")
	_ = idle.Close()
	again.write(t, "exit 3\n")
	if _, exit := again.end(t); exit.Code != 3 {
		t.Errorf("the shell ended with %+v", exit)
	}
	hung := s.attach(t, "main", 80)
	hung.write(t, "echo ${x-ne''w}; sleep 12345\n")
	hung.await(t, "new")
	if err := s.EndTerminal(t.Context(), "main"); err != nil {
		t.Error(err)
	}
	hung.end(t)
	s.gone(t, "12345")
	if err := s.EndTerminal(t.Context(), "main"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("ended again: %v", err)
	}
	bounded(t, s)
}

// bounded checks that there are few terminals, and which makes room for another.
func bounded(t *testing.T, s *sandbox) {
	var all []*shell
	for i := range agent.MaxTerminals {
		all = append(all, s.attach(t, fmt.Sprint("t", i), 80))
		all[i].write(t, "echo rea''dy\n")
		all[i].await(t, "ready")
	}
	size := agent.TerminalSize{Columns: 80, Rows: 24}
	if _, err := s.AttachTerminal(t.Context(), "more", size); sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("one more than may be: %v", err)
	}
	if err := all[2].Close(); err != nil {
		t.Error(err)
	}
	var more *agent.Terminal
	s.until(t, func() (err error) {
		more, err = s.AttachTerminal(t.Context(), "more", size)
		return err
	})
	defer more.Close()
	list, err := s.Terminals(t.Context())
	if err != nil || len(list) != agent.MaxTerminals {
		t.Errorf("terminals: %+v, %v", list, err)
	}
	for _, one := range list {
		if one.Name == "t2" {
			t.Error("not the one without a viewer made room")
		}
	}
}
