package metrics

import (
	"context"
	"encoding/hex"
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/sandpool/sandpool/internal/otlp"
)

// lastPush bounds the push when the server ends.
const lastPush = 3 * time.Second

// Push sends the metrics to a collector every interval until ctx ends, and once more then. What
// cannot be sent is left: the next push has the same counts, and more.
func (m *Metrics) Push(ctx context.Context, to *otlp.Client, every time.Duration) error {
	defer to.CloseIdle()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.push(ctx, to)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPush)
			defer cancel()
			m.push(last, to)
			return nil
		}
	}
}

func (m *Metrics) push(ctx context.Context, to *otlp.Client) {
	gather, cancel := context.WithTimeout(ctx, gatherTime)
	defer cancel()
	families, err := m.gather(gather).Gather()
	if err != nil {
		m.log.Warn("some metrics could not be collected", "error", err)
	}
	body := encode(m.version, families, m.began, time.Now())
	if err := to.Send(ctx, otlp.Metrics, body); err != nil {
		m.log.Warn("metrics could not be sent to the collector", "error", err)
	}
}

// encode is the ExportMetricsServiceRequest of metrics that were collected now and count since
// began (opentelemetry/proto/metrics/v1).
func encode(version string, families []*dto.MetricFamily, began, now time.Time) []byte {
	return otlp.Request(version, func(scoped *otlp.Message) {
		for _, f := range families {
			var metric otlp.Message
			metric.Text(1, f.GetName())
			metric.Text(2, f.GetHelp())
			kind, data := 0, otlp.Message(nil)
			for _, one := range f.GetMetric() {
				var point otlp.Message
				kind, point = pointOf(f.GetType(), one, began, now)
				data.Bytes(1, point)
			}
			switch kind {
			case 0:
				continue // of a type that is not served, or without points
			case sum:
				data.Uint(2, cumulative)
				data.Uint(3, 1) // it only grows
			case histogram:
				data.Uint(2, cumulative)
			}
			metric.Bytes(kind, data)
			scoped.Bytes(2, metric)
		}
	})
}

// The fields of a Metric that hold its data, by the type of that.
const (
	gauge     = 5
	sum       = 7
	histogram = 9
	summary   = 11
)

// cumulative is the AggregationTemporality of what Prometheus counts.
const cumulative = 2

// pointOf is a data point, and which field of its Metric it is for.
func pointOf(t dto.MetricType, one *dto.Metric, began, now time.Time) (kind int,
	point otlp.Message) {
	labels := func(field int) {
		for _, l := range one.GetLabel() {
			point.Attribute(field, l.GetName(), l.GetValue())
		}
	}
	switch t {
	case dto.MetricType_COUNTER:
		labels(7)
		point.Time(2, began)
		point.Time(3, now)
		point.Double(4, one.GetCounter().GetValue())
		return sum, point
	case dto.MetricType_GAUGE:
		labels(7)
		point.Time(3, now)
		point.Double(4, one.GetGauge().GetValue())
		return gauge, point
	case dto.MetricType_HISTOGRAM:
		labels(9)
		point.Time(2, began)
		point.Time(3, now)
		histogramOf(&point, one.GetHistogram())
		return histogram, point
	case dto.MetricType_SUMMARY:
		labels(7)
		point.Time(2, began)
		point.Time(3, now)
		s := one.GetSummary()
		point.Fixed64(4, s.GetSampleCount())
		point.Double(5, s.GetSampleSum())
		for _, q := range s.GetQuantile() {
			var value otlp.Message
			value.Double(1, q.GetQuantile())
			value.Double(2, q.GetValue())
			point.Bytes(6, value)
		}
		return summary, point
	default: // there is no other
		return 0, nil
	}
}

// histogramOf writes what a HistogramDataPoint has besides labels and times. Its buckets count each
// their own, where those of Prometheus count all below as well.
func histogramOf(point *otlp.Message, h *dto.Histogram) {
	point.Fixed64(4, h.GetSampleCount())
	point.Double(5, h.GetSampleSum())
	var counts, bounds []uint64
	below := uint64(0)
	for _, b := range h.GetBucket() {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		counts = append(counts, b.GetCumulativeCount()-below)
		bounds = append(bounds, math.Float64bits(b.GetUpperBound()))
		below = b.GetCumulativeCount()
	}
	point.Packed(6, append(counts, h.GetSampleCount()-below))
	point.Packed(7, bounds)
	for _, b := range h.GetBucket() {
		if e := b.GetExemplar(); e != nil {
			point.Bytes(8, exemplar(e))
		}
	}
}

// exemplar is an Exemplar: one of the things that were counted, by its trace.
func exemplar(e *dto.Exemplar) otlp.Message {
	var m otlp.Message
	m.Time(2, e.GetTimestamp().AsTime())
	m.Double(3, e.GetValue())
	for _, l := range e.GetLabel() {
		if id, err := hex.DecodeString(l.GetValue()); err == nil && len(id) == 16 {
			m.Bytes(5, id)
		}
	}
	return m
}
