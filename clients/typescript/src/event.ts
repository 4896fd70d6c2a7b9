import { record, SandpoolError, text } from "./errors.js";
import { Result } from "./result.js";

/** A part of a running execution; docs/executions.md has the types. The last has the result. */
export type Event = { readonly sequence: number } & (
  | { readonly type: "status"; readonly status: string }
  | { readonly type: "stdout" | "stderr"; readonly text: string }
  | {
      readonly type: "display";
      /** By MIME type, binary ones in base64. */
      readonly data: Readonly<Record<string, string>>;
      /** The same id again takes its place. */
      readonly displayId: string;
    }
  /** The output so far is to be forgotten; with wait, when there is more. */
  | { readonly type: "clear"; readonly wait: boolean }
  | { readonly type: "result"; readonly status: string; readonly result: Result }
);

/** The event of a line; undefined for one of a type that is newer than this client. */
export function eventOf(line: string): Event | undefined {
  const e = record(JSON.parse(line));
  const sequence = Number(e["sequence"] ?? 0);
  const type = text(e["type"]);
  switch (type) {
    case "status":
      return { type, sequence, status: text(e["status"]) };
    case "stdout":
    case "stderr":
      return { type, sequence, text: text(e["text"]) };
    case "display": {
      const data = record(e["data"]) as Record<string, string>;
      return { type, sequence, data, displayId: text(e["displayId"]) };
    }
    case "clear":
      return { type, sequence, wait: e["wait"] === true };
    case "result":
      return { type, sequence, status: text(e["status"]), result: new Result(e["execution"]) };
    case "error": {
      const failure = record(e["error"]);
      const message = text(failure["message"]) || "The stream cannot go on.";
      throw new SandpoolError(message, { code: text(failure["code"]) });
    }
  }
  return undefined;
}

/** The lines of a body that comes piece by piece. */
export async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let parts: string[] = []; // of a line whose end has not come: figures come in many pieces
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return; // a line without its end was cut off
      const pieces = decoder.decode(value, { stream: true }).split("\n");
      const rest = pieces.pop() ?? "";
      for (const piece of pieces) {
        parts.push(piece);
        const line = parts.join("");
        parts = [];
        if (line !== "") yield line;
      }
      parts.push(rest);
    }
  } finally {
    // Without it the connection of a reader that leaves early would stay open.
    await reader.cancel().catch(() => undefined);
  }
}
