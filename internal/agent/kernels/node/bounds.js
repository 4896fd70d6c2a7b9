// Bounds what is said of values and errors. util.inspect stops at 100 elements of an array, but not
// at 100 arrays of 100 arrays, nor at the keys of an object: what has no room in an answer is not
// made first and cut afterwards.
"use strict";

const { inspect } = require("node:util");
const { isExternal, isMap, isProxy, isSet, isTypedArray } = require("node:util/types");

const MAX_TEXT = 1 << 20; // characters of one text
const MAX_COST = 100_000; // of a value whose text is made: a key or an element is 1, and so are 64 characters
const MAX_KEYS = 10_000; // that are shown of an object with more keys than that
const MAX_ELEMENTS = 100;

exports.clip = (text) => (text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}\n... ${text.length - MAX_TEXT} more characters`);

// Adds what util.inspect shows right below a value to a list, and returns what that costs.
function open(value, list) {
  const before = list.length;
  if (isProxy(value) || isExternal(value) || isTypedArray(value)) return 0;
  if (typeof value === "object" && typeof value[inspect.custom] === "function") return 0;
  if (Array.isArray(value)) list.push(...value.slice(0, MAX_ELEMENTS));
  else {
    let left = MAX_ELEMENTS;
    for (const part of isMap(value) || isSet(value) ? value : []) {
      if (left-- === 0) break;
      if (isMap(value)) list.push(...part);
      else list.push(part);
    }
    for (const key in value) {
      if (!Object.hasOwn(value, key)) continue;
      list.push(Object.getOwnPropertyDescriptor(value, key).value);
      if (list.length - before > MAX_COST) break;
    }
  }
  let cost = 0;
  for (let i = before; i < list.length; i++) {
    cost += 1 + (typeof list[i] === "string" ? Math.min(list[i].length, MAX_TEXT) >> 6 : 0);
  }
  return cost;
}

// Returns how deep a value can be shown: -1 if what is right below it is too much already.
function reach(value, depth) {
  let level = [value], cost = 0;
  for (let reached = -1; reached < depth; reached++) {
    const below = [];
    for (const part of level) {
      if ((typeof part !== "object" && typeof part !== "function") || part === null) continue;
      cost += open(part, below);
      if (cost > MAX_COST) return reached;
    }
    if (below.length === 0) return depth;
    level = below;
  }
  return depth;
}

// Returns the text of a value that has more right below it than can be shown.
function beginning(value, options) {
  options = { ...options, depth: 0, maxStringLength: 1000 };
  if (Array.isArray(value) || isMap(value) || isSet(value)) return inspect(value, options);
  const part = Object.create(Object.getPrototypeOf(value));
  let count = 0;
  for (const key in value) {
    if (!Object.hasOwn(value, key)) continue;
    if (count++ < MAX_KEYS) Object.defineProperty(part, key, Object.getOwnPropertyDescriptor(value, key));
  }
  const text = inspect(part, options);
  return count > MAX_KEYS ? `${text}\n... ${count - MAX_KEYS} more keys` : text;
}

// Returns the text of a value, as util.inspect makes it, of as many levels as there is room for. It
// is not clipped yet.
exports.show = function show(value, depth = 5) {
  const options = { maxArrayLength: MAX_ELEMENTS, maxStringLength: MAX_TEXT };
  if (typeof value === "bigint") {
    const digits = value.toString(16).length;
    if (digits > MAX_TEXT) return `<a BigInt of about ${Math.round(digits * 1.20412)} digits>`;
  }
  if (typeof value === "string" && value.length > MAX_TEXT) {
    const kept = MAX_TEXT - 100;
    return `${inspect(value.slice(0, kept)).slice(0, kept)}\n... about ${value.length - kept} more characters`;
  }
  let reached = depth;
  if (((typeof value === "object" && value !== null) || typeof value === "function") && depth >= 0) {
    try {
      reached = reach(value, depth);
      if (reached < 0) return beginning(value, options);
    } catch {
      reached = depth; // what it is made of fails, and inspect says how
    }
  }
  return inspect(value, { ...options, depth: reached });
};
