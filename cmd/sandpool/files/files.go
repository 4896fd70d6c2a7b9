// Package files is the commands that move files into and out of a session.
package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// Cmd groups the commands of files.
type Cmd struct {
	Upload   uploadCmd   `cmd:"" help:"Upload a file."`
	List     listCmd     `cmd:"" help:"List files and directories."`
	Watch    watchCmd    `cmd:"" help:"Tell what happens to files, as it happens."`
	Download downloadCmd `cmd:"" help:"Download a file."`
	Show     showCmd     `cmd:"" help:"Show what is known about a file."`
	Delete   deleteCmd   `cmd:"" help:"Delete a file."`
	Move     moveCmd     `cmd:"" help:"Move or rename a file or a directory."`
	Copy     copyCmd     `cmd:"" help:"Copy a file or a directory."`
	Mkdir    mkdirCmd    `cmd:"" help:"Make a directory."`
	Pack     packCmd     `cmd:"" help:"Download a directory as a tar or zip archive."`
	Unpack   unpackCmd   `cmd:"" help:"Upload an archive as the files in it."`
}

func printFiles(a *console.App, list []api.File) error {
	t := console.Table{Heading: []string{"NAME", "TYPE", "SIZE", "MODIFIED"}}
	for _, f := range list {
		name := path.Join(f.Directory, f.Name)
		if f.Type == api.TypeDirectory {
			name += "/"
		}
		t.Add(name, f.Type, strconv.FormatInt(f.SizeInBytes, 10), f.LastModifiedAt)
	}
	return t.Write(a.Stdout)
}

type uploadCmd struct {
	File string `arg:"" help:"File to upload; '-' uploads stdin and needs --as."`
	As   string `help:"Name in the session, below /mnt/data; without it the file's own." placeholder:"NAME"`
	console.SessionFlag
	console.PoolFlag
}

// Run uploads a file.
func (c *uploadCmd) Run(ctx context.Context, a *console.App) error {
	name := c.As
	if name == "" {
		if c.File == "-" {
			return console.UsageError("--as NAME is needed to upload stdin")
		}
		name = filepath.Base(c.File)
	}
	from, size, err := openUpload(ctx, c.File, a.Stdin)
	if err != nil {
		return err
	}
	defer from.Close()
	cl, err := a.Client()
	if err != nil {
		return err
	}
	p := console.NewProgress(a.Stderr)
	f, err := cl.UploadFile(ctx, c.Pool, string(c.Session), name, &counted{Reader: from, p: p,
		step: "uploading " + console.Printable(name), size: size})
	p.Clear()
	if err != nil {
		return err
	}
	a.Say("uploaded %s, %s", console.Printable(path.Join(f.Directory, f.Name)),
		console.Bytes(f.SizeInBytes))
	if a.JSON() {
		return a.PrintJSON(f)
	}
	return nil
}

func openUpload(ctx context.Context, name string, stdin io.Reader) (io.ReadCloser, int64, error) {
	if name == "-" {
		return console.Interruptible(ctx, stdin), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, console.UsageError(err.Error())
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = console.UsageError(fmt.Sprintf(
			"%s is a directory; pack it: tar -c %[1]s | sandpool files unpack -", name))
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// counted shows how much has passed through a reader, from the second second on.
type counted struct {
	io.Reader
	p    *console.Progress
	step string
	size int64 // -1: unknown
	n    int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	if c.p.Elapsed() > time.Second {
		text := console.Bytes(c.n)
		if c.size >= 0 {
			text += " of " + console.Bytes(c.size)
		}
		c.p.Update(c.step, text)
	}
	return n, err
}

type listCmd struct {
	Path      string `arg:"" optional:"" help:"Directory, below /mnt/data."`
	Recursive bool   `short:"r" help:"Also list what is in directories."`
	console.SessionFlag
	console.PoolFlag
}

// Run lists files.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	list, err := cl.Files(ctx, c.Pool, string(c.Session), c.Path, c.Recursive)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(list)
	}
	return printFiles(a, list)
}

type watchCmd struct {
	Path  string `arg:"" optional:"" help:"Directory, below /mnt/data."`
	Count int    `help:"End after this many events; without it, with the session." placeholder:"N"`
	console.SessionFlag
	console.PoolFlag
}

