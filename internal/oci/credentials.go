package oci

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Credentials are what a registry is shown; the zero value shows nothing. They print as a
// placeholder, in every form that package fmt, slog and encoding/json know.
type Credentials struct {
	Username string
	Password string
	// identity is a refresh token that stands for both; only docker's configuration has one.
	identity string
}

// IsZero says whether there is nothing to show.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// redacted stands in place of credentials.
const redacted = "[credentials]"

// Format implements fmt.Formatter.
func (Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Credentials) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, so for JSON, too.
func (Credentials) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// authenticator is c as the registry library takes it.
func (c Credentials) authenticator() authn.Authenticator {
	if c.IsZero() {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password,
		IdentityToken: c.identity})
}

// scrub takes the secrets out of text that a registry wrote.
func (c Credentials) scrub(text string) string {
	for _, secret := range []string{c.Password, c.identity,
		base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))} {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, redacted)
		}
	}
	return text
}

// dockerConfig is the part of docker's configuration file that is about credentials.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	CredsStore  string            `json:"credsStore"`
	CredHelpers map[string]string `json:"credHelpers"`
}

// maxDockerConfig bounds the file, and what a helper may write.
const maxDockerConfig = 1 << 20

// readDockerConfig reads a docker configuration file. Errors do not quote it.
func readDockerConfig(file string) (dockerConfig, error) {
	var cfg dockerConfig
	f, err := os.Open(file)
	if err != nil {
		return cfg, fmt.Errorf("docker's configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDockerConfig))
	if err != nil {
		return cfg, fmt.Errorf("docker's configuration: %w", err)
	}
	if json.Unmarshal(text, &cfg) != nil {
		return cfg, fmt.Errorf("%q is not a docker configuration file in JSON", file)
	}
	return cfg, nil
}

// credentialsFor returns what docker's configuration has for a repository, read anew each time:
// logins and helpers change it.
func (c *Client) credentialsFor(ctx context.Context, host, repository string) (Credentials, error) {
	if c.cfg.DockerConfig == "" {
		return Credentials{}, nil
	}
	cfg, err := readDockerConfig(c.cfg.DockerConfig)
	if err != nil {
		return Credentials{}, err
	}
	return cfg.lookup(ctx, host, repository)
}

// lookup asks the helper of the host, the helper for all, and the file, in this order. What is
// for a part of the registry goes before what is for all of it.
func (d dockerConfig) lookup(ctx context.Context, host, repository string) (Credentials, error) {
	server := host
	if host == hub {
		server = "https://index.docker.io/v1/"
	}
	for _, key := range []string{host, server} {
		if helper := d.CredHelpers[key]; helper != "" {
			return askHelper(ctx, helper, server)
		}
	}
	if d.CredsStore != "" {
		if found, err := askHelper(ctx, d.CredsStore, server); err != nil || !found.IsZero() {
			return found, err
		}
	}
	for at := host + "/" + repository; at != "."; at = path.Dir(at) {
		for key, a := range d.Auths {
			if serverOf(key) != at {
				continue
			}
			c := Credentials{Username: a.Username, Password: a.Password, identity: a.IdentityToken}
			if decoded, err := base64.StdEncoding.DecodeString(a.Auth); err == nil &&
				len(decoded) > 0 {
				user, password, _ := strings.Cut(string(decoded), ":")
				c.Username, c.Password = user, strings.TrimRight(password, "\x00")
			}
			if !c.IsZero() {
				return c, nil
			}
		}
	}
	return Credentials{}, nil
}

// serverOf is the registry, or a part of one, that a key of auths is about:
// "https://index.docker.io/v1/" is docker.io.
func serverOf(key string) string {
	_, after, ok := strings.Cut(key, "://")
	if ok {
		key = after
	}
	key = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(key, "/"), "/v1"), "/v2")
	if rest, ok := strings.CutPrefix(key, "index.docker.io"); ok {
		return hub + rest
	}
	return key
}

// helperTime bounds a credential helper, which may ask a cloud.
const helperTime = 30 * time.Second

// askHelper runs docker-credential-NAME. No credentials are no error.
//
// https://github.com/docker/docker-credential-helpers
func askHelper(ctx context.Context, helper, server string) (Credentials, error) {
	if strings.ContainsAny(helper, "/\\") {
		return Credentials{}, fmt.Errorf("credential helper %q: not a name", helper)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, "get")
	cmd.Stdin = strings.NewReader(server)
	out := &bounded{limit: maxDockerConfig, over: cancel}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if strings.Contains(string(out.text), "credentials not found") {
			return Credentials{}, nil
		}
		// Neither its output nor its errors: they may hold what it is to keep.
		return Credentials{}, fmt.Errorf("credential helper docker-credential-%s for %s: %w",
			helper, server, err)
	}
	var got struct{ Username, Secret string }
	if json.Unmarshal(out.text, &got) != nil {
		return Credentials{}, fmt.Errorf(
			"credential helper docker-credential-%s for %s: its answer is not JSON", helper, server)
	}
	if got.Username == "<token>" {
		return Credentials{identity: got.Secret}, nil
	}
	return Credentials{Username: got.Username, Password: got.Secret}, nil
}

// bounded keeps what is written to it, up to limit, and calls over if that is not enough.
type bounded struct {
	text  []byte // no bytes.Buffer: its ReadFrom would go past Write
	limit int
	over  func()
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > b.limit {
		b.over()
		return 0, errors.New("the output is too long")
	}
	b.text = append(b.text, p...)
	return len(p), nil
}
