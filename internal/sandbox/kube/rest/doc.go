// Package rest is the part of the Kubernetes API that the engine needs: pods, with their exec and
// log, secrets, network policies and runtime classes, as JSON over HTTP.
//
// It stands in for client-go on purpose. The program that serves is the program that gVisor starts
// for each sandbox, so what it links is paid for at each restore: client-go registers the types of
// all of Kubernetes when a program starts. docs/decisions.md has the figures.
//
// What is written is what Kubernetes documents; a field that is not here is not sent, and one that
// comes and is not here is dropped, so objects are made and deleted here, and never updated.
//
// https://kubernetes.io/docs/reference/kubernetes-api/
package rest
