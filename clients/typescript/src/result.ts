import { ExecutionFailed, record, text } from "./errors.js";

/** A figure. */
export class Image {
  /** "png", "jpeg", "svg", "gif" or "webp". */
  readonly format: string;
  readonly base64: string;

  constructor(format: string, base64: string) {
    this.format = format;
    this.base64 = base64;
  }

  get mime(): string {
    return this.format === "svg" ? "image/svg+xml" : `image/${this.format}`;
  }

  get data(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(atob(this.base64), (c) => c.charCodeAt(0));
  }

  /** What an img element takes as its src. */
  get url(): string {
    return `data:${this.mime};base64,${this.base64}`;
  }
}

/** How an execution went. */
export class Result {
  readonly id: string;
  /** "Succeeded", "Failed" or "Canceled"; in a Shell pool the exit code. */
  readonly status: string;
  readonly stdout: string;
  readonly stderr: string;
  /** What the last expression is worth, as JSON has it or else as text; null if there is none. */
  readonly value: unknown;
  readonly images: readonly Image[];
  /** What the code has shown, by MIME type. */
  readonly displays: readonly Readonly<Record<string, string>>[];
  readonly errorName: string;
  readonly errorMessage: string;
  readonly exitCode: number | undefined;
  /** Whether the variables are gone; files stay. */
  readonly stateLost: boolean;
  readonly milliseconds: number;

  constructor(answer: unknown) {
    const a = record(answer);
    const r = record(a["result"]);
    const failure = record(record(a["error"])["error"]);
    const value = r["executionResult"];
    const figure = record(value);
    const shown = figure["type"] === "image" && typeof figure["base64_data"] === "string";
    const images = list(r["images"]).map(imageOf);
    this.id = text(a["id"]);
    this.status = text(a["status"]);
    this.stdout = text(r["stdout"]);
    this.stderr = text(r["stderr"]);
    this.value = shown || value === undefined || value === "" ? null : value;
    this.images = shown && images.length === 0 ? [imageOf(value)] : images;
    this.displays = list(r["displayData"]).map((d) => record(d) as Record<string, string>);
    this.errorName = text(r["errorName"]) || text(failure["code"]);
    this.errorMessage = text(r["errorMessage"]) || text(failure["message"]);
    this.exitCode = typeof a["exitCode"] === "number" ? a["exitCode"] : undefined;
    this.stateLost = r["stateLost"] === true;
    this.milliseconds = Number(r["executionTimeInMilliseconds"] ?? 0);
  }

  get ok(): boolean {
    return this.status === "Succeeded" || this.status === "0";
  }

  /** Returns the result, or throws ExecutionFailed. */
  check(): this {
    if (!this.ok) throw new ExecutionFailed(this);
    return this;
  }
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function imageOf(value: unknown): Image {
  const i = record(value);
  return new Image(text(i["format"]), text(i["base64_data"]));
}
