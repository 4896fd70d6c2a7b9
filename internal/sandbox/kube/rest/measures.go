package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Log returns what the pod's container has written since a time, from the second of it on, each
// line behind its own time. With follow it goes on until the container ends. The caller closes it.
func (c *Client) Log(ctx context.Context, namespace, name string, since time.Time,
	follow bool) (io.ReadCloser, error) {
	query := url.Values{"timestamps": {"true"}}
	if since.Unix() > 0 {
		query.Set("sinceTime", since.UTC().Truncate(time.Second).Format(time.RFC3339))
	}
	if follow {
		query.Set("follow", "true")
	}
	resp, err := c.send(ctx, http.MethodGet, pods(namespace, name)+"/log", query, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(resp.Body, logLimit))
		return nil, errors.Join(refusal(resp, data), err, resp.Body.Close())
	}
	return resp.Body, nil
}

// Measure is what the containers of one pod used lately.
type Measure struct {
	Name   string
	At     time.Time
	Window time.Duration // before At, over which Cores is the mean
	Memory int64         // bytes
	Cores  float64
}

// PodMetrics asks the metrics API for all pods that a label selector finds.
//
// https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/
func (c *Client) PodMetrics(ctx context.Context, namespace, selector string) ([]Measure, error) {
	var list struct {
		Items []struct {
			Metadata   Meta      `json:"metadata"`
			Timestamp  time.Time `json:"timestamp"`
			Window     string    `json:"window"`
			Containers []struct {
				Usage struct{ CPU, Memory string } `json:"usage"`
			} `json:"containers"`
		} `json:"items"`
	}
	err := c.Do(ctx, http.MethodGet, "/apis/metrics.k8s.io/v1beta1/namespaces/"+
		url.PathEscape(namespace)+"/pods", url.Values{"labelSelector": {selector}}, nil, &list)
	if err != nil {
		return nil, err
	}
	out := make([]Measure, 0, len(list.Items))
	for _, item := range list.Items {
		m := Measure{Name: item.Metadata.Name, At: item.Timestamp}
		var errs []error
		if m.Window, err = time.ParseDuration(item.Window); err != nil {
			errs = append(errs, err)
		}
		for _, one := range item.Containers {
			cores, cpuErr := Quantity(one.Usage.CPU)
			memory, memoryErr := Quantity(one.Usage.Memory)
			m.Cores, m.Memory = m.Cores+cores, m.Memory+int64(memory)
			errs = append(errs, cpuErr, memoryErr)
		}
		if err := errors.Join(errs...); err != nil {
			return nil, fmt.Errorf("metrics of pod %q: %w", m.Name, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// Quantity reads a number as Kubernetes writes it, with a suffix.
//
// https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
func Quantity(s string) (float64, error) {
	for _, u := range []struct {
		suffix string
		factor float64
	}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"n", 1e-9}, {"u", 1e-6},
		{"m", 1e-3}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1}} {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no quantity", s)
		}
		return v * u.factor, nil
	}
	return 0, fmt.Errorf("%q is no quantity", s)
}
