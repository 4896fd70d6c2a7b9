// Frames on the socket between kernel and agent: a 4 byte big-endian length and a JSON object.
//
// Frames are sent at once, and no code runs meanwhile. An interrupt may end that wherever a function
// of JavaScript begins or a loop goes on, and nothing here hears of it. So what a step has done is
// recorded with no call of such a function in between: bytes that were written are not written
// again, and bytes that were read are not lost. What is not sent then goes before the next frame,
// and what is not acknowledged yet is waited for with it.
"use strict";

const { readSync } = require("node:fs");
const { Socket } = require("node:net");
const { constants: { errno: { EAGAIN } } } = require("node:os");
// What writeSync calls, which looks for errors by a function of its own before it returns.
const { writeBuffer } = process.binding("fs");
const { parse, stringify } = JSON;
const { wait } = Atomics;

const PAUSE = 0.05; // milliseconds between two looks at a socket that is not ready
const never = new Int32Array(new SharedArrayBuffer(4));

exports.Wire = class Wire {
  #fd;
  #receive;
  #gone;
  #chunks = [];
  #length = 0; // of the chunks
  #room = Buffer.alloc(4096); // what is read while somebody waits
  #filled = 0; // of the room
  #unsent = []; // frames
  #sent = 0; // of the first of them
  #owed = 0; // acknowledgements that are still to come

  // Calls receive with each frame that is no acknowledgement, and gone when the agent is gone.
  constructor(fd, receive, gone) {
    this.#fd = fd;
    this.#receive = receive;
    this.#gone = gone;
    const socket = new Socket({ fd, readable: true, writable: false });
    socket.on("data", (chunk) => {
      this.#empty();
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.#take();
    });
    socket.on("close", gone);
    socket.on("error", gone);
  }

  // Makes a chunk of what is in the room.
  #empty() {
    if (this.#filled === 0) return;
    const chunk = Buffer.from(this.#room.subarray(0, this.#filled));
    this.#chunks.push(chunk);
    this.#length += this.#filled;
    this.#filled = 0;
  }

  #take() {
    for (let frame = this.#cut(); frame !== null; frame = this.#cut()) {
      if (frame.op !== "ack") this.#receive(frame);
    }
  }

  #cut() {
    if (this.#length < 4) return null;
    if (this.#chunks[0].length < 4) this.#join();
    const size = 4 + this.#chunks[0].readUInt32BE(0);
    if (this.#length < size) return null;
    this.#join();
    const data = this.#chunks[0];
    const frame = parse(data.toString("utf8", 4, size));
    const rest = size < data.length ? [data.subarray(size)] : [];
    this.#chunks = rest;
    this.#length -= size;
    if (frame.op === "ack" && this.#owed > 0) this.#owed--;
    return frame;
  }

  #join() {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
  }

  send(message) {
    this.#put(message, 0);
  }

  // Sends a message, and returns when the agent has acknowledged it.
  settle(message) {
    this.#put(message, 1);
    for (this.#empty(), this.#take(); this.#owed > 0; this.#empty(), this.#take()) {
      try {
        this.#filled = readSync(this.#fd, this.#room);
        if (this.#filled === 0) this.#gone();
      } catch (e) {
        this.#pause(e.errno);
      }
    }
  }

  // Sends a message that so many acknowledgements will answer.
  #put(message, owed) {
    const body = Buffer.from(stringify(message));
    const frame = Buffer.allocUnsafe(4 + body.length);
    frame.writeUInt32BE(body.length, 0);
    body.copy(frame, 4);
    this.#unsent.push(frame);
    this.#owed += owed;
    this.#push();
  }

  #push() {
    while (this.#unsent.length > 0) {
      const frame = this.#unsent[0], failed = { __proto__: null };
      const count = writeBuffer(this.#fd, frame, this.#sent, frame.length - this.#sent, null, undefined, failed);
      if (failed.errno !== undefined) {
        this.#pause(failed.errno);
        continue;
      }
      this.#sent += count;
      if (this.#sent === frame.length) {
        this.#unsent.shift();
        this.#sent = 0;
      }
    }
  }

  // Waits before a step is tried again that the socket was not ready for.
  #pause(errno) {
    if (errno !== -EAGAIN) this.#gone();
    wait(never, 0, 0, PAUSE);
  }
};
