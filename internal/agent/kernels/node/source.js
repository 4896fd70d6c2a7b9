// What becomes of the source of a cell before V8 compiles it, in the console's mode: there const,
// let and class may be declared again by a later cell, and await is allowed.
//
//   - TypeScript loses its types, and its decorators if there are any
//   - import and export become what a script may have
//   - names may be declared again, as declare.js has it
//   - the value of the last expression is handed to VALUE
//
// Lines keep their numbers, but where TypeScript becomes other code, of which there is a map then.
"use strict";

const { SourceMap, stripTypeScriptTypes } = require("node:module");
const { Script } = require("node:vm");
const { CONSTANT, CONSTANTS, Declarations } = load("declare");
const typescript = load("typescript");

const { parse, stringify } = JSON;

// The names by which transformed cells reach the kernel.
const VALUE = "__sandpool_value";
const IMPORT = "__sandpool_import";
const META = "__sandpool_meta";

// The parser and the walker that Node.js has for its own REPL, which is no module that code could
// load. Its source is.
function builtin(name, dependencies) {
  const module = { exports: {} };
  const require = (name) => dependencies[name];
  const realm = "{ Array, BigInt, Error, JSON, Map, Math, Number, Object, RegExp, String, SyntaxError, isNaN, parseFloat, parseInt }";
  new Script(`((${realm}) => function (exports, module, require) {${process.binding("natives")[name]}\n})(globalThis)`,
    { filename: "sandpool/" + name }).runInThisContext()(module.exports, module, require);
  return module.exports;
}
const acorn = builtin("internal/deps/acorn/acorn/dist/acorn");
const walk = builtin("internal/deps/acorn/acorn-walk/dist/walk", { acorn });
const declarations = new Declarations(walk);

const options = {
  ecmaVersion: "latest", sourceType: "script", allowAwaitOutsideFunction: true,
  allowImportExportEverywhere: true, allowHashBang: true,
};

function tryParse(code) {
  // The top of a module may have "using", which the top of a script may not.
  for (const sourceType of /\busing\b/.test(code) ? ["script", "module"] : ["script"]) {
    try {
      return acorn.parse(code, { ...options, sourceType });
    } catch {
      // It is something else.
    }
  }
  return null;
}

const MAP = /\n\/\/# sourceMappingURL=data:application\/json;base64,([\w+/=]+)\s*$/;

// Returns code without types, with a map if its lines are others, or null if it is no TypeScript
// either.
function strip(code, modes) {
  const { emitWarning } = process;
  process.emitWarning = () => {}; // that stripping is experimental
  try {
    for (const mode of modes) {
      try {
        const stripped = stripTypeScriptTypes(code, { mode, sourceMap: mode === "transform" });
        const map = MAP.exec(stripped);
        if (map === null) return { code: stripped, map: null };
        return { code: stripped.slice(0, map.index), map: new SourceMap(parse(Buffer.from(map[1], "base64"))) };
      } catch {
        // An enum, say, which takes more than leaving something out.
      }
    }
    return null;
  } finally {
    process.emitWarning = emitWarning;
  }
}

