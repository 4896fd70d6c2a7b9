// Runs cells for the agent, one after another, all in one realm: package kernels describes how
// the agent talks to it.
//
// V8 compiles and runs a cell in the mode of a debugger's console, by Node's inspector. What is
// not over when the cell's promise is goes on between cells: timers, servers, child processes.
"use strict";

const inspector = require("node:inspector");
const { createRequire, Module } = require("node:module");
const { pathToFileURL } = require("node:url");
const { isPromise } = require("node:util/types");
const { Wire } = load("wire");
const { around } = load("around");
const { BRIEF, describe } = load("errors");
const { breakable, listen, mend, noted } = load("interrupts");
const { importer } = load("modules");
const { encode, represent } = load("display");
const { kill } = load("signals");
const source = load("source");
const seeding = load("seed");

const MAX_SOURCES = 200; // cells whose lines errors show
const MAX_LATE = 32; // displays between two cells that the next one brings

// What a cell has printed is still here if it was more than a pipe takes at once.
const STREAMS = [process.stdout, process.stderr];
const { write } = require("node:stream").Writable.prototype;
const flushed = (stream) => stream.writableLength > 0 && new Promise((done) => write.call(stream, "", done));

class Interrupted extends Error {
  name = "Interrupted";
  [BRIEF] = true;
}

// What process.exit throws: it ends the cell, and not the session.
class SystemExit extends Error {
  name = "SystemExit";
  [BRIEF] = true;
}

