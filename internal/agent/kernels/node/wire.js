// Frames on the socket between kernel and agent: a 4 byte big-endian length and a JSON object.
"use strict";

const { Socket } = require("node:net");
const { parse, stringify } = JSON;

exports.Wire = class Wire {
  #socket;
  #chunks = [];
  #length = 0;

  // Calls receive with each frame, and gone when the agent is gone.
  constructor(fd, receive, gone) {
    this.#socket = new Socket({ fd, readable: true, writable: true });
    this.#socket.on("data", (chunk) => {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      for (let frame = this.#cut(); frame !== null; frame = this.#cut()) receive(frame);
    });
    this.#socket.on("close", gone);
    this.#socket.on("error", gone);
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
    this.#socket.write(frame);
  }
};
