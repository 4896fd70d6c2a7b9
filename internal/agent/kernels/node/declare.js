// What becomes of declarations at the top of a cell, so that any later cell may declare their names
// again in any way. V8's console mode allows that for const after const and for let and class after
// each other, and for no other two.
//
// So const and using become let, and an assignment to a name that is constant is made to one that refuses.
// What is left are two groups of names: those of let, const and class, and those of var and
// function, which are properties of the global object. A name stays in the group that it was first
// declared in; a declaration of the other kind becomes an assignment.
"use strict";

// Where assignments to constants go.
const CONSTANT = "__sandpool_constant";

const CONSTANTS = new Proxy({}, {
  get() {},
  set() {
    throw new TypeError("Assignment to constant variable.");
  },
});

const isFunction = (node) => /Function/.test(node.type);

// Calls found with each identifier that a pattern gives a value to.
function targets(pattern, found) {
  switch (pattern?.type) {
    case "Identifier": return found(pattern);
    case "ObjectPattern": return pattern.properties.forEach((p) => targets(p.type === "Property" ? p.value : p.argument, found));
    case "ArrayPattern": return pattern.elements.forEach((e) => targets(e, found));
    case "AssignmentPattern": return targets(pattern.left, found);
    case "RestElement": return targets(pattern.argument, found);
  }
}

function namesOf(patterns) {
  const names = [];
  for (const p of patterns) targets(p, (id) => names.push(id.name));
  return names;
}

const declared = (declaration) => namesOf(declaration.declarations.map((d) => d.id));

// Returns the names that a node declares for what is within it.
function scope(node, walk) {
  const names = [];
  if (isFunction(node)) {
    names.push(...namesOf(node.params));
    if (node.id) names.push(node.id.name);
    variables(node.body, walk, (v) => names.push(...declared(v)));
  }
  if (node.type === "ClassExpression" && node.id) names.push(node.id.name);
  if (node.type === "CatchClause") names.push(...namesOf([node.param]));
  const head = node.type === "ForStatement" ? node.init : /^For(In|Of)/.test(node.type) ? node.left : null;
  if (head?.type === "VariableDeclaration" && head.kind !== "var") names.push(...declared(head));
  const body = node.type === "SwitchStatement" ? node.cases.flatMap((c) => c.consequent) : node.body;
  if (Array.isArray(body) && node.type !== "Program" && node.type !== "ClassBody") {
    for (const s of body) {
      if (s.type === "VariableDeclaration") names.push(...declared(s));
      else if (/^(Function|Class)Declaration$/.test(s.type)) names.push(s.id.name);
    }
  }
  return names;
}

// Calls found with each declaration by var that is not within a function.
function variables(tree, walk, found) {
  const base = { ...walk.base, Function() {}, Class() {} };
  walk.simple(tree, { VariableDeclaration: (v) => v.kind === "var" && found(v) }, base);
}

exports.CONSTANT = CONSTANT;
exports.CONSTANTS = CONSTANTS;

