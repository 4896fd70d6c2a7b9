package clustertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// pauseImage holds the namespaces of each pod.
const pauseImage = "sandpool.test/pause:1"

// startContainerd starts containerd and gives it the image of pause.
func (c *Cluster) startContainerd(ctx context.Context) error {
	replace := strings.NewReplacer("DIR", c.dir, "BIN", c.bin, "PAUSE", pauseImage,
		"POD_RANGE", podRange, "LOGS", c.logDir())
	for name, text := range map[string]string{"containerd.toml": containerdConfig,
		"runsc.toml": runscConfig, "cni/10-bridge.conflist": cniConfig,
		"registries/" + Registry + "/hosts.toml": "server = \"http://" + Registry + "\"\n"} {
		if err := os.WriteFile(c.path(name), []byte(replace.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	err := c.start("containerd", "containerd", "--config", c.path("containerd.toml"))
	if err != nil {
		return err
	}
	err = await(ctx, "containerd does not answer", func() error {
		_, err := c.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	image, err := c.packPause()
	if err == nil {
		_, err = c.ctr(ctx, "images", "import", "--local", image)
	}
	return err
}

// ctr runs ctr.
func (c *Cluster) ctr(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "ctr"),
		append([]string{"-a", c.path("containerd.sock"), "-n", "k8s.io"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %v: %w: %s", args, err, out)
	}
	return string(out), nil
}

// Images are the names of all images that the node has, with tags and with digests.
func (c *Cluster) Images(t testing.TB) []string {
	t.Helper()
	all, err := c.ctr(t.Context(), "images", "list", "-q")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(all)
}

// packPause writes the image of pause, whose program build.sh has built, to a file.
func (c *Cluster) packPause() (string, error) {
	program, err := os.ReadFile(filepath.Join(c.bin, "pause"))
	if err != nil {
		return "", err
	}
	layer, err := pack("pause", program)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]any{"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/pause"}},
		"rootfs": map[string]any{"type": "layers",
			"diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}}})
	if err != nil {
		return "", err
	}
	// The form of "docker save".
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json",
		"RepoTags": []string{pauseImage}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return "", err
	}
	image, err := pack("manifest.json", manifest, "config.json", config, "layer.tar", layer)
	if err != nil {
		return "", err
	}
	file := c.path("pause.tar")
	return file, os.WriteFile(file, image, 0o600)
}

// pack is a tar file of files, each a name and what is in it.
func pack(files ...any) ([]byte, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for file := range slices.Chunk(files, 2) {
		content := file[1].([]byte)
		err := w.WriteHeader(&tar.Header{Name: file[0].(string), Typeflag: tar.TypeReg,
			Mode: 0o755, Size: int64(len(content))})
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			return nil, err
		}
	}
	return packed.Bytes(), w.Close()
}

const containerdConfig = `version = 3
root = "DIR/containerd/root"
state = "DIR/containerd/state"
oom_score = 0
disabled_plugins = [
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "DIR/containerd.sock"
[ttrpc]
  address = "DIR/containerd.sock.ttrpc"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "PAUSE"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "DIR/registries"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true # a process here may not be allowed to lower one
  disable_apparmor = true
  enable_selinux = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "DIR/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "BIN/runc"
        SystemdCgroup = false
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runsc]
      runtime_type = "io.containerd.runsc.v1"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runsc.options]
        TypeUrl = "io.containerd.runsc.v1.options"
        ConfigPath = "DIR/runsc.toml"
`

const runscConfig = `log_path = "LOGS/runsc-shim-%ID%"
log_level = "info"
binary_name = "BIN/runsc"
root = "DIR/runsc"
[runsc_config]
  platform = "systrap"
  network = "sandbox"
`

const cniConfig = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "DIR/addresses",
            "ranges": [[{"subnet": "POD_RANGE"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`
