package languages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// session is sandpool's side: a session, or a context of one.
type session struct {
	c              *client.Client
	pool, id, name string // name is that of the context; "" is the default one
	kernel         string
	n              int
}

// poolSize is how many sessions are ready, and the most that are made at a time.
const poolSize = 4

func newSession(ctx context.Context, c *client.Client, l language, name string) (*session, error) {
	s := &session{c: c, pool: "bench-" + l.name, id: "bench" + name, name: name}
	if name != "" {
		s.kernel = l.name
	}
	ready, most := poolSize, 4*poolSize
	if _, err := c.PutPool(ctx, s.pool, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: string(l.kind),
			ScaleConfiguration: &api.ScaleConfiguration{ReadySessionInstances: &ready,
				MaxConcurrentSessions: &most}}}); err != nil {
		return nil, err
	}
	if _, err := c.WaitReady(ctx, s.pool, nil); err != nil {
		return nil, err
	}
	return s, s.run(ctx, l.one, func(string) {})
}

func (s *session) label() string {
	if s.name != "" {
		return "context"
	}
	return "session"
}

// fresh makes a session, or a context of a session that is made before.
func (s *session) fresh(ctx context.Context, code string) (time.Duration, error) {
	s.n++
	id := fmt.Sprintf("new-%s%d", s.name, s.n)
	if _, err := s.c.WaitReady(ctx, s.pool, nil); err != nil {
		return 0, err
	}
	if s.name != "" {
		if _, err := s.c.Execute(ctx, s.pool, id, client.Run{Code: code}); err != nil {
			return 0, err
		}
	}
	run := client.Run{Code: code, Context: s.name, Kernel: s.kernel}
	begin := time.Now()
	e, err := s.c.Execute(ctx, s.pool, id, run)
	took := time.Since(begin)
	if err == nil && (e.Failed() || e.Result.Stdout != "2\n") {
		err = fmt.Errorf("the answer is %+v", e.Execution)
	}
	return took, errors.Join(err, s.c.DeleteSession(ctx, s.pool, id))
}

func (s *session) run(ctx context.Context, code string, first func(string)) error {
	begun := false
	for e, err := range s.c.Stream(ctx, s.pool, s.id, client.Run{Code: code, Context: s.name,
		Kernel: s.kernel, Timeout: time.Minute}) {
		if err != nil {
			return err
		}
		if e.Type == "stdout" && !begun {
			begun = true
			first(e.Text)
		}
		if e.Type == "result" && e.Status != api.StatusSucceeded {
			return fmt.Errorf("the code ends with %+v", e.Execution)
		}
	}
	return nil
}

func (s *session) put(ctx context.Context, body []byte) error {
	_, err := s.c.UploadFile(ctx, s.pool, s.id, "bench", bytes.NewReader(body))
	return err
}

func (s *session) get(ctx context.Context) (n int64, err error) {
	f, err := s.c.Download(ctx, s.pool, s.id, "bench", client.Range{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.Copy(io.Discard, f)
}

func (s *session) close(ctx context.Context) error {
	err := s.c.DeleteSession(ctx, s.pool, s.id)
	if sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}
