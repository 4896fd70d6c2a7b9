package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// Nodes sets how many nodes a DaemonSet has pods on, and on how many they are ready.
func (c *Cluster) Nodes(all, ready int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes, c.ready = all, ready
}

// DaemonSets are those there are, by namespace/name.
func (c *Cluster) DaemonSets() map[string]*rest.DaemonSet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.daemons)
}

// daemonSets serves DaemonSets, whose pods are numbers.
func (c *Cluster) daemonSets(w http.ResponseWriter, r *http.Request, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.daemons[key]
	switch {
	case r.Method == http.MethodPost:
		d = &rest.DaemonSet{}
		if err := json.NewDecoder(r.Body).Decode(d); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		key += d.Metadata.Name
		if c.daemons[key] != nil {
			refuse(w, http.StatusConflict, "AlreadyExists", key+" already exists")
			return
		}
		d.Metadata.UID, d.Metadata.CreationTimestamp = "uid-of-"+d.Metadata.Name, now()
		c.daemons[key] = d
		answer(w, http.StatusCreated, d)
	case strings.HasSuffix(key, "/"):
		list := struct {
			Items []rest.DaemonSet `json:"items"`
		}{}
		for name, d := range c.daemons {
			if strings.HasPrefix(name, key) {
				list.Items = append(list.Items, *d)
			}
		}
		answer(w, http.StatusOK, list)
	case d == nil:
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("daemonsets %q not found", key))
	case r.Method == http.MethodDelete:
		delete(c.daemons, key)
		for name, s := range c.secrets {
			for _, owner := range s.Metadata.OwnerReferences {
				if owner.UID == d.Metadata.UID {
					delete(c.secrets, name)
				}
			}
		}
		answer(w, http.StatusOK, d)
	default:
		now := *d
		now.Status = rest.DaemonSetStatus{Desired: c.nodes, Ready: c.ready, ObservedGeneration: 1}
		answer(w, http.StatusOK, now)
	}
}

// Forgotten makes a DaemonSet old.
func (c *Cluster) Forgotten(key string, d *rest.DaemonSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.daemons[key] = d
}
