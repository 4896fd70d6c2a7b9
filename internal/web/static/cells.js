// What cells of a session show, for those who run them and for those who look on.
"use strict";
// Text with the colours that terminals know, as elements.
function coloured(text) {
  const out = document.createDocumentFragment();
  let classes = "";
  for (const part of text.split(/(\x1b\[[0-9;]*m)/)) {
    const code = /^\x1b\[([0-9;]*)m$/.exec(part);
    if (code) {
      for (const n of code[1].split(";")) classes = n === "" || n === "0" ? "" : classes + " a" + Number(n);
    } else if (part) {
      const span = document.createElement("span");
      span.className = classes;
      span.textContent = part.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");
      out.append(span);
    }
  }
  return out;
}

function frameOf(html) {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.title = "HTML output";
  frame.src = "/ui/frame";
  const hear = (e) => {
    if (!frame.isConnected) return removeEventListener("message", hear); // other output is in its place
    if (e.source !== frame.contentWindow) return;
    if (e.data === "ready") frame.contentWindow.postMessage(html, "*");
    else if (typeof e.data === "number") frame.style.height = Math.min(800, Math.max(40, e.data)) + "px";
  };
  addEventListener("message", hear);
  return frame;
}

function shown(data) {
  for (const type of ["image/png", "image/jpeg", "image/gif", "image/svg+xml"]) {
    if (!data[type]) continue;
    const img = document.createElement("img");
    img.alt = data["text/plain"] || "figure";
    const packed = type === "image/svg+xml" && data[type].trimStart().startsWith("<") ? btoa(unescape(encodeURIComponent(data[type]))) : data[type];
    img.src = `data:${type};base64,${packed.replaceAll("\n", "")}`;
    return img;
  }
  if (data["text/html"]) return frameOf(data["text/html"]);
  const pre = document.createElement("pre");
  pre.textContent = data["text/markdown"] ?? data["text/plain"] ?? JSON.stringify(data);
  return pre;
}

// A cell's output, built from the events of its execution.
class Output {
  constructor(box) { this.box = box; this.displays = new Map(); this.clear(); }
  clear() { this.box.replaceChildren(); this.last = null; this.pending = false; }
  text(kind, text) {
    if (this.pending) this.clear();
    if (this.last?.dataset.kind !== kind) {
      this.last = document.createElement("pre");
      this.last.dataset.kind = kind;
      this.last.className = kind;
      this.box.append(this.last);
    }
    this.last.append(coloured(text));
  }
  show(data, id) {
    if (this.pending) this.clear();
    const el = shown(data);
    if (id && this.displays.has(id)) this.displays.get(id).replaceWith(el);
    else this.box.append(el);
    if (id) this.displays.set(id, el);
    this.last = null;
  }
  take(event) {
    switch (event.type) {
      case "stdout": case "stderr": return this.text(event.type, event.text);
      case "display": return this.show(event.data, event.displayId);
      case "clear": if (event.wait) this.pending = true; else this.clear(); return;
      case "error": return this.text("stderr", event.error?.message ?? "The stream has ended.");
      case "result": {
        const result = event.execution?.result;
        if (result?.stdout) this.text("stdout", result.stdout);
        if (result?.stderr) this.text("stderr", result.stderr);
        const value = result?.executionResult;
        if (value !== undefined && value !== null && value !== "") this.text("value", typeof value === "string" ? value : JSON.stringify(value, null, 1));
      }
    }
  }
}

