package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is where an API server is, and who asks.
type Config struct {
	// Host is the address of the API, such as https://10.96.0.1:443.
	Host string
	TLS  *tls.Config
	// Token returns the bearer token; nil means none.
	Token func(ctx context.Context) (string, error)
	// Namespace is the one that the configuration names, or empty.
	Namespace string
}

// serviceAccount is where a pod finds what its service account is given.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster is the configuration of a program that runs in a pod.
func InCluster() (Config, error) { return inCluster(serviceAccount, os.Getenv) }

func inCluster(dir string, getenv func(string) string) (Config, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return Config{}, errors.New("this process is not in a pod, as KUBERNETES_SERVICE_HOST is " +
			"not set: name a kubeconfig file")
	}
	roots, err := pool(filepath.Join(dir, "ca.crt"), "")
	if err != nil {
		return Config{}, err
	}
	namespace, err := os.ReadFile(filepath.Join(dir, "namespace"))
	if err != nil {
		return Config{}, fmt.Errorf("service account: %w", err)
	}
	return Config{
		Host: "https://" + net.JoinHostPort(host, port),
		TLS:  &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		// It is renewed in the file before it ends.
		Token:     fromFile(filepath.Join(dir, "token")),
		Namespace: strings.TrimSpace(string(namespace)),
	}, nil
}

// fromFile reads a token whenever one is needed.
func fromFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("token of the API server: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
}

// kubeconfig is the part of a kubeconfig file that is read here.
type kubeconfig struct {
	Current  string `yaml:"current-context"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster   string `yaml:"cluster"`
			User      string `yaml:"user"`
			Namespace string `yaml:"namespace"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string  `yaml:"name"`
		Cluster cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User user   `yaml:"user"`
	} `yaml:"users"`
}

type cluster struct {
	Server   string `yaml:"server"`
	CA       string `yaml:"certificate-authority"`
	CAData   string `yaml:"certificate-authority-data"`
	Name     string `yaml:"tls-server-name"`
	Insecure bool   `yaml:"insecure-skip-tls-verify"`
	Proxy    string `yaml:"proxy-url"`
}

type user struct {
	Cert      string         `yaml:"client-certificate"`
	CertData  string         `yaml:"client-certificate-data"`
	Key       string         `yaml:"client-key"`
	KeyData   string         `yaml:"client-key-data"`
	Token     string         `yaml:"token"`
	TokenFile string         `yaml:"tokenFile"`
	Exec      *plugin        `yaml:"exec"`
	Provider  map[string]any `yaml:"auth-provider"`
}

// Kubeconfig reads the file at path. An empty context means the file's current one.
func Kubeconfig(path, context string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("kubeconfig: %w", err)
	}
	cfg, err := parseKubeconfig(b, filepath.Dir(path), context)
	if err != nil {
		return Config{}, fmt.Errorf("kubeconfig %q: %w", path, err)
	}
	return cfg, nil
}

func parseKubeconfig(b []byte, dir, context string) (Config, error) {
	var k kubeconfig
	if err := yaml.Unmarshal(b, &k); err != nil {
		return Config{}, err
	}
	if context == "" {
		context = k.Current
	}
	var out Config
	var clusterName, userName string
	found := false
	for _, c := range k.Contexts {
		if c.Name == context {
			clusterName, userName, found = c.Context.Cluster, c.Context.User, true
			out.Namespace = c.Context.Namespace
		}
	}
	if !found {
		return Config{}, fmt.Errorf("there is no context %q", context)
	}
	found = false
	for _, c := range k.Clusters {
		if c.Name == clusterName {
			if err := c.Cluster.apply(&out, dir); err != nil {
				return Config{}, fmt.Errorf("cluster %q: %w", clusterName, err)
			}
			found = true
		}
	}
	if !found {
		return Config{}, fmt.Errorf("there is no cluster %q", clusterName)
	}
	for _, u := range k.Users {
		if u.Name == userName {
			if err := u.User.apply(&out, dir); err != nil {
				return Config{}, fmt.Errorf("user %q: %w", userName, err)
			}
		}
	}
	return out, nil
}

func (c cluster) apply(out *Config, dir string) error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("the server %q is no address that begins with https://", c.Server)
	case c.Insecure:
		return errors.New("insecure-skip-tls-verify is not obeyed: name the certificate authority")
	case c.Proxy != "":
		return errors.New("proxy-url is not obeyed: set HTTPS_PROXY")
	}
	out.Host = strings.TrimSuffix(c.Server, "/")
	out.TLS = &tls.Config{ServerName: c.Name, MinVersion: tls.VersionTLS12}
	if c.CA != "" || c.CAData != "" {
		out.TLS.RootCAs, err = pool(beside(dir, c.CA), c.CAData)
	}
	return err
}

func (u user) apply(out *Config, dir string) error {
	switch {
	case u.Provider != nil:
		return errors.New("auth-provider is long gone from Kubernetes: use exec")
	case u.Token != "":
		token := u.Token
		out.Token = func(context.Context) (string, error) { return token, nil }
	case u.TokenFile != "":
		out.Token = fromFile(beside(dir, u.TokenFile))
	case u.Exec != nil:
		out.Token = u.Exec.token()
	}
	if u.Cert == "" && u.CertData == "" {
		return nil
	}
	cert, err := material(beside(dir, u.Cert), u.CertData)
	if err != nil {
		return err
	}
	key, err := material(beside(dir, u.Key), u.KeyData)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	out.TLS.Certificates = []tls.Certificate{pair}
	return nil
}

// beside is a path of a kubeconfig file, which counts from the file's folder.
func beside(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// material is what data says in base64, or else what the file has.
func material(file, data string) ([]byte, error) {
	if data != "" {
		return base64.StdEncoding.DecodeString(data)
	}
	return os.ReadFile(file)
}

func pool(file, data string) (*x509.CertPool, error) {
	pem, err := material(file, data)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("certificate authority: there is no certificate in PEM")
	}
	return roots, nil
}

// plugin is a program that gives tokens.
//
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
type plugin struct {
	APIVersion string   `yaml:"apiVersion"`
	Command    string   `yaml:"command"`
	Args       []string `yaml:"args"`
	Env        []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
}

// renewBefore is how long before its end a token is not used any more.
const renewBefore = time.Minute

// token asks the program for a token, and again when that has ended.
func (p plugin) token() func(context.Context) (string, error) {
	var mu sync.Mutex // guards what follows, and lets the program run once
	var token string
	var until time.Time
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if token != "" && (until.IsZero() || time.Until(until) > renewBefore) {
			return token, nil
		}
		cmd := exec.CommandContext(ctx, p.Command, p.Args...)
		cmd.Env = append(os.Environ(), fmt.Sprintf(
			`KUBERNETES_EXEC_INFO={"kind":"ExecCredential","apiVersion":%q,"spec":{"interactive":false}}`,
			p.APIVersion))
		for _, e := range p.Env {
			cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
		}
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("credentials of %q: %w", p.Command, err)
		}
		var got struct {
			Status struct {
				Token      string    `json:"token"`
				Expiration time.Time `json:"expirationTimestamp"`
			} `json:"status"`
		}
		if err := json.Unmarshal(out, &got); err != nil || got.Status.Token == "" {
			return "", fmt.Errorf("credentials of %q: there is no token in its answer", p.Command)
		}
		token, until = got.Status.Token, got.Status.Expiration
		return token, nil
	}
}
