package gvisor

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/netns"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

// prepared is the engine's part of a sandbox.Prepared: what it made of the template.
type prepared struct {
	template sandbox.Template
	root     sandbox.Layer // the file of Template.Root
	user     passwd.Identity
	stop     unix.Signal
	snapshot string // directory; empty for StartMode Boot
	etc      bool   // the root's /etc is a directory, or there is none
}

// plan gets the root of a template and looks up there what the template names.
func (e *Engine) plan(ctx context.Context, t sandbox.Template) (*prepared, error) {
	root, err := e.root(ctx, t.Root)
	if err != nil {
		return nil, err
	}
	p := &prepared{template: t, root: root, stop: unix.SIGTERM}
	if t.StopSignal != "" {
		p.stop = unix.SignalNum(t.StopSignal)
	}
	f, err := os.Open(root.Path)
	if err != nil {
		return nil, fmt.Errorf("open the root: %w", err)
	}
	defer f.Close()
	image, err := erofs.Open(f)
	if err != nil {
		return nil, fmt.Errorf("read the root %q: %w", root.Path, err)
	}
	if p.user, err = passwd.Lookup(image, t.User, t.Groups); err != nil {
		return nil, err
	}
	info, err := fs.Lstat(image, "etc")
	p.etc = err != nil || info.IsDir()
	return p, nil
}

// root returns the file of an image.
func (e *Engine) root(ctx context.Context, i sandbox.Image) (sandbox.Layer, error) {
	if i.Digest == "" {
		return sandbox.Layer{}, invalid("root.digest",
			"The image %q has no digest; a snapshot's key needs it.", i.Reference)
	}
	path, err := e.cfg.Image(ctx, i)
	if err != nil {
		return sandbox.Layer{}, fmt.Errorf("get the image %q: %w", i.Reference, err)
	}
	l := sandbox.Layer{Digest: i.Digest, Path: path}
	return l, checkImage("root", l)
}

// environment is that of the first process: the template's, its secrets, and the home directory
// that programs look for.
func (p *prepared) environment() []string {
	env := slices.Clone(p.template.Env)
	for _, v := range p.template.SecretEnv {
		env = append(env, v.Name+"="+v.Value.Reveal())
	}
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		env = append(env, "HOME="+p.user.Home)
	}
	return env
}

// cloneName is the host name of sandboxes whose /etc/hosts is part of their snapshot.
const cloneName = "sandbox"

// hostName is the host name of a sandbox: its own, unless it has to be the one in a file that it
// shares with others.
func (p *prepared) hostName(id sandbox.ID) string {
	if p.template.HostFiles == sandbox.AllHostFiles && p.template.Start == sandbox.Restore {
		return cloneName
	}
	return string(id)
}

// hostFiles returns an archive of the files that a sandbox of that name gets over those of its
// root.
func hostFiles(name string, which sandbox.HostFiles) ([]byte, error) {
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, dir := range []string{"./", "./etc/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir,
			Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	type file struct{ name, text string }
	// Without a network the resolver cannot be reached, which is known at once.
	all := []file{{"./etc/resolv.conf", fmt.Sprintf("nameserver %s\n", netns.Gateway())}}
	if which == sandbox.AllHostFiles {
		all = append(all, file{"./etc/hosts",
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost " +
				"ip6-loopback\n127.0.0.1\t" + name + "\n"}, file{"./etc/hostname", name + "\n"})
	}
	for _, f := range all {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644,
			Size: int64(len(f.text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}
