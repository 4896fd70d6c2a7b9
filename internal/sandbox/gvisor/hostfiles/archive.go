// Package hostfiles makes the files that a sandbox gets over those of its root: those about the
// host and its network, and those by which programs trust an authority of the server's. They come
// to the sandbox as an archive, which its kernel unpacks into the writable layer before the first
// process.
package hostfiles

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// Files says what the archive has.
type Files struct {
	Which    sandbox.HostFiles
	Name     string     // of the host that the sandbox is to itself
	Resolver netip.Addr // where it asks for names; without a network nobody answers there
	Trust    *Trust     // nil for none
}

// Archive returns the files in the form of tar(5).
func (f Files) Archive() ([]byte, error) {
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	made := map[string]bool{}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		name, mode := "./", fs.FileMode(0o755)
		if dir != "." {
			if err := mkdir(path.Dir(dir)); err != nil {
				return err
			}
			name += dir + "/"
		}
		if f.Trust != nil && f.Trust.dirs[dir] != 0 {
			mode = f.Trust.dirs[dir]
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: int64(mode)})
	}
	for _, one := range f.list() {
		if err := mkdir(path.Dir(one.name)); err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./" + one.name, Mode: 0o644,
			Size: int64(len(one.text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(one.text)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

type file struct{ name, text string }

func (f Files) list() (all []file) {
	if f.Which != sandbox.NoHostFiles {
		all = append(all, file{"etc/resolv.conf", fmt.Sprintf("nameserver %s\n", f.Resolver)})
	}
	if f.Which == sandbox.AllHostFiles {
		all = append(all, file{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost " +
			"ip6-loopback\n127.0.0.1\t" + f.Name + "\n"}, file{"etc/hostname", f.Name + "\n"})
	}
	if f.Trust != nil {
		all = append(all, f.Trust.files...)
	}
	return all
}

// Trust is how programs in a sandbox come to trust authorities besides those of its root.
type Trust struct {
	files []file
	dirs  map[string]fs.FileMode // of the root, above the files
}

// added is where Debian's update-ca-certificates(8) looks for what a machine trusts besides.
const added = "usr/local/share/ca-certificates/sandpool.crt"

// bundles are where systems have the certificates that they trust, in one file of PEM: Debian and
// Alpine, Fedora, SUSE, and what OpenSSL looks for on Alpine.
func bundles() []string {
	return []string{"etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt",
		"etc/ssl/ca-bundle.pem", "etc/ssl/cert.pem"}
}

// NewTrust returns how authorities, in PEM, are trusted in a root: they stand behind those of each
// bundle that it has, or alone in one if it has none.
func NewTrust(root fs.FS, authorities string) (*Trust, error) {
	t := &Trust{dirs: map[string]fs.FileMode{}}
	for _, name := range bundles() {
		at, err := resolve(root, name)
		if err != nil || slices.ContainsFunc(t.files, func(f file) bool { return f.name == at }) {
			continue // there is none, or it is the one from before
		}
		text, err := fs.ReadFile(root, at)
		if err != nil {
			return nil, fmt.Errorf("read the certificates in %q: %w", name, err)
		}
		t.files = append(t.files, file{at, strings.TrimRight(string(text), "\n") + "\n" + authorities})
	}
	if len(t.files) == 0 {
		if err := t.alone(root, bundles()[0], authorities); err != nil {
			return nil, err
		}
	}
	if err := t.alone(root, added, authorities); err != nil {
		return nil, err
	}
	for _, f := range t.files {
		for dir := path.Dir(f.name); dir != "."; dir = path.Dir(dir) {
			if info, err := fs.Lstat(root, dir); err == nil {
				t.dirs[dir] = info.Mode().Perm()
			}
		}
	}
	return t, nil
}

// alone adds a file with the authorities alone, in the root's place for it.
func (t *Trust) alone(root fs.FS, name, authorities string) error {
	dir, rest := path.Dir(name), path.Base(name)
	for dir != "." {
		at, err := resolve(root, dir)
		if err != nil {
			dir, rest = path.Dir(dir), path.Join(path.Base(dir), rest)
			continue
		}
		info, err := fs.Lstat(root, at)
		if err != nil || !info.IsDir() {
			return fmt.Errorf("the root's %q is no directory", dir)
		}
		dir = at
		break
	}
	t.files = append(t.files, file{path.Join(dir, rest), authorities})
	return nil
}

// mostLinks is how many symbolic links a path may have, as in Linux.
const mostLinks = 40

// resolve returns where a path of the root is without symbolic links; an error if nothing is there.
func resolve(root fs.FS, name string) (string, error) {
	at, rest := ".", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		step := rest[0]
		rest = rest[1:]
		if step == "" || step == "." {
			continue
		}
		if step == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, step)
		info, err := fs.Lstat(root, next)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		to, err := fs.ReadLink(root, next)
		if err != nil {
			return "", err
		}
		if links++; links > mostLinks {
			return "", fmt.Errorf("%q has too many symbolic links", name)
		}
		if path.IsAbs(to) {
			at = "."
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return at, nil
}

// Env adds to an environment, as KEY=value, what makes programs read the files that do not look
// where the system has them. What is set already stays.
func (t *Trust) Env(env []string) []string {
	all, own := "/"+t.files[0].name, "/"+t.files[len(t.files)-1].name
	for _, v := range []struct{ name, value string }{
		{"SSL_CERT_FILE", all}, // OpenSSL and what is built on it, Go, Rust
		{"REQUESTS_CA_BUNDLE", all}, {"CURL_CA_BUNDLE", all}, {"GIT_SSL_CAINFO", all},
		{"AWS_CA_BUNDLE", all}, {"CARGO_HTTP_CAINFO", all},
		{"NODE_EXTRA_CA_CERTS", own}, {"DENO_CERT", own}, // besides their own
	} {
		if !slices.ContainsFunc(env, func(kv string) bool {
			return strings.HasPrefix(kv, v.name+"=")
		}) {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env
}
