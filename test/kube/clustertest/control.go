package clustertest

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// up brings the cluster up.
func (c *Cluster) up(ctx context.Context) error {
	for _, dir := range []string{"log", "cni", "containerd", "kubelet", "podlogs",
		"registries/" + Registry} {
		if err := os.MkdirAll(c.path(dir), 0o711); err != nil {
			return err
		}
	}
	if err := certify(c.path("pki")); err != nil {
		return err
	}
	for _, user := range []string{admin, manager, scheduler, node} {
		if err := os.WriteFile(c.path(user+".kubeconfig"), []byte(c.kubeconfig(user)),
			0o600); err != nil {
			return err
		}
	}
	if err := c.startContainerd(ctx); err != nil {
		return err
	}
	if err := c.startControl(ctx); err != nil {
		return err
	}
	return c.startKubelet(ctx)
}

// kubeconfig is the file by which a holder of a certificate reaches the API server.
func (c *Cluster) kubeconfig(user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: x
clusters: [{name: c, cluster: {server: "%s", certificate-authority: %s}}]
users: [{name: u, user: {client-certificate: %s, client-key: %s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
`, API, c.CA(), c.path("pki", user+".crt"), c.path("pki", user+".key"))
}

// How soon the cluster takes a node for lost that says nothing, in seconds, and how often it looks.
// Where nodes are many, what each says takes the time that is to be measured.
const (
	nodeGrace, manyNodesGrace = 8, 600
	nodeLook, manyNodesLook   = 1, 30
)

func (c *Cluster) startControl(ctx context.Context) error {
	pki := func(name string) string { return c.path("pki", name) }
	err := os.WriteFile(c.path("audit.yaml"), []byte(auditPolicy), 0o600)
	if err != nil {
		return err
	}
	err = c.start("etcd", "etcd", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+etcdAt, "--advertise-client-urls="+etcdAt,
		"--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380")
	if err != nil {
		return err
	}
	err = c.start(apiServer, apiServer, "--etcd-servers="+etcdAt,
		"--bind-address=0.0.0.0", "--secure-port=443", "--advertise-address="+nodeIP,
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"),
		"--client-ca-file="+pki("ca.crt"), "--cert-dir="+c.path("auto"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+pki("sa.key"),
		"--service-account-signing-key-file="+pki("sa.key"),
		"--service-cluster-ip-range="+services, "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--kubelet-client-certificate="+pki("admin.crt"),
		"--kubelet-client-key="+pki("admin.key"),
		"--kubelet-certificate-authority="+pki("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP", "--allow-privileged=true",
		"--audit-policy-file="+c.path("audit.yaml"), "--audit-log-path="+c.path("audit.log"),
		"--profiling=false", "--event-ttl=10m")
	if err != nil {
		return err
	}
	err = await(ctx, "the API server is not ready", func() error {
		_, err := c.TryKubectl(ctx, "", "get", "--raw", "/readyz")
		return err
	})
	if err != nil {
		return err
	}
	grace, look := nodeGrace, nodeLook
	if Many() > 0 {
		grace, look = manyNodesGrace, manyNodesLook
	}
	err = c.start(manager, manager, "--kubeconfig="+c.path(manager+".kubeconfig"),
		"--authentication-kubeconfig="+c.path(manager+".kubeconfig"),
		"--authorization-kubeconfig="+c.path(manager+".kubeconfig"),
		"--bind-address=127.0.0.1", "--leader-elect=false",
		"--service-account-private-key-file="+pki("sa.key"),
		"--root-ca-file="+pki("ca.crt"), "--use-service-account-credentials=true",
		"--cluster-cidr="+podRange, "--allocate-node-cidrs=false", "--cert-dir="+c.path("auto"),
		fmt.Sprintf("--node-monitor-grace-period=%ds", grace),
		fmt.Sprintf("--node-monitor-period=%ds", look),
		"--kube-api-qps=200", "--kube-api-burst=400")
	if err != nil {
		return err
	}
	return c.startScheduler()
}

func (c *Cluster) startScheduler() error {
	own := c.path(scheduler + ".kubeconfig")
	config := fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: %s, qps: 500, burst: 1000}
`, own)
	if err := os.WriteFile(c.path("scheduler.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	return c.start(scheduler, scheduler, "--config="+c.path("scheduler.yaml"),
		"--authentication-kubeconfig="+own, "--authorization-kubeconfig="+own,
		"--bind-address=127.0.0.1", "--cert-dir="+c.path("auto"))
}

// startKubelet starts the kubelet and waits until its node is ready.
func (c *Cluster) startKubelet(ctx context.Context) error {
	config := strings.NewReplacer("DIR", c.dir, "NODE_IP", nodeIP).Replace(kubeletConfig)
	if err := os.WriteFile(c.path("kubelet.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("resolv.conf"), []byte("nameserver 127.0.0.1\n"),
		0o644); err != nil {
		return err
	}
	script, err := c.hideParameters()
	if err != nil {
		return err
	}
	err = c.start(node, "/bin/sh", "-c", script, c.path("kubelet.yaml"),
		"--config="+c.path("kubelet.yaml"), "--kubeconfig="+c.path(node+".kubeconfig"),
		"--root-dir="+c.path("kubelet"), "--cert-dir="+c.path("auto"),
		"--hostname-override="+Node, "--node-ip="+nodeIP, "-v=2")
	if err != nil {
		return err
	}
	err = await(ctx, "the node is not ready", func() error {
		ready, err := c.TryKubectl(ctx, "", "get", "node", Node, "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && ready != "True" {
			err = fmt.Errorf("ready is %q", ready)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = c.TryKubectl(ctx, runtimeClass, "create", "-f", "-")
	return err
}

const runtimeClass = `{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
  "metadata": {"name": "gvisor"}, "handler": "runsc"}`

// hideParameters returns a script that starts the kubelet with files in the place of those
// parameters of the kernel that it would change for the whole machine.
func (c *Cluster) hideParameters() (script string, err error) {
	script = "mount --make-rprivate /proc\n"
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0",
		"kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		file := c.path("parameter-" + strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return "", err
		}
		script += "mount --bind " + file + " /proc/sys/" + name + "\n"
	}
	return "set -e\nexec unshare --mount --propagation unchanged sh -c 'set -e\n" + script +
		"exec kubelet \"$@\"' kubelet \"$@\"", nil
}

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://DIR/containerd.sock
imageServiceEndpoint: unix://DIR/containerd.sock
address: NODE_IP
healthzBindAddress: 127.0.0.1
tlsCertFile: DIR/pki/kubelet.crt
tlsPrivateKeyFile: DIR/pki/kubelet.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: DIR/pki/ca.crt}
authorization: {mode: AlwaysAllow}
resolvConf: DIR/resolv.conf
clusterDomain: cluster.local
clusterDNS: [NODE_IP]
oomScoreAdj: 0
makeIPTablesUtilChains: false
maxPods: 250
podPidsLimit: 1024
kubeAPIQPS: 100
kubeAPIBurst: 200
registryPullQPS: 0
serializeImagePulls: false
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
failSwapOn: false
syncFrequency: 10s
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 8
runtimeRequestTimeout: 2m
podLogsDir: DIR/podlogs
`
