package clustertest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FakeLabel is a label, and the key of a taint, of nodes that KWOK simulates.
const FakeLabel = "kwok.x-k8s.io/node"

const kwok = "kwok"

// fakeNodesTime bounds how long simulated nodes may take to be ready.
const fakeNodesTime = 2 * time.Minute

// FakeNodes has KWOK simulate n more nodes until the test ends. They take pods that tolerate the
// taint FakeLabel, and say that their containers run; nothing does.
func (c *Cluster) FakeNodes(t testing.TB, n int) {
	t.Helper()
	err := c.start(kwok, kwok, "--config="+filepath.Join(c.bin, "kwok-stages.yaml"),
		"--kubeconfig="+c.Kubeconfig(), "--manage-all-nodes=false",
		"--manage-nodes-with-annotation-selector="+FakeLabel+"=fake", "--cidr=10.200.0.0/16",
		"--node-ip="+nodeIP, "--node-lease-duration-seconds=40", "--server-address=127.0.0.1:10247")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := c.TryKubectl(context.WithoutCancel(t.Context()), "", "delete", "nodes",
			"--selector", FakeLabel, "--wait=false")
		if err != nil {
			t.Error(err)
		}
		c.signal(t, kwok, unix.SIGKILL)
	})
	var nodes strings.Builder
	for i := range n {
		fmt.Fprintf(&nodes, `---
apiVersion: v1
kind: Node
metadata:
  name: fake-%[1]d
  annotations: {%[2]s: fake, node.alpha.kubernetes.io/ttl: "0"}
  labels: {%[2]s: fake, kubernetes.io/hostname: fake-%[1]d, kubernetes.io/os: linux}
spec: {taints: [{effect: NoSchedule, key: %[2]s, value: fake}]}
status:
  allocatable: {cpu: "32", memory: 256Gi, pods: "110", ephemeral-storage: 1Ti}
  capacity: {cpu: "32", memory: 256Gi, pods: "110", ephemeral-storage: 1Ti}
`, i, FakeLabel)
	}
	c.Kubectl(t, nodes.String(), "create", "-f", "-")
	c.Kubectl(t, "", "wait", "--for=condition=Ready", "nodes", "--selector", FakeLabel,
		"--timeout="+fakeNodesTime.String())
}
