package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// The exit codes that the package comment promises.
const (
	exitDone     = 0
	exitNegative = 1
	exitUsage    = 2
	exitTrouble  = 3
)

// exitError ends the program with a code and without a further message: what
// there is to say has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a command line that parses but makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// grammar is the command line.
type grammar struct {
	globals

	Serve   serveCmd   `cmd:"" help:"Run the server."`
	Pool    poolCmd    `cmd:"" help:"Create, show, list, update and delete session pools."`
	Exec    execCmd    `cmd:"" help:"Run Python code in a session."`
	Files   filesCmd   `cmd:"" help:"Move files into and out of a session."`
	Session sessionCmd `cmd:"" help:"Show, list and end sessions."`
	Token   tokenCmd   `cmd:"" help:"Create, list and revoke access tokens."`
	Image   imageCmd   `cmd:"" help:"Build, list and remove root filesystems on this machine."`
	Doctor  doctorCmd  `cmd:"" help:"Say what this machine lacks for serving, and how to get it."`
	Bench   benchCmd   `cmd:"" help:"Measure a running server."`
	Version versionCmd `cmd:"" help:"Print the version of this program."`
}

// Help says what all commands have in common.
func (grammar) Help() string {
	return "The server and the token come from flags, else from the environment, else from the client configuration: " +
		"the file that SANDPOOL_CONFIG names, else ~/.config/sandpool/client.yaml, which 'sandpool serve' writes.\n\n" +
		"Exit codes: 0 done; 1 the code that exec ran failed, or doctor found something missing; 2 the command line is wrong; " +
		"3 anything else failed. Code that exec runs may set others with sys.exit."
}

// globals are the flags of every command. What a flag leaves open comes from the
// environment, then from the client configuration file.
type globals struct {
	Endpoint      string `env:"SANDPOOL_ENDPOINT" help:"URL of the server." placeholder:"URL"`
	Token         string `env:"SANDPOOL_TOKEN" help:"Access token. Prefer the variable: flags are visible to other users of the machine." placeholder:"TOKEN"`
	Subscription  string `help:"Subscription that the pools belong to." default:"${subscription}"`
	ResourceGroup string `short:"g" help:"Resource group that the pools belong to." default:"${resourceGroup}"`
	Output        string `short:"o" enum:"table,json" default:"table" help:"Form of the result on stdout: table or json."`
}

// poolFlag chooses the pool of commands that work in one.
type poolFlag struct {
	Pool string `env:"SANDPOOL_POOL" default:"python" help:"Name of the pool."`
}

// sessionFlag names a session; the second name is what az calls it.
type sessionFlag struct {
	Session sessionName `aliases:"identifier" required:"" help:"Identifier of the session, 4 to 128 characters (also --identifier)." placeholder:"NAME"`
}

// sessionName is a session's identifier on the command line.
type sessionName string

// Validate refuses what the server refuses, before anything is sent.
func (n sessionName) Validate() error {
	if n == "" {
		return errors.New("the session identifier is empty")
	}
	_, err := sandpool.ParseIdentifier(string(n))
	return err
}

// app is what commands work with.
type app struct {
	globals
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run parses args, runs the command and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var g grammar
	helped := false
	parser, err := kong.New(&g, kong.Name("sandpool"),
		kong.Description("Self-hosted session pools: warm, isolated sandboxes for code that nobody has reviewed."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }),
		kong.Vars{"subscription": sandpool.DefaultSubscription, "resourceGroup": sandpool.DefaultResourceGroup},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{{Key: "container", Title: "Custom containers"}, {Key: "later", Title: "Identities, not served yet"}}),
		kong.WithHyphenPrefixedParameters(true), // negative numbers
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeDuration)),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		fmt.Fprintf(stderr, "sandpool: the command line grammar is broken: %v\n", err)
		return exitTrouble
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	cmd, err := parser.Parse(spreadLists(args))
	if helped {
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(stderr, "sandpool: %v\nRun 'sandpool --help', or 'sandpool COMMAND --help'.\n", err)
		return exitUsage
	}
	a := &app{globals: g.globals, stdin: stdin, stdout: stdout, stderr: stderr}
	return a.report(cmd.Run(a))
}

