package rest

import (
	"context"
	"net/http"
	"net/url"
)

// DaemonSet has one pod on each node.
type DaemonSet struct {
	TypeMeta
	Metadata Meta            `json:"metadata"`
	Spec     DaemonSetSpec   `json:"spec"`
	Status   DaemonSetStatus `json:"status,omitzero"`
}

// DaemonSetSpec is what a DaemonSet is to be.
type DaemonSetSpec struct {
	Selector LabelSelector `json:"selector"`
	Template PodTemplate   `json:"template"`
}

// PodTemplate is what each pod of a DaemonSet is.
type PodTemplate struct {
	Metadata Meta    `json:"metadata"`
	Spec     PodSpec `json:"spec"`
}

// DaemonSetStatus is what has become of it; ObservedGeneration is 0 before the cluster has looked.
type DaemonSetStatus struct {
	Desired            int   `json:"desiredNumberScheduled"`
	Ready              int   `json:"numberReady"`
	ObservedGeneration int64 `json:"observedGeneration"`
}

func daemons(namespace, name string) string {
	return objects("/apis/apps/v1", namespace, "daemonsets", name)
}

// CreateDaemonSet makes a DaemonSet and returns it as the server has it.
func (c *Client) CreateDaemonSet(ctx context.Context, d *DaemonSet) (*DaemonSet, error) {
	d.TypeMeta = TypeMeta{Kind: "DaemonSet", APIVersion: "apps/v1"}
	return create(ctx, c, daemons(d.Metadata.Namespace, ""), nil, d)
}

// DaemonSet returns a DaemonSet.
func (c *Client) DaemonSet(ctx context.Context, namespace, name string) (*DaemonSet, error) {
	return get[DaemonSet](ctx, c, daemons(namespace, name))
}

// ListDaemonSets returns those that a label selector finds.
func (c *Client) ListDaemonSets(ctx context.Context, namespace, selector string) ([]DaemonSet,
	error) {
	var list struct{ Items []DaemonSet }
	return list.Items, c.Do(ctx, http.MethodGet, daemons(namespace, ""),
		url.Values{"labelSelector": {selector}}, nil, &list)
}

// DeleteDaemonSet removes a DaemonSet, and its pods after it.
func (c *Client) DeleteDaemonSet(ctx context.Context, namespace, name string) error {
	return c.Do(ctx, http.MethodDelete, daemons(namespace, name), nil, map[string]any{
		"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}, nil)
}
