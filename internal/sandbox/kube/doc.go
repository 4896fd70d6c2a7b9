// Package kube is the engine that runs sandboxes as pods of a Kubernetes cluster.
//
// # What is what
//
//	sandbox     a pod of one container, named by the sandbox's ID, never restarted
//	Prepare     checks the template and the cluster, and makes the network policy it needs
//	Start       creates the pod, waits until it runs, and asks its readiness check by itself
//	Dial        connects to the pod's address
//	List        the pods with this installation's label, as the API server has them now
//	Wait, ends  what one watch of all pods tells
//
// # What isolates
//
// The pod's RuntimeClass, which must name one of gVisor, Kata or the like: a plain container shares
// the node's kernel with hostile code. Without one the engine does not start, unless its operator
// says that isolation is somebody else's business. Beside it a pod has no token of a service
// account, no privileges, the runtime's seccomp profile, and limits of processor, memory and disk.
// How many processes it may have is the node's to say (podPidsLimit), since pods cannot.
//
// What a pod may reach is a NetworkPolicy. A cluster takes those whether or not anything enforces
// them, so the engine has pods try before it believes; see network.go.
//
// # Who knows what
//
// The truth is the API server's. The watch is a copy of it, which is a little late and survives
// an outage: while the API server is away, sandboxes that run are dialled, and nothing starts, ends
// or is listed. Start and Stop wait for the copy to show what they did, so a caller never sees it
// lag behind his own calls.
//
// Everything of a sandbox is found from its ID: its pod by name, and its Secret, which is owned by
// the pod and removed with it. A pod of an ID that was half-started is remains like any other.
//
// # What is not there
//
// Snapshots and channels are optional in the contract, or refused as Unsupported by Prepare, as are
// layers from files: nothing of Kubernetes gives them with what the contract promises. Logs go with
// their pods, and measurements are those of the cluster's metrics API, where there is one. A port
// is reached at the pod's address and not at its loopback interface, so what listens on 127.0.0.1
// alone is not reached.
package kube
