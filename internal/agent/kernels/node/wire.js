// Frames on the socket between kernel and agent: a 4 byte big-endian length and a JSON object.
//
// Frames are sent at once, and no code runs meanwhile. An interrupt may end that between two steps:
// what is not sent then goes before the next frame, and what is not acknowledged yet is waited for
// with it.
"use strict";

const { readSync, writeSync } = require("node:fs");
const { Socket } = require("node:net");
const { parse, stringify } = JSON;
const { wait } = Atomics;

const PAUSE = 0.05; // milliseconds between two looks at a socket that is not ready
const never = new Int32Array(new SharedArrayBuffer(4));

exports.Wire = class Wire {
  #fd;
  #receive;
  #gone;
  #chunks = [];
  #length = 0;
  #unsent = []; // frames
  #owed = 0; // acknowledgements that are still to come

  // Calls receive with each frame that is no acknowledgement, and gone when the agent is gone.
  constructor(fd, receive, gone) {
    this.#fd = fd;
    this.#receive = receive;
    this.#gone = gone;
    const socket = new Socket({ fd, readable: true, writable: false });
    socket.on("data", (chunk) => this.#take(chunk));
    socket.on("close", gone);
    socket.on("error", gone);
  }

  #take(chunk) {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    for (let frame = this.#cut(); frame !== null; frame = this.#cut()) {
      if (frame.op !== "ack") this.#receive(frame);
      else if (this.#owed > 0) this.#owed--;
    }
  }

  #cut() {
    if (this.#length < 4) return null;
    if (this.#chunks[0].length < 4) this.#join();
    const size = 4 + this.#chunks[0].readUInt32BE(0);
    if (this.#length < size) return null;
    this.#join();
    const data = this.#chunks[0];
    this.#chunks = size < data.length ? [data.subarray(size)] : [];
    this.#length -= size;
    return parse(data.toString("utf8", 4, size));
  }

  #join() {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
  }

  send(message) {
    const body = Buffer.from(stringify(message));
    const frame = Buffer.allocUnsafe(4 + body.length);
    frame.writeUInt32BE(body.length, 0);
    body.copy(frame, 4);
    this.#unsent.push(frame);
    this.#push();
  }

  // Sends a message, and returns when the agent has acknowledged it.
  settle(message) {
    this.#owed++;
    this.send(message);
    while (this.#owed > 0) {
      const chunk = Buffer.allocUnsafe(4096);
      const count = this.#try(() => readSync(this.#fd, chunk));
      if (count === 0) this.#gone();
      if (count > 0) this.#take(chunk.subarray(0, count));
    }
  }

  #push() {
    while (this.#unsent.length > 0) {
      const frame = this.#unsent[0];
      const count = this.#try(() => writeSync(this.#fd, frame));
      if (count === frame.length) this.#unsent.shift();
      else if (count > 0) this.#unsent[0] = frame.subarray(count);
    }
  }

  // Returns how many bytes a step moved, or -1 after a pause if it has to be tried again.
  #try(step) {
    try {
      return step();
    } catch (e) {
      if (e.code !== "EAGAIN") this.#gone();
      wait(never, 0, 0, PAUSE);
      return -1;
    }
  }
};
