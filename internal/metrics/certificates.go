package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificate is one that the server serves with, in numbers.
type Certificate struct {
	Host       string
	Start, End time.Time // zero if there is none yet
	Failures   int64     // times that one was asked for and not got
}

// certificates reads what is served when it is asked for.
type certificates struct {
	list                 func() []Certificate
	start, end, failures *prometheus.Desc
}

// Certificates has m tell of what list returns, which must not block. It is called once.
func (m *Metrics) Certificates(list func() []Certificate) error {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sandpool_certificate_"+name, help, []string{"host"}, nil)
	}
	return m.registry.Register(certificates{list,
		desc("start_timestamp_seconds", "When the certificate began that is served for the host."),
		desc("expiry_timestamp_seconds", "When the certificate ends that is served for the host."),
		desc("failures_total", "Times that a certificate was asked for and not got.")})
}

// Describe implements prometheus.Collector.
func (c certificates) Describe(into chan<- *prometheus.Desc) {
	into <- c.start
	into <- c.end
	into <- c.failures
}

// Collect implements prometheus.Collector.
func (c certificates) Collect(into chan<- prometheus.Metric) {
	for _, one := range c.list() {
		into <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue,
			float64(one.Failures), one.Host)
		if one.End.IsZero() {
			continue
		}
		into <- prometheus.MustNewConstMetric(c.start, prometheus.GaugeValue,
			float64(one.Start.Unix()), one.Host)
		into <- prometheus.MustNewConstMetric(c.end, prometheus.GaugeValue,
			float64(one.End.Unix()), one.Host)
	}
}
