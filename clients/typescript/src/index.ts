/**
 * Client of sandpool: run code that nobody has reviewed in warm, isolated sandboxes. It has no
 * dependencies: fetch and streams are what browsers, Node and other runtimes have.
 *
 * @module
 */

export { ExecutionFailed, PoolFull, SandpoolError, SessionEnded, Unreachable } from "./errors.js";
export type { Details } from "./errors.js";
export { Pool } from "./pool.js";
export type { PoolOptions, SessionOptions, Token, Traceparent } from "./pool.js";
export { Image, Result } from "./result.js";
export type { Event } from "./event.js";
export { Session } from "./session.js";
export type { CallOptions, Data, File, ListOptions, RunOptions } from "./session.js";
