// Loads modules for code, as a file in the given folder would.
"use strict";

const vm = require("node:vm");

// Returns import() of a file of that name.
exports.importer = (filename) => new vm.Script("(specifier, options) => import(specifier, options)",
  { filename, importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER }).runInThisContext();
