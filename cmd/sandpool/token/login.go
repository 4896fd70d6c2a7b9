package token

import (
	"context"
	"os"
	"time"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// LoginCmd is "sandpool login".
type LoginCmd struct {
	Expires time.Duration `default:"12h" help:"Time until you have to sign in again, at most 12h." placeholder:"DURATION"`
}

// Run shows a code, waits until somebody has approved it, and keeps the token.
func (c *LoginCmd) Run(ctx context.Context, a *console.App) error {
	if c.Expires < time.Minute || c.Expires > 12*time.Hour {
		return console.UsageError("--expires is 1m to 12h")
	}
	path, err := client.ConfigPath(os.Getenv)
	if err != nil {
		return err
	}
	cfg, err := a.Server()
	if err != nil {
		return err
	}
	l, err := client.BeginLogin(ctx, cfg, c.Expires)
	if err != nil {
		return err
	}
	a.Say("open %s\nand enter the code %s", l.Code.VerificationURI, l.Code.UserCode)
	bar := console.NewProgress(a.Stderr)
	bar.Update("waits for somebody to approve it", "")
	cfg.Token, err = l.Wait(ctx)
	bar.Clear()
	if err != nil {
		return err
	}
	if err := client.SaveConfig(path, cfg); err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(struct {
			Endpoint string `json:"endpoint"`
			Expires  string `json:"expiresAt"`
		}{cfg.Endpoint, time.Now().Add(c.Expires).UTC().Format(time.RFC3339)})
	}
	a.Say("you are signed in to %s for %s; %s has the token", cfg.Endpoint, c.Expires, path)
	return nil
}

type approveCmd struct {
	Code string `arg:"" help:"The code that the program shows."`
}

// Run lets a program sign in.
func (c *approveCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if err := cl.ApproveDevice(ctx, c.Code); err != nil {
		return err
	}
	a.Say("the program that shows %s signs in now, with what your token may", c.Code)
	if a.JSON() {
		return a.PrintJSON(struct {
			Approved string `json:"approved"`
		}{c.Code})
	}
	return nil
}
