import { errorOf, SandpoolError, Unreachable } from "./errors.js";
import { Session } from "./session.js";
import { traceOf } from "./trace.js";

/** A token that may run code in the pool, or a function that returns one for each request. */
export type Token = string | (() => string | Promise<string>);

/**
 * A value of the header traceparent of W3C Trace Context, or a function that returns the present
 * one.
 */
export type Traceparent = string | (() => string | undefined);

export interface PoolOptions {
  /** Makes the requests in place of the runtime's own fetch. */
  readonly fetch?: typeof globalThis.fetch;
  /**
   * The trace that requests belong to. Without it, it is that of the present span of
   * OpenTelemetry, where a program has set that up.
   */
  readonly traceparent?: Traceparent;
}

export interface SessionOptions {
  /** Says that the pool is one of type Shell: run and stream take commands. */
  readonly shell?: boolean;
}

const API_VERSION = "2025-10-02-preview";

/** What is asked of the server. */
export interface Request {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly json?: Readonly<Record<string, unknown>>;
  readonly body?: Blob;
  readonly headers?: Readonly<Record<string, string>>;
  /** Seconds after which the server is taken not to answer. */
  readonly patience: number;
  readonly signal?: AbortSignal | undefined;
  readonly traceparent?: string | undefined;
}

/** A session pool. */
export class Pool {
  readonly #endpoint: string;
  readonly #token: Token;
  readonly #fetch: typeof globalThis.fetch;
  readonly #traceparent: Traceparent | undefined;

  /** endpoint is the pool's poolManagementEndpoint. */
  constructor(endpoint: string, token: Token, options: PoolOptions = {}) {
    this.#endpoint = endpoint.replace(/\/+$/, "");
    this.#token = token;
    this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    this.#traceparent = options.traceparent;
  }

  /** The session of that name, or a new one. Its sandbox is claimed by the first call. */
  session(identifier?: string, options: SessionOptions = {}): Session {
    const keep = identifier !== undefined;
    return new Session(this, identifier ?? `js-${newId()}`, keep, options.shell ?? false);
  }

  /**
   * Makes a request of the server's, and returns an answer that is a success.
   *
   * @internal
   */
  async ask(r: Request): Promise<Response> {
    r.signal?.throwIfAborted();
    const token = typeof this.#token === "string" ? this.#token : await this.#token();
    const query = new URLSearchParams({ "api-version": API_VERSION, ...r.query });
    // The time is that of the whole answer, so it also ends a body that does not come.
    const patience = AbortSignal.timeout(r.patience * 1000);
    const init: RequestInit = {
      method: r.method,
      headers: {
        Authorization: `Bearer ${token}`,
        ...traceOf(r.traceparent ?? this.#traceparent),
        ...(r.json && { "Content-Type": "application/json" }),
        ...r.headers,
      },
      signal: r.signal ? AbortSignal.any([r.signal, patience]) : patience,
    };
    if (r.json) init.body = JSON.stringify(r.json);
    if (r.body) init.body = r.body;
    let response: Response;
    try {
      response = await this.#fetch(`${this.#endpoint}/${r.path}?${query}`, init);
      if (response.ok) return response;
    } catch (e) {
      throw this.failure(e, r.signal);
    }
    throw await errorOf(response);
  }

  /**
   * What a request or the reading of its answer has failed by: the caller's own reason if it was
   * aborted, Unreachable otherwise.
   *
   * @internal
   */
  failure(e: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    if (e instanceof SandpoolError) return e;
    const causes = [e, e instanceof Error ? e.cause : undefined];
    const why = causes.flatMap((c) => (c instanceof Error ? [c.message] : [])).join(": ");
    return new Unreachable(`No answer from ${this.#endpoint}: ${why || String(e)}.`, {
      code: "Unreachable",
      cause: e,
    });
  }
}

/**
 * A random name. Pages that are not served by https have no crypto.randomUUID.
 *
 * @internal
 */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
