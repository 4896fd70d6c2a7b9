package oci

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The image for this machine is taken from a list; what is no image is refused, by name.
func TestChoose(t *testing.T) {
	h := newHub(t)
	amd, arm := h.push("", small(t)), h.push("", pictured{platform: "linux/arm64"})
	strange := h.push("", pictured{layers: [][]byte{tarball(t, "v3", "v3")}})
	at := func(d descriptor, system, arch, variant string) map[string]any {
		return map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size,
			"platform": map[string]any{"os": system, "architecture": arch, "variant": variant}}
	}
	index := func(entries ...map[string]any) map[string]any {
		return map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": entries}
	}
	h.put("multi", typeIndex, index(at(arm, "linux", "arm64", ""), at(strange, "linux", "amd64",
		"v3"), at(amd, "linux", "amd64", ""), at(arm, "unknown", "unknown", "")))
	inner := h.put("inner", typeIndex, index(at(amd, "linux", "amd64", "")))
	h.put("nested", typeIndex, map[string]any{"schemaVersion": 2,
		"manifests": []any{map[string]any{"mediaType": typeIndex, "digest": inner.Digest,
			"size": inner.Size}}})
	h.put("docker", typeDockerIndex, map[string]any{"schemaVersion": 2,
		"mediaType": typeDockerIndex, "manifests": []any{at(amd, "linux", "amd64", "")}})
	h.put("silent", typeIndex, index(map[string]any{"mediaType": amd.MediaType,
		"digest": amd.Digest, "size": amd.Size}, at(arm, "unknown", "unknown", "")))
	h.put("empty-platform", typeIndex, index(at(amd, "", "", "")))
	c, _ := newClient(t, Config{})
	for _, tag := range []string{"multi", "nested", "docker", "inner", "silent",
		"empty-platform"} {
		pinned, err := c.Resolve(t.Context(), h.host()+"/app:"+tag, Credentials{})
		if want := h.host() + "/app@" + string(amd.Digest); err != nil || pinned != want {
			t.Errorf("%s is %q, %v; want %q", tag, pinned, err, want)
		}
	}

	manifest := func(change map[string]any) map[string]any {
		_, _, m := small(t).parts(t)
		for key, value := range change {
			m[key] = value
		}
		return m
	}
	self := map[string]any{"schemaVersion": 2, "mediaType": typeIndex}
	h.put("arm", typeIndex, index(at(arm, "linux", "arm64", ""), at(arm, "windows", "amd64", "")))
	bad := encode(t, index(map[string]any{"digest": "sha256:../../etc",
		"platform": map[string]any{"os": "linux", "architecture": "amd64"}}))
	h.ask(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/bad-digest") {
			return false
		}
		_, err := w.Write(bad)
		return err == nil
	})
	h.put("both", typeManifest, manifest(map[string]any{"manifests": []any{at(amd, "linux", "amd64",
		"")}}))
	h.put("chart", typeManifest, manifest(map[string]any{"config": map[string]any{
		"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": amd.Digest, "size": 2}}))
	h.put("artifact", typeManifest, manifest(map[string]any{"artifactType": "application/x-sbom",
		"config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json",
			"digest": amd.Digest, "size": 2}}))
	h.put("old", typeDockerOld+"+prettyjws",
		map[string]any{"schemaVersion": 1, "fsLayers": []any{}})
	h.put("nothing", typeManifest, map[string]any{"schemaVersion": 2})
	h.put("empty", typeIndex, self)
	for tag, want := range map[string][2]string{
		"arm": {CodePlatform, "only for linux/arm64, windows/amd64"}, "bad-digest": {CodeDamaged,
			"without a digest"}, "both": {CodeDamaged, "at once"},
		"chart": {CodeNotImage, "vnd.cncf.helm"}, "artifact": {CodeNotImage,
			"x-sbom"}, "old": {CodeNotImage, "before 2016"},
		"nothing": {CodeNotImage, "type"}, "empty": {CodePlatform, "not there for linux/amd64"},
	} {
		_, err := c.Resolve(t.Context(), h.host()+"/app:"+tag, Credentials{})
		if err == nil {
			t.Errorf("%s was resolved", tag)
			continue
		}
		wantCode(t, err, want[0], want[1])
	}
}

