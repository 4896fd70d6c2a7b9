package kube

import (
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// containerName is what the one container of a pod is called.
const containerName = "sandbox"

// containerOf returns the status of a pod's container, which is empty before it has one.
func containerOf(p *rest.Pod) rest.ContainerStatus {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == containerName {
			return c
		}
	}
	return rest.ContainerStatus{}
}

// conditionOf returns a condition of a pod, which is empty if it does not have it.
func conditionOf(p *rest.Pod, kind string) rest.Condition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return rest.Condition{}
}

// exitOf says how a pod ended, if it has; one that is gone was killed. A pod whose node is away is
// at its end: nobody can say what its processes do, and the cluster has given it up.
//
// The reasons are those of
// https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
// and of the kubelet (pkg/kubelet/eviction, preemption, nodeshutdown).
func exitOf(p *rest.Pod) (exit sandbox.Exit, over bool) {
	if p == nil {
		return sandbox.Exit{Reason: sandbox.Killed}, true
	}
	disrupted, code := disruption(p), 0
	end := containerOf(p).State.Terminated
	if end != nil {
		code = end.ExitCode
	}
	switch {
	case disrupted == sandbox.NodeLost && p.Metadata.DeletionTimestamp != nil:
	case end == nil && p.Status.Phase != rest.Failed && p.Status.Phase != rest.Succeeded:
		return sandbox.Exit{}, false
	}
	switch {
	case disrupted != "":
		return sandbox.Exit{Reason: disrupted, Code: code}, true
	case end == nil:
		return sandbox.Exit{Reason: sandbox.Killed}, true
	case end.Reason == "OOMKilled":
		return sandbox.Exit{Reason: sandbox.OutOfMemory, Code: code}, true
	case end.Reason == "ContainerStatusUnknown", p.Metadata.DeletionTimestamp != nil:
		return sandbox.Exit{Reason: sandbox.Killed, Code: code}, true
	}
	return sandbox.Exit{Reason: sandbox.Exited, Code: code}, true
}

// lastExit says how a pod ended of which this is the last that was heard. One that is drained, or
// gives its place to another, may be gone before the end of its container is told.
func lastExit(p *rest.Pod) sandbox.Exit {
	if exit, over := exitOf(p); over {
		return exit
	}
	if disrupted := disruption(p); disrupted != "" {
		return sandbox.Exit{Reason: disrupted}
	}
	return sandbox.Exit{Reason: sandbox.Killed}
}

// notStarted says why the container of a pod ended before its first program ran, if it did.
func notStarted(p *rest.Pod) (why string, ok bool) {
	if p == nil {
		return "", false
	}
	end := containerOf(p).State.Terminated
	if end == nil || end.Reason != "StartError" && end.Reason != "ContainerCannotRun" {
		return "", false
	}
	return end.Message, true
}

// disruption says what took a pod its place, if something did.
func disruption(p *rest.Pod) sandbox.ExitReason {
	switch p.Status.Reason {
	case "Evicted":
		return sandbox.Evicted
	case "Preempting":
		return sandbox.Preempted
	case "NodeLost", "NodeShutdown", "Terminated":
		return sandbox.NodeLost
	}
	c := conditionOf(p, "DisruptionTarget")
	if c.Status != "True" {
		return ""
	}
	switch c.Reason {
	case "PreemptionByScheduler":
		return sandbox.Preempted
	case "DeletionByTaintManager", "DeletionByPodGC":
		return sandbox.NodeLost
	}
	return sandbox.Evicted
}
