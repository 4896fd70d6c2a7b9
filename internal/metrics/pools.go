package metrics

import "github.com/prometheus/client_golang/prometheus"

// descriptions are the metrics of pools that are read when they are asked for.
type descriptions struct {
	up, sandboxes, max, target, waiting, failed *prometheus.Desc
	claims, refills, crashes, refused           *prometheus.Desc
	pulls, snapshot, info, lag, egress          *prometheus.Desc
	made, read, refilled                        *prometheus.Desc
}

func describe() *descriptions {
	pool := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sandpool_pool_"+name, help,
			append([]string{"pool", "resource_group", "subscription"}, labels...), nil)
	}
	return &descriptions{
		up:        prometheus.NewDesc("sandpool_up", "1 if the pools can be read.", nil, nil),
		sandboxes: pool("sandboxes", "Sandboxes, by what they do.", "state"),
		max:       pool("sessions_max", "Sessions that the pool may have."),
		target:    pool("ready_target", "Ready sandboxes that the pool keeps."),
		waiting:   pool("waiting", "Callers in line for a slot."),
		failed:    pool("failed", "1 if sandboxes of the pool cannot be started."),
		claims: pool("claims_total", "Claims since the server started, by what came of them.",
			"outcome"),
		refills: pool("refill_failures_total",
			"Ready sandboxes that did not start, or ended before they were claimed."),
		crashes: pool("sandbox_crashes_total",
			"Sandboxes that ended by themselves or failed their liveness check."),
		refused: pool("claims_refused_machine_full_total",
			"Claims for which the machine had no room."),
		pulls: pool("pull_failures_total", "Times that the pool's image could not be had."),
		snapshot: pool("snapshot_bytes",
			"What the snapshot takes on disk that the pool's sandboxes start from."),
		made: pool("snapshot_created_timestamp_seconds",
			"When the snapshot was made that the pool's sandboxes start from."),
		read: pool("read_bytes_total",
			"Bytes that sandboxes have read, nearly all of them pages of snapshots."),
		refilled: pool("refills_total", "Ready sandboxes that were started."),
		info:     pool("info", "1, with what the pool's sessions run.", "type"),
		lag: pool("refill_lag_seconds",
			"How long the pool has had fewer ready sandboxes than it keeps."),
		egress: pool("egress_refused_total",
			"What sandboxes were refused on the network since the server started.", "kind"),
	}
}

// snapshot is the pools at one moment.
type snapshot struct {
	*descriptions
	pools []Pool
	up    bool
}

// Describe implements prometheus.Collector.
func (s snapshot) Describe(into chan<- *prometheus.Desc) {
	d := s.descriptions
	for _, each := range []*prometheus.Desc{d.up, d.sandboxes, d.max, d.target, d.waiting, d.failed,
		d.claims, d.refills, d.crashes, d.refused, d.pulls, d.snapshot, d.info, d.lag, d.egress,
		d.made, d.read, d.refilled} {
		into <- each
	}
}

// Collect implements prometheus.Collector.
func (s snapshot) Collect(into chan<- prometheus.Metric) {
	d := s.descriptions
	into <- prometheus.MustNewConstMetric(d.up, prometheus.GaugeValue, truth(s.up))
	for _, p := range s.pools {
		put := func(desc *prometheus.Desc, kind prometheus.ValueType, n float64, labels ...string) {
			into <- prometheus.MustNewConstMetric(desc, kind, n,
				append([]string{p.ID.Name, p.ID.ResourceGroup, p.ID.Subscription}, labels...)...)
		}
		gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
		put(d.sandboxes, gauge, float64(p.Ready), "ready")
		put(d.sandboxes, gauge, float64(p.Starting), "starting")
		put(d.sandboxes, gauge, float64(p.Claimed), "claimed")
		put(d.sandboxes, gauge, float64(p.Stopping), "stopping")
		put(d.max, gauge, float64(p.Max))
		put(d.target, gauge, float64(p.Target))
		put(d.waiting, gauge, float64(p.Waiting))
		put(d.failed, gauge, truth(p.Failed))
		for outcome, n := range p.Claims {
			put(d.claims, counter, float64(n), outcome.String())
		}
		put(d.refills, counter, float64(p.RefillFailures))
		put(d.crashes, counter, float64(p.Crashes))
		put(d.refused, counter, float64(p.Refused))
		put(d.pulls, counter, float64(p.PullFailures))
		put(d.snapshot, gauge, float64(p.Snapshot))
		if !p.SnapshotMade.IsZero() {
			put(d.made, gauge, float64(p.SnapshotMade.Unix()))
		}
		put(d.read, counter, float64(p.Read))
		put(d.refilled, counter, float64(p.Refills))
		put(d.info, gauge, 1, p.Kind)
		put(d.lag, gauge, p.Lag.Seconds())
		put(d.egress, counter, float64(p.EgressPackets), "packet")
		put(d.egress, counter, float64(p.EgressNames), "name")
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
