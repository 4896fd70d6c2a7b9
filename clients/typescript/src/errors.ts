import type { Result } from "./result.js";

/** What is known of a request that was refused or has failed. */
export interface Details {
  /** The HTTP status, or 0 if there was no answer. */
  readonly status?: number;
  /** The error's code, such as "SessionPoolMaxSessionsReached"; docs/compatibility.md has them. */
  readonly code?: string;
  /** Finds the request in the server's log. */
  readonly traceId?: string;
  /** Seconds after which it may be tried again. */
  readonly retryAfter?: number | undefined;
  readonly cause?: unknown;
}

/** The server has refused a request, or could not serve it. */
export class SandpoolError extends Error {
  override readonly name: string = "SandpoolError";
  readonly status: number;
  readonly code: string;
  readonly traceId: string;
  readonly retryAfter: number | undefined;

  constructor(message: string, d: Details = {}) {
    const more = [d.code, d.traceId && `trace id ${d.traceId}`].filter(Boolean).join(", ");
    super(more ? `${message} (${more})` : message, { cause: d.cause });
    this.status = d.status ?? 0;
    this.code = d.code ?? "";
    this.traceId = d.traceId ?? "";
    this.retryAfter = d.retryAfter;
  }
}

/** The pool has as many sessions as it may have; retryAfter says when to try again. */
export class PoolFull extends SandpoolError {
  override readonly name = "PoolFull";
}

/** The session ended under the call, or was lost: its variables and files are gone. */
export class SessionEnded extends SandpoolError {
  override readonly name = "SessionEnded";
}

/** The server has not answered. */
export class Unreachable extends SandpoolError {
  override readonly name = "Unreachable";
}

/** The code did not succeed; result says how it went. */
export class ExecutionFailed extends Error {
  override readonly name = "ExecutionFailed";
  readonly result: Result;

  constructor(result: Result) {
    super(`${result.errorName || "failed"}: ${result.errorMessage || result.status}`);
    this.result = result;
  }
}

/** What an answer that is no success says. */
export async function errorOf(response: Response): Promise<SandpoolError> {
  let detail: Record<string, unknown> = {};
  try {
    const body: unknown = await response.json();
    detail = record(record(body)["error"]);
  } catch {
    // It is not JSON; the status and the headers say what there is to say.
  }
  const headers = response.headers;
  const code = text(detail["code"]) || headers.get("x-ms-error-code") || "";
  const after = Number.parseInt(headers.get("retry-after") ?? "", 10);
  const message = text(detail["message"]) || `The server has answered ${response.status}.`;
  return new (kinds[code] ?? SandpoolError)(message, {
    status: response.status,
    code,
    traceId: text(detail["traceId"]) || headers.get("x-ms-request-id") || "",
    retryAfter: Number.isNaN(after) ? undefined : after,
  });
}

const kinds: Readonly<Record<string, typeof SandpoolError | undefined>> = {
  SessionPoolMaxSessionsReached: PoolFull,
  SessionEnded,
};

/** The object that a value is, or an empty one. */
export function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** The text that a value is, or an empty one. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
