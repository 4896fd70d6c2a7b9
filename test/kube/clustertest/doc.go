// Package clustertest is a real Kubernetes cluster of one node for tests: etcd, the API server, the
// controller manager, the scheduler, containerd with runc and gVisor, and a kubelet, all built from
// the modules that test/kube/cluster pins.
//
// # The room
//
// A package of tests hands its TestMain to Main. If SANDPOOL_TEST_KUBE asks for the cluster, Main
// runs the tests again in namespaces of their own (processes, mounts, network), which are called
// the room here, and the cluster beside them in the same ones. So nothing listens where others
// could connect, the machine's addresses, rules and mounts stay as they are, and when the first
// process of the room ends, for whatever reason, the kernel ends everything that ran in it. Cgroups
// alone outlive it; the process outside removes them, and so does the next run if that process was
// killed.
//
//	go test          outside: builds the programs, holds the lock, cleans up
//	└─ the room      the first process: takes in orphans, nothing else
//	   └─ the tests  bring the cluster up, and run
//	      ├─ etcd, kube-apiserver, …, containerd, kubelet
//	      └─ servers under test
//
// All that is known of a cluster is in its folder, so At needs no variable: programs' logs and
// process ids, certificates, the file by which it is reached.
//
// # What differs from a usual cluster
//
// There is no kube-proxy and no DNS: the API server listens at the address of its own Service, and
// nothing else here needs one. Nothing enforces NetworkPolicy. The kubelet would change parameters
// of the whole machine's kernel, so it sees files in their place.
package clustertest
