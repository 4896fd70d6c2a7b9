package server

import (
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/oci/layer"
)

// Registries says where container images may come from, and how. Its fields are those of
// oci.Config.
type Registries struct {
	Allow        []string            `yaml:"allow"`
	Deny         []string            `yaml:"deny"`
	PlainHTTP    []string            `yaml:"plain_http"`
	Mirrors      map[string][]string `yaml:"mirrors"`
	CAFile       string              `yaml:"ca_file"`
	DockerConfig string              `yaml:"docker_config"`
}

// ImageLimits bound one container image.
type ImageLimits struct {
	DownloadMB int64 `yaml:"download_mb"` // MiB of all layers as they are downloaded
	UnpackedMB int64 `yaml:"unpacked_mb"` // MiB of all files
	Entries    int   `yaml:"entries"`     // files, folders and links
}

// defaultImageLimits are those of package oci.
func defaultImageLimits() ImageLimits {
	l := oci.DefaultLimits()
	return ImageLimits{DownloadMB: l.Download >> 20, UnpackedMB: l.Layer.Bytes >> 20,
		Entries: l.Layer.Entries}
}

// OCI is what a client of registries is told.
func (c Config) OCI() oci.Config {
	limits := oci.DefaultLimits()
	limits.Download = c.Limits.Image.DownloadMB << 20
	limits.Layer = layer.Limits{Bytes: c.Limits.Image.UnpackedMB << 20,
		Entries: c.Limits.Image.Entries, Ratio: limits.Layer.Ratio}
	r := c.Registries
	return oci.Config{
		Allow: r.Allow, Deny: r.Deny, PlainHTTP: r.PlainHTTP, Mirrors: r.Mirrors, CAFile: r.CAFile,
		DockerConfig: r.DockerConfig, Limits: limits,
	}
}
