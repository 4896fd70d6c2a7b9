package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// pageSize is how many pods are listed at a time.
const pageSize = "500"

func pods(namespace, name string) string {
	return objects("/api/v1", namespace, "pods", name)
}

// CreatePod makes a pod and returns it as the server has it.
func (c *Client) CreatePod(ctx context.Context, p *Pod) (*Pod, error) {
	p.TypeMeta = TypeMeta{Kind: "Pod", APIVersion: "v1"}
	return create(ctx, c, pods(p.Metadata.Namespace, ""), nil, p)
}

// TryPod has the server admit a pod without making it, and returns it as it would be: a server
// drops what it does not know.
func (c *Client) TryPod(ctx context.Context, p *Pod) (*Pod, error) {
	p.TypeMeta = TypeMeta{Kind: "Pod", APIVersion: "v1"}
	return create(ctx, c, pods(p.Metadata.Namespace, ""), url.Values{"dryRun": {"All"}}, p)
}

// Pod returns a pod.
func (c *Client) Pod(ctx context.Context, namespace, name string) (*Pod, error) {
	return get[Pod](ctx, c, pods(namespace, name))
}

// DeletePod asks for the end of the pod that has this uid; an empty one means any of the name. A
// negative grace means the pod's own.
func (c *Client) DeletePod(ctx context.Context, namespace, name, uid string, grace int64) error {
	options := map[string]any{"kind": "DeleteOptions", "apiVersion": "v1"}
	if grace >= 0 {
		options["gracePeriodSeconds"] = grace
	}
	if uid != "" {
		options["preconditions"] = map[string]string{"uid": uid}
	}
	return c.Do(ctx, http.MethodDelete, pods(namespace, name), nil, options, nil)
}

// ListPods returns all pods that a label selector finds, as they are now, and the version to watch
// from.
func (c *Client) ListPods(ctx context.Context, namespace, selector string) ([]Pod, string, error) {
	var all []Pod
	next := ""
	for {
		query := url.Values{"labelSelector": {selector}, "limit": {pageSize}}
		if next != "" {
			query.Set("continue", next)
		}
		var page PodList
		err := c.Do(ctx, http.MethodGet, pods(namespace, ""), query, nil, &page)
		if IsGone(err) && next != "" {
			all, next = nil, "" // the pages took too long
			continue
		}
		if err != nil {
			return nil, "", err
		}
		all, next = append(all, page.Items...), page.Metadata.Continue
		if next == "" {
			return all, page.Metadata.ResourceVersion, nil
		}
	}
}

// WatchPods tells do of what happens to the pods from version on, until the server ends the watch
// (nil), ctx ends, or something goes wrong. The watch ends by itself after some time.
func (c *Client) WatchPods(ctx context.Context, namespace, selector, version string,
	lasts time.Duration, do func(kind string, p *Pod)) error {
	query := url.Values{"labelSelector": {selector}, "watch": {"1"}, "resourceVersion": {version},
		"allowWatchBookmarks": {"true"},
		"timeoutSeconds":      {strconv.Itoa(int(lasts / time.Second))}}
	resp, err := c.send(ctx, http.MethodGet, pods(namespace, ""), query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errors.Join(refusal(resp, data), err)
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var e Event
		if err := dec.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("watch pods: %w", err)
		}
		if e.Type == "ERROR" {
			failed := &StatusError{}
			if err := json.Unmarshal(e.Object, &failed.Status); err != nil {
				return fmt.Errorf("watch pods: %w", err)
			}
			return failed
		}
		p := &Pod{}
		if err := json.Unmarshal(e.Object, p); err != nil {
			return fmt.Errorf("watch pods: %w", err)
		}
		do(e.Type, p)
	}
}

// logLimit bounds what is read of a log.
const logLimit = 16 << 10

// LogTail returns the last lines that the pod's container wrote.
func (c *Client) LogTail(ctx context.Context, namespace, name string, lines int) (string, error) {
	query := url.Values{"tailLines": {strconv.Itoa(lines)}, "limitBytes": {strconv.Itoa(logLimit)}}
	resp, err := c.send(ctx, http.MethodGet, pods(namespace, name)+"/log", query, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, logLimit))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = refusal(resp, data)
	}
	return string(data), err
}

// CreateSecret makes a Secret.
func (c *Client) CreateSecret(ctx context.Context, s *Secret) error {
	s.TypeMeta = TypeMeta{Kind: "Secret", APIVersion: "v1"}
	return c.Do(ctx, http.MethodPost, objects("/api/v1", s.Metadata.Namespace, "secrets", ""), nil,
		s, nil)
}

// CreateNetworkPolicy makes a NetworkPolicy.
func (c *Client) CreateNetworkPolicy(ctx context.Context, p *NetworkPolicy) error {
	p.TypeMeta = TypeMeta{Kind: "NetworkPolicy", APIVersion: "networking.k8s.io/v1"}
	return c.Do(ctx, http.MethodPost, objects("/apis/networking.k8s.io/v1", p.Metadata.Namespace,
		"networkpolicies", ""), nil, p, nil)
}

// Version returns the version of the API server, such as v1.36.3.
func (c *Client) Version(ctx context.Context) (string, error) {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	err := c.Do(ctx, http.MethodGet, "/version", nil, nil, &v)
	return v.GitVersion, err
}

// Access is something that the server's account may have to do.
type Access struct {
	Verb        string `json:"verb"`
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
}

// May asks the API server whether the caller may do something.
func (c *Client) May(ctx context.Context, a Access) (bool, error) {
	review := map[string]any{"kind": "SelfSubjectAccessReview",
		"apiVersion": "authorization.k8s.io/v1",
		"spec":       map[string]any{"resourceAttributes": a}}
	var answer struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	err := c.Do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", nil,
		review, &answer)
	return answer.Status.Allowed, err
}