exports.Kernel = class Kernel {
  #wire;
  #ready;
  #inspector = new inspector.Session();
  #count = 1;
  #sources = new Map();
  #cell = null; // that runs
  #late = [];
  #run;
  #exception;

  constructor(directory) {
    this.#inspector.connect();
    // Node.js defines globals of its own, among them module, after its main script.
    this.#ready = new Promise(setImmediate).then(() => this.#define(directory));
    listen(() => this.#cell?.settle({ failed: true, error: new Interrupted("The code was interrupted.") }));
    const stray = (e) => this.#stray(e);
    process.on("uncaughtException", stray);
    process.on("unhandledRejection", stray);
    this.#run = breakable("__sandpool_step", (name, value) => this.#keep(name, value));
  }

  serve() {
    let queue = this.#ready;
    this.#wire = new Wire(3, (request) => {
      queue = queue.then(() => this.#answer(request));
    }, () => process.reallyExit(0));
    for (const stream of STREAMS) {
      for (const name of ["_write", "_writev"]) {
        const inner = stream[name];
        const value = (data, encoding, done) => {
          this.#settle(stream);
          return inner.call(stream, data, encoding, done);
        };
        if (inner) Object.defineProperty(stream, name, { value, enumerable: false, configurable: true, writable: true });
      }
    }
  }

  #hide(name, value) {
    Object.defineProperty(globalThis, name, { value, enumerable: false, configurable: true, writable: true });
  }

  // Defines what the kernel itself reaches by a name of the realm, which code can not take away.
  #keep(name, value) {
    Object.defineProperty(globalThis, name, { value, enumerable: false, configurable: false, writable: false });
  }

  // Defines what cells find besides what every script does.
  #define(directory) {
    const here = directory + "/[cell].js";
    const module = new Module("<cell>");
    module.filename = here;
    module.paths = Module._nodeModulePaths(directory);
    const globals = { require: createRequire(here), module, exports: module.exports, __filename: here, __dirname: directory };
    for (const [name, value] of Object.entries({ ...globals, display: this.#displays() })) this.#hide(name, value);
    const bring = importer(here);
    this.#keep(source.IMPORT, async (specifier, options, names = []) => {
      const loaded = await bring(specifier, options);
      for (const name of names) {
        if (!(name in loaded)) {
          throw new SyntaxError(`The requested module '${specifier}' does not provide an export named '${name}'`);
        }
      }
      return loaded;
    });
    const { require } = globals;
    this.#keep(source.META, {
      url: pathToFileURL(here).href, filename: here, dirname: directory,
      resolve: (name) => pathToFileURL(require.resolve(name)).href,
    });
    this.#keep(source.VALUE, (value) => {
      if (this.#cell) this.#cell.value = value;
    });
    this.#keep(source.CONSTANT, source.CONSTANTS);
    this.#keep("__sandpool_exception", (e) => { this.#exception = e; });
    process.kill = kill;
    process.exit = (code = process.exitCode ?? 0) => {
      const e = new SystemExit(String(code));
      this.#cell?.settle({ failed: true, error: e });
      throw e;
    };
  }

  // What cells show: display(value), display.html(text) and so on.
  #displays() {
    const show = (bundle) => this.#show({ op: "display", data: encode(bundle), display: "", update: false });
    const display = (value) => {
      const bundle = represent(value);
      if (!isPromise(bundle)) show(bundle);
      else this.#cell?.drawn.push(bundle.then(show));
    };
    const as = (mime) => (data) => show({ [mime]: data });
    return Object.assign(display, {
      html: as("text/html"), svg: as("image/svg+xml"), png: as("image/png"), jpeg: as("image/jpeg"),
      markdown: as("text/markdown"), latex: as("text/latex"), json: as("application/json"), mime: show,
      clear: (wait = false) => this.#show({ op: "clear", wait }),
    });
  }

  #show(message) {
    if (this.#cell === null) {
      if (this.#late.length < MAX_LATE) this.#late.push(message);
      return;
    }
    message = { ...message, id: this.#cell.id };
    this.#cell.printed = null;
    if (this.#cell.live || message.op === "clear") this.#wire.settle(message);
    else this.#wire.send(message);
  }

  // Before something is printed while somebody watches the cell: makes sure that what the other
  // stream has comes first.
  #settle(stream) {
    const cell = this.#cell;
    if (!cell?.live || cell.printed === stream) return;
    const first = cell.printed;
    cell.printed = stream;
    if (first !== null) this.#wire.settle({ op: "sync", id: cell.id });
  }

  async #answer(request) {
    const reply = { op: "done", id: request.id };
    try {
      if (request.op === "run") Object.assign(reply, await this.#within(request));
      else if (request.op === "warm") reply.info = await load("warm").warm((code) => this.#execute({ id: "", code }), () => this.#forget());
      else if (request.op === "init") this.#init(request);
    } catch (e) {
      reply.error = describe(e, this.#sources);
    }
    this.#wire.send(reply);
  }

  #init({ seed, env }) {
    seeding.seed(seed);
    Object.assign(process.env, env);
    this.#forget();
  }

  // Leaves no trace of the cells so far but what they defined.
  #forget() {
    this.#count = 1;
    this.#sources.clear();
    this.#late = [];
  }

  // Runs a cell with what surrounds it alone.
  async #within(request) {
    if (!request.env && request.dir === undefined && !request.input) return this.#execute(request);
    const undo = around(request);
    try {
      return await this.#execute(request);
    } finally {
      undo();
    }
  }

  // Runs a cell and returns what there is to say of it.
  async #execute(request) {
    const begin = process.hrtime.bigint();
    noted(); // what came before is none of this cell
    const name = `cell-${this.#count++}.js`;
    const { script, valued, moved, map } = source.transform(request.code);
    this.#sources.set(name, { code: request.code, moved, map });
    this.#sources.delete(`cell-${this.#count - MAX_SOURCES}.js`);
    const cell = this.#cell = {
      id: request.id, name, settle: null, value: undefined, drawn: [],
      live: request.live, printed: null, // the stream that was printed to last
    };
    const over = new Promise((settle) => { cell.settle = settle; });
    for (const message of this.#late.splice(0)) this.#show(message);
    const answer = {};
    try {
      this.#evaluate(`${script}\n//# sourceURL=${name}`, cell);
      let end = await over;
      if (!end.failed && valued && isPromise(cell.value)) end = await this.#settled(cell);
      if (end.error instanceof Interrupted) STREAMS.forEach(mend);
      if (end.failed) answer.error = describe(end.error, this.#sources, end.at);
      else if (valued && cell.value !== undefined) answer.value = await represent(cell.value);
      // What it left to be done at once is done, and what it drew is shown.
      await new Promise(setImmediate);
      await Promise.all(cell.drawn);
      await Promise.all(STREAMS.map(flushed));
    } finally {
      this.#cell = null;
    }
    answer.ns = Number(process.hrtime.bigint() - begin);
    return answer;
  }

  // Waits for the promise that is a cell's value, and puts its value there.
  #settled(cell) {
    return new Promise((settle) => {
      cell.settle = settle;
      cell.value.then((value) => {
        cell.value = value;
        settle({});
      }, (error) => settle({ failed: true, error }));
    });
  }

  // Starts a script, which settles the cell when it is over.
  #evaluate(expression, cell) {
    let ran = false;
    try {
      this.#run(() => this.#inspector.post("Runtime.evaluate", { expression, replMode: true, objectGroup: "cell" }, (failed, result) => {
        const details = result?.exceptionDetails;
        if (failed) {
          if (/context/.test(failed.message)) process.reallyExit(1); // no cell can run any more
          cell.settle({ failed: true, error: new Interrupted("The code was interrupted.") });
        }
        else if (!details) cell.settle({});
        else {
          // The answer is there at once only if there was nothing to run.
          const at = ran ? null : [cell.name, details.lineNumber + 1, details.columnNumber + 1];
          cell.settle({ failed: true, error: this.#thrown(details), at });
        }
      }));
    } catch (e) {
      const error = e.code === "ERR_SCRIPT_EXECUTION_INTERRUPTED" ? new Interrupted("The code was interrupted.") : e;
      cell.settle({ failed: true, error });
    }
    ran = true;
  }

  // Returns the value that was thrown, which the inspector describes.
  #thrown(details) {
    const { objectId, type, value, unserializableValue: text } = details.exception ?? {};
    if (objectId === undefined) {
      if (text === undefined) return value;
      return type === "bigint" ? BigInt(text.slice(0, -1)) : Number(text);
    }
    this.#exception = undefined;
    this.#inspector.post("Runtime.callFunctionOn",
      { objectId, functionDeclaration: "function () { __sandpool_exception(this); }", silent: true });
    this.#inspector.post("Runtime.releaseObjectGroup", { objectGroup: "cell" });
    return this.#exception;
  }

  // Shows what was thrown by what no cell waits for.
  #stray(e) {
    if (e instanceof SystemExit) return;
    process.stderr.write(describe(e, this.#sources).traceback + "\n");
  }
};
