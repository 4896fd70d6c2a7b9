// Package session is the commands that show and end sessions and reach ports of theirs.
package session

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd groups the commands of sessions.
type Cmd struct {
	Show    showCmd    `cmd:"" help:"Show a session."`
	List    listCmd    `cmd:"" help:"List the sessions of a pool."`
	Delete  deleteCmd  `cmd:"" help:"End a session and destroy its sandbox."`
	Process processCmd `cmd:"" help:"Start, show, signal and end processes in the background of a session."`
	Kernels kernelsCmd `cmd:"" help:"List the kernels that code of a session can name."`
	Logs    logsCmd    `cmd:"" help:"Show what a session has written to its standard output and error."`
	History historyCmd `cmd:"" help:"Show what the sessions of an identifier ran, where the pool keeps it."`
	Attach  attachCmd  `cmd:"" help:"Open a shell in a session, or join one."`
	Forward forwardCmd `cmd:"" help:"Reach a port of a session's container from this machine."`
}

// output is a session as JSON.
type output struct {
	Identifier     string `json:"identifier"`
	ETag           string `json:"etag"`
	CreatedAt      string `json:"createdAt"`
	LastAccessedAt string `json:"lastAccessedAt"`
	ExpiresAt      string `json:"expiresAt"`
}

func toOutput(s api.SessionView) output {
	return output{Identifier: s.Identifier, ETag: s.ETag, CreatedAt: s.CreatedAt,
		LastAccessedAt: s.LastAccessedAt, ExpiresAt: s.ExpiresAt}
}

func printSessions(a *console.App, list []output) error {
	t := console.Table{Heading: []string{"IDENTIFIER", "CREATED", "LAST USED", "EXPIRES"}}
	for _, s := range list {
		t.Add(s.Identifier, s.CreatedAt, s.LastAccessedAt, s.ExpiresAt)
	}
	return t.Write(a.Stdout)
}

type showCmd struct {
	console.SessionFlag
	console.PoolFlag
}

// Run shows a session.
func (c *showCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	s, err := cl.Session(ctx, c.Pool, string(c.Session))
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(toOutput(s))
	}
	return printSessions(a, []output{toOutput(s)})
}

type listCmd struct{ console.PoolFlag }

// Run lists the sessions of a pool.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	views, err := cl.Sessions(ctx, c.Pool)
	if err != nil {
		return err
	}
	list := make([]output, len(views))
	for i, v := range views {
		list[i] = toOutput(v)
	}
	if a.JSON() {
		return a.PrintJSON(list)
	}
	return printSessions(a, list)
}

type kernelsCmd struct {
	console.SessionFlag
	console.PoolFlag
}

// Run lists the kernels of a session.
func (c *kernelsCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	all, err := cl.Kernels(ctx, c.Pool, string(c.Session))
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(all)
	}
	t := console.Table{Heading: []string{"KERNEL", "LANGUAGE", "JUPYTER", "DESCRIPTION"}}
	for _, k := range all {
		of := "no"
		if k.Jupyter {
			of = "yes"
		}
		t.Add(console.Printable(k.Name), console.Printable(k.Language), of,
			console.Printable(k.DisplayName))
	}
	return t.Write(a.Stdout)
}

type deleteCmd struct {
	console.SessionFlag
	console.PoolFlag
}

// Run ends a session.
func (c *deleteCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if err := cl.DeleteSession(ctx, c.Pool, string(c.Session)); err != nil {
		return err
	}
	a.Say("session %s of pool %s is deleted", console.Printable(string(c.Session)), c.Pool)
	if a.JSON() {
		return a.PrintJSON(struct {
			Deleted string `json:"deleted"`
		}{string(c.Session)})
	}
	return nil
}

type forwardCmd struct {
	console.SessionFlag
	console.PoolFlag
	Ports portPair `arg:"" help:"Local and container's port, such as 6379:6379; local port 0 takes a free one. HOST:LOCAL:PORT listens on another address than 127.0.0.1." placeholder:"LOCAL:PORT"`
}

// portPair is where to listen, and the port that connections lead to.
type portPair struct {
	listen string
	port   int
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *portPair) UnmarshalText(text []byte) error {
	host, rest := "127.0.0.1", string(text)
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		if j := strings.LastIndexByte(rest[:i], ':'); j >= 0 {
			host, rest = strings.Trim(rest[:j], "[]"), rest[j+1:]
		}
	}
	local, port, _ := strings.Cut(rest, ":")
	from, err := strconv.ParseUint(local, 10, 16)
	to, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || to == 0 {
		return fmt.Errorf("%q is not LOCAL:PORT, two port numbers such as 6379:6379", text)
	}
	*p = portPair{net.JoinHostPort(host, strconv.FormatUint(from, 10)), int(to)}
	return nil
}

// Run forwards connections until it is interrupted, which is the way it ends.
func (c *forwardCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	// One tunnel before all others says at once what is wrong, and has the session begin.
	first, err := cl.Tunnel(ctx, c.Pool, string(c.Session), c.Ports.port)
	if err != nil {
		return err
	}
	_ = first.Close()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Ports.listen)
	if err != nil {
		return err
	}
	a.Say("%s leads to port %d of session %s; Ctrl-C ends it", l.Addr(), c.Ports.port,
		console.Printable(string(c.Session)))
	if a.JSON() {
		if err := a.PrintJSON(struct {
			Address string `json:"address"`
			Port    int    `json:"port"`
		}{l.Addr().String(), c.Ports.port}); err != nil {
			return err
		}
	}
	return cl.Forward(ctx, l, c.Pool, string(c.Session), c.Ports.port, func(err error) {
		a.Say("sandpool: %s", console.Explain(err))
	})
}
