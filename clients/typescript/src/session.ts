/// <reference lib="esnext.disposable" preserve="true" />
import { record, SandpoolError, text, Unreachable } from "./errors.js";
import { type Event, eventOf, linesOf } from "./event.js";
import { newId, type Pool, type Request } from "./pool.js";
import { Result } from "./result.js";

export interface CallOptions {
  /** Takes the call back when it is aborted; the call then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** The trace that the call belongs to, as the header traceparent of W3C Trace Context has it. */
  readonly traceparent?: string;
}

export interface RunOptions extends CallOptions {
  /** How long the code may run. Without it, as long as the server allows. */
  readonly timeoutInSeconds?: number;
}

export interface ListOptions extends CallOptions {
  /** Lists what is in the directories, too. */
  readonly recursive?: boolean;
}

/** What a file is written from. */
export type Data = string | Blob | ArrayBuffer | ArrayBufferView<ArrayBuffer>;

/** A file or a directory of a session; path is from /mnt/data. */
export interface File {
  readonly name: string;
  readonly path: string;
  readonly type: string;
  readonly size: number;
  readonly modified: Date;
  readonly contentType: string;
}

// Seconds that are added to an execution's own: for the claim, and the way there and back.
const GRACE = 45;
// The longest execution of a server as it comes, which is that of one without a timeout.
const LONGEST = 220;
// Seconds that other calls, and those that move files, may take.
const SHORT = 60;
const MOVE = 900;
// Milliseconds to wait before a stream that broke off is taken up again, while nothing comes of it:
// long enough for a server that restarts.
const PAUSES = [0, 200, 500, 1000, 2000, 4000];

/** A session of a pool. */
export class Session {
  /** What the session is found by again. */
  readonly identifier: string;
  readonly #pool: Pool;
  readonly #keep: boolean;
  readonly #shell: boolean;

  /** @internal */
  constructor(pool: Pool, identifier: string, keep: boolean, shell: boolean) {
    this.#pool = pool;
    this.identifier = identifier;
    this.#keep = keep;
    this.#shell = shell;
  }

