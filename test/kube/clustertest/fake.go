package clustertest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FakeLabel is a label, and the key of a taint, of nodes that KWOK simulates.
const FakeLabel = "kwok.x-k8s.io/node"

const kwok = "kwok"

// fakeRange has the addresses of simulated pods.
const fakeRange = "10.200.0.0/16"

// fakeNodesTime bounds how long simulated nodes may take to be ready.
const fakeNodesTime = 5 * time.Minute

// Many is how many ready pods whoever started the tests wants to have simulated in place of a few,
// with a node for each five of them; zero if nobody does.
func Many() int {
	n, err := strconv.Atoi(os.Getenv(many))
	if err != nil {
		return 0
	}
	return n
}

// FakeNodes has KWOK simulate n more nodes until the test ends. They take pods that tolerate the
// taint FakeLabel, and say that their containers run; nothing does.
func (c *Cluster) FakeNodes(t testing.TB, n int) {
	t.Helper()
	lease := nodeGrace * 2 // seconds; it is renewed four times in that
	if Many() > 0 {
		lease = manyNodesGrace
	}
	err := c.start(kwok, kwok, "--config="+filepath.Join(c.bin, "kwok-stages.yaml"),
		"--kubeconfig="+c.Kubeconfig(), "--manage-all-nodes=false",
		"--manage-nodes-with-annotation-selector="+FakeLabel+"=fake", "--cidr="+fakeRange,
		"--node-ip="+nodeIP, fmt.Sprintf("--node-lease-duration-seconds=%d", lease),
		"--server-address=127.0.0.1:10247")
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

// AnswerForFakes has a handler answer at port 8080 of every pod on the simulated nodes, until the
// test ends. The local address of a request's connection is the pod's.
func (c *Cluster) AnswerForFakes(t testing.TB, h http.Handler) {
	t.Helper()
	out, err := exec.Command("ip", "route", "add", "local", fakeRange, "dev", "lo").CombinedOutput()
	if err != nil {
		t.Fatalf("route the addresses of simulated pods here: %v\n%s", err, out)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // the error is that of its end
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		_, err := exec.Command("ip", "route", "del", "local", fakeRange, "dev", "lo").Output()
		if err != nil {
			t.Error(err)
		}
	})
}
