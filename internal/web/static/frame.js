// Draws HTML of a session in a frame that has no origin. Scripts in it do not run: they are set as text
// of elements, and the frame's policy knows this file alone.
"use strict";
addEventListener("message", (e) => {
  if (e.source !== parent || typeof e.data !== "string") return;
  const box = document.createElement("div");
  box.innerHTML = e.data;
  document.body.replaceChildren(box);
  parent.postMessage(Math.ceil(box.getBoundingClientRect().height) + 16, "*");
});
parent.postMessage("ready", "*");