// What the configuration of an image says against its manifest, or against this machine, is
// found before any layer is fetched.
func TestExamine(t *testing.T) {
	h := newHub(t)
	limits := DefaultLimits()
	limits.Layers, limits.Download = 2, 1<<20
	change := func(tag string, config func(map[string]any), manifest func(map[string]any)) {
		text, layers, m := small(t).parts(t)
		var c map[string]any
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		if config != nil {
			config(c)
		}
		for _, l := range layers {
			h.blob("application/octet-stream", l)
		}
		m["config"] = h.blob(typeConfig, encode(t, c))
		if manifest != nil {
			manifest(m)
		}
		h.put(tag, typeManifest, m)
	}
	layersOf := func(m map[string]any) []descriptor { return m["layers"].([]descriptor) }
	change("arm", func(c map[string]any) { c["architecture"] = "arm64" }, nil)
	change("windows", func(c map[string]any) { c["os"] = "windows" }, nil)
	change("diffs", func(c map[string]any) {
		c["rootfs"] = map[string]any{"diff_ids": []string{}}
	}, nil)
	change("platformless", func(c map[string]any) {
		delete(c, "os")
		delete(c, "architecture")
	}, nil)
	change("zero", func(c map[string]any) {
		c["config"] = map[string]any{"Cmd": []string{"/app"}, "Env": []string{"A=b\x00C=d"}}
	}, nil)
	change("many", nil, func(m map[string]any) {
		m["layers"] = append(layersOf(m), layersOf(m)...)
	})
	change("large", nil, func(m map[string]any) {
		layersOf(m)[0].Size = 1 << 62
		layersOf(m)[1].Size = 1 << 62
	})
	change("negative", nil, func(m map[string]any) { layersOf(m)[0].Size = -1 })
	change("wasm", nil, func(m map[string]any) { layersOf(m)[0].MediaType = "application/wasm" })
	change("encrypted", nil, func(m map[string]any) { layersOf(m)[0].MediaType += "+encrypted" })
	change("path", nil, func(m map[string]any) {
		layersOf(m)[0].Digest = "sha256:../../../../etc/passwd"
	})
	change("config-path", nil, func(m map[string]any) {
		m["config"] = descriptor{MediaType: typeConfig, Digest: "sha256:../../x"}
	})
	change("config-large", nil, func(m map[string]any) {
		m["config"] = descriptor{MediaType: typeConfig, Digest: digestOf(nil), Size: 1 << 40}
	})
	for tag, want := range map[string][2]string{
		"arm": {CodePlatform, "linux/arm64"}, "windows": {CodePlatform,
			"windows/amd64"}, "diffs": {CodeDamaged, "speaks of 0"},
		"zero": {CodeDamaged, "zero byte"}, "many": {CodeTooLarge, "4 layers"}, "large": {CodeTooLarge,
			"more than 1 MiB"}, "negative": {CodeDamaged, "size"},
		"wasm": {CodeNotImage, "wasm"}, "encrypted": {CodeNotImage,
			"encrypted"}, "path": {CodeDamaged, "digest"},
		"config-path": {CodeDamaged, "digest"}, "config-large": {CodeTooLarge,
			"configuration"}, "platformless": {},
	} {
		c, store := newClient(t, Config{Limits: limits})
		h.seen = nil
		_, err := pull(t, c, h.host()+"/app:"+tag, Credentials{})
		if tag == "platformless" {
			if err != nil {
				t.Errorf("%s: %v", tag, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s was pulled", tag)
			continue
		}
		wantCode(t, err, want[0], want[1])
		clean(t, store, 0)
		if asked := h.requests("/blobs/"); len(asked) > 1 {
			t.Errorf("%s: layers were fetched: %v", tag, asked)
		}
	}
}
