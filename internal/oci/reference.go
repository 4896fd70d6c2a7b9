package oci

import (
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
)

// localPrefix begins references to images that were loaded from files: "local:NAME".
const localPrefix = "local:"

// hub is how people call Docker Hub; its API has a host of its own.
const hub = "docker.io"

// maxReference bounds the text of a reference.
const maxReference = 512

// Reference is the name of an image: in a registry, or of a file that was loaded here.
type Reference struct {
	// Host is the registry, with its port if one is given; empty for a local image.
	Host string
	// Repository is the path in the registry, or the name of a local image.
	Repository string
	// Tag and Digest ("sha256:…") say which; a digest leaves no choice to the tag.
	Tag    string
	Digest string
}

// The grammar of references. Package name is more generous, and lets names through that would
// lead a URL's path upwards.
//
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
var (
	hostPattern = pattern.Lazy(
		`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`)
	repositoryPattern = pattern.Lazy(
		`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern = pattern.Lazy(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
)

// ParseReference reads a reference as container engines do: "nginx" is
// docker.io/library/nginx:latest. Errors are of class Invalid.
func ParseReference(text string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		return Reference{}, sandpool.Errorf(sandpool.Invalid, CodeReference, "image",
			"%q is not an image reference, such as registry.example.com/app:1.2 or nginx@sha256:…: %s.",
			printable(text, 100), why)
	}
	if len(text) > maxReference {
		return bad("it is too long")
	}
	if local, ok := strings.CutPrefix(text, localPrefix); ok {
		return parseLocal(local, bad)
	}
	parsed, err := name.ParseReference(text)
	if err != nil {
		return bad(reason(text))
	}
	r := Reference{Host: parsed.Context().RegistryStr(),
		Repository: parsed.Context().RepositoryStr()}
	if r.Host == name.DefaultRegistry {
		r.Host = hub
	}
	switch p := parsed.(type) {
	case name.Digest:
		r.Digest = p.DigestStr()
		if !strings.HasPrefix(r.Digest, "sha256:") {
			return bad("only digests of sha256 are served")
		}
	case name.Tag:
		r.Tag = p.TagStr()
	}
	if !hostPattern().MatchString(r.Host) || !repositoryPattern().MatchString(r.Repository) ||
		r.Tag != "" && !tagPattern().MatchString(r.Tag) ||
		r.Digest != "" && !digest(r.Digest).valid() {
		return bad(reason(text))
	}
	return r, nil
}

// reason is the commonest mistake in text.
func reason(text string) string {
	switch {
	case text == "":
		return "it is empty"
	case strings.Contains(text, "://"):
		return "leave the scheme out"
	case strings.ContainsAny(text, " \t\r\n"):
		return "it has a blank"
	case strings.ToLower(text) != text:
		return "repositories are written in small letters"
	}
	return "it does not parse"
}

// parseLocal reads what follows "local:".
func parseLocal(text string, bad func(string) (Reference, error)) (Reference, error) {
	if strings.HasPrefix(text, "sha256:") {
		if digest(text).valid() {
			return Reference{Digest: text}, nil
		}
		return bad("the digest is not one")
	}
	if text == "" || len(text) > 128 || strings.Trim(text,
		"abcdefghijklmnopqrstuvwxyz0123456789._/:-") != "" {
		return bad("a local name has 1 to 128 small letters, digits and the signs . _ / : -")
	}
	return Reference{Repository: text}, nil
}

// Local says whether r names an image that was loaded from a file.
func (r Reference) Local() bool { return r.Host == "" }

// String is the whole reference; ParseReference reads it back.
func (r Reference) String() string {
	switch {
	case r.Local() && r.Digest != "":
		return localPrefix + r.Digest
	case r.Local():
		return localPrefix + r.Repository
	case r.Digest != "":
		return r.Host + "/" + r.Repository + "@" + r.Digest
	}
	return r.Host + "/" + r.Repository + ":" + r.Tag
}

// allowed refuses references to registries that the operator does not want.
func (c *Client) allowed(r Reference) error {
	about := func(pattern string) bool { return matches(pattern, r.Host, r.Repository) }
	if slices.ContainsFunc(c.cfg.Deny, about) || len(c.cfg.Allow) > 0 &&
		!slices.ContainsFunc(c.cfg.Allow, about) {
		return sandpool.Errorf(sandpool.Denied, CodeNotAllowed, "image",
			"Images from %s are not allowed here; whoever runs the server decides by registries.allow and registries.deny.",
			r.Host+"/"+r.Repository)
	}
	return nil
}