// errEnough ends a watch that has told as much as was asked for.
var errEnough = errors.New("enough")

// Run prints events, one a line.
func (c *watchCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	n := 0
	err = cl.WatchFiles(ctx, c.Pool, string(c.Session), c.Path, func(e api.FileEvent) error {
		text := fmt.Sprintf("%-8s %s", e.Type, console.Printable(e.Path))
		if e.From != "" {
			text += " (was " + console.Printable(e.From) + ")"
		}
		if a.JSON() {
			err = a.PrintJSONLine(e)
		} else {
			_, err = fmt.Fprintln(a.Stdout, strings.TrimSpace(text))
		}
		if n++; err == nil && n == c.Count {
			err = errEnough
		}
		return err
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

type downloadCmd struct {
	Name   string `arg:"" help:"File in the session, below /mnt/data."`
	To     string `help:"File to write; '-' is stdout. By default the file's own name in the working directory." placeholder:"FILE"`
	Force  bool   `help:"Overwrite a file that exists."`
	Offset int64  `help:"Begin after this many bytes." placeholder:"N"`
	Length int64  `help:"Write at most this many bytes; 0 is all." placeholder:"N"`
	console.SessionFlag
	console.PoolFlag
}

// Run downloads a file.
func (c *downloadCmd) Run(ctx context.Context, a *console.App) error {
	if c.Offset < 0 || c.Length < 0 {
		return console.UsageError("--offset and --length are not negative")
	}
	to, err := place(cmp.Or(c.To, path.Base(c.Name)), c.Force)
	if err != nil {
		return err
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	content, err := cl.Download(ctx, c.Pool, string(c.Session), c.Name,
		client.Range{Offset: c.Offset, Length: c.Length})
	if err != nil {
		return err
	}
	defer content.Close()
	p := console.NewProgress(a.Stderr)
	from := &counted{Reader: content, p: p, step: "downloading " + console.Printable(c.Name),
		size: content.Size}
	if to == "-" {
		_, err = io.Copy(a.Stdout, from)
		p.Clear()
		return err
	}
	err = save(to, from)
	p.Clear()
	if err != nil {
		return fmt.Errorf("download %q: %w", c.Name, err)
	}
	a.Say("downloaded %s, %s", console.Printable(to), console.Bytes(from.n))
	if a.JSON() {
		return a.PrintJSON(struct {
			File string `json:"file"`
			Size int64  `json:"sizeInBytes"`
		}{to, from.n})
	}
	return nil
}

// place returns where to write a file, if it can be written there.
func place(to string, force bool) (string, error) {
	if to == "-" {
		return to, nil
	}
	dir := filepath.Dir(to)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", console.UsageError(fmt.Sprintf("there is no directory %q", dir))
	}
	info, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return to, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "", console.UsageError(fmt.Sprintf(
			"%q is a directory; name the file to write", to))
	case !force:
		return "", console.UsageError(fmt.Sprintf(
			"%q exists; --force overwrites it, or name another file", to))
	}
	return to, nil
}

// save writes what from holds to a file beside its place and moves it there when it is whole.
func save(to string, from io.Reader) error {
	tmp, err := os.CreateTemp(filepath.Dir(to), ".download-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, from)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

type showCmd struct {
	Name string `arg:"" help:"File in the session, below /mnt/data."`
	console.SessionFlag
	console.PoolFlag
}

// Run shows what is known about a file.
func (c *showCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	f, err := cl.StatFile(ctx, c.Pool, string(c.Session), c.Name)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(f)
	}
	return printFiles(a, []api.File{f})
}

type deleteCmd struct {
	Name string `arg:"" help:"File in the session, below /mnt/data."`
	console.SessionFlag
	console.PoolFlag
}

// Run deletes a file.
func (c *deleteCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if err := cl.DeleteFile(ctx, c.Pool, string(c.Session), c.Name); err != nil {
		return err
	}
	a.Say("deleted %s", console.Printable(c.Name))
	if a.JSON() {
		return a.PrintJSON(struct {
			Deleted string `json:"deleted"`
		}{c.Name})
	}
	return nil
}
