package serve

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/cmd/sandpool/exec"
	"github.com/sandpool/sandpool/cmd/sandpool/image"
	"github.com/sandpool/sandpool/internal/server"
)

// What the quickstart makes.
const (
	quickPool  = "python"
	quickReady = 3
	quickMax   = 20
)

// quickSample is Python that a machine without the image could not run.
const quickSample = `import sys, numpy as np
print("Python", sys.version.split()[0], "on", open("/proc/version").read().split()[0], "in a gVisor sandbox")
int((np.arange(1, 7) * 2).sum())`

// quickImage builds the image if it is missing. It comes before the server runs, whose
// pools could not be prepared without it.
func quickImage(ctx context.Context, a *console.App, cfg server.Config) error {
	if err := image.BuildIfMissing(ctx, a, cfg.Images(), quickPool); err != nil {
		return fmt.Errorf("build the image: %w", err)
	}
	return nil
}

// quickstart takes a server that has just started to an answer: pool, sample. The pool is
// left as it is if an earlier start has made it.
func quickstart(ctx context.Context, a *console.App, srv *server.Server, conn client.Config,
	tokenFile, settings string) error {
	cl, err := client.New(conn)
	if err != nil {
		return err
	}
	if err := cl.WaitHealthy(ctx); err != nil {
		return err
	}
	if err := quickPoolReady(ctx, a, cl); err != nil {
		return fmt.Errorf("pool %q: %w", quickPool, err)
	}
	return quickAnswer(ctx, a, cl, tokenFile, settings, srv.SignInLink())
}

// quickPoolReady makes the pool, if there is none, and waits until its ready sandboxes are there.
func quickPoolReady(ctx context.Context, a *console.App, cl *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	p := console.NewProgress(a.Stderr)
	defer p.Clear()
	p.Update("creating pool "+quickPool, "")
	_, err := cl.Pool(ctx, quickPool)
	if sandpool.ClassOf(err) == sandpool.NotFound && err != nil {
		ready, most := quickReady, quickMax
		_, err = cl.BeginPutPool(ctx, quickPool, api.SessionPool{
			Properties: &api.SessionPoolProperties{
				ContainerType:      string(sandpool.PythonLTS),
				PoolManagementType: "Dynamic",
				ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
					ReadySessionInstances: &ready}}})
	}
	if err != nil {
		return err
	}
	if _, err := cl.WaitPool(ctx, quickPool, func(s api.SessionPool) {
		p.Update("preparing pool "+quickPool, "boot, warm up, snapshot")
	}); err != nil {
		return err
	}
	s, err := cl.WaitReady(ctx, quickPool, func(s api.PoolStatus) {
		p.Update("starting sandboxes", fmt.Sprintf("%d/%d ready", s.Ready, s.ReadySessions))
	})
	if err != nil {
		return err
	}
	p.Done(fmt.Sprintf("pool %s has %d ready sessions", quickPool, s.Ready))
	return nil
}

// quickAnswer runs the sample through the public API and says how to go on.
func quickAnswer(ctx context.Context, a *console.App, cl *client.Client, tokenFile, settings,
	link string) error {
	id := exec.NewIdentifier()
	begin := time.Now()
	e, err := cl.Execute(ctx, quickPool, id, client.Run{Code: quickSample, Timeout: time.Minute})
	if err != nil {
		return fmt.Errorf("run the sample: %w", err)
	}
	took := time.Since(begin)
	if err := cl.DeleteSession(ctx, quickPool, id); err != nil {
		return fmt.Errorf("delete the sample's session: %w", err)
	}
	if e.Failed() {
		return fmt.Errorf("run the sample: %s", e.Result.Stderr)
	}
	a.Say("ran a sample in a new session, answered after %s:", took.Round(100*time.Microsecond))
	fmt.Fprintf(a.Stdout, "%s%s\n", e.Result.Stdout, exec.ResultText(e.Result.ExecutionResult))
	fmt.Fprintf(a.Stdout, "\nendpoint  %s\n", cl.PoolEndpoint(quickPool))
	if link != "" {
		fmt.Fprintf(a.Stdout, "dashboard %s  (signs you in once, within ten minutes)\n",
			reachable(link))
	}
	fmt.Fprintf(a.Stdout, "\n%s\n", quickCurl(cl.PoolEndpoint(quickPool), tokenFile))
	a.Say("\nor, in another terminal of this user:  %s%s exec 'print(6*7)'\nCtrl-C stops the "+
		"server and its sandboxes", settings, shellQuote(os.Args[0]))
	return nil
}

// quickCurl is a line to paste into a shell.
func quickCurl(endpoint, tokenFile string) string {
	return fmt.Sprintf(`curl -sS -H "Authorization: Bearer $(cat %s)" -H 'Content-Type: application/json' \
  '%s/executions?api-version=2025-10-02-preview&identifier=my-session' \
  -d '{"codeInputType":"Inline","executionType":"Synchronous","code":"print(6*7)"}'`, shellQuote(tokenFile), endpoint)
}

// shellQuote quotes s for a POSIX shell if it needs it.
func shellQuote(s string) string {
	if strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune(
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+", r)
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
