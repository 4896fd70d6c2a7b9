// What surrounds one cell alone: variables of the environment, a working directory, and something to
// read from standard input, which is descriptor 0.
"use strict";

const { ReadStream } = require("node:fs");

const { cwd, chdir } = process;

// Changes what a request asks for, and returns what undoes it.
exports.around = (request) => {
  const undo = [];
  for (const [name, value] of Object.entries(request.env ?? {})) {
    const old = process.env[name];
    undo.push(() => {
      if (old === undefined) delete process.env[name];
      else process.env[name] = old;
    });
    process.env[name] = value;
  }
  if (request.dir !== undefined) {
    const old = cwd();
    undo.push(() => chdir(old));
    chdir(request.dir);
  }
  if (request.input) {
    const old = Object.getOwnPropertyDescriptor(process, "stdin");
    const stdin = new ReadStream(null, { fd: 0, autoClose: false });
    undo.push(() => Object.defineProperty(process, "stdin", old));
    Object.defineProperty(process, "stdin", { value: stdin, configurable: true, enumerable: true });
  }
  return () => {
    for (const step of undo.reverse()) {
      try {
        step();
      } catch {
        // The directory is gone.
      }
    }
  };
};
