// Signals that code sends to the process itself. Before Node.js sends one, it does what is to be
// done at an exit, and ends the inspector, by which cells run. Most such signals end nothing.
"use strict";

const { constants: { signals } } = require("node:os");
const { libc } = load("seed");

const { kill } = process;
const { pid: own } = process;

exports.kill = (pid, signal = "SIGTERM") => {
  const number = typeof signal === "number" ? signal : signals[signal];
  if (![0, -1, own, -own].includes(pid) || !(number > 0)) return kill.call(process, pid, signal);
  if (number === signals.SIGINT && process.listenerCount("SIGINT") > 0) {
    setImmediate(() => process.emit("SIGINT", "SIGINT", number));
    return true;
  }
  let send;
  try {
    send = libc().func("int kill(int, int)");
  } catch {
    return kill.call(process, pid, signal); // the image has no koffi
  }
  if (send(pid, number) !== 0) throw Object.assign(new Error("kill EPERM"), { code: "EPERM", syscall: "kill" });
  return true;
};
