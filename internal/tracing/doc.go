// Package tracing tells a collector of OpenTelemetry where the time of requests goes, by OTLP over
// HTTP or gRPC. It is off unless an endpoint is configured; a nil *Tracer and a nil *Span do
// nothing, and cost a comparison.
//
//	request ─┬─ claim ── start
//	         └─ exchange ── cell
//
// Which requests are traced their callers decide, by the flag of a W3C traceparent; of those that
// say nothing a part is. A container gets a traceparent of ours, so that its own spans hang below.
package tracing