  /** Runs code and says how it went. Code that throws is a result, and no error. */
  async run(code: string, options: RunOptions = {}): Promise<Result> {
    const response = await this.#pool.ask(this.#execution(code, options));
    return new Result(await this.#body(() => response.json(), options.signal));
  }

  /**
   * Runs code and yields its events as they happen. A connection that breaks is taken up where it
   * was. A loop that is left early cancels the code, and so does the signal.
   */
  async *stream(code: string, options: RunOptions = {}): AsyncGenerator<Event, void> {
    const execution = newId();
    const headers = { Accept: "application/x-ndjson" };
    let request: Request = {
      ...this.#execution(code, options),
      headers: { ...headers, "Operation-Id": execution },
    };
    let begun = false;
    let done = false;
    let last = 0;
    let tries = 0;
    try {
      while (!done) {
        try {
          const { body } = await this.#pool.ask(request);
          begun = true;
          if (!body) throw new Error("the answer has no body");
          for await (const line of linesOf(body)) {
            const event = eventOf(line);
            tries = 0;
            if (!event) continue;
            last = event.sequence;
            done = event.type === "result";
            yield event;
          }
          // Read to its end, the connection serves the next call.
          if (done) return;
        } catch (e) {
          const failure = this.#pool.failure(e, options.signal);
          if (!begun || !brokenOff(failure)) throw failure;
        }
        const pause = PAUSES[tries++];
        if (pause === undefined) {
          const message = "The stream broke off, again and again.";
          throw new Unreachable(message, { code: "Unreachable" });
        }
        await wait(pause, options.signal);
        request = {
          method: "GET",
          path: `executions/${execution}`,
          query: { identifier: this.identifier, after: String(last) },
          headers,
          patience: 2 * LONGEST + GRACE,
          signal: options.signal,
          traceparent: options.traceparent,
        };
      }
    } finally {
      if (!done) await this.#cancel(execution);
    }
  }

  /** Writes a file; path is from /mnt/data. */
  async write(path: string, data: Data, options: CallOptions = {}): Promise<void> {
    const { body, type } = formOf(path, data);
    await this.#pool.ask({
      method: "POST",
      path: "files",
      query: { identifier: this.identifier },
      body,
      headers: { "Content-Type": type },
      patience: MOVE,
      ...options,
    });
  }

  /** Reads a file; path is from /mnt/data. */
  async read(path: string, options: CallOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const response = await this.#content(path, options);
    return new Uint8Array(await this.#body(() => response.arrayBuffer(), options.signal));
  }

  /** Reads a file that is text; path is from /mnt/data. */
  async readText(path: string, options: CallOptions = {}): Promise<string> {
    const response = await this.#content(path, options);
    return await this.#body(() => response.text(), options.signal);
  }

  /** Reads a file piece by piece, for one that is not to be in memory whole. */
  async readStream(path: string, options: CallOptions = {}): Promise<ReadableStream<Uint8Array>> {
    return (await this.#content(path, options)).body ?? new ReadableStream();
  }

  /** Lists a directory; path is from /mnt/data. */
  async files(path = "", options: ListOptions = {}): Promise<File[]> {
    const response = await this.#pool.ask({
      method: "GET",
      path: "files",
      query: { identifier: this.identifier, path, recursive: String(options.recursive ?? false) },
      patience: SHORT,
      signal: options.signal,
      traceparent: options.traceparent,
    });
    const answer = record(await this.#body(() => response.json(), options.signal));
    return (answer["value"] as unknown[]).map(fileOf);
  }

  /** Removes a file, or a directory with all that is in it; path is from /mnt/data. */
  async remove(path: string, options: CallOptions = {}): Promise<void> {
    const query = { identifier: this.identifier };
    const at = `files/${encodeURIComponent(path)}`;
    await this.#pool.ask({ method: "DELETE", path: at, query, patience: SHORT, ...options });
  }

  /** Ends the session and all that is in it. One that is not there is ended already. */
  async end(options: CallOptions = {}): Promise<void> {
    const query = { identifier: this.identifier };
    try {
      await this.#pool.ask({
        method: "DELETE", path: "session", query, patience: SHORT, ...options,
      });
    } catch (e) {
      const gone = ["SessionWithIdentifierNotFound", "SessionEnded"];
      if (!(e instanceof SandpoolError && gone.includes(e.code))) throw e;
    }
  }

  /** Ends a session without a name of the caller's: `await using session = pool.session()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#keep) await this.end();
  }

  #execution(code: string, options: RunOptions): Request {
    const { timeoutInSeconds, signal, traceparent } = options;
    const limit = timeoutInSeconds && Math.max(1, Math.round(timeoutInSeconds));
    return {
      method: "POST",
      path: "executions",
      query: { identifier: this.identifier },
      json: {
        [this.#shell ? "shellCommand" : "code"]: code,
        ...(limit && { timeoutInSeconds: limit }),
      },
      // It may have to wait for one that runs.
      patience: (limit ?? LONGEST) + LONGEST + GRACE,
      signal,
      traceparent,
    };
  }

  async #cancel(execution: string): Promise<void> {
    const query = { identifier: this.identifier };
    const path = `executions/${execution}`;
    try {
      await this.#pool.ask({ method: "DELETE", path, query, patience: SHORT });
    } catch (e) {
      // What ends the loop must not be hidden by what ends the code.
      if (!(e instanceof SandpoolError)) throw e;
    }
  }

  #content(path: string, options: CallOptions): Promise<Response> {
    const query = { identifier: this.identifier };
    const at = `files/${encodeURIComponent(path)}/content`;
    return this.#pool.ask({ method: "GET", path: at, query, patience: MOVE, ...options });
  }

  async #body<T>(read: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await read();
    } catch (e) {
      throw this.#pool.failure(e, signal);
    }
  }
}

/** Whether a stream may go on after a failure: the connection broke, or the server is starting. */
function brokenOff(e: unknown): boolean {
  return e instanceof Unreachable || (e instanceof SandpoolError && [502, 503].includes(e.status));
}

/** A form with a file. FormData would not do: it writes a quote in the name as "%22". */
function formOf(path: string, data: Data): { body: Blob; type: string } {
  const boundary = newId();
  const name = path.replace(/[\\"]/g, "\\$&").replace(/[\r\n]/g, encodeURIComponent);
  const head = [
    `--${boundary}`,
    `Content-Disposition: form-data; name="file"; filename="${name}"`,
    "Content-Type: application/octet-stream",
    "\r\n",
  ].join("\r\n");
  const body = new Blob([head, data, `\r\n--${boundary}--\r\n`]);
  return { body, type: `multipart/form-data; boundary=${boundary}` };
}

function wait(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function fileOf(value: unknown): File {
  const f = record(value);
  const name = text(f["name"]);
  return {
    name,
    path: [text(f["directory"]), name].filter(Boolean).join("/"),
    type: text(f["type"]),
    size: Number(f["sizeInBytes"] ?? 0),
    modified: new Date(text(f["lastModifiedAt"])),
    contentType: text(f["contentType"]),
  };
}
