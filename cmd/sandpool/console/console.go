// Package console is what the commands of sandpool share: the flags that all of them have, the
// client that those lead to, and how results, progress and errors reach a person or a script.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// Globals are the flags of every command. What a flag leaves open comes from the
// environment, then from the client configuration file.
type Globals struct {
	Endpoint      string `env:"SANDPOOL_ENDPOINT" help:"URL of the server." placeholder:"URL"`
	Token         string `env:"SANDPOOL_TOKEN" help:"Access token. Prefer the variable: flags are visible to other users of the machine." placeholder:"TOKEN"`
	Subscription  string `help:"Subscription that the pools belong to." default:"${subscription}"`
	ResourceGroup string `short:"g" help:"Resource group that the pools belong to." default:"${resourceGroup}"`
	Output        Form   `short:"o" default:"table" help:"Form of the result on stdout: table, json, yaml, or go-template=TEMPLATE over the names of the JSON." placeholder:"FORM"`
}

// PoolFlag chooses the pool of commands that work in one.
type PoolFlag struct {
	Pool string `env:"SANDPOOL_POOL" default:"python" help:"Name of the pool."`
}

// SessionFlag names a session; the second name is what az calls it.
type SessionFlag struct {
	Session SessionName `aliases:"identifier" required:"" help:"Identifier of the session, 4 to 128 characters (also --identifier)." placeholder:"NAME"`
}

// SessionName is a session's identifier on the command line.
type SessionName string

// Validate refuses what the server refuses, before anything is sent.
func (n SessionName) Validate() error {
	if n == "" {
		return errors.New("the session identifier is empty")
	}
	_, err := sandpool.ParseIdentifier(string(n))
	return err
}

// App is what commands work with: the flags of every command, and the three streams.
type App struct {
	Globals
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Client connects to the server that flags, environment and the configuration
// file name, in this order.
func (a *App) Client() (*client.Client, error) {
	cfg := client.Config{Endpoint: a.Endpoint, Token: a.Token, Subscription: a.Subscription,
		ResourceGroup: a.ResourceGroup}
	cfg.CA = os.Getenv("SANDPOOL_CA")
	if cfg.Endpoint == "" || cfg.Token == "" {
		if err := fillFromFile(&cfg); err != nil {
			return nil, err
		}
	}
	return client.New(cfg)
}

// Server is where the server is that flags, environment and the configuration file name, for those
// who have no token yet.
func (a *App) Server() (client.Config, error) {
	// With a token, no other is looked for, nor missed.
	cfg := client.Config{Endpoint: a.Endpoint, Token: "none", CA: os.Getenv("SANDPOOL_CA")}
	err := fillFromFile(&cfg)
	cfg.Token = ""
	return cfg, err
}

// fillFromFile completes cfg from the client configuration file.
func fillFromFile(cfg *client.Config) error {
	path, err := client.ConfigPath(os.Getenv)
	if err != nil {
		return UsageError(err.Error() + "; give --endpoint and SANDPOOL_TOKEN")
	}
	file, err := client.LoadConfig(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = file.Endpoint
	}
	if cfg.CA == "" && cfg.Endpoint == file.Endpoint {
		cfg.CA = file.CA
	}
	// A token belongs to its server: one from the file is not sent to another endpoint.
	if cfg.Token == "" && cfg.Endpoint == file.Endpoint {
		cfg.Token = file.Token
	}
	switch {
	case cfg.Endpoint == "":
		return UsageError(fmt.Sprintf("no server is known: --endpoint, SANDPOOL_ENDPOINT and %s "+
			"name none.\n"+
			"'sandpool serve' starts one on this machine and writes that file.", path))
	case cfg.Token == "":
		return UsageError(fmt.Sprintf("no token for %s: --token, SANDPOOL_TOKEN and %s give "+
			"none.\n"+
			"Whoever runs the server makes one with 'sandpool token create'.", cfg.Endpoint, path))
	}
	return nil
}

// Interruptible returns what r holds, up to the end of ctx: a read of a terminal or
// a pipe does not end by itself when somebody presses Ctrl-C.
func Interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out
}