// Returns the script for a cell, whether its last statement is an expression, by how much columns
// have moved, [line, column, by], from 1, for those behind, and the map of what was no JavaScript,
// which may be null.
exports.transform = function transform(code) {
  code = code.replace(/^\ufeff/, "");
  // As in a console, what can be an object is one, and no block.
  if (/^\s*\{/.test(code) && tryParse(`(${code}\n)`)) code = `(${code}\n)`;
  const written = code;
  if (/\.[cm]?tsx?["'`]/.test(code)) typescript.hook();
  let tree = tryParse(code);
  // f<number>(x) is JavaScript too, which compares, and is meant by nobody.
  const modes = tree === null ? ["strip", "transform"] : /[\w$]<[\w$\s,.|&[\]{}:?'"<]{1,100}>+\s*\(/.test(code) ? ["strip"] : [];
  let map = null;
  if (modes.length > 0) {
    const stripped = strip(code, modes);
    if (stripped !== null && stripped.code !== code) {
      ({ code, map } = stripped);
      tree = tryParse(code);
    }
  }
  if (tree === null && typescript.needed(written)) {
    const compiled = typescript.compile(written);
    tree = compiled && tryParse(compiled.code);
    if (tree !== null) ({ code, map } = { code: compiled.code, map: new SourceMap(parse(compiled.map)) });
  }
  // What none of them knows is V8's to judge: its messages are those that people know.
  return { ...(tree === null ? { script: code, valued: false, moved: [] } : rewrite(code, tree, map)), map };
};

// Reports whether a statement is none that was written: a namespace is declared at the end.
const added = (node, map) => map !== null && node.type === "VariableDeclaration" && node.kind === "var" && node.declarations.every((d) => d.init === null);

function rewrite(code, tree, map) {
  const edits = []; // [start, end, text], not overlapping
  const first = []; // imports, which come before everything else
  for (const node of tree.body) statement(node, code, edits, first);
  declarations.settle(tree, code, edits, first, tree.body.flatMap(imports));
  if (code.includes("import")) {
    walk.full(tree, (node) => {
      if (node.type === "ImportExpression") edits.push([node.start, node.start + "import".length, IMPORT]);
      else if (node.type === "MetaProperty" && node.meta.name === "import") edits.push([node.start, node.end, META]);
    });
  }
  const last = tree.body.findLast((node) => node.type !== "EmptyStatement" && !added(node, map));
  let value = null;
  if (last?.type === "ExpressionStatement") value = last.expression;
  if (last?.type === "ExportDefaultDeclaration" && !/Declaration$/.test(last.declaration.type)) value = last.declaration;
  if (value !== null) {
    // A parenthesis before the expression may be part of the statement and not of the expression.
    const from = last.type === "ExpressionStatement" ? last.start : value.start;
    edits.unshift([from, from, `${VALUE}((`]); // before others at that place
    const end = last.type === "ExpressionStatement" ? endOf(code, last) : value.end;
    edits.push([end, end, "\n))"]);
  }
  let script = "", at = 0;
  const moved = [];
  for (const [start, end, text] of edits.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    script += code.slice(at, start) + text;
    at = end;
    if (text.length !== end - start) moved.push([...position(code, start), text.length - (end - start)]);
  }
  script += code.slice(at);
  if (first.length > 0) {
    const text = first.join(" ");
    script = text + script;
    moved.unshift([1, 0, text.length]);
  }
  return { script, valued: value !== null, moved };
}

// Returns line and column of an offset, from 1.
function position(code, offset) {
  const before = code.slice(0, offset).split("\n");
  return [before.length, before.at(-1).length + 1];
}

// Returns where the expression of a statement ends, its parentheses included and its semicolon not.
function endOf(code, statement) {
  return code[statement.end - 1] === ";" ? statement.end - 1 : statement.end;
}

// Blanks text, but for the ends of lines.
const blank = (text) => text.replace(/[^\r\n\u2028\u2029]/g, " ");

function statement(node, code, edits, first) {
  const remove = (from, to) => edits.push([from, to, blank(code.slice(from, to))]);
  switch (node.type) {
    case "ImportDeclaration":
      first.push(declaration(node, code));
      remove(node.start, node.end);
      break;
    case "ExportNamedDeclaration":
      if (node.declaration) {
        remove(node.start, node.declaration.start);
        break;
      }
      if (node.source) first.push(loading(node, code, node.specifiers.map((s) => nameOf(s.local))) + ";");
      remove(node.start, node.end);
      break;
    case "ExportAllDeclaration":
      first.push(loading(node, code, []) + ";");
      remove(node.start, node.end);
      break;
    case "ExportDefaultDeclaration":
      if (/Declaration$/.test(node.declaration.type) && !node.declaration.id) { // it has no name
        edits.push([node.start, node.declaration.start, "void ("], [node.end, node.end, ");"]);
        break;
      }
      remove(node.start, node.declaration.start);
      break;
  }
}

const nameOf = (node) => (node.type === "Literal" ? node.value : node.name);

// The expression that loads a module and checks that it has the names.
function loading(node, code, names) {
  const attributes = (node.attributes ?? []).map((a) => `${stringify(nameOf(a.key))}: ${stringify(a.value.value)}`);
  return `await ${IMPORT}(${stringify(node.source.value)}, {with: {${attributes.join()}}}, ${stringify(names)})`;
}

// The declaration that does what an import declaration says.
function declaration(node, code) {
  const named = [], wanted = [];
  let space = null;
  for (const s of node.specifiers) {
    if (s.type === "ImportNamespaceSpecifier") {
      space = s.local.name;
      continue;
    }
    const name = s.type === "ImportDefaultSpecifier" ? "default" : nameOf(s.imported);
    wanted.push(name);
    named.push(`${stringify(name)}: ${s.local.name}`);
  }
  const loaded = loading(node, code, wanted);
  const names = imports(node), fresh = names.filter((name) => !declarations.isGlobal(name));
  const declare = fresh.length > 0 ? `let ${fresh.join()};` : "";
  if (space !== null) return `${declare} ${space} = ${loaded};${named.length ? ` ({${named.join()}} = ${space});` : ""}`;
  return named.length ? `${declare} ({${named.join()}} = ${loaded});` : loaded + ";";
}

// The names that an import declaration declares.
const imports = (node) => (node.type === "ImportDeclaration" ? node.specifiers.map((s) => s.local.name) : []);

Object.assign(exports, { VALUE, IMPORT, META, CONSTANT, CONSTANTS });
