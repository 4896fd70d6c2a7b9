// Interrupts, which come as SIGINT with a SIGCONT after it. Node.js has two handlers of SIGINT, one
// that breaks running code and one of its event loop. When it changes them, the default action is
// in force for a moment and ends the process. So the first one stays for ever: one that finds no
// code to break is noted there, and SIGCONT has the event loop look for it.
"use strict";

const { clearInterval, setInterval, setTimeout } = require("node:timers");
const vm = require("node:vm");
const { startSigintWatchdog: start, stopSigintWatchdog: stop } = process.binding("contextify");

const LOOKS = 50; // the note of an interrupt is made by another thread, which may be late
const HEARD = 20; // milliseconds between two looks for what is sent without SIGCONT

// Reports whether an interrupt was noted since the last look.
function noted() {
  start();
  return stop();
}

// Calls interrupted for each interrupt that breaks no code.
exports.listen = function listen(interrupted) {
  start();
  const look = () => {
    if (!noted()) return false;
    interrupted();
    process.emit("SIGINT", "SIGINT", 2);
    return true;
  };
  const again = (left) => {
    if (!look() && left > 0) setTimeout(again, 1, left - 1).unref();
  };
  process.on("SIGCONT", () => again(LOOKS));
  // Code that listens for SIGINT must not have Node.js put its other handler there.
  let hearing = null;
  const hear = () => {
    hearing ??= setInterval(() => {
      if (process.listenerCount("SIGINT") > 0) return void look();
      clearInterval(hearing);
      hearing = null;
    }, HEARD).unref();
  };
  for (const inner of process.listeners("newListener")) {
    process.off("newListener", inner);
    process.on("newListener", function (name, ...rest) {
      if (name === "SIGINT") hear();
      else inner.call(this, name, ...rest);
    });
  }
};

// Returns a function that calls another, which an interrupt breaks.
exports.breakable = function breakable(name, keep) {
  const run = new vm.Script(`${name}()`, { filename: "sandpool/step.js" });
  let next;
  keep(name, () => next());
  return (step) => {
    next = step;
    return run.runInThisContext({ breakOnSigint: true });
  };
};

// Has a stream go on whose write was broken: nothing else would tell it that the write is over.
exports.mend = function mend(stream) {
  const state = stream._writableState;
  if (!state?.writing || stream._handle?.writeQueueSize > 0) return;
  state.bufferProcessing = false;
  state.onwrite();
};

exports.noted = noted;
