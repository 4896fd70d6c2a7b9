// Runs code as a part of traces of its own, and prints what the spans at the server must be parts of:
// a name, a trace and a span, one of each a line. The variables are those of check.py.

import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { context, propagation, trace, TraceFlags } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { randomBytes } from "node:crypto";
import { Pool } from "sandpool";

const ENDPOINT = process.env["SANDPOOL_ENDPOINT"] ?? "";
const TOKEN = process.env["SANDPOOL_TOKEN"] ?? "";

function made(name: string): { traceId: string; spanId: string } {
  const [traceId, spanId] = [randomBytes(16).toString("hex"), randomBytes(8).toString("hex")];
  console.log("span", name, traceId, spanId);
  return { traceId, spanId };
}

function traceparent(name: string): string {
  const { traceId, spanId } = made(name);
  return `00-${traceId}-${spanId}-01`;
}

const session = new Pool(ENDPOINT, TOKEN).session();
await session.run("1", { traceparent: traceparent("run") });
for await (const event of session.stream("2", { traceparent: traceparent("stream") })) void event;
await session.files("", { traceparent: traceparent("files") });
const pool = new Pool(ENDPOINT, TOKEN, { traceparent: () => traceparent("pool") });
await pool.session(session.identifier).run("3");
await session.run("4"); // nothing is made up

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());
const span = { ...made("otel"), traceFlags: TraceFlags.SAMPLED };
await context.with(trace.setSpanContext(context.active(), span), async () => {
  await session.run("5");
});
await session.end();
