package files

import (
	"context"
	"io"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// twoPaths is what moves and copies.
type twoPaths struct {
	From      string `arg:"" help:"File or directory in the session, below /mnt/data."`
	To        string `arg:"" help:"Its new path, below /mnt/data; directories on the way are made."`
	Overwrite bool   `help:"Replace a file that is there."`
	console.SessionFlag
	console.PoolFlag
}

type moveCmd struct{ twoPaths }

// Run renames a file or a directory.
func (c *moveCmd) Run(ctx context.Context, a *console.App) error {
	return c.change(ctx, a, (*client.Client).MoveFile)
}

type copyCmd struct{ twoPaths }

// Run copies a file or a directory.
func (c *copyCmd) Run(ctx context.Context, a *console.App) error {
	return c.change(ctx, a, (*client.Client).CopyFile)
}

func (c *twoPaths) change(ctx context.Context, a *console.App, do func(*client.Client,
	context.Context, string, string, string, string, bool) (api.File, error)) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	f, err := do(cl, ctx, c.Pool, string(c.Session), c.From, c.To, c.Overwrite)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(f)
	}
	return printFiles(a, []api.File{f})
}

type mkdirCmd struct {
	Name string `arg:"" help:"Directory to make, below /mnt/data, with those above it."`
	console.SessionFlag
	console.PoolFlag
}

// Run makes a directory.
func (c *mkdirCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	f, err := cl.MakeDirectory(ctx, c.Pool, string(c.Session), c.Name)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(f)
	}
	return printFiles(a, []api.File{f})
}

// format is the form of an archive, by its name.
func format(name string) string {
	if strings.HasSuffix(strings.ToLower(name), ".zip") {
		return "zip"
	}
	return "tar"
}

type packCmd struct {
	To    string `arg:"" help:"Archive to write: a zip if its name ends in .zip, else a tar; '-' is a tar on stdout."`
	Path  string `arg:"" optional:"" help:"Directory in the session, below /mnt/data."`
	Force bool   `help:"Overwrite a file that exists."`
	console.SessionFlag
	console.PoolFlag
}

// Run downloads a directory as an archive, which is there whole or not at all.
func (c *packCmd) Run(ctx context.Context, a *console.App) error {
	if _, err := place(c.To, c.Force); err != nil {
		return err
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	from, err := cl.Pack(ctx, c.Pool, string(c.Session), c.Path, format(c.To))
	if err != nil {
		return err
	}
	defer from.Close()
	if c.To == "-" {
		_, err := io.Copy(a.Stdout, from)
		return err
	}
	if err := save(c.To, from); err != nil {
		return err
	}
	a.Say("wrote %s", console.Printable(c.To))
	return nil
}

type unpackCmd struct {
	From string `arg:"" help:"Archive to read: a zip if its name ends in .zip, else a tar; '-' is a tar on stdin."`
	Path string `arg:"" optional:"" help:"Directory in the session, below /mnt/data."`
	console.SessionFlag
	console.PoolFlag
}

// Run makes the files of an archive.
func (c *unpackCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	from, _, err := openUpload(ctx, c.From, a.Stdin)
	if err != nil {
		return err
	}
	defer from.Close()
	n, err := cl.Unpack(ctx, c.Pool, string(c.Session), c.Path, format(c.From), from)
	if err != nil {
		return err
	}
	a.Say("made %d files and directories", n)
	if a.JSON() {
		return a.PrintJSON(api.Unpacked{Files: n})
	}
	return nil
}
