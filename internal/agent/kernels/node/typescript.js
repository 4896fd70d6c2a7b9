// What neither V8 nor Node's own stripping of types knows: decorators, accessor, JSX, and files with
// an enum. TypeScript's compiler, a package of the image, makes JavaScript of it. It is large, and
// is loaded by the first cell that needs it.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire, registerHooks, setSourceMapsSupport, stripTypeScriptTypes } = require("node:module");
const { parse } = require("node:path");
const { fileURLToPath } = require("node:url");

const DECORATED = /(^|[\s(){};,])@[\w$(]|\baccessor\s+[\w$#["']/;
// Functions that the compiler declares beside what uses them.
const ADDED = ["__esDecorate", "__runInitializers", "__propKey", "__setFunctionName"];
const JSX = /<\/|\/>|<>/;

let compiler;
function load() {
  if (compiler === undefined) {
    try {
      compiler = createRequire("/usr/local/lib/").call(null, "typescript");
      for (const name of ADDED) {
        Object.defineProperty(globalThis, name, { value: undefined, enumerable: false, configurable: true, writable: true });
      }
    } catch {
      compiler = null; // the image has none
    }
  }
  return compiler;
}

// A variable by using at the top is a constant, as source.js has it: the compiler would put all that
// follows into a block, of which later cells see nothing.
function held(ts) {
  const { NodeFlags, factory } = ts;
  const constant = (s) => {
    if (!ts.isVariableStatement(s) || (s.declarationList.flags & NodeFlags.Using) === 0) return s;
    const { declarations } = s.declarationList;
    return factory.updateVariableStatement(s, s.modifiers, factory.createVariableDeclarationList(declarations, NodeFlags.Const));
  };
  return () => (file) => factory.updateSourceFile(file, file.statements.map(constant));
}

// Reports whether code may have what only the compiler knows.
exports.needed = (code) => DECORATED.test(code) || JSX.test(code);

// Returns code as JavaScript of a module, and the text of its map, which calls it by that name; null
// if it is none or there is no compiler. Decorators are those of the standard.
exports.compile = function compile(code, name = "cell") {
  const ts = load();
  if (ts === null) return null;
  const compilerOptions = {
    target: ts.ScriptTarget.ES2024, module: ts.ModuleKind.ESNext, moduleDetection: ts.ModuleDetectionKind.Force,
    jsx: ts.JsxEmit.React, sourceMap: true, verbatimModuleSyntax: true,
  };
  // <T>x is a type or an element.
  for (const fileName of JSX.test(code) ? [`${name}.ts`, `${name}.tsx`] : [`${name}.ts`]) {
    const { diagnostics, outputText, sourceMapText } =
      ts.transpileModule(code, { compilerOptions, fileName, reportDiagnostics: true, transformers: { before: [held(ts)] } });
    if (diagnostics.length > 0) continue;
    const text = outputText.replace(/\/\/# sourceMappingURL=.*\s*$/, "").replace(/^export \{\};\s*(?![^])/m, "");
    return { code: text, map: sourceMapText };
  }
  return null;
};

let hooked = false;

// Has files of TypeScript loaded that Node.js refuses, from now on.
exports.hook = function hook() {
  if (hooked) return;
  hooked = true;
  registerHooks({
    load(url, context, next) {
      if (!/^file:.*\.[cm]?tsx?$/.test(url)) return next(url, context);
      const path = fileURLToPath(url), code = readFileSync(path, "utf8");
      const text = file(code, parse(path).name);
      if (text === null) return next(url, context);
      const module = /\.m/.test(url.slice(-5)) || (!/\.c/.test(url.slice(-5)) && /^\s*(import|export)\b/m.test(code));
      return { format: module ? "module" : "commonjs", source: text, shortCircuit: true };
    },
  });
};

// Returns a file as JavaScript with its map, or null if Node.js can do that itself.
function file(code, name) {
  if (!exports.needed(code)) {
    for (const mode of ["strip", "transform"]) {
      try {
        const text = stripTypeScriptTypes(code, { mode, sourceMap: mode === "transform" });
        return mode === "strip" ? null : mapped(text);
      } catch {
        // It is for the next one, or an error that Node.js knows how to tell.
      }
    }
    return null;
  }
  const compiled = exports.compile(code, name);
  return compiled && mapped(`${compiled.code}\n//# sourceMappingURL=data:application/json;base64,${Buffer.from(compiled.map).toString("base64")}`);
}

// Has lines of errors looked up in maps.
function mapped(text) {
  setSourceMapsSupport(true);
  return text;
}
