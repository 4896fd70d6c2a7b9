package control

import (
	"cmp"
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/control/network"
)

// status answers what a pool's sandboxes are doing and what they use.
func (c *Control) status(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	p, err := c.pools.Pool(r.Context(), id)
	if err != nil {
		return err
	}
	expand := r.URL.Query().Get(api.ExpandParameter)
	if expand != "" && expand != api.ExpandSandboxes {
		return sandpool.Errorf(sandpool.Invalid, "InvalidExpand", api.ExpandParameter,
			"%s is %.60q; the only value is %q.", api.ExpandParameter, expand, api.ExpandSandboxes)
	}
	n, err := c.pools.Status(r.Context(), id)
	if err != nil {
		return err
	}
	out := api.PoolStatus{
		ID: p.ID.String(), ProvisioningState: string(p.State),
		Problem: shown(r.Context(), p).Problem, Notice: n.Notice, Revision: p.Revision,
		MaxSessions: p.MaxSessions, ReadySessions: n.Wanted, ReadyBecause: n.Because,
		Starting: n.Starting, Ready: n.Ready - n.Earlier.Ready, Claimed: n.Claimed,
		Stopping:       n.Stopping,
		Waiting:        n.Waiting,
		RefillFailures: n.RefillFailures, Refused: n.Refused, Crashes: n.Crashes,
		PullFailures:  n.PullFailures,
		SnapshotBytes: n.Snapshot.Bytes, Pull: c.o.Pulling(id),
		Claims: make(map[string]int64, len(n.Claims)),
	}
	out.Egress = network.Refusals(n.Egress)
	for outcome, count := range n.Claims {
		out.Claims[outcome.String()] = count
	}
	if expand == api.ExpandSandboxes {
		if out.Sandboxes, err = c.sandboxes(r, id); err != nil {
			return err
		}
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// history answers how a pool did lately.
func (c *Control) history(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	if _, err := c.pools.Pool(r.Context(), id); err != nil {
		return err
	}
	window := cmp.Or(r.URL.Query().Get(api.WindowParameter), api.HistoryHour)
	out, err := c.o.History(id, window)
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// egress answers what the pool's sandboxes may reach.
func (c *Control) egress(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	p, err := c.pools.Pool(r.Context(), id)
	if err != nil {
		return err
	}
	out, err := network.Show(c.o.Network, p.Spec.Network, formatSize(p.Spec.Network.Bandwidth), r)
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// sandboxes measures what the pool has.
func (c *Control) sandboxes(r *http.Request, id sandpool.PoolID) ([]api.SandboxStats, error) {
	rows, err := c.pools.Sandboxes(r.Context(), id)
	if err != nil {
		return nil, err
	}
	stats := make([]api.SandboxStats, 0, len(rows))
	for _, s := range rows {
		stats = append(stats, c.measure(r, s))
	}
	return stats, r.Context().Err()
}

// measure describes s. A sandbox that cannot be measured (it is starting, it has
// just ended, the engine has no numbers) is described without numbers.
func (c *Control) measure(r *http.Request, s sandpool.Sandbox) api.SandboxStats {
	out := api.SandboxStats{ID: string(s.ID), State: string(s.State), Revision: s.Revision,
		CreatedAt: stamp(s.CreatedAt), ClaimedAt: stamp(s.ClaimedAt),
		LastUsedAt: stamp(s.LastUsedAt)}
	if s.State != sandpool.Ready && s.State != sandpool.Claimed {
		return out
	}
	if used, err := c.pools.Stats(r.Context(), s); err == nil {
		seconds := used.CPUTime.Seconds()
		out.MemoryBytes, out.CPUSeconds = &used.Memory, &seconds
	}
	return out
}
