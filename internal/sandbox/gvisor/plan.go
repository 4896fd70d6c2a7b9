package gvisor

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/hostfiles"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/netns"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

// prepared is the engine's part of a sandbox.Prepared: what it made of the template.
type prepared struct {
	template sandbox.Template
	root     sandbox.Layer // the file of Template.Root
	user     passwd.Identity
	stop     unix.Signal
	snapshot string           // directory; empty for StartMode Boot
	etc      bool             // the root's /etc is a directory, or there is none
	tmp      bool             // the root's /tmp holds something, which nothing may hide
	trust    *hostfiles.Trust // nil without Template.Authorities
}

// plan gets the root of a template and looks up there what the template names.
func (e *Engine) plan(ctx context.Context, t sandbox.Template) (*prepared, error) {
	root, err := e.root(ctx, t.Root)
	if err != nil {
		return nil, err
	}
	p := &prepared{template: t, root: root, stop: unix.SIGTERM}
	if t.StopSignal != "" {
		p.stop = sandbox.ParseSignal(t.StopSignal)
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
	held, err := fs.ReadDir(image, "tmp")
	p.tmp = err == nil && len(held) > 0
	if t.Authorities != "" {
		if p.trust, err = hostfiles.NewTrust(image, t.Authorities); err != nil {
			return nil, invalid("authorities",
				"The image cannot be made to trust the server's authority: %v.", err)
		}
	}
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

// with is p for one sandbox that has environment of its own.
func (p *prepared) with(env []sandbox.SecretVar) (*prepared, error) {
	if len(env) == 0 {
		return p, nil
	}
	if p.snapshot != "" {
		return nil, invalid("ownEnv", "The snapshot has its environment already; start sandboxes "+
			"with the variable %q by %q.", env[0].Name, sandbox.Boot)
	}
	own := *p
	own.template.SecretEnv = append(slices.Clone(p.template.SecretEnv), env...)
	return &own, nil
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
	if p.trust != nil {
		env = p.trust.Env(env)
	}
	if p.template.Network.Proxied() {
		env = proxyEnv(env)
	}
	return env
}

// proxyEnv adds what makes programs use the gateway's proxy, in both of the cases that they look
// for. What is set already stays.
func proxyEnv(env []string) []string {
	url := "http://" + netip.AddrPortFrom(netns.Gateway(), netns.ProxyPort).String()
	const none = "localhost,127.0.0.1,::1"
	for _, v := range [][2]string{{"HTTP_PROXY", url}, {"http_proxy", url}, {"HTTPS_PROXY", url},
		{"https_proxy", url}, {"NO_PROXY", none}, {"no_proxy", none},
		{"NODE_USE_ENV_PROXY", "1"}} { // or Node does not look
		if !slices.ContainsFunc(env, func(kv string) bool {
			return strings.HasPrefix(kv, v[0]+"=")
		}) {
			env = append(env, v[0]+"="+v[1])
		}
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

// hostFiles returns an archive of the files that a sandbox gets over those of its root.
func (p *prepared) hostFiles(id sandbox.ID) ([]byte, error) {
	return hostfiles.Files{Which: p.template.HostFiles, Name: p.hostName(id),
		Resolver: netns.Gateway(), Trust: p.trust}.Archive()
}
