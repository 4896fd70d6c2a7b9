// Makes a clone of a snapshot different from its siblings. What they would share is the state of
// OpenSSL's generator, which seeds itself when Node.js starts and which no function of Node.js
// seeds again, and the state of Math.random.
"use strict";

const { createRequire } = require("node:module");

// koffi, which calls functions of C, is part of the image.
let loaded = null;
function c() {
  if (loaded === null) loaded = createRequire("/usr/local/lib/").call(null, "koffi").load(null);
  return loaded;
}
exports.libc = c;

let poll = null;
exports.prepare = function prepare() {
  poll = c().func("int RAND_poll()");
  const limit = c().func("int setrlimit(int, void *)");
  for (const [what, most] of [[4, 0n], [7, 4096n]]) { // RLIMIT_CORE, RLIMIT_NOFILE
    limit(what, Buffer.from(new BigUint64Array([most, most]).buffer));
  }
};

exports.seed = function seed(hex) {
  if (poll() !== 1) throw new Error("OpenSSL's generator could not be seeded");
  const data = Buffer.from(hex, "hex");
  const state = new Uint32Array(4);
  for (let i = 0; i < 4; i++) state[i] = data.readUInt32LE(4 * i);
  state[0] |= 1; // not all of it is zero
  // xoshiro128**, https://prng.di.unimi.it/xoshiro128starstar.c
  const next = () => {
    const x = Math.imul(state[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = (state[3] << 11) | (state[3] >>> 21);
    return result;
  };
  Object.defineProperty(Math, "random", {
    value: { random: () => (next() * 0x200000 + (next() >>> 11)) / 0x20000000000000 }.random,
    writable: true, enumerable: false, configurable: true,
  });
};
