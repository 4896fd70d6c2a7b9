// What happens before a snapshot is taken: cells run that do what first cells do, so that no
// session waits for it.
"use strict";

const { readFileSync } = require("node:fs");
const v8 = require("node:v8");
const vm = require("node:vm");
const seeding = load("seed");

// What they declare stays, under names that nobody else has.
const CELLS = [
  "1+1", "console.log(''); console.error('')", "throw new Error('x')", "[1, {a: [new Map([[1, 2]])]}]",
  "await new Promise((done) => setTimeout(done, 1))", "const __sandpool_x: number = 1; enum __sandpool_e { A }; __sandpool_x",
  "import { readFileSync as __sandpool_f } from 'node:fs'; import __sandpool_p from 'node:path'; __sandpool_p.join('a', 'b')", "syntax error",
  "require('node:child_process').execFileSync('true')",
];

exports.warm = async function warm(execute, forget) {
  seeding.prepare();
  for (const code of CELLS) await execute(code);
  forget();
  v8.setFlagsFromString("--expose-gc");
  const gc = vm.runInNewContext("gc");
  v8.setFlagsFromString("--no-expose-gc");
  gc();
  gc();
  return describe();
};

function describe() {
  let packages = [];
  try {
    const { dependencies } = JSON.parse(readFileSync("/usr/local/lib/package.json", "utf8"));
    packages = Object.entries(dependencies).map(([name, version]) => ({ name, version }));
  } catch {
    // An image need not have any.
  }
  const { node } = process.versions;
  return { runtime: "node", version: node, kernel: "node", kernelVersion: node, packages };
}
