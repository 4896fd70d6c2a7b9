package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/cmd/sandpool/audit"
	"github.com/sandpool/sandpool/cmd/sandpool/azure"
	"github.com/sandpool/sandpool/cmd/sandpool/bench"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/cmd/sandpool/events"
	"github.com/sandpool/sandpool/cmd/sandpool/exec"
	"github.com/sandpool/sandpool/cmd/sandpool/files"
	"github.com/sandpool/sandpool/cmd/sandpool/identity"
	"github.com/sandpool/sandpool/cmd/sandpool/image"
	"github.com/sandpool/sandpool/cmd/sandpool/local"
	"github.com/sandpool/sandpool/cmd/sandpool/mcp"
	"github.com/sandpool/sandpool/cmd/sandpool/pool"
	"github.com/sandpool/sandpool/cmd/sandpool/role"
	"github.com/sandpool/sandpool/cmd/sandpool/serve"
	"github.com/sandpool/sandpool/cmd/sandpool/session"
	"github.com/sandpool/sandpool/cmd/sandpool/token"
	"github.com/sandpool/sandpool/cmd/sandpool/top"
	"github.com/sandpool/sandpool/cmd/sandpool/trust"
	"github.com/sandpool/sandpool/cmd/sandpool/usage"
)

// grammar is the command line.
type grammar struct {
	console.Globals

	Serve    serve.Cmd         `cmd:"" help:"Run the server."`
	Pool     pool.Cmd          `cmd:"" help:"Create, show, list, update and delete session pools."`
	Exec     exec.Cmd          `cmd:"" help:"Run code in a session: Python, JavaScript or shell commands."`
	Files    files.Cmd         `cmd:"" help:"Move files into, out of and within a session."`
	Session  session.Cmd       `cmd:"" help:"Show, list and end sessions, open terminals, read logs and reach ports."`
	Events   events.Cmd        `cmd:"" help:"Show what has happened to a pool and its sessions."`
	Top      top.Cmd           `cmd:"" help:"Show pools and sessions as they are now, refreshed until Ctrl-C."`
	Token    token.Cmd         `cmd:"" help:"Create, list and revoke access tokens."`
	Login    token.LoginCmd    `cmd:"" help:"Sign in with a code that somebody approves on the dashboard."`
	Identity identity.Cmd      `cmd:"" help:"Create, list and delete service principals for Azure's clients."`
	Role     role.Cmd          `cmd:"" help:"Give roles to principals, for a time if wanted, list them and take them back."`
	Audit    audit.Cmd         `cmd:"" help:"Show who changed what and who was refused, and check the log of it."`
	Usage    usage.Cmd         `cmd:"" help:"Show what sessions have used, by pool, principal, identifier and time."`
	Az       azure.Cmd         `cmd:"" help:"Have the az command and Azure's SDKs of this machine use the server."`
	Trust    trust.Cmd         `cmd:"" help:"Have programs of this machine trust the server's private certificate authority."`
	MCP      mcp.Cmd           `cmd:"" name:"mcp" help:"Serve a pool's tools to an agent on stdin and stdout (MCP)."`
	Image    image.Cmd         `cmd:"" help:"Build, pull, list and remove images on this machine."`
	Doctor   serve.DoctorCmd   `cmd:"" help:"Check what this machine lacks for serving, and say how to get it."`
	Reach    serve.ReachCmd    `cmd:"" hidden:"" help:"Try whether an address is reached."`
	Bench    bench.Cmd         `cmd:"" help:"Measure a running server."`
	Backup   local.BackupCmd   `cmd:"" help:"Back up what a server on this machine cannot make again; it may be running."`
	Restore  local.RestoreCmd  `cmd:"" help:"Restore a data directory from a backup."`
	Store    local.StoreCmd    `cmd:"" help:"Change the key that a store's secrets are sealed with, or copy the store into a PostgreSQL."`
	Level    local.LogLevelCmd `cmd:"" name:"log-level" help:"Show or change the levels of a running server's log."`
	Support  local.SupportCmd  `cmd:"" help:"Write an archive for a report of a problem, without secrets."`
	Version  versionCmd        `cmd:"" help:"Print the version of this program."`
}

// Help says what all commands have in common.
func (grammar) Help() string {
	return "The server and the token come from flags, else from the environment, else from the " +
		"client configuration: " +
		"the file that SANDPOOL_CONFIG names, else ~/.config/sandpool/client.yaml, which " +
		"'sandpool serve' writes.\n\n" +
		"Exit codes: 0 done; 1 the code that exec ran failed, doctor found something missing, or " +
		"'pool egress test' says no; " +
		"2 the command line is wrong; " +
		"3 anything else failed. Code that exec runs may set others with sys.exit."
}

// newParser returns what reads a command line into g.
func newParser(g *grammar, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(g, append(options, kong.Name("sandpool"),
		kong.Description("Self-hosted session pools: warm, isolated sandboxes for code that "+
			"nobody has reviewed."),
		kong.Vars{"subscription": sandpool.DefaultSubscription,
			"resourceGroup": sandpool.DefaultResourceGroup},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{{Key: "container", Title: "Custom containers"},
			{Key: "later", Title: "Not served"}}),
		kong.WithHyphenPrefixedParameters(true), // negative numbers
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)))...)
}

// run parses args, runs the command and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	helped := false
	parser, err := newParser(&g, kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		fmt.Fprintf(stderr, "sandpool: the command line grammar is broken: %v\n", err)
		return console.ExitTrouble
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	cmd, err := parser.Parse(pool.SpreadLists(args))
	if helped {
		return console.ExitDone
	}
	if err != nil {
		fmt.Fprintf(stderr, "sandpool: %v\nRun 'sandpool --help', or 'sandpool COMMAND --help'.\n",
			err)
		return console.ExitUsage
	}
	a := &console.App{Globals: g.Globals, Stdin: stdin, Stdout: stdout, Stderr: stderr}
	return a.Report(cmd.Run(a))
}

// decodeDuration reads the value of a flag that is a time: a number of seconds, or one with units.
func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("duration")
	if err != nil {
		return err
	}
	text := fmt.Sprint(token.Value)
	d, err := time.ParseDuration(text)
	if seconds, number := strconv.ParseFloat(text, 64); number == nil {
		d, err = time.ParseDuration(strconv.FormatFloat(seconds, 'f', -1, 64) + "s")
	}
	if err != nil {
		return fmt.Errorf("%q is no time: use a number of seconds, such as 30, or a time with "+
			"units, such as 30s or 5m", text)
	}
	target.SetInt(int64(d))
	return nil
}
