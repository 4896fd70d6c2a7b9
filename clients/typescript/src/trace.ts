import type { Traceparent } from "./pool.js";

/** What of OpenTelemetry's API is used: it registers itself here, whichever copy is loaded. */
interface OpenTelemetry {
  readonly context?: { active(): unknown };
  readonly propagation?: {
    inject(
      context: unknown,
      carrier: Record<string, string>,
      setter: { set(carrier: Record<string, string>, key: string, value: string): void },
    ): void;
  };
}

// Trace context alone: baggage may hold what is not for a server.
const NAMES = ["traceparent", "tracestate"];

/**
 * The headers that make the server's spans parts of the caller's trace.
 *
 * @internal
 */
export function traceOf(given: Traceparent | undefined): Record<string, string> {
  const traceparent = typeof given === "function" ? given() : given;
  if (traceparent) return { traceparent };
  const all = globalThis as unknown as Record<symbol, OpenTelemetry | undefined>;
  const { context, propagation } = all[Symbol.for("opentelemetry.js.api.1")] ?? {};
  const headers: Record<string, string> = {};
  if (context && propagation) {
    propagation.inject(context.active(), headers, {
      set(carrier, key, value) {
        if (NAMES.includes(key.toLowerCase())) carrier[key] = value;
      },
    });
  }
  return headers;
}
