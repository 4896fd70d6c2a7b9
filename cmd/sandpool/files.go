package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

type filesCmd struct {
	Upload   filesUploadCmd   `cmd:"" help:"Upload a file."`
	List     filesListCmd     `cmd:"" help:"List files and directories."`
	Download filesDownloadCmd `cmd:"" help:"Download a file."`
	Show     filesShowCmd     `cmd:"" help:"Show what is known about a file."`
	Delete   filesDeleteCmd   `cmd:"" help:"Delete a file."`
}

func printFiles(a *app, list []api.File) error {
	t := table{heading: []string{"NAME", "TYPE", "SIZE", "MODIFIED"}}
	for _, f := range list {
		name := path.Join(f.Directory, f.Name)
		if f.Type == api.TypeDirectory {
			name += "/"
		}
		t.add(name, f.Type, strconv.FormatInt(f.SizeInBytes, 10), f.LastModifiedAt)
	}
	return t.write(a.stdout)
}

type filesUploadCmd struct {
	File string `arg:"" help:"File to upload; '-' uploads stdin and needs --as."`
	As   string `help:"Name in the session, below /mnt/data; without it the file's own." placeholder:"NAME"`
	sessionFlag
	poolFlag
}

// Run uploads a file.
func (c *filesUploadCmd) Run(ctx context.Context, a *app) error {
	name := c.As
	if name == "" {
		if c.File == "-" {
			return usageError("--as NAME is needed to upload stdin")
		}
		name = filepath.Base(c.File)
	}
	from, size, err := openUpload(ctx, c.File, a.stdin)
	if err != nil {
		return err
	}
	defer from.Close()
	cl, err := a.client()
	if err != nil {
		return err
	}
	p := newProgress(a.stderr)
	f, err := cl.UploadFile(ctx, c.Pool, string(c.Session), name, &counted{Reader: from, p: p, step: "uploading " + printable(name), size: size})
	p.clear()
	if err != nil {
		return err
	}
	a.say("uploaded %s, %s", printable(path.Join(f.Directory, f.Name)), bytesText(f.SizeInBytes))
	if a.json() {
		return a.printJSON(f)
	}
	return nil
}

func openUpload(ctx context.Context, name string, stdin io.Reader) (io.ReadCloser, int64, error) {
	if name == "-" {
		return interruptible(ctx, stdin), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, usageError(err.Error())
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = usageError(fmt.Sprintf("%s is a directory; upload its files one by one", name))
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// counted shows how much has passed through a reader, from the second second on.
type counted struct {
	io.Reader
	p    *progress
	step string
	size int64 // -1: unknown
	n    int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	if c.p.elapsed() > time.Second {
		text := bytesText(c.n)
		if c.size >= 0 {
			text += " of " + bytesText(c.size)
		}
		c.p.update(c.step, text)
	}
	return n, err
}

type filesListCmd struct {
	Path      string `arg:"" optional:"" help:"Directory, below /mnt/data."`
	Recursive bool   `short:"r" help:"Also list what is in directories."`
	sessionFlag
	poolFlag
}

// Run lists files.
func (c *filesListCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	list, err := cl.Files(ctx, c.Pool, string(c.Session), c.Path, c.Recursive)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(list)
	}
	return printFiles(a, list)
}

type filesDownloadCmd struct {
	Name   string `arg:"" help:"File in the session, below /mnt/data."`
	To     string `help:"Where to write it; '-' is stdout. Without it, the file's own name in the working directory." placeholder:"FILE"`
	Force  bool   `help:"Overwrite a file that exists."`
	Offset int64  `help:"Begin after this many bytes." placeholder:"N"`
	Length int64  `help:"End after this many bytes; 0 is all." placeholder:"N"`
	sessionFlag
	poolFlag
}

// Run downloads a file.
func (c *filesDownloadCmd) Run(ctx context.Context, a *app) error {
	if c.Offset < 0 || c.Length < 0 {
		return usageError("--offset and --length are not negative")
	}
	to, err := c.place()
	if err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	content, err := cl.Download(ctx, c.Pool, string(c.Session), c.Name, client.Range{Offset: c.Offset, Length: c.Length})
	if err != nil {
		return err
	}
	defer content.Close()
	p := newProgress(a.stderr)
	from := &counted{Reader: content, p: p, step: "downloading " + printable(c.Name), size: content.Size}
	if to == "-" {
		_, err = io.Copy(a.stdout, from)
		p.clear()
		return err
	}
	err = c.save(to, from)
	p.clear()
	if err != nil {
		return err
	}
	a.say("downloaded %s, %s", printable(to), bytesText(from.n))
	if a.json() {
		return a.printJSON(struct {
			File string `json:"file"`
			Size int64  `json:"sizeInBytes"`
		}{to, from.n})
	}
	return nil
}

// place returns where to write the file, if it can be written there.
func (c *filesDownloadCmd) place() (string, error) {
	to := c.To
	if to == "" {
		to = path.Base(c.Name)
	}
	if to == "-" {
		return to, nil
	}
	dir := filepath.Dir(to)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", usageError(fmt.Sprintf("there is no directory %q", dir))
	}
	info, err := os.Lstat(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return to, nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "", usageError(fmt.Sprintf("%q is a directory; --to FILE names the file to write", to))
	case !c.Force:
		return "", usageError(fmt.Sprintf("%q exists; --force overwrites it, --to FILE writes elsewhere", to))
	}
	return to, nil
}

// save writes the content to a file beside its place and moves it there when it is whole.
func (c *filesDownloadCmd) save(to string, from io.Reader) error {
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
		return fmt.Errorf("download %q: %w", c.Name, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

type filesShowCmd struct {
	Name string `arg:"" help:"File in the session, below /mnt/data."`
	sessionFlag
	poolFlag
}

// Run shows what is known about a file.
func (c *filesShowCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	f, err := cl.StatFile(ctx, c.Pool, string(c.Session), c.Name)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(f)
	}
	return printFiles(a, []api.File{f})
}

type filesDeleteCmd struct {
	Name string `arg:"" help:"File in the session, below /mnt/data."`
	sessionFlag
	poolFlag
}

// Run deletes a file.
func (c *filesDeleteCmd) Run(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if err := cl.DeleteFile(ctx, c.Pool, string(c.Session), c.Name); err != nil {
		return err
	}
	a.say("deleted %s", printable(c.Name))
	if a.json() {
		return a.printJSON(struct {
			Deleted string `json:"deleted"`
		}{c.Name})
	}
	return nil
}
