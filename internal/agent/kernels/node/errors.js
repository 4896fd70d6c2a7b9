// How exceptions are shown: as Node.js shows one that nobody catches, with the line of the source.
"use strict";

const { isNativeError } = require("node:util/types");
const { clip, show } = load("bounds");

const OURS = /^\s+at .*(\bsandpool\/|node:inspector|node:vm|node:internal\/(vm|process\/task_queues)|<anonymous>:1:1\))|^\s+\.\.\. \d+ lines matching cause stack trace \.\.\.$/;

// Marks errors of ours, of which no line of code is to blame.
exports.BRIEF = Symbol("brief");

// Returns name, message and traceback. sources are the cells so far, by the name that frames have:
// {code, moved, map}. at is where a cell does not compile: [name, line, column].
exports.describe = function describe(error, sources, at = null) {
  if (!isNativeError(error)) {
    const text = clip(show(error));
    return { name: "Error", message: text, traceback: `Uncaught ${text}` };
  }
  let name = "Error", message = "", text = "";
  try {
    name = String(error.name);
    message = String(error.message);
    if (error[exports.BRIEF]) return { name, message, traceback: `${name}: ${message}` };
    text = show(error);
  } catch {
    text = `${name}: ${message}`; // a getter of the error's own fails
  }
  const lines = text.split("\n").filter((line) => !OURS.test(line)).map((line) => settle(line, sources));
  if (at !== null) at = [at[0], ...back(sources.get(at[0]), at[1], at[2])];
  return { name, message: clip(message), traceback: clip(where(at, lines, sources) + lines.join("\n")) };
};

const FRAME = /(cell-\d+\.js):(\d+):(\d+)/;

// Puts a frame where it was before the cell was transformed.
function settle(line, sources) {
  return line.replace(FRAME, (all, name, row, column) => [name, ...back(sources.get(name), +row, +column)].join(":"));
}

// Returns line and column, from 1, of what is at these of a script.
function back(source, row, column) {
  for (const [line, from, by] of source?.moved ?? []) {
    if (line === row && column > from) column = Math.max(column - by, from, 1);
  }
  const entry = source?.map?.findEntry(row - 1, column - 1);
  return entry?.originalLine === undefined ? [row, column] : [entry.originalLine + 1, entry.originalColumn + 1];
}

// The line of a cell that the innermost frame in one is at.
function where(at, lines, sources) {
  for (const line of lines) {
    at ??= /^\s+at /.test(line) ? FRAME.exec(line)?.slice(1) : null;
  }
  const [name, row, column] = at ?? [];
  const source = sources.get(name)?.code.split("\n")[row - 1];
  if (source === undefined) return "";
  return `${name}:${row}\n${source.slice(0, 200)}\n${" ".repeat(Math.min(Math.max(column - 1, 0), 200))}^\n\n`;
}
