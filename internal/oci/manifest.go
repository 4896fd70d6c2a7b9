package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
)

// The platform that sandboxes run.
const (
	platformOS   = "linux"
	platformArch = "amd64"
)

// The media types of what an image is made of.
//
// https://github.com/opencontainers/image-spec/blob/main/media-types.md
const (
	typeIndex        = "application/vnd.oci.image.index.v1+json"
	typeManifest     = "application/vnd.oci.image.manifest.v1+json"
	typeConfig       = "application/vnd.oci.image.config.v1+json"
	typeDockerIndex  = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerImage  = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerConfig = "application/vnd.docker.container.image.v1+json"
	typeDockerOld    = "application/vnd.docker.distribution.manifest.v1"
)

func acceptable() []string {
	return []string{typeManifest, typeIndex, typeDockerImage, typeDockerIndex}
}

// digest is "sha256:" with 64 hexadecimal digits.
type digest string

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest("sha256:" + hex.EncodeToString(sum[:]))
}

func (d digest) valid() bool {
	h, ok := strings.CutPrefix(string(d), "sha256:")
	return ok && len(h) == 64 && strings.Trim(h, "0123456789abcdef") == ""
}

// hex is the digest as a file's name. It is called of valid ones only.
func (d digest) hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// descriptor points at a blob or a manifest.
type descriptor struct {
	MediaType string `json:"mediaType"`
	// Digest is empty for layers of files that "docker save" wrote: what they unpack to has one.
	Digest   digest `json:"digest"`
	Size     int64  `json:"size"`
	Platform *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	} `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	// place, from 1, is which layer of a saved image this is.
	place int
}

// manifest is a manifest or an index.
type manifest struct {
	MediaType    string       `json:"mediaType"`
	ArtifactType string       `json:"artifactType"`
	Manifests    []descriptor `json:"manifests"`
	Config       *descriptor  `json:"config"`
	Layers       []descriptor `json:"layers"`
}

// configFile is an image's configuration.
type configFile struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Config       struct {
		User         string
		ExposedPorts map[string]struct{}
		Env          []string
		Entrypoint   []string
		Cmd          []string
		WorkingDir   string
		StopSignal   string
	} `json:"config"`
	RootFS struct {
		DiffIDs []digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// picture is an image whose description was read and found to fit this machine.
type picture struct {
	digest digest // of the manifest
	layers []descriptor
	diffs  []digest // of the layers, unpacked
	config image.Config
}

func damaged(format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, CodeDamaged, "image", format, args...)
}

func tooLarge(format string, args ...any) error {
	return sandpool.Errorf(sandpool.TooLarge, CodeTooLarge, "image", format, args...)
}

func notImage(ref, what string) error {
	return sandpool.Errorf(sandpool.Invalid, CodeNotImage, "image",
		"%s is not a container image, but %s.", ref, what)
}

// parseManifest reads a manifest or an index and says which it is.
func parseManifest(ref string, body []byte, mediaType string) (m manifest, index bool, err error) {
	if err := json.Unmarshal(body, &m); err != nil {
		return m, false, damaged("The manifest of %s is not JSON that describes an image.", ref)
	}
	if m.MediaType != "" {
		mediaType = m.MediaType
	}
	mediaType, _, _ = strings.Cut(mediaType, ";")
	switch {
	case strings.HasPrefix(mediaType, typeDockerOld):
		return m, false, notImage(ref,
			"one in Docker's format of before 2016; push it again with a newer tool")
	// Both lists in one document would mean different images to different readers.
	case m.Manifests != nil && (m.Layers != nil || m.Config != nil):
		return m, false,
			damaged("The manifest of %s is an image and a list of images at once.", ref)
	case m.Manifests != nil || mediaType == typeIndex || mediaType == typeDockerIndex:
		return m, true, nil
	case m.Config == nil:
		return m, false, notImage(ref, "something of the type "+kind(mediaType))
	case m.Config.MediaType != typeConfig && m.Config.MediaType != typeDockerConfig:
		what := m.Config.MediaType
		if m.ArtifactType != "" {
			what = m.ArtifactType
		}
		return m, false, notImage(ref, "an artifact of the type "+kind(what))
	}
	return m, false, nil
}

// kind is a media type in a message.
func kind(mediaType string) string { return fmt.Sprintf("%q", printable(mediaType, 100)) }

// choose finds the manifest for this platform, which is itself one or is in an index.
func choose(ctx context.Context, s source, ref, which string) (digest, manifest, error) {
	const maxDepth = 3 // an index may list indexes
	for range maxDepth {
		body, mediaType, err := s.manifest(ctx, which)
		if err != nil {
			return "", manifest{}, err
		}
		m, index, err := parseManifest(ref, body, mediaType)
		if err != nil || !index {
			return digestOf(body), m, err
		}
		d, err := m.pick(ref)
		if err != nil {
			return "", m, err
		}
		which = string(d)
	}
	return "", manifest{}, damaged("%s is a list of lists of images.", ref)
}

// pick chooses an entry of an index: the least demanding variant of the platform, or, if none
// says a platform, the only one. Attestations, which are for "unknown/unknown", do not count.
func (m manifest) pick(ref string) (digest, error) {
	var fit, silent []descriptor
	have := map[string]bool{}
	for _, d := range m.Manifests {
		switch p := d.Platform; {
		case p == nil || p.OS == "" && p.Architecture == "":
			silent = append(silent, d)
		case p.OS == platformOS && p.Architecture == platformArch:
			fit = append(fit, d)
		case p.OS != "unknown" && len(have) < 10:
			have[printable(p.OS+"/"+p.Architecture, 40)] = true
		}
	}
	if len(silent) == 1 && len(fit) == 0 && len(have) == 0 {
		fit = silent
	}
	if len(fit) == 0 {
		return "", noPlatform(ref, slices.Sorted(maps.Keys(have)))
	}
	best := slices.MinFunc(fit, func(a, b descriptor) int {
		return strings.Compare(a.variant(),
			b.variant())
	})
	if !best.Digest.valid() {
		return "", damaged("The list of images of %s has an entry without a digest of sha256.", ref)
	}
	return best.Digest, nil
}

func (d descriptor) variant() string {
	if d.Platform == nil {
		return ""
	}
	return d.Platform.Variant
}

func noPlatform(ref string, have []string) error {
	list := ""
	if len(have) > 0 {
		list = ", only for " + strings.Join(have, ", ")
	}
	return sandpool.Errorf(sandpool.Invalid, CodePlatform, "image", "%s is not there for %s/%s%s.",
		ref, platformOS, platformArch, list)
}

// examine reads what the image consists of and refuses it if it is too large or cannot run here.
func (c *Client) examine(ctx context.Context, s source, ref string, at digest,
	m manifest) (picture, error) {
	p := picture{digest: at, layers: m.Layers}
	if len(m.Layers) > c.cfg.Limits.Layers {
		return p, tooLarge("%s has %d layers, of at most %d.", ref, len(m.Layers),
			c.cfg.Limits.Layers)
	}
	var sum int64
	for _, d := range m.Layers {
		if !strings.Contains(d.MediaType, ".tar") && !strings.Contains(d.MediaType,
			"rootfs.diff") || strings.HasSuffix(d.MediaType, "encrypted") {
			return p, notImage(ref, "something with a layer of the type "+kind(d.MediaType))
		}
		if !d.Digest.valid() || d.Size < 0 {
			return p, damaged("%s has a layer without a digest of sha256 or a size.", ref)
		}
		// Compared one by one, so that the sum cannot overflow.
		if sum += d.Size; d.Size > c.cfg.Limits.Download || sum > c.cfg.Limits.Download {
			return p, tooLarge("%s is a download of more than %d MiB.",
				ref, c.cfg.Limits.Download>>20)
		}
	}
	text, err := readBlob(ctx, s, *m.Config)
	if err != nil {
		return p, err
	}
	return p, p.read(ref, text)
}

// readBlob returns a small blob.
func readBlob(ctx context.Context, s source, d descriptor) ([]byte, error) {
	if d.Size < 0 || d.Size > maxManifest {
		return nil, tooLarge("The image's configuration has %d bytes, of at most %d.", d.Size,
			maxManifest)
	}
	if !d.Digest.valid() {
		return nil, damaged("The image's configuration has no digest of sha256.")
	}
	r, _, err := s.blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if digestOf(text) != d.Digest {
		return nil, damaged("The image's configuration is not what its digest %s says.", d.Digest)
	}
	return text, nil
}

// read reads an image's configuration.
func (p *picture) read(ref string, text []byte) error {
	var c configFile
	if err := json.Unmarshal(text, &c); err != nil {
		return damaged("The configuration of %s is not JSON that describes an image.", ref)
	}
	// Some tools leave the platform out.
	if c.OS != "" && c.OS != platformOS || c.Architecture != "" && c.Architecture != platformArch {
		return noPlatform(ref, []string{printable(c.OS+"/"+c.Architecture, 40)})
	}
	if len(c.RootFS.DiffIDs) != len(p.layers) {
		return damaged("%s has %d layers, but its configuration speaks of %d.", ref, len(p.layers),
			len(c.RootFS.DiffIDs))
	}
	for _, text := range slices.Concat(c.Config.Entrypoint, c.Config.Cmd, c.Config.Env,
		[]string{c.Config.User, c.Config.WorkingDir, c.Config.StopSignal}) {
		if strings.ContainsRune(text, 0) { // where programs would see its end
			return damaged("The configuration of %s has a text with a zero byte.", ref)
		}
	}
	p.diffs = c.RootFS.DiffIDs
	p.config = image.Config{
		Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, Env: c.Config.Env, User: c.Config.User,
		WorkingDir: c.Config.WorkingDir, StopSignal: c.Config.StopSignal,
		Ports: slices.Sorted(maps.Keys(c.Config.ExposedPorts)),
	}
	return nil
}