// report says on stderr why a command failed and returns the exit code.
func (a *app) report(err error) int {
	var code exitError
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "sandpool: %v\n", err)
		return exitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.stderr, "sandpool: interrupted")
		return exitTrouble
	}
	fmt.Fprintf(a.stderr, "sandpool: %s\n", explain(err))
	return exitTrouble
}

// explain renders an error for people: the server's own words, every detail,
// and what to do next.
func explain(err error) string {
	var e *sandpool.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	s := e.Message
	if s == "" {
		s = e.Error()
	}
	if e.Code != "" && e.Code != client.CodeUnreachable {
		s += " (" + e.Code + ")"
	}
	for _, d := range e.Details {
		s += fmt.Sprintf("\n  %s: %s", d.Target, d.Message)
	}
	if hint := nextStep(e); hint != "" {
		s += "\n" + hint
	}
	if e.TraceID != "" {
		s += "\nTrace id in the server's log: " + e.TraceID
	}
	return s
}

// nextStep is what usually mends an error of e's kind.
func nextStep(e *sandpool.Error) string {
	switch {
	case e.Code == client.CodeUnreachable:
		return unreachableStep(e)
	case e.Class == sandpool.Unauthenticated:
		return "Give a valid token with SANDPOOL_TOKEN; 'sandpool token create' makes one."
	case e.Class == sandpool.Full && e.RetryAfter > 0:
		return fmt.Sprintf("Try again in %s, end a session with 'sandpool session delete', or raise --max-sessions of the pool.", e.RetryAfter)
	case e.Code == "SessionPoolFailed":
		return "'sandpool pool status NAME' shows why."
	case e.Code == "SessionPoolNotFound":
		return "'sandpool pool list' shows the pools that exist."
	}
	return ""
}

// unreachableStep is what usually mends that e's server gave no answer. One whose
// TLS fails does run.
func unreachableStep(e *sandpool.Error) string {
	var (
		unknown     x509.UnknownAuthorityError
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		record      tls.RecordHeaderError
	)
	switch {
	case errors.As(e, &unknown):
		return "To trust its certificate, set SSL_CERT_FILE to a PEM file that holds it or its issuer's."
	case errors.Is(e, http.ErrSchemeMismatch):
		return "Begin the server's URL with http://, or give the server a certificate."
	case errors.As(e, &certificate), errors.As(e, &alert), errors.As(e, &record):
		return ""
	}
	return "Is the server running? Start it with 'sandpool serve', or name another with --endpoint or SANDPOOL_ENDPOINT."
}

// interruptible returns what r holds, up to the end of ctx: a read of a terminal or
// a pipe does not end by itself when somebody presses Ctrl-C.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out
}

// client connects to the server that flags, environment and the configuration
// file name, in this order.
func (a *app) client() (*client.Client, error) {
	cfg := client.Config{Endpoint: a.Endpoint, Token: a.Token, Subscription: a.Subscription, ResourceGroup: a.ResourceGroup}
	if cfg.Endpoint == "" || cfg.Token == "" {
		if err := fillFromFile(&cfg); err != nil {
			return nil, err
		}
	}
	return client.New(cfg)
}

// fillFromFile completes cfg from the client configuration file.
func fillFromFile(cfg *client.Config) error {
	path, err := client.ConfigPath(os.Getenv)
	if err != nil {
		return usageError(err.Error() + "; give --endpoint and SANDPOOL_TOKEN")
	}
	file, err := client.LoadConfig(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = file.Endpoint
	}
	// A token belongs to its server: one from the file is not sent to another endpoint.
	if cfg.Token == "" && cfg.Endpoint == file.Endpoint {
		cfg.Token = file.Token
	}
	switch {
	case cfg.Endpoint == "":
		return usageError(fmt.Sprintf("no server is known: --endpoint, SANDPOOL_ENDPOINT and %s name none.\n"+
			"'sandpool serve' starts one on this machine and writes that file.", path))
	case cfg.Token == "":
		return usageError(fmt.Sprintf("no token for %s: --token, SANDPOOL_TOKEN and %s give none.\n"+
			"Whoever runs the server makes one with 'sandpool token create'.", cfg.Endpoint, path))
	}
	return nil
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
		return fmt.Errorf("%q is no time: use a number of seconds, such as 30, or a time with units, such as 30s or 5m", text)
	}
	target.SetInt(int64(d))
	return nil
}
