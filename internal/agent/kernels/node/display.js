// Turns values into text and pictures: their representations by MIME type.
"use strict";

const { isPromise } = require("node:util/types");
const { clip, show } = load("bounds");
const { importer } = load("modules");

const MAX_MIME = 8 << 20; // characters of one representation
const MAX_BUNDLE = 64; // representations of one value
const JUPYTER = Symbol.for("Jupyter.display");

const is = (value, ...methods) => methods.every((name) => typeof value[name] === "function");
const png = (canvas) => ({ "image/png": canvas.toBuffer("image/png") });

// How things that are pictures become some. Each returns a bundle, or nothing.
const pictures = [
  (v) => is(v, "getContext", "toBuffer") && png(v), // a canvas
  (v) => v.canvas && is(v, "update", "destroy") && is(v.canvas, "toBuffer") && png(v.canvas), // Chart.js
  (v) => is(v, "renderToSVGString", "setOption") && { "image/svg+xml": v.renderToSVGString() }, // ECharts
  (v) => is(v, "toSVG", "runAsync") && v.toSVG().then((svg) => ({ "image/svg+xml": svg })), // a view of Vega
  (v) => typeof v.$schema === "string" && v.$schema.includes("/schema/vega") && vega(v),
  (v) => typeof v.outerHTML === "string" && v.nodeType === 1 &&
    { [/^svg$/i.test(v.tagName) ? "image/svg+xml" : "text/html"]: v.outerHTML },
];

async function vega(spec) {
  const bring = importer("/usr/local/lib/x.js");
  const { View, parse } = await bring("vega");
  const lite = spec.$schema.includes("/vega-lite/");
  const full = lite ? (await bring("vega-lite")).compile(spec).spec : spec;
  const version = /v\d+/.exec(spec.$schema)?.[0] ?? "v6";
  return {
    "image/svg+xml": await new View(parse(full), { renderer: "none" }).toSVG(),
    [`application/vnd.vega${lite ? "lite" : ""}.${version}+json`]: spec,
  };
}

// Returns the bundle of a value that is more than text, a promise of one, or null.
function own(value) {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return null;
  if (typeof value[JUPYTER] === "function") return value[JUPYTER]();
  if (typeof value !== "object") return null;
  for (const picture of pictures) {
    const bundle = picture(value);
    if (bundle) return bundle;
  }
  return null;
}

// Makes every representation a string of bounded size; drops what cannot be.
exports.encode = function encode(bundle) {
  const out = {};
  for (const [mime, value] of Object.entries(bundle).slice(0, MAX_BUNDLE)) {
    let text = value;
    if (value instanceof Uint8Array) text = Buffer.from(value.buffer, value.byteOffset, value.length).toString("base64");
    else if (typeof value !== "string") text = JSON.stringify(value);
    if (typeof text !== "string") continue;
    if (mime === "text/plain") out[mime] = clip(text);
    else if (text.length <= MAX_MIME) out[mime] = text;
  }
  return out;
};

// Returns the representations of a value, or a promise of them. Of what is a picture the text says
// no more than what it is.
exports.represent = function represent(value) {
  const text = (depth) => ({ "text/plain": show(value, depth) });
  const whole = (bundle) => exports.encode(bundle ? { ...text(-1), ...bundle } : text(5));
  const fail = (e) => {
    process.stderr.write(`The value could not be drawn: ${show(e)}\n`);
    return whole(null);
  };
  try {
    const bundle = own(value);
    return isPromise(bundle) ? bundle.then(whole).catch(fail) : whole(bundle);
  } catch (e) {
    return fail(e);
  }
};
