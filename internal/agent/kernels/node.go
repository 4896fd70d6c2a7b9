package kernels

import (
	"embed"
	"encoding/json"
	"fmt"
)

// The modules of the kernel of JavaScript. cells.js describes what it does.
//
//go:embed node/*.js
var nodeFiles embed.FS

// nodeLoader runs the program on descriptor 4 as a function of the main script.
const nodeLoader = `new (require("node:vm").Script)(require("node:fs").readFileSync(4, "utf8"), ` +
	`{filename: "sandpool/load.js"}).runInThisContext()(require)`

// node is the language of Node.js: JavaScript and TypeScript, in scripts and modules alike.
func node() Spec {
	return Spec{
		Name: "node",
		// Each thread is in the snapshot and in every restore: V8 gets one of its own.
		Command:   []string{"node", "--v8-pool-size=1", "-e", nodeLoader, "--"},
		Program:   nodeProgram,
		Rehearsal: "console.log();\n1+1",
	}
}

// nodeGlobals are what the modules use of the realm, which code may delete or put others in the
// place of.
const nodeGlobals = "Array, BigInt, BigUint64Array, Buffer, Error, JSON, Map, Math, Number, " +
	"Object, Promise, Proxy, Set, String, Symbol, SyntaxError, TypeError, Uint32Array, " +
	"Uint8Array, process, setImmediate"

// nodeProgram is a function of require, which loads the modules by the name "load".
func nodeProgram() (string, error) {
	sources, err := modules(nodeFiles, "node/*.js")
	if err != nil {
		return "", err
	}
	dictionary, err := json.Marshal(sources)
	if err != nil {
		return "", fmt.Errorf("encode the Node kernel: %w", err)
	}
	return `(require) => {
	const sources = ` + string(dictionary) + `, loaded = {};
	const { Script } = require("node:vm");
	const { ` + nodeGlobals + ` } = globalThis, globals = { ` + nodeGlobals + ` };
	const load = (name) => {
		if (!(name in loaded)) {
			loaded[name] = {};
			new Script("(({ ` + nodeGlobals +
		` }) => function (exports, load, require) {" + sources[name] + "\n})", {filename: "sandpool/" + name + ".js"})
				.runInThisContext()(globals)(loaded[name], load, require);
		}
		return loaded[name];
	};
	load("start");
}
`, nil
}