exports.Declarations = class Declarations {
  #walk;
  #lexical = new Set(); // names of let, const and class
  #global = new Set(); // names of var and function
  #constant = new Set();

  constructor(walk) {
    this.#walk = walk;
  }

  // Adds what has to be changed in the source of a cell to edits, and what has to come before it to
  // first. imported are the names that import declarations declare.
  settle(tree, code, edits, first, imported) {
    for (const name of imported) this.#add(name, this.#global.has(name) ? this.#global : this.#lexical, true);
    if (!/[={]|\+\+|--|\b(?:let|var|in|of|using)\b/.test(code)) return; // it declares and assigns nothing
    for (let node of tree.body) {
      node = node.declaration ?? node;
      if (node.type === "VariableDeclaration" && node.kind !== "var") this.#declaration(node, code, edits, first);
      else if (node.type === "ClassDeclaration" && node.id) this.#class(node, edits);
      else if (node.type === "FunctionDeclaration" && node.id) this.#function(node, code, edits, first);
    }
    if (/\bvar\b/.test(code)) variables(tree, this.#walk, (v) => this.#variable(v, code, edits));
    if (this.#assigns(tree)) this.#protect(tree, edits);
  }

  // Reports whether a name is one of var or function.
  isGlobal(name) {
    return this.#global.has(name);
  }

  #add(name, group, constant = false) {
    group.add(name);
    if (constant) this.#constant.add(name);
    else this.#constant.delete(name);
  }

  // const, let, and using, which disposes of nothing here: later cells use it.
  #declaration(node, code, edits, first) {
    const names = declared(node);
    const conflict = names.some((name) => this.#global.has(name));
    for (const name of names) {
      if (conflict && !this.#global.has(name)) first.push(`let ${name};`);
      this.#add(name, this.#global.has(name) ? this.#global : this.#lexical, node.kind !== "let");
    }
    if (conflict) return assign(node, code, edits);
    const { start } = node.declarations[0];
    if (node.kind !== "let") edits.push([node.start, start, "let" + code.slice(node.start + 3, start).replace(/\S/g, " ")]);
  }

  #class(node, edits) {
    const { name } = node.id;
    const conflict = this.#global.has(name);
    if (conflict) edits.push([node.start, node.start, `${name} = `], [node.end, node.end, ";"]);
    this.#add(name, conflict ? this.#global : this.#lexical);
  }

  // A function is there before its declaration is reached, under another name if it has to be.
  #function(node, code, edits, first) {
    const { name, start } = node.id;
    if (!this.#lexical.has(name)) return this.#add(name, this.#global);
    const other = `__sandpool_function_${name}`;
    edits.push([start, node.id.end, other]);
    first.push(`let ${name} = Object.defineProperty(${other}, "name", {value: "${name}"});`);
    this.#add(name, this.#lexical);
  }

  // var, wherever it is.
  #variable(node, code, edits) {
    const names = declared(node);
    const conflict = names.some((name) => this.#lexical.has(name));
    for (const name of names) this.#add(name, this.#lexical.has(name) ? this.#lexical : this.#global);
    if (conflict) assign(node, code, edits);
  }

  // Reports whether something that is called as a constant is may be assigned to.
  #assigns(tree) {
    let found = false;
    if (this.#constant.size > 0) {
      this.#walk.full(tree, (node) => targets(assigned(node), (id) => { found ||= this.#constant.has(id.name); }));
    }
    return found;
  }

  // Finds assignments to constants.
  #protect(tree, edits) {
    const scopes = new Map();
    const declares = (node, name) => {
      if (!scopes.has(node)) scopes.set(node, new Set(scope(node, this.#walk)));
      return scopes.get(node).has(name);
    };
    const check = (pattern, ancestors, shorthand) => targets(pattern, (id) => {
      if (!this.#constant.has(id.name) || ancestors.some((a) => declares(a, id.name))) return;
      const property = shorthand.find((p) => p.value === id || p.value.left === id);
      edits.push([id.start, id.start, (property ? `${id.name}: ` : "") + `${CONSTANT}.`]);
    });
    this.#walk.fullAncestor(tree, (node, _, ancestors) => {
      const target = assigned(node);
      if (target) check(target, ancestors, shorthands(target, this.#walk));
    });
  }
};

// Returns what a node gives a value to without declaring it.
function assigned(node) {
  switch (node.type) {
    case "AssignmentExpression": return node.left;
    case "UpdateExpression": return node.argument;
    case "ForInStatement": case "ForOfStatement": return node.left.type === "VariableDeclaration" ? null : node.left;
  }
  return null;
}

// Returns the properties of a pattern that are name and value at once.
function shorthands(pattern, walk) {
  const found = [];
  if (pattern.type === "Identifier" || pattern.type === "MemberExpression") return found;
  walk.full(pattern, (node) => {
    for (const p of node.type === "ObjectPattern" ? node.properties : []) if (p.shorthand) found.push(p);
  });
  return found;
}

// Makes a declaration an assignment to names that are there. "void" separates it from a line before
// that has no semicolon.
function assign(node, code, edits) {
  const { start } = node.declarations[0];
  edits.push([node.start, start, code.slice(node.start, start).replace(/\S/g, " ")]);
  // "for (var x of y)", or "var x;", which changes nothing.
  if (node.declarations.length === 1 && node.declarations[0].init === null && node.kind === "var") return;
  edits.push([start, start, "void ("]);
  for (const d of node.declarations) {
    if (d.init === null && node.kind !== "var") edits.push([d.end, d.end, " = undefined"]);
  }
  const end = code[node.end - 1] === ";" ? node.end - 1 : node.end;
  edits.push([end, end, ")"]);
}
